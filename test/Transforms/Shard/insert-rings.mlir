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

// -----

// Each step compares the documents of its keys alone. A mask may hide all of them, and all before.
// CHECK-LABEL: dist.body @documents.forward
// CHECK-SAME: (%[[Q:.*]]: tensor<1x1x4x8xf32>, %[[D:.*]]: tensor<1x4xi64>)
// CHECK: %[[ALL:.*]] = dist.all_gather %[[D]]
// CHECK-NOT: tensor<1x4x8xi1>
// CHECK: %[[KEYS:.*]] = graph.broadcast %[[D]] dims [0, 2] : tensor<1x4xi64> -> tensor<1x4x4xi64>
// CHECK: %[[SAME:.*]] = arith.cmpi eq, %{{.*}}, %[[KEYS]] : tensor<1x4x4xi64>
// CHECK: %[[VISIBLE:.*]] = arith.select %[[SAME]]
// CHECK: %[[MASK:.*]] = graph.broadcast %[[VISIBLE]] dims [0, 2, 3] : tensor<1x4x4xf32> -> tensor<1x1x4x4xf32>
// CHECK: graph.attention %[[Q]], %[[Q]], %[[Q]] bias %[[MASK]]
// CHECK: %[[PIECE:.*]] = dist.shard %[[ALL]] axes [0] {dim = 1 : i64, mirrored, outer = 2 : i64, sources = array<i64: 1, 0>} : tensor<1x8xi64> -> tensor<1x4xi64>
// CHECK: graph.broadcast %[[PIECE]] dims [0, 2] : tensor<1x4xi64> -> tensor<1x4x4xi64>
// CHECK: arith.maximumf %{{.*}}, %{{.*}} : tensor<1x1x4xf32>
// CHECK: %[[LOWEST:.*]] = arith.constant dense<-3.40282347E+38>
// CHECK: arith.maximumf %{{.*}}, %[[LOWEST]]
// CHECK: %[[ONE:.*]] = arith.constant dense<1.000000e+00>
// CHECK: arith.maximumf %{{.*}}, %[[ONE]]
// CHECK-NOT: tensor<1x4x8xi1>
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @documents.forward(%q: tensor<1x1x4x8xf32>, %d: tensor<1x4xi64>) -> tensor<1x1x4x8xf32> {
    %all = dist.all_gather %q axes [0] {dim = 2 : i64, outer = 2 : i64, mirrored} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
    %ds = dist.all_gather %d axes [0] {dim = 1 : i64, outer = 2 : i64, mirrored} : tensor<1x4xi64> -> tensor<1x8xi64>
    %rows = graph.broadcast %d dims [0, 1] : tensor<1x4xi64> -> tensor<1x4x8xi64>
    %columns = graph.broadcast %ds dims [0, 2] : tensor<1x8xi64> -> tensor<1x4x8xi64>
    %same = arith.cmpi eq, %rows, %columns : tensor<1x4x8xi64>
    %zero = arith.constant dense<0.0> : tensor<1x4x8xf32>
    %hidden = arith.constant dense<0xFF800000> : tensor<1x4x8xf32>
    %visible = arith.select %same, %zero, %hidden : tensor<1x4x8xi1>, tensor<1x4x8xf32>
    %mask = graph.broadcast %visible dims [0, 2, 3] : tensor<1x4x8xf32> -> tensor<1x1x4x8xf32>
    %y, %lse = graph.attention %q, %all, %all bias %mask {causal, scale = 1.0 : f64} : (tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x4x8xf32>) -> (tensor<1x1x4x8xf32>, tensor<1x1x4xf32>)
    dist.return %y : tensor<1x1x4x8xf32>
  }
  dist.layer @documents {forward = @documents.forward, plan.strategy = #plan.strategy<cp = 2, cp_kind = ring>, inputs = [#dist.placement<[1, 1, 4, 8]>, #dist.placement<[1, 4]>], outputs = [#dist.placement<[1, 1, 4, 8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}

// -----

// What depends on positions alone needs no gather: those of a step's keys are known. What is no arithmetic is cut whole.
// CHECK-LABEL: dist.body @positions.forward
// CHECK-NOT: all_gather
// CHECK: graph.iota {dim = 0 : i64, dist.position = #dist.placement<[2@g0 * 4]>} : tensor<4xi64>
// CHECK: dist.shard %{{.*}} axes [0] {dim = 1 : i64, outer = 1 : i64, sources = array<i64: 0, 1>} : tensor<4x8xf32> -> tensor<4x4xf32>
// CHECK: graph.attention
// CHECK: graph.iota {dim = 0 : i64, dist.position = #dist.placement<[2@g0 * 4]>, dist.turn = array<i64: 1>} : tensor<4xi64>
// CHECK: graph.iota {dim = 0 : i64, dist.position = #dist.placement<[2@g0 * 4]>, dist.turn = array<i64: 1>} : tensor<4xi64>
// CHECK: dist.shard %{{.*}} axes [0] {dim = 1 : i64, outer = 1 : i64, sources = array<i64: 1, 0>} : tensor<4x8xf32> -> tensor<4x4xf32>
// CHECK: graph.attention
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @positions.forward(%q: tensor<1x1x4x8xf32>, %given: tensor<8x4xf32>) -> tensor<1x1x4x8xf32> {
    %all = dist.all_gather %q axes [0] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
    %own = graph.iota {dim = 0 : i64, dist.position = #dist.placement<[2@g0 * 4]>} : tensor<4xi64>
    %number = arith.sitofp %own : tensor<4xi64> to tensor<4xf32>
    %numbers = dist.all_gather %number axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<4xf32> -> tensor<8xf32>
    %by_key = graph.broadcast %numbers dims [1] : tensor<8xf32> -> tensor<4x8xf32>
    %position = graph.iota {dim = 0 : i64} : tensor<8xi64>
    %as_float = arith.sitofp %position : tensor<8xi64> to tensor<8xf32>
    %again = graph.broadcast %as_float dims [1] : tensor<8xf32> -> tensor<4x8xf32>
    %other = graph.transpose %given [1, 0] : tensor<8x4xf32> -> tensor<4x8xf32>
    %two = arith.addf %by_key, %again : tensor<4x8xf32>
    %bias = arith.addf %two, %other : tensor<4x8xf32>
    %y, %lse = graph.attention %q, %all, %all bias %bias {causal, scale = 1.0 : f64} : (tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>, tensor<4x8xf32>) -> (tensor<1x1x4x8xf32>, tensor<1x1x4xf32>)
    dist.return %y : tensor<1x1x4x8xf32>
  }
  dist.layer @positions {forward = @positions.forward, plan.strategy = #plan.strategy<cp = 2, cp_kind = ring>, inputs = [#dist.placement<[1, 1, 4, 8]>, #dist.placement<[8, 4]>], outputs = [#dist.placement<[1, 1, 4, 8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}
