// RUN: galvatron-opt --galvatron-separate-constants --split-input-file %s | FileCheck %s

// CHECK-LABEL: func.func @example
// CHECK: %[[ONE:.*]] = arith.constant dense<2.000000e+00>
// CHECK: %[[OTHER:.*]] = arith.constant dense<2.000000e+00>
// CHECK-NOT: arith.constant
// CHECK-DAG: arith.mulf %arg0
// CHECK-DAG: arith.mulf %arg1
func.func @example(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %two = arith.constant dense<2.0> : tensor<4xf32>
  %0 = arith.mulf %x, %two : tensor<4xf32>
  %1 = arith.mulf %y, %two : tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}

// -----

// What has elements of its own stays shared; two operands of one reader are two uses.
// CHECK-LABEL: func.func @kept
// CHECK: %[[TABLE:.*]] = arith.constant dense<[1.000000e+00, 2.000000e+00]>
// CHECK: arith.mulf %arg0, %[[TABLE]]
// CHECK: arith.mulf %arg1, %[[TABLE]]
// CHECK: arith.constant dense<3.000000e+00>
// CHECK: arith.addf
func.func @kept(%x: tensor<2xf32>, %y: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) {
  %table = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %three = arith.constant dense<3.0> : tensor<2xf32>
  %0 = arith.mulf %x, %table : tensor<2xf32>
  %1 = arith.mulf %y, %table : tensor<2xf32>
  %2 = arith.addf %three, %three : tensor<2xf32>
  return %0, %1, %2 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}
