// RUN: galvatron-opt %s --galvatron-raise-shapes=max-sweeps=1 -split-input-file -verify-diagnostics

// Whether patterns still apply is known after one sweep more.
// expected-error @below {{expects galvatron-raise-shapes to come to an end within max-sweeps = 1, but its patterns applied 1 times and still do; give it more sweeps, and where that does not help report the program, since two patterns undo each other}}
func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
  %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = graph.einsum %0, %w "bi,oi->bo" : (tensor<8x8xf32>, tensor<16x8xf32>) -> tensor<8x16xf32>
  %2 = graph.reshape %1 : tensor<8x16xf32> -> tensor<2x4x16xf32>
  return %2 : tensor<2x4x16xf32>
}
