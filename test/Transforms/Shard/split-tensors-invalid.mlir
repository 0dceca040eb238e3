// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-split-tensors

// expected-error@+1 {{expects arguments with placements, but got 'tensor<8xf32>'; run assign-placements}}
graph.layer @unplaced(%x: tensor<8xf32>) -> tensor<8xf32> {
  graph.return %x : tensor<8xf32>
}

// -----

graph.layer @apart(%x: tensor<8xf32, #dist.placement<[8]>>, %w: tensor<8xf32, #dist.placement<[8]>> {graph.parameter = "w"}) -> tensor<8xf32, #dist.placement<[8]>> {
  %y = arith.mulf %x, %w : tensor<8xf32, #dist.placement<[8]>>
  // expected-error@+1 {{expects one backward for inputs and weights together, but got one of kind input; no schedule that is lowered runs them apart}}
  graph.backward input(%dy: tensor<8xf32, #dist.placement<[8]>>) {
    %dx = arith.mulf %dy, %w : tensor<8xf32, #dist.placement<[8]>>
    graph.return %dx : tensor<8xf32, #dist.placement<[8]>>
  }
  graph.backward weight(%dy: tensor<8xf32, #dist.placement<[8]>>) {
    %dw = arith.mulf %dy, %x : tensor<8xf32, #dist.placement<[8]>>
    graph.return %dw : tensor<8xf32, #dist.placement<[8]>>
  }
  graph.return %y : tensor<8xf32, #dist.placement<[8]>>
}
