// RUN: galvatron-opt %s --galvatron-assign-precision | FileCheck %s
// RUN: galvatron-opt %s --galvatron-assign-precision=precision=fp32 | FileCheck %s --check-prefix=FP32
// FP32-NOT: {{b?}}f16
// RUN: galvatron-opt %s --galvatron-assign-precision=precision=fp16 | FileCheck %s --check-prefix=FP16
// FP16: module attributes {graph.precision = "fp16"}
// FP16-NOT: bf16
// FP16-LABEL: graph.layer @arithmetic_is_wide
// FP16: arith.truncf %{{.*}} : tensor<4xf32> to tensor<4xf16>

// CHECK-LABEL: graph.layer @example
// CHECK-SAME: tensor<8x4xbf16>, %{{.*}}: tensor<6x4xbf16> {graph.parameter = "weight"}, %{{.*}}: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xbf16>
graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}, %g: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xf32> {
  // CHECK: graph.einsum {{.*}} : (tensor<8x4xbf16>, tensor<6x4xbf16>) -> tensor<8x6xbf16>
  // CHECK: graph.norm {{.*}} : (tensor<8x6xbf16>, tensor<6xf32>) -> (tensor<8x6xbf16>, tensor<8xf32>, tensor<8xf32>)
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
  %result, %mean, %rstd = graph.norm rms %y weight %g {epsilon = 1.0e-5} : (tensor<8x6xf32>, tensor<6xf32>) -> (tensor<8x6xf32>, tensor<8xf32>, tensor<8xf32>)
  graph.return %result : tensor<8x6xf32>
}

// CHECK-LABEL: graph.layer @arithmetic_is_wide
// CHECK-SAME: %[[X:.*]]: tensor<4xbf16>
graph.layer @arithmetic_is_wide(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: %[[C:.*]] = arith.constant dense<3.000000e-01> : tensor<4xf32>
  // CHECK: %[[W:.*]] = arith.extf %[[X]] : tensor<4xbf16> to tensor<4xf32>
  // CHECK: %[[Y:.*]] = arith.mulf %[[W]], %[[C]] : tensor<4xf32>
  // CHECK: %[[R:.*]] = arith.truncf %[[Y]] : tensor<4xf32> to tensor<4xbf16>
  // CHECK: graph.return %[[R]]
  %c = arith.constant dense<0.3> : tensor<4xf32>
  %y = arith.mulf %x, %c : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// A parameter that a norm and something else read is bf16; the norm reads it widened.
// CHECK-LABEL: graph.layer @norm_of_a_narrow_weight
// CHECK-SAME: tensor<8x4xbf16>, %[[W:[a-z0-9]+]]: tensor<4xbf16> {graph.parameter
graph.layer @norm_of_a_narrow_weight(%x: tensor<8x4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
  // CHECK: %[[WIDE:.*]] = arith.extf %[[W]]
  // CHECK: graph.norm rms %{{.*}} weight %[[WIDE]]
  %result, %mean, %rstd = graph.norm rms %x weight %w {epsilon = 1.0e-5} : (tensor<8x4xf32>, tensor<4xf32>) -> (tensor<8x4xf32>, tensor<8xf32>, tensor<8xf32>)
  // CHECK: graph.broadcast %[[W]] {{.*}} -> tensor<8x4xbf16>
  // CHECK: graph.sum {{.*}} -> tensor<8x4xbf16>
  %b = graph.broadcast %w dims [1] : tensor<4xf32> -> tensor<8x4xf32>
  %y = graph.sum %result, %b : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  graph.return %y : tensor<8x4xf32>
}

// Positions depend on nothing that is bf16: they would not survive 8 bits.
// CHECK-LABEL: graph.layer @positions_stay_exact
graph.layer @positions_stay_exact(%x: tensor<2x512xf32>) -> tensor<2x512xf32> {
  // CHECK: graph.iota {dim = 0 : i64} : tensor<512xf32>
  // CHECK: math.cos %{{.*}} : tensor<512xf32>
  // CHECK: %[[T:.*]] = graph.broadcast {{.*}} -> tensor<2x512xf32>
  // CHECK: arith.mulf %{{.*}}, %[[T]] : tensor<2x512xf32>
  %p = graph.iota {dim = 0 : i64} : tensor<512xf32>
  %c = math.cos %p : tensor<512xf32>
  %t = graph.broadcast %c dims [1] : tensor<512xf32> -> tensor<2x512xf32>
  %y = arith.mulf %x, %t : tensor<2x512xf32>
  graph.return %y : tensor<2x512xf32>
}

// CHECK-LABEL: graph.layer @what_follows_the_loss_is_wide
graph.layer @what_follows_the_loss_is_wide(%x: tensor<2x4xf32>, %labels: tensor<2xi64>) -> tensor<f32> {
  // CHECK: %[[L:.*]] = graph.cross_entropy {{.*}} : (tensor<2x4xbf16>, tensor<2xi64>) -> tensor<f32>
  // CHECK: %[[S:.*]] = arith.mulf %[[L]], %{{.*}} : tensor<f32>
  // CHECK: graph.return %[[S]] : tensor<f32>
  %c = arith.constant dense<0.5> : tensor<f32>
  %l = graph.cross_entropy %x, %labels : (tensor<2x4xf32>, tensor<2xi64>) -> tensor<f32>
  %s = arith.mulf %l, %c : tensor<f32>
  graph.return %s : tensor<f32>
}

// CHECK-LABEL: graph.layer @attention
graph.layer @attention(%q: tensor<1x2x4x8xf32>) -> tensor<1x2x4x8xf32> {
  // CHECK: graph.attention {{.*}} -> (tensor<1x2x4x8xbf16>, tensor<1x2x4xf32>)
  %y, %lse = graph.attention %q, %q, %q {scale = 1.0, causal} : (tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>, tensor<1x2x4x8xf32>) -> (tensor<1x2x4x8xf32>, tensor<1x2x4xf32>)
  graph.return %y : tensor<1x2x4x8xf32>
}

// CHECK-LABEL: func.func @step
// CHECK: graph.call @arithmetic_is_wide{{.*}} -> tensor<4xbf16>
// CHECK: graph.call @arithmetic_is_wide{{.*}} : (tensor<4xbf16>) -> tensor<4xbf16>
func.func @step(%x: tensor<4xi64>) {
  %table = graph.call @start(%x) parameters [] path "start" : (tensor<4xi64>) -> tensor<4xf32>
  %0 = graph.call @arithmetic_is_wide(%table) parameters [] path "a" : (tensor<4xf32>) -> tensor<4xf32>
  %1 = graph.call @arithmetic_is_wide(%0) parameters [] path "b" : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// What no bf16 value led to is rounded where it leaves.
// CHECK-LABEL: graph.layer @start
graph.layer @start(%x: tensor<4xi64>) -> tensor<4xf32> {
  // CHECK: arith.sitofp {{.*}} to tensor<4xf32>
  // CHECK: arith.truncf
  %y = arith.sitofp %x : tensor<4xi64> to tensor<4xf32>
  graph.return %y : tensor<4xf32>
}
