// RUN: galvatron-opt --galvatron-form-layers -split-input-file %s | FileCheck %s

// A loss to which two layers add: each returns its own term, scaled; the constant goes to the last.
// CHECK: graph.layer @layer0(
// CHECK: %[[OWN:.*]] = graph.reduce sum
// CHECK: %[[HALF:.*]] = arith.constant dense<5.000000e-01>
// CHECK: %[[TERM:.*]] = arith.mulf %[[OWN]], %[[HALF]]
// CHECK: graph.return %{{.*}}, %[[TERM]] : tensor<2x4xf32>, tensor<f32>
// CHECK: graph.layer @layer1(
// CHECK: graph.layer @head(
// CHECK: %[[EXP:.*]] = math.exp
// CHECK: %[[ONE:.*]] = arith.constant dense<1.000000e+00>
// CHECK: arith.addf %[[EXP]], %[[ONE]]
// CHECK: func.func @step(%{{.*}}: tensor<2x4xf32>) -> (tensor<f32>, tensor<f32>)
// CHECK: %[[A:.*]]:2 = graph.call @layer0(
// CHECK: %[[B:.*]] = graph.call @layer1(%[[A]]#0)
// CHECK: %[[C:.*]] = graph.call @head(%[[B]])
// CHECK: return %[[A]]#1, %[[C]]
func.func @step(%x: tensor<2x4xf32>) -> tensor<f32> {
  %half = arith.constant dense<0.5> : tensor<f32>
  %one = arith.constant dense<1.0> : tensor<f32>
  %w0 = graph.parameter ["h.0.p.w"] : tensor<2x4xf32>
  %0 = arith.mulf %x, %w0 : tensor<2x4xf32> loc("h.0.p")
  %own = graph.reduce sum %0 dims [0, 1] : tensor<2x4xf32> -> tensor<f32> loc("h.0.p")
  %w1 = graph.parameter ["h.1.p.w"] : tensor<2x4xf32>
  %1 = arith.addf %0, %w1 : tensor<2x4xf32> loc("h.1.p")
  %last = graph.reduce sum %1 dims [0, 1] : tensor<2x4xf32> -> tensor<f32> loc("head")
  %negated = arith.negf %last : tensor<f32> loc("head")
  %exp = math.exp %negated : tensor<f32> loc("head")
  %scaled = arith.mulf %own, %half : tensor<f32>
  %sum = arith.addf %exp, %scaled : tensor<f32>
  %loss = arith.addf %sum, %one : tensor<f32>
  return %loss : tensor<f32>
}

// -----

// All in one layer: nothing is taken apart.
// CHECK: func.func @step(%{{.*}}: tensor<2x4xf32>) -> tensor<f32>
func.func @step(%x: tensor<2x4xf32>) -> tensor<f32> {
  %w0 = graph.parameter ["h.0.p.w"] : tensor<2x4xf32>
  %0 = arith.mulf %x, %w0 : tensor<2x4xf32> loc("h.0.p")
  %w1 = graph.parameter ["h.1.p.w"] : tensor<2x4xf32>
  %1 = arith.mulf %0, %w1 : tensor<2x4xf32> loc("h.1.p")
  %a = graph.reduce sum %1 dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %b = graph.reduce max %1 dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %loss = arith.addf %a, %b : tensor<f32>
  return %loss : tensor<f32>
}
