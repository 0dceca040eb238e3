// RUN: galvatron-opt --galvatron-assign-kernel-types -split-input-file %s | FileCheck %s

// CHECK-LABEL: func.func @example
// CHECK: %[[SINGLE:.*]] = arith.truncf %{{.*}} : tensor<8xf64> to tensor<8xf32>
// CHECK: %[[TOTAL:.*]] = graph.reduce sum %[[SINGLE]] dims [0] : tensor<8xf32> -> tensor<f32>
// CHECK: arith.extf %[[TOTAL]] : tensor<f32> to tensor<f64>
func.func @example(%x: tensor<8xf64>) -> tensor<f64> {
  %0 = graph.reduce sum %x dims [0] : tensor<8xf64> -> tensor<f64>
  return %0 : tensor<f64>
}

// -----

// float64 is computed in float32, and a factor of its own type beside it.
// CHECK-LABEL: func.func @sum
func.func @sum(%x: tensor<8xf64>, %w: tensor<8xf64>) -> tensor<f64> {
  // CHECK: %[[XW:.*]] = arith.mulf %{{.*}}, %{{.*}} : tensor<8xf64>
  %0 = arith.mulf %x, %w : tensor<8xf64>
  // CHECK: %[[NARROW:.*]] = arith.truncf %[[XW]] : tensor<8xf64> to tensor<8xf32>
  // CHECK: %[[SUM:.*]] = graph.reduce sum %[[NARROW]] dims [0] : tensor<8xf32> -> tensor<f32>
  // CHECK: arith.extf %[[SUM]] : tensor<f32> to tensor<f64>
  %1 = graph.reduce sum %0 dims [0] : tensor<8xf64> -> tensor<f64>
  return %1 : tensor<f64>
}

// -----

// Ids of 32 bits, and rows of float16; moving keeps the type.
// CHECK-LABEL: func.func @rows
func.func @rows(%table: tensor<5x4xf16>, %ids: tensor<2x3xi32>) -> tensor<6x4xf16> {
  // CHECK-DAG: %[[TABLE:.*]] = arith.extf %{{.*}} : tensor<5x4xf16> to tensor<5x4xf32>
  // CHECK-DAG: %[[IDS:.*]] = arith.extsi %{{.*}} : tensor<2x3xi32> to tensor<2x3xi64>
  // CHECK: %[[ROWS:.*]] = graph.embedding %[[TABLE]], %[[IDS]] : (tensor<5x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  // CHECK: %[[BACK:.*]] = arith.truncf %[[ROWS]] : tensor<2x3x4xf32> to tensor<2x3x4xf16>
  // CHECK: graph.reshape %[[BACK]] : tensor<2x3x4xf16> -> tensor<6x4xf16>
  %0 = graph.embedding %table, %ids : (tensor<5x4xf16>, tensor<2x3xi32>) -> tensor<2x3x4xf16>
  %1 = graph.reshape %0 : tensor<2x3x4xf16> -> tensor<6x4xf16>
  return %1 : tensor<6x4xf16>
}

// -----

// CHECK-LABEL: func.func @supported
// CHECK-NOT: arith
func.func @supported(%x: tensor<8x4xbf16>, %y: tensor<8x4xf32>) -> (tensor<8xbf16>, tensor<8xf32>) {
  %0 = graph.reduce sum %x dims [1] : tensor<8x4xbf16> -> tensor<8xbf16>
  %1 = graph.reduce sum %y dims [1] : tensor<8x4xf32> -> tensor<8xf32>
  return %0, %1 : tensor<8xbf16>, tensor<8xf32>
}

// -----

// CHECK-LABEL: func.func @there_and_back
// CHECK-NEXT: %[[Y:.*]] = graph.softmax %arg0 : tensor<2x8xf32> -> tensor<2x8xf32>
// CHECK-NEXT: return %[[Y]]
func.func @there_and_back(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %0 = arith.extf %x : tensor<2x8xf32> to tensor<2x8xf64>
  %1 = graph.softmax %0 : tensor<2x8xf64> -> tensor<2x8xf64>
  %2 = arith.truncf %1 : tensor<2x8xf64> to tensor<2x8xf32>
  return %2 : tensor<2x8xf32>
}

// -----

// In a step of fp16 the runtime reads f16.
// CHECK: module attributes {graph.precision = "fp16"}
// CHECK-LABEL: func.func @of_fp16
// CHECK-NOT: arith
module attributes {graph.precision = "fp16"} {
  func.func @of_fp16(%x: tensor<2x8xf16>) -> tensor<2x8xf16> {
    %0 = graph.softmax %x : tensor<2x8xf16> -> tensor<2x8xf16>
    return %0 : tensor<2x8xf16>
  }
}
