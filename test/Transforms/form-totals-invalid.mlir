// RUN: galvatron-opt --galvatron-form-totals -split-input-file -verify-diagnostics %s

// expected-error@below {{expects a function @step with a body; write one with galvatron-import}}
module {
}

// -----

func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %w = graph.parameter ["w"] : tensor<8x8xf32>
  %z = graph.embedding %w, %x : (tensor<8x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %m = graph.reduce max %z dims [2] : tensor<2x4x8xf32> -> tensor<2x4xf32>
  %guess = arith.fptosi %m : tensor<2x4xf32> to tensor<2x4xi64>
  // expected-error@+1 {{divides by the number of its labels, which depends on parameters, so it is not known before the first micro-batch}}
  %loss = graph.cross_entropy %z, %guess : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %weights = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
  %n = graph.reduce sum %weights dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %each = graph.broadcast %n dims [] : tensor<f32> -> tensor<2x4xf32>
  %centred = arith.subf %weights, %each : tensor<2x4xf32>
  %square = arith.mulf %centred, %centred : tensor<2x4xf32>
  // expected-error@+1 {{sums over the batch what depends on another sum over the batch}}
  %sum = graph.reduce sum %square dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  return %sum : tensor<f32>
}
