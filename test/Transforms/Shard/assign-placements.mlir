// RUN: galvatron-opt %s -split-input-file --galvatron-assign-placements --galvatron-verify-placements | FileCheck %s

// CHECK-LABEL: graph.layer @double.dp2(
// CHECK-SAME: %[[X:.*]]: tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
// CHECK: graph.sum %[[X]], %[[X]] : {{.*}} -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @double(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
    %y = graph.sum %x, %x : (tensor<8x16xf32>, tensor<8x16xf32>) -> tensor<8x16xf32>
    graph.return %y : tensor<8x16xf32>
  }
  func.func @step(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
    %y = graph.call @double(%x) parameters [] path "double" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16xf32>) -> tensor<8x16xf32>
    return %y : tensor<8x16xf32>
  }
}

// -----

// Column-parallel, row-parallel, one reduction before the residual sum; both gradients of x are added
// before they are reduced; weights' gradients stay partial over samples and micro-batches only.
// CHECK-LABEL: graph.layer @mlp.dp2tp2(
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<8x16x64xf32, #dist.placement<[2@t * 2@g0 * 2, 16, 64]>>
// CHECK-SAME: tensor<96x64xf32, #dist.placement<[2@g1 * 48, 64]>>
// CHECK-SAME: tensor<64x96xf32, #dist.placement<[64, 2@g1 * 48]>>
// CHECK: %[[D:.*]] = graph.einsum {{.*}} -> tensor<8x16x64xf32, #dist.placement<[2@t * 2@g0 * 2, 16, 64] partial [sum@g1]>>
// CHECK-NEXT: %[[R:.*]] = dist.redistribute %[[D]]
// CHECK-NEXT: graph.sum %[[X]], %[[R]]
// CHECK-NEXT: graph.backward(%[[DY:.*]]: tensor
// CHECK-NOT: dist.redistribute
// CHECK: %[[W:.*]] = graph.sum {{.*}} partial [sum@g1]
// CHECK-NEXT: %[[WR:.*]] = dist.redistribute %[[W]]
// CHECK-NEXT: graph.sum %[[DY]], %[[WR]]
// CHECK-NEXT: graph.return {{.*}} tensor<96x64xf32, #dist.placement<[2@g1 * 48, 64] partial [sum@t, sum@g0]>>
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 2, schedule = "gpipe">} {
  graph.layer @mlp(%x: tensor<8x16x64xf32>, %wg: tensor<96x64xf32> {graph.parameter = "g"}, %wu: tensor<96x64xf32> {graph.parameter = "u"}, %wd: tensor<64x96xf32> {graph.parameter = "d"}) -> tensor<8x16x64xf32> {
    %g = graph.einsum %x, %wg "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<96x64xf32>) -> tensor<8x16x96xf32>
    %u = graph.einsum %x, %wu "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<96x64xf32>) -> tensor<8x16x96xf32>
    %h = graph.gated_activation silu %g, %u : (tensor<8x16x96xf32>, tensor<8x16x96xf32>) -> tensor<8x16x96xf32>
    %d = graph.einsum %h, %wd "bsi,oi->bso" : (tensor<8x16x96xf32>, tensor<64x96xf32>) -> tensor<8x16x64xf32>
    %y = graph.sum %x, %d : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    graph.backward(%dy: tensor<8x16x64xf32>) {
      %dh = graph.einsum %dy, %wd "bso,oi->bsi" : (tensor<8x16x64xf32>, tensor<64x96xf32>) -> tensor<8x16x96xf32>
      %dwd = graph.einsum %dy, %h "bso,bsi->oi" : (tensor<8x16x64xf32>, tensor<8x16x96xf32>) -> tensor<64x96xf32>
      %dg, %du = graph.gated_activation_backward silu %dh, %g, %u : (tensor<8x16x96xf32>, tensor<8x16x96xf32>, tensor<8x16x96xf32>) -> (tensor<8x16x96xf32>, tensor<8x16x96xf32>)
      %dxu = graph.einsum %du, %wu "bso,oi->bsi" : (tensor<8x16x96xf32>, tensor<96x64xf32>) -> tensor<8x16x64xf32>
      %dwu = graph.einsum %du, %x "bso,bsi->oi" : (tensor<8x16x96xf32>, tensor<8x16x64xf32>) -> tensor<96x64xf32>
      %dxg = graph.einsum %dg, %wg "bso,oi->bsi" : (tensor<8x16x96xf32>, tensor<96x64xf32>) -> tensor<8x16x64xf32>
      %dwg = graph.einsum %dg, %x "bso,bsi->oi" : (tensor<8x16x96xf32>, tensor<8x16x64xf32>) -> tensor<96x64xf32>
      %dx = graph.sum %dy, %dxu, %dxg : (tensor<8x16x64xf32>, tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
      graph.return %dx, %dwg, %dwu, %dwd : tensor<8x16x64xf32>, tensor<96x64xf32>, tensor<96x64xf32>, tensor<64x96xf32>
    }
    graph.return %y : tensor<8x16x64xf32>
  }
  func.func @step(%x: tensor<8x16x64xf32>) -> tensor<8x16x64xf32> {
    %y = graph.call @mlp(%x) parameters ["g", "u", "d"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2, tp = 2>} : (tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    return %y : tensor<8x16x64xf32>
  }
}

// -----

// Layers of different strategy: one clone each, and a redistribution between them, done on the stage
// where a device holds less.
// CHECK-LABEL: graph.layer @redistribute.0(%{{.*}}: tensor<8x64xf32, #dist.placement<[2@g0 * 4, 64]>>) -> tensor<8x64xf32, #dist.placement<[8, 64]>>
// CHECK: dist.redistribute
// CHECK: graph.backward(%{{.*}}: tensor<8x64xf32, #dist.placement<[8, 64]>>)
// CHECK-LABEL: func.func @step
// CHECK: %[[A:.*]] = graph.call @linear.dp2
// CHECK-NEXT: %[[B:.*]] = graph.call @redistribute.0(%[[A]]) parameters [] path "b:input" {plan.stage = 1 : i64}
// CHECK-NEXT: graph.call @linear.tp2(%[[B]])
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @linear(%x: tensor<8x64xf32>, %u: tensor<32x64xf32> {graph.parameter = "u"}, %d: tensor<64x32xf32> {graph.parameter = "d"}) -> tensor<8x64xf32> {
    %h = graph.einsum %x, %u "bi,oi->bo" : (tensor<8x64xf32>, tensor<32x64xf32>) -> tensor<8x32xf32>
    %y = graph.einsum %h, %d "bi,oi->bo" : (tensor<8x32xf32>, tensor<64x32xf32>) -> tensor<8x64xf32>
    graph.return %y : tensor<8x64xf32>
  }
  func.func @step(%x: tensor<8x64xf32>) -> tensor<8x64xf32> {
    %a = graph.call @linear(%x) parameters ["au", "ad"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    %b = graph.call @linear(%a) parameters ["bu", "bd"] path "b" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    return %b : tensor<8x64xf32>
  }
}

// -----

// On the producer's stage it stands before the calls of later stages, so that stages do not fall along the step.
// CHECK-LABEL: func.func @step
// CHECK: %[[A:.*]] = graph.call @linear.tp2
// CHECK-NEXT: %[[R:.*]] = graph.call @redistribute.{{[0-9]}}(%[[A]]) parameters [] path "c:input" {plan.stage = 0 : i64}
// CHECK-NEXT: graph.call @linear.tp2(%[[A]]) {{.*}} path "b" {plan.stage = 1 : i64
// CHECK: graph.call @add.dp2(%{{.*}}, %[[R]])
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @linear(%x: tensor<8x64xf32>, %u: tensor<32x64xf32> {graph.parameter = "u"}, %d: tensor<64x32xf32> {graph.parameter = "d"}) -> tensor<8x64xf32> {
    %h = graph.einsum %x, %u "bi,oi->bo" : (tensor<8x64xf32>, tensor<32x64xf32>) -> tensor<8x32xf32>
    %y = graph.einsum %h, %d "bi,oi->bo" : (tensor<8x32xf32>, tensor<64x32xf32>) -> tensor<8x64xf32>
    graph.return %y : tensor<8x64xf32>
  }
  graph.layer @add(%x: tensor<8x64xf32>, %y: tensor<8x64xf32>) -> tensor<8x64xf32> {
    %z = graph.sum %x, %y : (tensor<8x64xf32>, tensor<8x64xf32>) -> tensor<8x64xf32>
    graph.return %z : tensor<8x64xf32>
  }
  func.func @step(%x: tensor<8x64xf32>) -> tensor<8x64xf32> {
    %a = graph.call @linear(%x) parameters ["au", "ad"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    %b = graph.call @linear(%a) parameters ["bu", "bd"] path "b" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    %c = graph.call @add(%b, %a) parameters [] path "c" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x64xf32>, tensor<8x64xf32>) -> tensor<8x64xf32>
    return %c : tensor<8x64xf32>
  }
}

// -----

// A tied table lives where its first use reads it; the other use converts, and both leave their
// gradients partial on the same axes.
// CHECK-LABEL: graph.layer @embed.dp2(
// CHECK-SAME: %{{.*}}: tensor<32x64xf32, #dist.placement<[32, 64]>>
// CHECK: %[[G:.*]] = graph.embedding_backward {{.*}} partial [sum@g0]
// CHECK-NEXT: %[[R:.*]] = dist.redistribute %[[G]]
// CHECK-NEXT: graph.return %[[R]] : tensor<32x64xf32, #dist.placement<[32, 64]>>
// CHECK-LABEL: graph.layer @unembed.tp2(
// CHECK-SAME: %[[T:[a-z0-9]+]]: tensor<32x64xf32, #dist.placement<[32, 64]>>
// CHECK: dist.redistribute %[[T]] : {{.*}} -> tensor<32x64xf32, #dist.placement<[2@g0 * 16, 64]>>
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @embed(%ids: tensor<8x16xi64>, %t: tensor<32x64xf32> {graph.parameter = "t"}) -> tensor<8x16x64xf32> {
    %x = graph.embedding %t, %ids : (tensor<32x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    graph.backward(%dx: tensor<8x16x64xf32>) {
      %dt = graph.embedding_backward %dx, %ids : (tensor<8x16x64xf32>, tensor<8x16xi64>) -> tensor<32x64xf32>
      graph.return %dt : tensor<32x64xf32>
    }
    graph.return %x : tensor<8x16x64xf32>
  }
  graph.layer @unembed(%x: tensor<8x16x64xf32>, %t: tensor<32x64xf32> {graph.parameter = "t"}) -> tensor<f32> {
    %l = graph.einsum %x, %t "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
    %s = graph.reduce sum %l dims [0, 1, 2] : tensor<8x16x32xf32> -> tensor<f32>
    graph.backward(%ds: tensor<f32>) {
      %dl = graph.broadcast %ds dims [] : tensor<f32> -> tensor<8x16x32xf32>
      %dx = graph.einsum %dl, %t "bso,oi->bsi" : (tensor<8x16x32xf32>, tensor<32x64xf32>) -> tensor<8x16x64xf32>
      %dt = graph.einsum %dl, %x "bso,bsi->oi" : (tensor<8x16x32xf32>, tensor<8x16x64xf32>) -> tensor<32x64xf32>
      graph.return %dx, %dt : tensor<8x16x64xf32>, tensor<32x64xf32>
    }
    graph.return %s : tensor<f32>
  }
  func.func @step(%ids: tensor<8x16xi64>) -> tensor<f32> {
    %x = graph.call @embed(%ids) parameters ["t"] path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16xi64>) -> tensor<8x16x64xf32>
    %y = graph.call @unembed(%x) parameters ["t"] path "unembed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x16x64xf32>) -> tensor<f32>
    return %y : tensor<f32>
  }
}

