// RUN: galvatron-opt %s --galvatron-raise-loss=max-sweeps=1 -split-input-file -verify-diagnostics

// Whether patterns still apply is known after one sweep more.
// expected-error @below {{expects galvatron-raise-loss to come to an end within max-sweeps = 1, but its patterns applied 1 times and still do; give it more sweeps, and where that does not help report the program, since two patterns undo each other}}
func.func @step(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x3x16xf32>
  %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x3xi64>
  %2 = graph.cross_entropy %0, %1 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<f32>
  return %2 : tensor<f32>
}
