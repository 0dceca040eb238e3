// RUN: galvatron-opt %s --galvatron-verify-placements | FileCheck %s

// CHECK-LABEL: graph.layer @double
graph.layer @double(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}

// CHECK-LABEL: graph.layer @partial_sums_wait_in_sums_and_pass_linear_ops
graph.layer @partial_sums_wait_in_sums_and_pass_linear_ops(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>, %c: tensor<8xf32, #dist.placement<[8]>>) -> tensor<8xf32, #dist.placement<[8]>> {
  %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>, tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  %f = dist.multiplier %c : tensor<8xf32, #dist.placement<[8]>> -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  %z = arith.mulf %y, %f : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  %r = dist.all_reduce sum %z axes [0] : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[8]>>
  graph.return %r : tensor<8xf32, #dist.placement<[8]>>
}

// CHECK-LABEL: graph.layer @sub_axes_of_a_reshape
graph.layer @sub_axes_of_a_reshape(%x: tensor<4x8xf32, #dist.placement<[4, 2 * 2@g0 * 2]>>) -> tensor<4x2x4xf32, #dist.placement<[4, 2, 2@g0 * 2]>> {
  %y = graph.reshape %x : tensor<4x8xf32, #dist.placement<[4, 2 * 2@g0 * 2]>> -> tensor<4x2x4xf32, #dist.placement<[4, 2, 2@g0 * 2]>>
  graph.return %y : tensor<4x2x4xf32, #dist.placement<[4, 2, 2@g0 * 2]>>
}

// CHECK-LABEL: graph.layer @zeros_are_a_partial_sum
graph.layer @zeros_are_a_partial_sum(%c: tensor<8xi1, #dist.placement<[8]>>, %x: tensor<8xf32, #dist.placement<[8] partial [sum@t]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@t]>> {
  %zero = arith.constant dense<0.0> : tensor<8xf32, #dist.placement<[8] partial [sum@t]>>
  %y = graph.sum %x, %zero : (tensor<8xf32, #dist.placement<[8] partial [sum@t]>>, tensor<8xf32, #dist.placement<[8] partial [sum@t]>>) -> tensor<8xf32, #dist.placement<[8] partial [sum@t]>>
  graph.return %y : tensor<8xf32, #dist.placement<[8] partial [sum@t]>>
}
