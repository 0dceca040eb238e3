// RUN: galvatron-opt %s --galvatron-raise-norms=max-sweeps=1 -split-input-file -verify-diagnostics

// Whether patterns still apply is known after one sweep more.
// expected-error @below {{expects galvatron-raise-norms to come to an end within max-sweeps = 1, but its patterns applied 1 times and still do; give it more sweeps, and where that does not help report the program, since two patterns undo each other}}
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
