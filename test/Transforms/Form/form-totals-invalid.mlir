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
