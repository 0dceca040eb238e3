// RUN: galvatron-opt --galvatron-raise-ops %s | FileCheck %s

func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<8xf32>) -> tensor<2x4x8xf32> {
  %eighth = arith.constant dense<0.125> : tensor<2x4xf32>
  %eps = arith.constant dense<0.5> : tensor<2x4xf32>
  %0 = arith.mulf %x, %x : tensor<2x4x8xf32>
  %1 = graph.reduce sum %0 dims [2] : tensor<2x4x8xf32> -> tensor<2x4xf32>
  %2 = arith.mulf %1, %eighth : tensor<2x4xf32>
  %3 = arith.addf %2, %eps : tensor<2x4xf32>
  %4 = math.rsqrt %3 : tensor<2x4xf32>
  %5 = graph.broadcast %4 dims [0, 1] : tensor<2x4xf32> -> tensor<2x4x8xf32>
  %6 = arith.mulf %x, %5 : tensor<2x4x8xf32>
  return %6 : tensor<2x4x8xf32>
}

// CHECK-LABEL: @step
// CHECK: %[[Y:.*]], %{{.*}}, %{{.*}} = graph.norm rms %{{.*}} {epsilon = 5.000000e-01 : f64}
// CHECK: return %[[Y]]

// CHECK-LABEL: @unused_ops_are_erased
func.func @unused_ops_are_erased(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: return
  %0 = math.exp %x : tensor<4xf32>
  return %x : tensor<4xf32>
}

// CHECK-LABEL: @arithmetic_that_does_nothing_goes
func.func @arithmetic_that_does_nothing_goes(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: return %{{.*}}
  %zero = arith.constant dense<0.0> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4xf32>
  %0 = arith.addf %zero, %x : tensor<4xf32>
  %1 = arith.mulf %0, %one : tensor<4xf32>
  %2 = arith.divf %1, %one : tensor<4xf32>
  %3 = arith.subf %2, %zero : tensor<4xf32>
  %4 = graph.dropout %3 {p = 0.0 : f64, id = 0 : i64} : tensor<4xf32> -> tensor<4xf32>
  return %4 : tensor<4xf32>
}

// Ids that count positions, from anywhere in the table.
// CHECK-LABEL: @lookup_of_positions_is_a_slice
func.func @lookup_of_positions_is_a_slice() -> tensor<2x4x8xf32> {
  // CHECK: %[[TABLE:.*]] = graph.parameter
  // CHECK: %[[ROWS:.*]] = graph.slice %[[TABLE]] offsets [2, 0] : tensor<16x8xf32> -> tensor<4x8xf32>
  // CHECK: graph.broadcast %[[ROWS]] dims [1, 2] : tensor<4x8xf32> -> tensor<2x4x8xf32>
  %table = graph.parameter ["wpe"] : tensor<16x8xf32>
  %two = arith.constant dense<2> : tensor<4xi64>
  %0 = graph.iota {dim = 0 : i64} : tensor<4xi64>
  %1 = arith.addi %0, %two : tensor<4xi64>
  %2 = graph.broadcast %1 dims [1] : tensor<4xi64> -> tensor<2x4xi64>
  %3 = graph.embedding %table, %2 : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  return %3 : tensor<2x4x8xf32>
}

// CHECK-LABEL: @lookup_of_other_integers_stays
func.func @lookup_of_other_integers_stays() -> tensor<4x8xf32> {
  // CHECK: graph.embedding
  %table = graph.parameter ["buckets"] : tensor<16x8xf32>
  %ids = arith.constant dense<[0, 1, 3, 4]> : tensor<4xi64>
  %0 = graph.embedding %table, %ids : (tensor<16x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}

// Layers are compared by their attributes, so letters must not depend on history.
// CHECK-LABEL: @equations_have_one_spelling
func.func @equations_have_one_spelling(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
  // CHECK: graph.einsum %{{.*}}, %{{.*}} "abc,dc->abd"
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
  return %0 : tensor<2x4x16xf32>
}
