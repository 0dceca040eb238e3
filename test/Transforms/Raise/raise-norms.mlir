// RUN: galvatron-opt %s --galvatron-raise-norms | FileCheck %s

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

// As transformers writes Llama's: pow, mean with keepdim, weight on the left.
// CHECK-LABEL: @rms_with_weight
// CHECK-SAME: (%[[X:.*]]: tensor<2x4x8xf32>, %[[W:.*]]: tensor<8xf32>)
func.func @rms_with_weight(%x: tensor<2x4x8xf32>, %w: tensor<8xf32>) -> tensor<2x4x8xf32> {
  // CHECK-NEXT: graph.norm rms %[[X]] weight %[[W]] {epsilon = 5.000000e-01 : f64}
  // CHECK-NEXT: return
  %two = arith.constant dense<2.0> : tensor<2x4x8xf32>
  %eight = arith.constant dense<8.0> : tensor<2x4xf32>
  %eps = arith.constant dense<0.5> : tensor<2x4x1xf32>
  %0 = math.powf %x, %two : tensor<2x4x8xf32>
  %1 = graph.reduce sum %0 dims [2] : tensor<2x4x8xf32> -> tensor<2x4xf32>
  %2 = arith.divf %1, %eight : tensor<2x4xf32>
  %3 = graph.reshape %2 : tensor<2x4xf32> -> tensor<2x4x1xf32>
  %4 = arith.addf %eps, %3 : tensor<2x4x1xf32>
  %5 = math.rsqrt %4 : tensor<2x4x1xf32>
  %6 = graph.reshape %5 : tensor<2x4x1xf32> -> tensor<2x4xf32>
  %7 = graph.broadcast %6 dims [0, 1] : tensor<2x4xf32> -> tensor<2x4x8xf32>
  %8 = arith.mulf %x, %7 : tensor<2x4x8xf32>
  %9 = graph.broadcast %w dims [2] : tensor<8xf32> -> tensor<2x4x8xf32>
  %10 = arith.mulf %9, %8 : tensor<2x4x8xf32>
  return %10 : tensor<2x4x8xf32>
}

// Gemma's weight is a deviation from one; here it is added after repeating.
// CHECK-LABEL: @weight_that_deviates_from_one
func.func @weight_that_deviates_from_one(%x: tensor<4x8xf32>, %w: tensor<8xf32>) -> tensor<4x8xf32> {
  // CHECK: graph.norm rms %{{.*}} weight %{{.*}} {epsilon = 5.000000e-01 : f64, offset = 1.000000e+00 : f64}
  %eighth = arith.constant dense<0.125> : tensor<4xf32>
  %eps = arith.constant dense<0.5> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4x8xf32>
  %0 = arith.mulf %x, %x : tensor<4x8xf32>
  %1 = graph.reduce sum %0 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %2 = arith.mulf %1, %eighth : tensor<4xf32>
  %3 = arith.addf %2, %eps : tensor<4xf32>
  %4 = math.rsqrt %3 : tensor<4xf32>
  %5 = graph.broadcast %4 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %6 = arith.mulf %5, %x : tensor<4x8xf32>
  %7 = graph.broadcast %w dims [1] : tensor<8xf32> -> tensor<4x8xf32>
  %8 = arith.addf %one, %7 : tensor<4x8xf32>
  %9 = arith.mulf %6, %8 : tensor<4x8xf32>
  return %9 : tensor<4x8xf32>
}

// (w · x) · rsqrt instead of w · (x · rsqrt).
// CHECK-LABEL: @weight_multiplied_first
func.func @weight_multiplied_first(%x: tensor<4x8xf32>, %w: tensor<8xf32>) -> tensor<4x8xf32> {
  // CHECK: graph.norm rms %{{.*}} weight
  // CHECK-NOT: arith.mulf
  %eighth = arith.constant dense<0.125> : tensor<4xf32>
  %eps = arith.constant dense<0.5> : tensor<4xf32>
  %0 = arith.mulf %x, %x : tensor<4x8xf32>
  %1 = graph.reduce sum %0 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %2 = arith.mulf %1, %eighth : tensor<4xf32>
  %3 = arith.addf %2, %eps : tensor<4xf32>
  %4 = math.rsqrt %3 : tensor<4xf32>
  %5 = graph.broadcast %4 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %6 = graph.broadcast %w dims [1] : tensor<8xf32> -> tensor<4x8xf32>
  %7 = arith.mulf %6, %x : tensor<4x8xf32>
  %8 = arith.mulf %7, %5 : tensor<4x8xf32>
  return %8 : tensor<4x8xf32>
}

