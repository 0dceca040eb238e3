// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-verify-shard

// expected-error@+1 {{expects to be gone after split-tensors}}
graph.layer @left(%x: tensor<8xf32>) -> tensor<8xf32> {
  graph.return %x : tensor<8xf32>
}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects input 0 to be held as #dist.placement<[2@g0 * 4]>, but got 'tensor<8xf32>'}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
dist.body @b(%dy: tensor<8xf32>, %x: tensor<8xf32>, %w: tensor<8xf32>) -> (tensor<8xf32>, tensor<4xf32>) {
  %dw = dist.shard %dy axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8xf32> -> tensor<4xf32>
  dist.return %dy, %dw : tensor<8xf32>, tensor<4xf32>
}
// expected-error@+1 {{expects gradient 0 at its home #dist.placement<[8]> but for partial sums, but got #dist.placement<[2@g0 * 4]>}}
dist.layer @l {forward = @f, backward = @b, gradients = [#dist.placement<[2@g0 * 4]>], homes = [#dist.placement<[8]>], input_gradients = [#dist.placement<[8]>], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{expects local types in a body, but got 'tensor<8xf32, #dist.placement<[2@g0 * 4]>>'}}
  %y = dist.shard %x axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8xf32> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  dist.return %x : tensor<8xf32>
}
