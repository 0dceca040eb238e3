// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-split-tensors

// expected-error@+1 {{expects arguments with placements, but got 'tensor<8xf32>'; run assign-placements}}
graph.layer @unplaced(%x: tensor<8xf32>) -> tensor<8xf32> {
  graph.return %x : tensor<8xf32>
}