// -----

// Where the first use cuts a tied table and the other does not, it lives whole, also in different stages.
// CHECK-LABEL: graph.layer @embed.tp2(
// CHECK-SAME: %[[T:[a-z0-9]+]]: tensor<32x64xf32, #dist.placement<[32, 64]>>
// CHECK: dist.redistribute %[[T]] : {{.*}} -> tensor<32x64xf32, #dist.placement<[2@g0 * 16, 64]>>
// CHECK-LABEL: graph.layer @unembed.dp2(
// CHECK-SAME: %{{.*}}: tensor<32x64xf32, #dist.placement<[32, 64]>>
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @embed(%ids: tensor<8x16xi64>, %t: tensor<32x64xf32> {graph.parameter = "t"}) -> tensor<8x16x64xf32> {
    %x = graph.embedding %t, %ids : (tensor<32x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    graph.backward(%dx: tensor<8x16x64xf32>) {
      %dt = graph.embedding_backward %dx, %ids : (tensor<8x16x64xf32>, tensor<8x16xi64>) -> tensor<32x64xf32>
      graph.return %dt : tensor<32x64xf32>
    }
    graph.return %x : tensor<8x16x64xf32>
  }
  graph.layer @unembed(%x: tensor<8x16x64xf32>, %t: tensor<32x64xf32> {graph.parameter = "t"}) -> tensor<f32> {
    %l = graph.einsum %x, %t "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
    %s = graph.reduce sum %l dims [0, 1, 2] : tensor<8x16x32xf32> -> tensor<f32>
    graph.backward(%ds: tensor<f32>) {
      %dl = graph.broadcast %ds dims [] : tensor<f32> -> tensor<8x16x32xf32>
      %dx = graph.einsum %dl, %t "bso,oi->bsi" : (tensor<8x16x32xf32>, tensor<32x64xf32>) -> tensor<8x16x64xf32>
      %dt = graph.einsum %dl, %x "bso,bsi->oi" : (tensor<8x16x32xf32>, tensor<8x16x64xf32>) -> tensor<32x64xf32>
      graph.return %dx, %dt : tensor<8x16x64xf32>, tensor<32x64xf32>
    }
    graph.return %s : tensor<f32>
  }
  func.func @step(%ids: tensor<8x16xi64>) -> tensor<f32> {
    %x = graph.call @embed(%ids) parameters ["t"] path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x16xi64>) -> tensor<8x16x64xf32>
    %y = graph.call @unembed(%x) parameters ["t"] path "unembed" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16x64xf32>) -> tensor<f32>
    return %y : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  graph.layer @decay(%x: tensor<8x4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
    graph.backward(%dx: tensor<8x4xf32>) {
      // What does not depend on the batch counts once: each micro-batch adds a share.
      // CHECK: %[[SHARE:.*]] = dist.share %{{.*}} of 2 : tensor<4xf32, #dist.placement<[4]>> -> tensor<4xf32, #dist.placement<[4] partial [sum@t]>>
      // CHECK: graph.return %{{.*}}, %[[SHARE]]
      graph.return %dx, %w : tensor<8x4xf32>, tensor<4xf32>
    }
    graph.return %x : tensor<8x4xf32>
  }
  func.func @step(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
    %y = graph.call @decay(%x) parameters ["w"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 1>} : (tensor<8x4xf32>) -> tensor<8x4xf32>
    return %y : tensor<8x4xf32>
  }
}