// (x - mean) / sqrt(var + eps) · w + b.
// CHECK-LABEL: @layer_norm_by_hand
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[W:.*]]: tensor<8xf32>, %[[B:.*]]: tensor<8xf32>)
func.func @layer_norm_by_hand(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) -> tensor<4x8xf32> {
  // CHECK-NEXT: graph.norm layer %[[X]] weight %[[W]] bias %[[B]] {epsilon = 5.000000e-01 : f64}
  // CHECK-NEXT: return
  %eighth = arith.constant dense<0.125> : tensor<4xf32>
  %eps = arith.constant dense<0.5> : tensor<4xf32>
  %0 = graph.reduce sum %x dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %1 = arith.mulf %0, %eighth : tensor<4xf32>
  %2 = graph.broadcast %1 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %3 = arith.subf %x, %2 : tensor<4x8xf32>
  %4 = arith.mulf %3, %3 : tensor<4x8xf32>
  %5 = graph.reduce sum %4 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %6 = arith.mulf %5, %eighth : tensor<4xf32>
  %7 = arith.addf %6, %eps : tensor<4xf32>
  %8 = math.sqrt %7 : tensor<4xf32>
  %9 = graph.broadcast %8 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %10 = arith.divf %3, %9 : tensor<4x8xf32>
  %11 = graph.broadcast %w dims [1] : tensor<8xf32> -> tensor<4x8xf32>
  %12 = arith.mulf %10, %11 : tensor<4x8xf32>
  %13 = graph.broadcast %b dims [1] : tensor<8xf32> -> tensor<4x8xf32>
  %14 = arith.addf %13, %12 : tensor<4x8xf32>
  return %14 : tensor<4x8xf32>
}

// Nemotron's layer norm adds one to its weight before the op.
// CHECK-LABEL: @weight_of_an_op_that_deviates_from_one
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[W:.*]]: tensor<8xf32>)
func.func @weight_of_an_op_that_deviates_from_one(%x: tensor<4x8xf32>, %w: tensor<8xf32>) -> tensor<4x8xf32> {
  // CHECK-NEXT: graph.norm layer %[[X]] weight %[[W]] {epsilon = 5.000000e-01 : f64, offset = 1.000000e+00 : f64}
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.addf %w, %one : tensor<8xf32>
  %1, %mean, %rstd = graph.norm layer %x weight %0 {epsilon = 0.5 : f64} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  return %1 : tensor<4x8xf32>
}

// The variance as E[x²] - E[x]².
// CHECK-LABEL: @variance_of_moments
func.func @variance_of_moments(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // CHECK-NEXT: graph.norm layer
  // CHECK-NEXT: return
  %eighth = arith.constant dense<0.125> : tensor<4xf32>
  %eps = arith.constant dense<0.5> : tensor<4xf32>
  %0 = graph.reduce sum %x dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %1 = arith.mulf %0, %eighth : tensor<4xf32>
  %2 = graph.broadcast %1 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %3 = arith.subf %x, %2 : tensor<4x8xf32>
  %4 = arith.mulf %x, %x : tensor<4x8xf32>
  %5 = graph.reduce sum %4 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %6 = arith.mulf %5, %eighth : tensor<4xf32>
  %7 = arith.mulf %1, %1 : tensor<4xf32>
  %8 = arith.subf %6, %7 : tensor<4xf32>
  %9 = arith.addf %8, %eps : tensor<4xf32>
  %10 = math.rsqrt %9 : tensor<4xf32>
  %11 = graph.broadcast %10 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %12 = arith.mulf %3, %11 : tensor<4x8xf32>
  return %12 : tensor<4x8xf32>
}

// CHECK-LABEL: @a_sum_is_no_mean
func.func @a_sum_is_no_mean(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // CHECK-NOT: graph.norm
  // CHECK: return
  %eps = arith.constant dense<0.5> : tensor<4xf32>
  %0 = arith.mulf %x, %x : tensor<4x8xf32>
  %1 = graph.reduce sum %0 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %2 = arith.addf %1, %eps : tensor<4xf32>
  %3 = math.rsqrt %2 : tensor<4xf32>
  %4 = graph.broadcast %3 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %5 = arith.mulf %x, %4 : tensor<4x8xf32>
  return %5 : tensor<4x8xf32>
}

// CHECK-LABEL: @softmax_by_hand
func.func @softmax_by_hand(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // CHECK-NEXT: graph.softmax
  // CHECK-NEXT: return
  %0 = graph.reduce max %x dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %1 = graph.broadcast %0 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %2 = arith.subf %x, %1 : tensor<4x8xf32>
  %3 = math.exp %2 : tensor<4x8xf32>
  %4 = graph.reduce sum %3 dims [1] : tensor<4x8xf32> -> tensor<4xf32>
  %5 = graph.broadcast %4 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
  %6 = arith.divf %3, %5 : tensor<4x8xf32>
  return %6 : tensor<4x8xf32>
}
