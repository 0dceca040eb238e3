// RUN: galvatron-opt %s | galvatron-opt | FileCheck %s
// RUN: galvatron-opt %s --mlir-print-op-generic | galvatron-opt | FileCheck %s

// CHECK-LABEL: func.func private @placements
// CHECK-SAME: tensor<8x16x64xf32, #dist.placement<[4@t * 2@g0, 16, 64] partial [sum@g1]>>
// CHECK-SAME: tensor<24xf32, #dist.placement<[3 * 2@g0 * 4]>>
// CHECK-SAME: tensor<f32, #dist.placement<[] partial [sum@t, max@g0]>>
// CHECK-SAME: tensor<1x8xf32, #dist.placement<[1, 8]>>
// CHECK-SAME: tensor<48xf32, #dist.placement<[2 * 2@mg0 * 3@mg1 * 4]>>
func.func private @placements(tensor<8x16x64xf32, #dist.placement<[4@t * 2@g0 * 1, 4 * 4, 64] partial [sum@g1]>>,
    tensor<24xf32, #dist.placement<[3 * 2@g0 * 4]>>, tensor<f32, #dist.placement<[] partial [max@g0, sum@t]>>,
    tensor<1x8xf32, #dist.placement<[1, 8]>>, tensor<48xf32, #dist.placement<[2 * 2@mg0 * 3@mg1 * 4]>>)

// CHECK-LABEL: func.func @redistribution
func.func @redistribution(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>, %c: tensor<f32, #dist.placement<[]>>) {
  // CHECK: dist.redistribute %{{.*}} : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[8]>>
  %0 = dist.redistribute %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[8]>>
  // CHECK: dist.multiplier %{{.*}} : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@g0]>>
  %1 = dist.multiplier %c : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@g0]>>
  // CHECK: dist.share %{{.*}} of 4 : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@t]>>
  %2 = dist.share %c of 4 : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@t]>>
  return
}

// CHECK-LABEL: dist.body @collectives
dist.body @collectives(%x: tensor<8x6xf32>) -> tensor<8x6xf32> {
  // CHECK: dist.all_reduce max %{{.*}} axes [0, 2] : tensor<8x6xf32> -> tensor<8x6xf32>
  %0 = dist.all_reduce max %x axes [0, 2] : tensor<8x6xf32> -> tensor<8x6xf32>
  // CHECK: dist.shard %{{.*}} axes [1] {dim = 1 : i64, outer = 3 : i64} : tensor<8x6xf32> -> tensor<8x3xf32>
  %1 = dist.shard %0 axes [1] {dim = 1 : i64, outer = 3 : i64} : tensor<8x6xf32> -> tensor<8x3xf32>
  // CHECK: dist.shard %{{.*}} axes [1] {dim = 1 : i64, outer = 1 : i64, sources = array<i64: 1, 0>} : tensor<8x6xf32> -> tensor<8x3xf32>
  %other = dist.shard %0 axes [1] {dim = 1 : i64, outer = 1 : i64, sources = array<i64: 1, 0>} : tensor<8x6xf32> -> tensor<8x3xf32>
  // CHECK: dist.all_gather %{{.*}} axes [1] {dim = 1 : i64, outer = 3 : i64} : tensor<8x3xf32> -> tensor<8x6xf32>
  %2 = dist.all_gather %1 axes [1] {dim = 1 : i64, outer = 3 : i64} : tensor<8x3xf32> -> tensor<8x6xf32>
  // CHECK: dist.all_gather %{{.*}} axes [1] {dim = 0 : i64, mirrored, outer = 4 : i64} : tensor<8x3xf32> -> tensor<16x3xf32>
  %mirrored = dist.all_gather %1 axes [1] {dim = 0 : i64, outer = 4 : i64, mirrored} : tensor<8x3xf32> -> tensor<16x3xf32>
  // CHECK: dist.reduce_scatter sum %{{.*}} axes [1] {dim = 0 : i64, outer = 1 : i64} : tensor<8x6xf32> -> tensor<4x6xf32>
  %3 = dist.reduce_scatter sum %2 axes [1] {dim = 0 : i64, outer = 1 : i64} : tensor<8x6xf32> -> tensor<4x6xf32>
  // CHECK: dist.permute %{{.*}} axes [1] {sources = array<i64: 1, 0>} : tensor<4x6xf32> -> tensor<4x6xf32>
  %permuted = dist.permute %3 axes [1] {sources = array<i64: 1, 0>} : tensor<4x6xf32> -> tensor<4x6xf32>
  // CHECK: dist.all_to_all %{{.*}} axes [1] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<4x6xf32> -> tensor<8x3xf32>
  %4 = dist.all_to_all %3 axes [1] {split_dim = 1 : i64, split_outer = 1 : i64, concat_dim = 0 : i64, concat_outer = 1 : i64} : tensor<4x6xf32> -> tensor<8x3xf32>
  // CHECK: dist.coalesced_all_to_all %{{.*}}, %{{.*}} axes [1] {concat_dims = array<i64: 0, 1>, concat_outers = array<i64: 1, 1>, split_dims = array<i64: 1, 0>, split_outers = array<i64: 1, 1>} : (tensor<4x6xf32>, tensor<8x3xf32>) -> (tensor<8x3xf32>, tensor<4x6xf32>)
  %5:2 = dist.coalesced_all_to_all %3, %4 axes [1] {split_dims = array<i64: 1, 0>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 0, 1>, concat_outers = array<i64: 1, 1>} : (tensor<4x6xf32>, tensor<8x3xf32>) -> (tensor<8x3xf32>, tensor<4x6xf32>)
  // CHECK: dist.return %{{.*}} : tensor<8x6xf32>
  dist.return %2 : tensor<8x6xf32>
}

// CHECK-LABEL: dist.body @backward
dist.body @backward(%dy: tensor<8x6xf32>, %x: tensor<8x6xf32>) -> tensor<8x6xf32> {
  dist.return %dy : tensor<8x6xf32>
}

// CHECK: dist.layer @layer {backward = @backward, forward = @collectives
dist.layer @layer {forward = @collectives, backward = @backward, inputs = [#dist.placement<[8, 6]>], outputs = [#dist.placement<[8, 6]>],
  input_gradients = [#dist.placement<[8, 6]>], output_gradients = [#dist.placement<[8, 6]>], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK: dist.stage @unordered index 0 {
dist.stage @unordered index 0 {
}
// CHECK: dist.stage @ordered index 1 order <F0, F0.1, B0.1, W0.1, F10, B0> attributes {dist.arena_bytes = 64 : i64} {
dist.stage @ordered index 1 order <F0, F0.1, B0.1, W0.1, F10, B0.0> attributes {dist.arena_bytes = 64 : i64} {
}