// -----

// A penalty on weights beside a loss: a sum over micro-batches and shares of what they all know.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  // CHECK-LABEL: graph.layer @penalty
  graph.layer @penalty(%x: tensor<8x4xf32>, %w: tensor<f32> {graph.parameter = "w"}) -> tensor<f32> {
    // CHECK: %[[LOSS:.*]] = graph.reduce sum %{{.*}} -> tensor<f32, #dist.placement<[] partial [sum@t]>>
    // CHECK: %[[PENALTY:.*]] = arith.mulf %{{.*}} : tensor<f32, #dist.placement<[]>>
    // CHECK: %[[SHARE:.*]] = dist.share %[[PENALTY]] of 2
    // CHECK: graph.sum %[[LOSS]], %[[SHARE]]
    %loss = graph.reduce sum %x dims [0, 1] : tensor<8x4xf32> -> tensor<f32>
    %penalty = arith.mulf %w, %w : tensor<f32>
    %sum = graph.sum %loss, %penalty : (tensor<f32>, tensor<f32>) -> tensor<f32>
    graph.return %sum : tensor<f32>
  }
  func.func @step(%x: tensor<8x4xf32>) -> tensor<f32> {
    %y = graph.call @penalty(%x) parameters ["w"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 1>} : (tensor<8x4xf32>) -> tensor<f32>
    return %y : tensor<f32>
  }
}

