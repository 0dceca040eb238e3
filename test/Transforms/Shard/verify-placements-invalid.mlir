// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-verify-placements

graph.layer @whole(%x: tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>) -> tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>> {
  // expected-error@+1 {{cannot be cut by mesh axis 0 along a loop of extent 8 that it declares whole}}
  %y = graph.softmax %x : tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>> -> tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>
  graph.return %y : tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>
}

// -----

graph.layer @operand(%x: tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>, %w: tensor<6x8xf32, #dist.placement<[2@g0 * 3, 8]>>) -> tensor<4x6xf32, #dist.placement<[2@g0 * 2, 6]>> {
  // expected-error@+1 {{is cut by mesh axis 0 along a loop of extent 4, but operand 1 is placed as #dist.placement<[2@g0 * 3, 8]>}}
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>, tensor<6x8xf32, #dist.placement<[2@g0 * 3, 8]>>) -> tensor<4x6xf32, #dist.placement<[2@g0 * 2, 6]>>
  graph.return %y : tensor<4x6xf32, #dist.placement<[2@g0 * 2, 6]>>
}

// -----

graph.layer @contracted(%x: tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>, %w: tensor<6x8xf32, #dist.placement<[6, 2@g0 * 4]>>) -> tensor<4x6xf32, #dist.placement<[4, 6]>> {
  // expected-error@+1 {{is cut by mesh axis 0 along a loop of extent 8, but result 0 is placed as #dist.placement<[4, 6]>}}
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>, tensor<6x8xf32, #dist.placement<[6, 2@g0 * 4]>>) -> tensor<4x6xf32, #dist.placement<[4, 6]>>
  graph.return %y : tensor<4x6xf32, #dist.placement<[4, 6]>>
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 4, schedule = "1f1b">} {
  graph.layer @share(%x: tensor<f32, #dist.placement<[]>>) -> tensor<f32, #dist.placement<[] partial [sum@t]>> {
    // expected-error@+1 {{expects 4 shares, but got 2}}
    %y = dist.share %x of 2 : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@t]>>
    graph.return %y : tensor<f32, #dist.placement<[] partial [sum@t]>>
  }
}

// -----

graph.layer @shares_without_a_mesh(%x: tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g3]>> {
  // expected-error@+1 {{expects shares on mesh axes below 0, as many as the plan has, but got mesh axis 3}}
  %y = dist.share %x of 2 : tensor<8xf32, #dist.placement<[8]>> -> tensor<8xf32, #dist.placement<[8] partial [sum@g3]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [sum@g3]>>
}

// -----

