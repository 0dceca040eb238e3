// RUN: galvatron-opt %s --galvatron-raise-gated-activations | FileCheck %s

func.func @step(%x: tensor<2x8xf32>, %y: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %0 = graph.activation silu %x : tensor<2x8xf32> -> tensor<2x8xf32>
  %1 = arith.mulf %0, %y : tensor<2x8xf32>
  return %1 : tensor<2x8xf32>
}

// CHECK-LABEL: @step
// CHECK-NEXT: graph.gated_activation silu
// CHECK-NEXT: return

// CHECK-LABEL: @gated
// CHECK-SAME: (%[[GATE:.*]]: tensor<8xf32>, %[[UP:.*]]: tensor<8xf32>)
func.func @gated(%gate: tensor<8xf32>, %up: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.gated_activation gelu_tanh %[[GATE]], %[[UP]]
  // CHECK-NEXT: return
  %0 = graph.activation gelu_tanh %gate : tensor<8xf32> -> tensor<8xf32>
  %1 = arith.mulf %up, %0 : tensor<8xf32>
  return %1 : tensor<8xf32>
}

// CHECK-LABEL: @activation_read_twice_is_not_gated
func.func @activation_read_twice_is_not_gated(%gate: tensor<8xf32>, %up: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  // CHECK: graph.activation silu
  // CHECK: arith.mulf
  %0 = graph.activation silu %gate : tensor<8xf32> -> tensor<8xf32>
  %1 = arith.mulf %0, %up : tensor<8xf32>
  return %0, %1 : tensor<8xf32>, tensor<8xf32>
}
