// RUN: galvatron-opt %s --galvatron-raise-positions | FileCheck %s

func.func @step() -> tensor<4x8xf32> {
  %table = graph.parameter ["wpe"] : tensor<16x8xf32>
  %two = arith.constant dense<2> : tensor<4xi64>
  %0 = graph.iota {dim = 0 : i64} : tensor<4xi64>
  %1 = arith.addi %0, %two : tensor<4xi64>
  %2 = graph.embedding %table, %1 : (tensor<16x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  return %2 : tensor<4x8xf32>
}

// CHECK-LABEL: @step
// CHECK: %[[TABLE:.*]] = graph.parameter
// CHECK-NEXT: %[[ROWS:.*]] = graph.slice %[[TABLE]] offsets [2, 0] : tensor<16x8xf32> -> tensor<4x8xf32>
// CHECK-NEXT: return %[[ROWS]]

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