graph.layer @shares_of_a_maximum(%x: tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[8] partial [max@g0]>> {
  // expected-error@+1 {{expects shares that add up on mesh axis 0, but got #dist.placement<[8]> and #dist.placement<[8] partial [max@g0]>}}
  %y = dist.share %x of 2 : tensor<8xf32, #dist.placement<[8]>> -> tensor<8xf32, #dist.placement<[8] partial [max@g0]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [max@g0]>>
}

// -----

graph.layer @maximum(%x: tensor<8xi64, #dist.placement<[2@g0 * 4]>>) -> tensor<f32, #dist.placement<[] partial [max@g0]>> {
  %f = arith.sitofp %x : tensor<8xi64, #dist.placement<[2@g0 * 4]>> to tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  %y = graph.reduce max %f dims [0] : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<f32, #dist.placement<[] partial [max@g0]>>
  graph.return %y : tensor<f32, #dist.placement<[] partial [max@g0]>>
}
func.func @step(%x: tensor<8xi64, #dist.placement<[2@g0 * 4]>>) {
  // expected-error@+1 {{expects a layer whose result is a sum over pieces of the batch, but @maximum returns}}
  %0 = graph.total @maximum(%x) : (tensor<8xi64, #dist.placement<[2@g0 * 4]>>) -> tensor<f32, #dist.placement<[]>>
  return
}

// -----

graph.layer @sum(%x: tensor<8xi64, #dist.placement<[8]>>) -> tensor<f32, #dist.placement<[]>> {
  %f = arith.sitofp %x : tensor<8xi64, #dist.placement<[8]>> to tensor<8xf32, #dist.placement<[8]>>
  %y = graph.reduce sum %f dims [0] : tensor<8xf32, #dist.placement<[8]>> -> tensor<f32, #dist.placement<[]>>
  graph.return %y : tensor<f32, #dist.placement<[]>>
}
func.func @step(%x: tensor<8xi64, #dist.placement<[8]>>) {
  // expected-error@+1 {{expects a replicated result, but got}}
  %0 = graph.total @sum(%x) : (tensor<8xi64, #dist.placement<[8]>>) -> tensor<f32, #dist.placement<[] partial [sum@g0]>>
  return
}

// -----

graph.layer @nonlinear(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> {
  // expected-error@+1 {{reads a value that is a partial sum on mesh axis 0, but is not linear in it}}
  %y = graph.activation relu %x : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
}

// -----

graph.layer @square(%x: tensor<8xf32, #dist.placement<[8] partial [sum@t]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@t]>> {
  // expected-error@+1 {{reads a value that is a partial sum on time, but is not linear in it}}
  %y = arith.mulf %x, %x : tensor<8xf32, #dist.placement<[8] partial [sum@t]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [sum@t]>>
}

// -----

graph.layer @maximum(%x: tensor<8xf32, #dist.placement<[8] partial [max@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [max@g0]>> {
  // expected-error@+1 {{reads a value that is a partial maximum on mesh axis 0}}
  %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[8] partial [max@g0]>>, tensor<8xf32, #dist.placement<[8] partial [max@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [max@g0]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [max@g0]>>
}

// -----

graph.layer @forgotten(%x: tensor<4x8xf32, #dist.placement<[4, 8] partial [sum@g0]>>) -> tensor<8x4xf32, #dist.placement<[8, 4]>> {
  // expected-error@+1 {{expects result 0 to be a partial sum on mesh axis 0, but got #dist.placement<[8, 4]>}}
  %y = graph.transpose %x [1, 0] : tensor<4x8xf32, #dist.placement<[4, 8] partial [sum@g0]>> -> tensor<8x4xf32, #dist.placement<[8, 4]>>
  graph.return %y : tensor<8x4xf32, #dist.placement<[8, 4]>>
}

// -----

graph.layer @border(%x: tensor<4x6xf32, #dist.placement<[4, 2@g0 * 3]>>) -> tensor<4x3x2xf32, #dist.placement<[4, 3, 2]>> {
  // expected-error@+1 {{is cut by mesh axis 0 across the border of two of its loops}}
  %y = graph.reshape %x : tensor<4x6xf32, #dist.placement<[4, 2@g0 * 3]>> -> tensor<4x3x2xf32, #dist.placement<[4, 3, 2]>>
  graph.return %y : tensor<4x3x2xf32, #dist.placement<[4, 3, 2]>>
}

// -----

graph.layer @unplaced(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{expects operands with placements, but got 'tensor<8xf32>'}}
  %y = graph.activation relu %x : tensor<8xf32> -> tensor<8xf32>
  graph.return %y : tensor<8xf32>
}

// -----

graph.layer @unplaced_result() -> tensor<8xf32> {
  // expected-error@+1 {{expects results with placements, but got 'tensor<8xf32>'}}
  %y = arith.constant dense<1.0> : tensor<8xf32>
  graph.return %y : tensor<8xf32>
}

// -----

graph.layer @constant() -> tensor<2xf32, #dist.placement<[2@g0]>> {
  // expected-error@+1 {{expects a constant of unequal elements to be replicated, but got #dist.placement<[2@g0]>}}
  %y = arith.constant dense<[1.0, 2.0]> : tensor<2xf32, #dist.placement<[2@g0]>>
  graph.return %y : tensor<2xf32, #dist.placement<[2@g0]>>
}

// -----

graph.layer @collective(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  // expected-error@+1 {{does not lead from #dist.placement<[2@g0 * 4]> to #dist.placement<[2@g0 * 4]>}}
  %y = dist.all_reduce sum %x axes [0] : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}

// -----

// Within one dimension: the sub-axis that was taken is put after the one that stays.
graph.layer @exchange(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2 * 2@g0 * 2]>> {
  // expected-error@+1 {{does not lead from #dist.placement<[2@g0 * 4]> to #dist.placement<[2 * 2@g0 * 2]>}}
  %y = dist.all_to_all %x axes [0] {split_dim = 0 : i64, split_outer = 1 : i64, concat_dim = 0 : i64, concat_outer = 2 : i64} : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[2 * 2@g0 * 2]>>
  graph.return %y : tensor<8xf32, #dist.placement<[2 * 2@g0 * 2]>>
}

// -----

graph.layer @collective_of_nothing(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error@+1 {{expects operand and result with placements}}
  %y = dist.all_reduce sum %x axes [0] : tensor<8xf32> -> tensor<8xf32>
  graph.return %y : tensor<8xf32>
}

// -----

graph.layer @redistribution(%x: tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> {
  // expected-error@+1 {{expects a target that collectives can reach, but got #dist.placement<[8]> to #dist.placement<[8] partial [sum@g0]>}}
  %y = dist.redistribute %x : tensor<8xf32, #dist.placement<[8]>> -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
}

// -----

graph.layer @gradient(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>, %w: tensor<8xf32, #dist.placement<[2@g0 * 4]>> {graph.parameter = "w"}) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  graph.backward(%dy: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) {
    %dw = dist.all_gather %dy axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[8]>>
    // expected-error@+1 {{expects the gradient of argument 1 at #dist.placement<[2@g0 * 4]>, but got #dist.placement<[8]>}}
    graph.return %dy, %dw : tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[8]>>
  }
  graph.return %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}

// -----

graph.layer @identity(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  graph.return %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}
func.func @step(%x: tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  // expected-error@+1 {{passes operand 0 as 'tensor<8xf32, #dist.placement<[8]>>', but the layer expects 'tensor<8xf32, #dist.placement<[2@g0 * 4]>>'}}
  %y = graph.call @identity(%x) parameters [] path "x" : (tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}

// -----

graph.layer @identity(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  graph.return %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}
func.func @step(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[8]>> {
  // expected-error@+1 {{takes result 0 as 'tensor<8xf32, #dist.placement<[8]>>', but the layer returns 'tensor<8xf32, #dist.placement<[2@g0 * 4]>>'}}
  %y = graph.call @identity(%x) parameters [] path "x" : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[8]>>
  return %y : tensor<8xf32, #dist.placement<[8]>>
}

// -----

graph.layer @identity(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> {
  graph.return %x : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
}
func.func @step(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> {
  // expected-error@+1 {{expects nothing but the loss to cross layers as a partial sum, but got}}
  %y = graph.call @identity(%x) parameters [] path "x" : (tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  %z = graph.call @identity(%y) parameters [] path "y" : (tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  return %z : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
}

// -----

// Device 0's positions are 0, 1, 6, 7 on one side, 0, 1, 4, 5 on the other.
graph.layer @mirrored(%x: tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>>, %z: tensor<8xf32, #dist.placement<[2 * 2@g0 * 2]>>) -> tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>> {
  // expected-error@+1 {{is cut by mesh axis 0 along a loop of extent 8, but operand 1 is placed as #dist.placement<[2 * 2@g0 * 2]>}}
  %y = graph.sum %x, %z : (tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>>, tensor<8xf32, #dist.placement<[2 * 2@g0 * 2]>>) -> tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>>
  graph.return %y : tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>>
}

// -----

graph.layer @unmirrored_gather(%x: tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>>) -> tensor<8xf32, #dist.placement<[8]>> {
  // expected-error@+1 {{does not lead from #dist.placement<[2 * 2@mg0 * 2]> to #dist.placement<[8]>}}
  %y = dist.all_gather %x axes [0] {dim = 0 : i64, outer = 2 : i64} : tensor<8xf32, #dist.placement<[2 * 2@mg0 * 2]>> -> tensor<8xf32, #dist.placement<[8]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8]>>
}
