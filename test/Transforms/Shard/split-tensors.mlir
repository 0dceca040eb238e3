// RUN: galvatron-opt %s --galvatron-split-tensors --galvatron-verify-shard | FileCheck %s

// CHECK-LABEL: dist.body @double.forward(%{{.*}}: tensor<4xf32>) -> tensor<4xf32>
// CHECK: dist.layer @double {forward = @double.forward, {{.*}}inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64
graph.layer @double(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}

// What backward reads of forward is a result of one body and an argument of the other; time is gone
// from placements of gradients, and a micro-batch's loss from none.
// CHECK-LABEL: dist.body @scale.forward(%{{.*}}: tensor<2x4xf32>, %{{.*}}: tensor<4xf32> {graph.parameter = "w"}) -> (tensor<2x4xf32>, tensor<2x4xf32>)
// CHECK: dist.body @scale.backward(%[[DY:.*]]: tensor<2x4xf32>, %{{.*}}: tensor<2x4xf32>, %{{.*}}: tensor<4xf32>, %[[SAVED:.*]]: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<4xf32>)
// CHECK: arith.mulf %[[DY]], %[[SAVED]] : tensor<2x4xf32>
// CHECK: dist.layer @scale {backward = @scale.backward, forward = @scale.forward, gradients = [#dist.placement<[4] partial [sum@g0]>], homes = [#dist.placement<[4]>]
// CHECK-SAME: num_saved = 1
graph.layer @scale(%x: tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>, %w: tensor<4xf32, #dist.placement<[4]>> {graph.parameter = "w"}) -> tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>> {
  %e = math.exp %x : tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>
  graph.backward(%dy: tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>) {
    %dx = arith.mulf %dy, %e : tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>
    %dw = graph.reduce sum %dx dims [0] : tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>> -> tensor<4xf32, #dist.placement<[4] partial [sum@t, sum@g0]>>
    graph.return %dx, %dw : tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>, tensor<4xf32, #dist.placement<[4] partial [sum@t, sum@g0]>>
  }
  graph.return %e : tensor<8x4xf32, #dist.placement<[2@t * 2@g0 * 2, 4]>>
}

// Ops that read their global index are told where they are; pieces and constants are local.
// CHECK-LABEL: dist.body @positions.forward
// CHECK: arith.constant dense<2.000000e+00> : tensor<4x6xf32>
// CHECK: graph.dropout %{{.*}} {dist.position = #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>, id = 0 : i64, p = 1.000000e-01 : f64} : tensor<4x6xf32>
// CHECK: graph.slice %{{.*}} offsets [0, 4] : tensor<4x6xf32> -> tensor<4x2xf32>
// CHECK: graph.iota {dim = 0 : i64, dist.position = #dist.placement<[2@g0 * 4]>} : tensor<4xi64>
graph.layer @positions(%x: tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>>) -> (tensor<8x4xf32, #dist.placement<[2@g0 * 4, 2@g1 * 2]>>, tensor<8xi64, #dist.placement<[2@g0 * 4]>>) {
  %c = arith.constant dense<2.0> : tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>>
  %m = arith.mulf %x, %c : tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>>
  %d = graph.dropout %m {p = 0.1, id = 0 : i64} : tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>> -> tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>>
  %s = graph.slice %d offsets [0, 8] : tensor<8x12xf32, #dist.placement<[2@g0 * 4, 3 * 2@g1 * 2]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 2@g1 * 2]>>
  %i = graph.iota {dim = 0 : i64} : tensor<8xi64, #dist.placement<[2@g0 * 4]>>
  graph.return %s, %i : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 2@g1 * 2]>>, tensor<8xi64, #dist.placement<[2@g0 * 4]>>
}

// The loss is added up over micro-batches by whoever runs the step.
// CHECK-LABEL: func.func @step
// CHECK-SAME: -> tensor<f32, #dist.placement<[] partial [sum@g0]>>
graph.layer @loss(%x: tensor<8xf32, #dist.placement<[2@t * 2@g0 * 2]>>) -> tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>> {
  %s = graph.reduce sum %x dims [0] : tensor<8xf32, #dist.placement<[2@t * 2@g0 * 2]>> -> tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>>
  graph.return %s : tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>>
}
func.func @step(%x: tensor<8xf32, #dist.placement<[2@t * 2@g0 * 2]>>) -> tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>> {
  %s = graph.call @loss(%x) parameters [] path "loss" : (tensor<8xf32, #dist.placement<[2@t * 2@g0 * 2]>>) -> tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>>
  return %s : tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>>
}

// What has no gradient has none in the bodies, and `unit` in the lists.
// CHECK-LABEL: dist.body @frozen.forward(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xi64>, %{{.*}}: tensor<4xf32> {graph.frozen, graph.parameter = "v"}, %{{.*}}: tensor<4xf32> {graph.parameter = "w"}) -> (tensor<4xf32>, tensor<4xf32>)
// CHECK: dist.body @frozen.backward(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xi64>, %{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
// CHECK: dist.layer @frozen {{.*}}gradients = [unit, #dist.placement<[4]>], {{.*}}input_gradients = [#dist.placement<[4]>, unit], {{.*}}output_gradients = [unit, #dist.placement<[4]>]
graph.layer @frozen(%x: tensor<4xf32, #dist.placement<[4]>>, %i: tensor<4xi64, #dist.placement<[4]>>, %v: tensor<4xf32, #dist.placement<[4]>> {graph.parameter = "v", graph.frozen}, %w: tensor<4xf32, #dist.placement<[4]>> {graph.parameter = "w"}) -> (tensor<4xf32, #dist.placement<[4]>> {graph.frozen}, tensor<4xf32, #dist.placement<[4]>>) {
  %y = arith.mulf %x, %w : tensor<4xf32, #dist.placement<[4]>>
  graph.backward(%dy: tensor<4xf32, #dist.placement<[4]>>) {
    %dx = arith.mulf %dy, %w : tensor<4xf32, #dist.placement<[4]>>
    %dw = arith.mulf %dy, %x : tensor<4xf32, #dist.placement<[4]>>
    graph.return %dx, %dw : tensor<4xf32, #dist.placement<[4]>>, tensor<4xf32, #dist.placement<[4]>>
  }
  graph.return %v, %y : tensor<4xf32, #dist.placement<[4]>>, tensor<4xf32, #dist.placement<[4]>>
}
