// RUN: galvatron-opt %s -split-input-file --galvatron-insert-collectives --galvatron-verify-placements | FileCheck %s

// CHECK-LABEL: graph.layer @reduce
// CHECK: dist.reduce_scatter sum %{{.*}} axes [0] {dim = 0 : i64, outer = 1 : i64}
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @reduce(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
    %y = dist.redistribute %x : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
    graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 8, micro_batches = 2, schedule = "gpipe">} {
  // CHECK-LABEL: graph.layer @neighbouring_axes_are_one_group
  // CHECK: dist.all_gather %{{.*}} axes [0, 1] {dim = 0 : i64, outer = 1 : i64}
  // CHECK-NEXT: graph.return
  graph.layer @neighbouring_axes_are_one_group(%x: tensor<16xf32, #dist.placement<[2@t * 2@g0 * 2@g1 * 2]>>) -> tensor<16xf32, #dist.placement<[2@t * 8]>> {
    %y = dist.redistribute %x : tensor<16xf32, #dist.placement<[2@t * 2@g0 * 2@g1 * 2]>> -> tensor<16xf32, #dist.placement<[2@t * 8]>>
    graph.return %y : tensor<16xf32, #dist.placement<[2@t * 8]>>
  }

  // CHECK-LABEL: graph.layer @partial_axes_are_one_group
  // CHECK: dist.all_reduce sum %{{.*}} axes [0, 2]
  // CHECK-NEXT: graph.return
  graph.layer @partial_axes_are_one_group(%x: tensor<16xf32, #dist.placement<[16] partial [sum@g0, sum@g2]>>) -> tensor<16xf32, #dist.placement<[16]>> {
    %y = dist.redistribute %x : tensor<16xf32, #dist.placement<[16] partial [sum@g0, sum@g2]>> -> tensor<16xf32, #dist.placement<[16]>>
    graph.return %y : tensor<16xf32, #dist.placement<[16]>>
  }

  // Sequence to heads and back: two axes exchange in one all-to-all.
  // CHECK-LABEL: graph.layer @exchange
  // CHECK: dist.all_to_all %{{.*}} axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64}
  graph.layer @exchange(%x: tensor<16x4xf32, #dist.placement<[2@g0 * 8, 4]>>) -> tensor<16x4xf32, #dist.placement<[16, 2@g0 * 2]>> {
    %y = dist.redistribute %x : tensor<16x4xf32, #dist.placement<[2@g0 * 8, 4]>> -> tensor<16x4xf32, #dist.placement<[16, 2@g0 * 2]>>
    graph.return %y : tensor<16x4xf32, #dist.placement<[16, 2@g0 * 2]>>
  }

  // Pieces of both ends, in positions' natural order.
  // CHECK-LABEL: graph.layer @mirrored
  // CHECK: dist.all_gather %{{.*}} axes [0, 1] {dim = 0 : i64, mirrored, outer = 2 : i64}
  // CHECK-NEXT: dist.shard %{{.*}} axes [0] {dim = 0 : i64, mirrored, outer = 2 : i64}
  graph.layer @mirrored(%x: tensor<16xf32, #dist.placement<[2 * 2@mg0 * 2@mg1 * 2]>>) -> tensor<16xf32, #dist.placement<[2 * 2@mg0 * 4]>> {
    %y = dist.redistribute %x : tensor<16xf32, #dist.placement<[2 * 2@mg0 * 2@mg1 * 2]>> -> tensor<16xf32, #dist.placement<[16]>>
    %z = dist.redistribute %y : tensor<16xf32, #dist.placement<[16]>> -> tensor<16xf32, #dist.placement<[2 * 2@mg0 * 4]>>
    graph.return %z : tensor<16xf32, #dist.placement<[2 * 2@mg0 * 4]>>
  }

  // What makes the tensor smaller comes first.
  // CHECK-LABEL: graph.layer @shards_before_reducing
  // CHECK: dist.shard %{{.*}} axes [1] {dim = 0 : i64, outer = 1 : i64}
  // CHECK-NEXT: dist.all_reduce max %{{.*}} axes [0]
  graph.layer @shards_before_reducing(%x: tensor<16xf32, #dist.placement<[16] partial [max@g0]>>) -> tensor<16xf32, #dist.placement<[2@g1 * 8]>> {
    %y = dist.redistribute %x : tensor<16xf32, #dist.placement<[16] partial [max@g0]>> -> tensor<16xf32, #dist.placement<[2@g1 * 8]>>
    graph.return %y : tensor<16xf32, #dist.placement<[2@g1 * 8]>>
  }

  // A sub-axis in the middle of a dimension is cut at [outer][group][inner].
  // CHECK-LABEL: graph.layer @middle_sub_axis
  // CHECK: dist.shard %{{.*}} axes [0] {dim = 0 : i64, outer = 3 : i64}
  graph.layer @middle_sub_axis(%x: tensor<24xf32, #dist.placement<[24]>>) -> tensor<24xf32, #dist.placement<[3 * 2@g0 * 4]>> {
    %y = dist.redistribute %x : tensor<24xf32, #dist.placement<[24]>> -> tensor<24xf32, #dist.placement<[3 * 2@g0 * 4]>>
    graph.return %y : tensor<24xf32, #dist.placement<[3 * 2@g0 * 4]>>
  }
}
