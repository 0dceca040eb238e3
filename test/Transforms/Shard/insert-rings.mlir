// RUN: galvatron-opt %s -split-input-file --galvatron-insert-rings | FileCheck %s

// CHECK-LABEL: dist.body @l.forward
// CHECK-NEXT: dist.all_gather
dist.body @l.forward(%k: tensor<1x1x4x8xf32>) -> tensor<1x1x8x8xf32> {
  %all = dist.all_gather %k axes [0] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
  dist.return %all : tensor<1x1x8x8xf32>
}
dist.layer @l {forward = @l.forward, gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>], input_gradients = [], inputs = [], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[1, 1, 8, 8]>], plan.strategy = #plan.strategy<cp = 2, cp_kind = gathered>}

// -----

// Own keys first, then those of the other device; the logs of both sums are merged.
// CHECK-LABEL: dist.body @ring.forward
// CHECK-SAME: (%[[Q:.*]]: tensor<1x1x4x8xf32>, %[[K:.*]]: tensor<1x1x4x8xf32>)
// CHECK-NOT: all_gather
// CHECK: %{{.*}}, %[[OWN:.*]] = graph.attention %[[Q]], %[[K]], %[[K]] {causal, dist.key_position = #dist.placement<[1, 1, 2 * 2@mg0 * 2, 8]>, dist.key_turn = array<i64: 0>
// CHECK-NEXT: %[[KX:.*]] = dist.permute %[[K]] axes [0] {sources = array<i64: 1, 0>}
// CHECK-NEXT: %[[VX:.*]] = dist.permute %[[K]] axes [0] {sources = array<i64: 1, 0>}
// CHECK-NEXT: %{{.*}}, %[[OTHER:.*]] = graph.attention %[[Q]], %[[KX]], %[[VX]] {{.*}}dist.key_turn = array<i64: 1>
// CHECK-NEXT: %[[MOST:.*]] = arith.maximumf %[[OWN]], %[[OTHER]]
// CHECK: %[[SUM:.*]] = arith.addf
// CHECK: %[[LOG:.*]] = math.log %[[SUM]]
// CHECK-NEXT: %[[LSE:.*]] = arith.addf %[[MOST]], %[[LOG]]
// CHECK-NEXT: dist.return %[[LSE]]
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @ring.forward(%q: tensor<1x1x4x8xf32>, %k: tensor<1x1x4x8xf32>) -> tensor<1x1x4xf32> {
    %all = dist.all_gather %k axes [0] {dim = 2 : i64, outer = 2 : i64, mirrored} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
    %y, %lse = graph.attention %q, %all, %all {causal, scale = 1.0 : f64} : (tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>) -> (tensor<1x1x4x8xf32>, tensor<1x1x4xf32>)
    dist.return %lse : tensor<1x1x4xf32>
  }
  dist.layer @ring {forward = @ring.forward, plan.strategy = #plan.strategy<cp = 2, cp_kind = ring>, inputs = [], outputs = [#dist.placement<[1, 1, 4]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>, #dist.placement<[1, 1, 4, 8]>], gradients = [], num_saved = 0 : i64}
}

// -----

// Gradients of the other device's keys go home; three of each kind of value travel with four devices, in turns of two axes.
// CHECK-LABEL: dist.body @ring.backward
// CHECK: graph.attention_backward {{.*}} dist.key_turn = array<i64: 0, 0>
// CHECK-COUNT-2: dist.permute %{{.*}} axes [0, 1] {sources = array<i64: 1, 0, 3, 2>}
// CHECK: graph.attention_backward {{.*}} dist.key_turn = array<i64: 0, 1>
// CHECK-COUNT-4: dist.permute %{{.*}} axes [0, 1] {sources = array<i64: 3, 2, 1, 0>}
// CHECK: graph.attention_backward {{.*}} dist.key_turn = array<i64: 1, 0>
// CHECK-COUNT-4: dist.permute %{{.*}} axes [0, 1] {sources = array<i64: 1, 0, 3, 2>}
// CHECK: graph.attention_backward {{.*}} dist.key_turn = array<i64: 1, 1>
// CHECK-COUNT-2: dist.permute %{{.*}} axes [0, 1] {sources = array<i64: 3, 2, 1, 0>}
// CHECK-NOT: reduce_scatter
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 1, schedule = "gpipe">} {
  dist.body @ring.forward(%k: tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32> {
    dist.return %k : tensor<1x1x2x8xf32>
  }
  dist.body @ring.backward(%q: tensor<1x1x2x8xf32>, %k: tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32> {
    %lse = arith.constant dense<0.0> : tensor<1x1x2xf32>
    %ks = dist.all_gather %k axes [0, 1] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x2x8xf32> -> tensor<1x1x8x8xf32>
    %vs = dist.all_gather %k axes [0, 1] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x2x8xf32> -> tensor<1x1x8x8xf32>
    %dq, %dk, %dv = graph.attention_backward %q, %q, %ks, %vs, %q, %lse {scale = 1.0 : f64} : (tensor<1x1x2x8xf32>, tensor<1x1x2x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x2x8xf32>, tensor<1x1x2xf32>) -> (tensor<1x1x2x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>)
    %own = dist.reduce_scatter sum %dk axes [0, 1] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x8x8xf32> -> tensor<1x1x2x8xf32>
    %ownv = dist.reduce_scatter sum %dv axes [0, 1] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x8x8xf32> -> tensor<1x1x2x8xf32>
    %sum = graph.sum %dq, %own, %ownv : (tensor<1x1x2x8xf32>, tensor<1x1x2x8xf32>, tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32>
    dist.return %sum : tensor<1x1x2x8xf32>
  }
  dist.layer @ring {forward = @ring.forward, backward = @ring.backward, plan.strategy = #plan.strategy<cp = 4, cp_kind = ring>, inputs = [#dist.placement<[1, 1, 2, 8]>], outputs = [#dist.placement<[1, 1, 2, 8]>], input_gradients = [#dist.placement<[1, 1, 2, 8]>], output_gradients = [#dist.placement<[1, 1, 2, 8]>], homes = [], gradients = [], num_saved = 0 : i64}
}
