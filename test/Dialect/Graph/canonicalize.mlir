// RUN: galvatron-opt %s --canonicalize | FileCheck %s

// CHECK-LABEL: func.func @reshape_to_the_same_shape
// CHECK-SAME: %[[X:.*]]: tensor<4x8xf32>
func.func @reshape_to_the_same_shape(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = graph.reshape %x : tensor<4x8xf32> -> tensor<4x8xf32>
  // CHECK: return %[[X]]
  return %0 : tensor<4x8xf32>
}

// CHECK-LABEL: func.func @reshape_there_and_back
// CHECK-SAME: %[[X:.*]]: tensor<4x8xf32>
func.func @reshape_there_and_back(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %0 = graph.reshape %x : tensor<4x8xf32> -> tensor<32xf32>
  %1 = graph.reshape %0 : tensor<32xf32> -> tensor<4x8xf32>
  // CHECK: return %[[X]]
  return %1 : tensor<4x8xf32>
}

// CHECK-LABEL: func.func @reshape_of_reshape
// CHECK-SAME: %[[X:.*]]: tensor<4x8xf32>
func.func @reshape_of_reshape(%x: tensor<4x8xf32>) -> tensor<2x16xf32> {
  // CHECK-NEXT: %[[R:.*]] = graph.reshape %[[X]] : tensor<4x8xf32> -> tensor<2x16xf32>
  %0 = graph.reshape %x : tensor<4x8xf32> -> tensor<32xf32>
  %1 = graph.reshape %0 : tensor<32xf32> -> tensor<2x16xf32>
  // CHECK-NEXT: return %[[R]]
  return %1 : tensor<2x16xf32>
}

// CHECK-LABEL: func.func @transpose_there_and_back
// CHECK-SAME: %[[X:.*]]: tensor<2x3x4xf32>
func.func @transpose_there_and_back(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %0 = graph.transpose %x [1, 2, 0] : tensor<2x3x4xf32> -> tensor<3x4x2xf32>
  %1 = graph.transpose %0 [2, 0, 1] : tensor<3x4x2xf32> -> tensor<2x3x4xf32>
  // CHECK: return %[[X]]
  return %1 : tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @transpose_of_transpose
// CHECK-SAME: %[[X:.*]]: tensor<2x3x4xf32>
func.func @transpose_of_transpose(%x: tensor<2x3x4xf32>) -> tensor<4x2x3xf32> {
  // CHECK-NEXT: graph.transpose %[[X]] [2, 0, 1]
  %0 = graph.transpose %x [1, 2, 0] : tensor<2x3x4xf32> -> tensor<3x4x2xf32>
  %1 = graph.transpose %0 [1, 2, 0] : tensor<3x4x2xf32> -> tensor<4x2x3xf32>
  // CHECK-NEXT: return
  return %1 : tensor<4x2x3xf32>
}

// CHECK-LABEL: func.func @sum_of_one
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>
func.func @sum_of_one(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.sum %x : (tensor<4xf32>) -> tensor<4xf32>
  // CHECK: return %[[X]]
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: func.func @pieces_that_are_the_whole
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>
func.func @pieces_that_are_the_whole(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.slice %x offsets [0] : tensor<4xf32> -> tensor<4xf32>
  %1 = graph.pad %0 offsets [0] : tensor<4xf32> -> tensor<4xf32>
  %2 = graph.concat %1 {dim = 0 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  %3 = graph.broadcast %2 dims [0] : tensor<4xf32> -> tensor<4xf32>
  %4 = graph.reduce sum %3 dims [] : tensor<4xf32> -> tensor<4xf32>
  // CHECK: return %[[X]]
  return %4 : tensor<4xf32>
}

// CHECK-LABEL: func.func @shapes_of_a_splat
func.func @shapes_of_a_splat() -> tensor<6x4xi64> {
  // CHECK-NEXT: %[[C:.*]] = arith.constant dense<7> : tensor<6x4xi64>
  %c = arith.constant dense<7> : tensor<i64>
  %0 = graph.broadcast %c dims [] : tensor<i64> -> tensor<5x8xi64>
  %1 = graph.transpose %0 [1, 0] : tensor<5x8xi64> -> tensor<8x5xi64>
  %2 = graph.slice %1 offsets [0, 1] : tensor<8x5xi64> -> tensor<8x3xi64>
  %3 = graph.reshape %2 : tensor<8x3xi64> -> tensor<6x4xi64>
  // CHECK-NEXT: return %[[C]]
  return %3 : tensor<6x4xi64>
}

// A placement is a decision that folding may not undo.
// CHECK-LABEL: func.func @encoded_reshapes_stay
func.func @encoded_reshapes_stay(%x: tensor<4x8xf32>) -> tensor<2x16xf32> {
  // CHECK-COUNT-2: graph.reshape
  %0 = graph.reshape %x : tensor<4x8xf32> -> tensor<32xf32, "placed">
  %1 = graph.reshape %0 : tensor<32xf32, "placed"> -> tensor<2x16xf32>
  return %1 : tensor<2x16xf32>
}
