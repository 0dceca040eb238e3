// RUN: galvatron-opt %s --galvatron-flatten-sums | FileCheck %s

// CHECK-LABEL: func.func @example
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>, %[[A:.*]]: tensor<4xf32>, %[[M:.*]]: tensor<4xf32>
func.func @example(%x: tensor<4xf32>, %attention: tensor<4xf32>, %mlp: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: %[[S:.*]] = graph.sum %[[X]], %[[A]], %[[M]]
  // CHECK-NEXT: return %[[S]]
  %0 = arith.addf %x, %attention : tensor<4xf32>
  %1 = arith.addf %0, %mlp : tensor<4xf32>
  return %1 : tensor<4xf32>
}

// CHECK-LABEL: func.func @sums_of_sums
// CHECK-SAME: %[[A:.*]]: tensor<4xf32>, %[[B:.*]]: tensor<4xf32>
func.func @sums_of_sums(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: graph.sum %[[A]], %[[B]], %[[B]], %[[A]], %[[A]]
  %0 = graph.sum %a, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = arith.addf %b, %a : tensor<4xf32>
  %2 = graph.sum %0, %1, %a : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  // CHECK-NEXT: return
  return %2 : tensor<4xf32>
}

// The residual stream is read by the next block too.
// CHECK-LABEL: func.func @a_sum_with_two_uses_stays
func.func @a_sum_with_two_uses_stays(%a: tensor<4xf32>, %b: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  // CHECK-NEXT: %[[X:.*]] = graph.sum
  // CHECK-NEXT: %[[Y:.*]] = graph.sum %[[X]], %
  // CHECK-NEXT: return %[[X]], %[[Y]]
  %0 = arith.addf %a, %b : tensor<4xf32>
  %1 = arith.addf %0, %b : tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: func.func @adding_a_constant_stays_arithmetic
func.func @adding_a_constant_stays_arithmetic(%a: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: arith.addf
  // CHECK-NOT: graph.sum
  %c = arith.constant dense<1.0> : tensor<4xf32>
  %0 = arith.addf %a, %c : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @sums_in_layers
graph.layer @sums_in_layers(%a: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: graph.sum
  %0 = arith.addf %a, %b : tensor<4xf32>
  graph.return %0 : tensor<4xf32>
}