// -----

// A sum over the batch is made of the pieces that its reader's strategy makes, and is whole everywhere.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "gpipe">} {
  // CHECK: graph.layer @total0.dp2(%{{.*}}: tensor<8x4xi64, #dist.placement<[2@t * 2@g0 * 2, 4]>>) -> tensor<f32, #dist.placement<[] partial [sum@t, sum@g0]>>
  graph.layer @total0(%labels: tensor<8x4xi64>) -> tensor<f32> {
    %f = arith.sitofp %labels : tensor<8x4xi64> to tensor<8x4xf32>
    %n = graph.reduce sum %f dims [0, 1] : tensor<8x4xf32> -> tensor<f32>
    graph.return %n : tensor<f32>
  }
  graph.layer @head(%x: tensor<8x4xf32>, %labels: tensor<8x4xi64>, %n: tensor<f32>) -> tensor<f32> {
    %weights = arith.sitofp %labels : tensor<8x4xi64> to tensor<8x4xf32>
    %weighted = arith.mulf %x, %weights : tensor<8x4xf32>
    %s = graph.reduce sum %weighted dims [0, 1] : tensor<8x4xf32> -> tensor<f32>
    %y = arith.divf %s, %n : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%x: tensor<8x4xf32>, %labels: tensor<8x4xi64>) -> tensor<f32> {
    // CHECK: %[[N:.*]] = graph.total @total0.dp2(%{{.*}}) : {{.*}} -> tensor<f32, #dist.placement<[]>>
    // CHECK: graph.call @head.dp2(%{{.*}}, %{{.*}}, %[[N]])
    %n = graph.total @total0(%labels) : (tensor<8x4xi64>) -> tensor<f32>
    %y = graph.call @head(%x, %labels, %n) parameters [] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x4xf32>, tensor<8x4xi64>, tensor<f32>) -> tensor<f32>
    return %y : tensor<f32>
  }
}

