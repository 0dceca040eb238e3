// RUN: galvatron-opt %s --galvatron-verify-shard | FileCheck %s

// CHECK-LABEL: dist.body @double.forward
// CHECK: dist.layer @double
dist.body @double.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = graph.sum %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  dist.return %y : tensor<4xf32>
}
dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