// -----

// A factor of zero is a factor: only zeros that are added are a partial sum.
// CHECK-LABEL: graph.layer @nothing.tp2(
// CHECK: %[[X:.*]] = graph.einsum {{.*}} -> tensor<8x16xf32, #dist.placement<[8, 16] partial [sum@g0]>>
// CHECK: %[[ZERO:.*]] = dist.multiplier %{{.*}} partial [sum@g0]
// CHECK: arith.mulf %[[X]], %[[ZERO]]
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @nothing(%x: tensor<8x64xf32>, %u: tensor<32x64xf32> {graph.parameter = "u"}, %d: tensor<16x32xf32> {graph.parameter = "d"}) -> tensor<8x16xf32> {
    %zero = arith.constant dense<0.0> : tensor<8x16xf32>
    %0 = graph.einsum %x, %u "bi,oi->bo" : (tensor<8x64xf32>, tensor<32x64xf32>) -> tensor<8x32xf32>
    %1 = graph.einsum %0, %d "bi,oi->bo" : (tensor<8x32xf32>, tensor<16x32xf32>) -> tensor<8x16xf32>
    %2 = arith.mulf %1, %zero : tensor<8x16xf32>
    graph.return %2 : tensor<8x16xf32>
  }
  func.func @step(%x: tensor<8x64xf32>) -> tensor<8x16xf32> {
    %y = graph.call @nothing(%x) parameters ["u", "d"] path "nothing" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x64xf32>) -> tensor<8x16xf32>
    return %y : tensor<8x16xf32>
  }
}

// -----

// Between frozen layers no gradient is redistributed.
// CHECK-LABEL: graph.layer @frozen.dp2(%{{.*}}: tensor<8x64xf32, {{.*}}> {graph.frozen}, %{{.*}}: tensor<32x64xf32, {{.*}}> {graph.frozen, graph.parameter = "u"}
// CHECK-LABEL: graph.layer @redistribute.0(%{{.*}}: tensor<8x64xf32, {{.*}}> {graph.frozen}) -> (tensor<8x64xf32, {{.*}}> {graph.frozen})
// CHECK: dist.redistribute
// CHECK-NOT: graph.backward
// CHECK-LABEL: func.func @step
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @frozen(%x: tensor<8x64xf32> {graph.frozen}, %u: tensor<32x64xf32> {graph.parameter = "u", graph.frozen}, %d: tensor<64x32xf32> {graph.parameter = "d", graph.frozen}) -> (tensor<8x64xf32> {graph.frozen}) {
    %h = graph.einsum %x, %u "bi,oi->bo" : (tensor<8x64xf32>, tensor<32x64xf32>) -> tensor<8x32xf32>
    %y = graph.einsum %h, %d "bo,io->bi" : (tensor<8x32xf32>, tensor<64x32xf32>) -> tensor<8x64xf32>
    graph.return %y : tensor<8x64xf32>
  }
  func.func @step(%x: tensor<8x64xf32>) -> tensor<8x64xf32> {
    %0 = graph.call @frozen(%x) parameters ["a.u", "a.d"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    %1 = graph.call @frozen(%0) parameters ["b.u", "b.d"] path "b" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    return %1 : tensor<8x64xf32>
  }
}
