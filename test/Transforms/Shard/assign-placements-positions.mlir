// Placements under the strategies that cut positions: Megatron's sequence parallelism, Ulysses, context parallelism.
// RUN: galvatron-opt %s -split-input-file --galvatron-differentiate --galvatron-assign-placements --galvatron-verify-placements | FileCheck %s

// Norm and residual sum have positions cut; between them products have the feed-forward width cut and read all positions.
// Backward gathers the norm's result again instead of keeping it. The norm's weight sees a device's positions alone.
// CHECK-LABEL: graph.layer @mlp.tp2sp(
// CHECK-SAME: %[[X:[a-z0-9]+]]: tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>
// CHECK-SAME: tensor<24xf32, #dist.placement<[24]>>
// CHECK-SAME: tensor<40x24xf32, #dist.placement<[2@g0 * 20, 24]>>
// CHECK-SAME: tensor<24x40xf32, #dist.placement<[24, 2@g0 * 20]>>
// CHECK: %[[Y:[a-z0-9]+]], %{{.*}}, %{{.*}} = graph.norm rms %[[X]] {{.*}} -> (tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>, tensor<8x16xf32, #dist.placement<[8, 2@g0 * 8]>>
// CHECK-NEXT: %[[ALL:.*]] = dist.redistribute %[[Y]] : {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 16, 24]>>
// CHECK-NEXT: graph.einsum %[[ALL]], {{.*}} -> tensor<8x16x40xf32, #dist.placement<[8, 16, 2@g0 * 20]>>
// CHECK-NEXT: graph.activation
// CHECK-NEXT: %[[Z:.*]] = graph.einsum {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 16, 24] partial [sum@g0]>>
// CHECK-NEXT: %[[OWN:.*]] = dist.redistribute %[[Z]] : {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>
// CHECK-NEXT: graph.sum %[[X]], %[[OWN]]
// CHECK-NEXT: graph.backward(%[[DY:[a-z0-9]+]]: tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>)
// CHECK-NEXT: dist.redistribute %[[DY]] : {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 16, 24]>>
// CHECK-NOT: dist.redistribute
// CHECK: dist.redistribute %[[Y]] : {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 16, 24]>>
// CHECK-NOT: dist.redistribute
// CHECK: %[[DN:.*]] = dist.redistribute %{{.*}} : tensor<8x16x24xf32, #dist.placement<[8, 16, 24] partial [sum@g0]>> -> tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>
// CHECK-NEXT: graph.norm_backward rms %[[DN]]
// CHECK-NEXT: graph.norm_weight_backward %[[DN]], {{.*}} -> tensor<24xf32, #dist.placement<[24] partial [sum@g0]>>
// CHECK-NOT: dist.redistribute
// CHECK-LABEL: func.func @step(%{{.*}}: tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>)
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @mlp(%x: tensor<8x16x24xf32>, %n: tensor<24xf32> {graph.parameter = "norm"}, %u: tensor<40x24xf32> {graph.parameter = "up"}, %d: tensor<24x40xf32> {graph.parameter = "down"}) -> tensor<8x16x24xf32> {
    %y, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %h = graph.einsum %y, %u "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<40x24xf32>) -> tensor<8x16x40xf32>
    %a = graph.activation relu %h : tensor<8x16x40xf32> -> tensor<8x16x40xf32>
    %z = graph.einsum %a, %d "bsi,oi->bso" : (tensor<8x16x40xf32>, tensor<24x40xf32>) -> tensor<8x16x24xf32>
    %r = graph.sum %x, %z : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %r : tensor<8x16x24xf32>
  }
  func.func @step(%x: tensor<8x16x24xf32>) -> tensor<8x16x24xf32> {
    %y = graph.call @mlp(%x) parameters ["n", "u", "d"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, sequence_parallel = true>} : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    return %y : tensor<8x16x24xf32>
  }
}

// -----

// Ulysses: attention has heads cut, everything else positions. Queries, keys, values and the result change places, in
// backward their gradients; weights are whole on each device, their gradients sums over positions.
// CHECK-LABEL: graph.layer @attention.ulysses2(
// CHECK-SAME: tensor<4x4x24xf32, #dist.placement<[4, 4, 24]>>
// CHECK: %[[Q:.*]] = graph.einsum {{.*}} -> tensor<8x4x16x4xf32, #dist.placement<[8, 4, 2@g0 * 8, 4]>>
// CHECK-NEXT: %[[K:.*]] = graph.einsum {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 2@g0 * 8, 4]>>
// CHECK-NEXT: %[[V:.*]] = graph.einsum
// CHECK-NEXT: %[[QH:.*]] = dist.redistribute %[[Q]] : {{.*}} -> tensor<8x4x16x4xf32, #dist.placement<[8, 2@g0 * 2, 16, 4]>>
// CHECK-NEXT: %[[KH:.*]] = dist.redistribute %[[K]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 16, 4]>>
// CHECK-NEXT: %[[VH:.*]] = dist.redistribute %[[V]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 16, 4]>>
// CHECK-NEXT: %[[A:[a-z0-9]+]], %{{.*}} = graph.attention %[[QH]], %[[KH]], %[[VH]]
// CHECK-NEXT: dist.redistribute %[[A]] : {{.*}} -> tensor<8x4x16x4xf32, #dist.placement<[8, 4, 2@g0 * 8, 4]>>
// CHECK-NEXT: graph.einsum {{.*}} -> tensor<8x16x24xf32, #dist.placement<[8, 2@g0 * 8, 24]>>
// CHECK: graph.backward
// CHECK-COUNT-1: dist.redistribute
// CHECK-NEXT: graph.attention_backward %{{.*}}, %[[QH]], %[[KH]], %[[VH]], %[[A]]
// CHECK-COUNT-3: dist.redistribute
// CHECK-NOT: dist.redistribute
// CHECK: graph.return {{.*}} tensor<4x4x24xf32, #dist.placement<[4, 4, 24] partial [sum@g0]>>
// CHECK-LABEL: func.func @step
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @attention(%x: tensor<8x16x24xf32>, %wq: tensor<4x4x24xf32> {graph.parameter = "q"}, %wk: tensor<2x4x24xf32> {graph.parameter = "k"}, %wv: tensor<2x4x24xf32> {graph.parameter = "v"}, %wo: tensor<24x4x4xf32> {graph.parameter = "o"}) -> tensor<8x16x24xf32> {
    %q = graph.einsum %x, %wq "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<4x4x24xf32>) -> tensor<8x4x16x4xf32>
    %k = graph.einsum %x, %wk "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %v = graph.einsum %x, %wv "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %a, %lse = graph.attention %q, %k, %v {scale = 0.5, causal} : (tensor<8x4x16x4xf32>, tensor<8x2x16x4xf32>, tensor<8x2x16x4xf32>) -> (tensor<8x4x16x4xf32>, tensor<8x4x16xf32>)
    %o = graph.einsum %a, %wo "bhsd,ohd->bso" : (tensor<8x4x16x4xf32>, tensor<24x4x4xf32>) -> tensor<8x16x24xf32>
    %r = graph.sum %x, %o : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %r : tensor<8x16x24xf32>
  }
  func.func @step(%x: tensor<8x16x24xf32>) -> tensor<8x16x24xf32> {
    %y = graph.call @attention(%x) parameters ["q", "k", "v", "o"] path "attention" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<ulysses = 2>} : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    return %y : tensor<8x16x24xf32>
  }
}

// -----

// More devices than heads of keys: keys are exchanged as far as there are heads, then gathered over the rest, which
// backward does again from the exchanged copy. Their gradients are sums over the devices that share a head.
// CHECK-LABEL: graph.layer @attention.ulysses4(
// CHECK: %[[K:.*]] = graph.einsum {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 2@g0 * 2@g1 * 4, 4]>>
// CHECK: dist.redistribute {{.*}} -> tensor<8x4x16x4xf32, #dist.placement<[8, 2@g0 * 2@g1, 16, 4]>>
// CHECK-NEXT: %[[KX:.*]] = dist.redistribute %[[K]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 2 * 2@g1 * 4, 4]>>
// CHECK-NEXT: %[[KH:.*]] = dist.redistribute %[[KX]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 16, 4]>>
// CHECK: graph.attention %{{.*}}, %[[KH]],
// CHECK: graph.backward
// CHECK: dist.redistribute %[[KX]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 16, 4]>>
// CHECK: graph.attention_backward {{.*}} -> ({{.*}}, tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 16, 4] partial [sum@g1]>>)
// CHECK-NEXT: dist.redistribute {{.*}} partial [sum@g1]>> -> tensor<8x2x16x4xf32, #dist.placement<[8, 2@g0, 2 * 2@g1 * 4, 4]>>
// CHECK-LABEL: func.func @step
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @attention(%x: tensor<8x16x24xf32>, %wq: tensor<4x4x24xf32> {graph.parameter = "q"}, %wk: tensor<2x4x24xf32> {graph.parameter = "k"}, %wv: tensor<2x4x24xf32> {graph.parameter = "v"}, %wo: tensor<24x4x4xf32> {graph.parameter = "o"}) -> tensor<8x16x24xf32> {
    %q = graph.einsum %x, %wq "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<4x4x24xf32>) -> tensor<8x4x16x4xf32>
    %k = graph.einsum %x, %wk "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %v = graph.einsum %x, %wv "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %a, %lse = graph.attention %q, %k, %v {scale = 0.5, causal} : (tensor<8x4x16x4xf32>, tensor<8x2x16x4xf32>, tensor<8x2x16x4xf32>) -> (tensor<8x4x16x4xf32>, tensor<8x4x16xf32>)
    %o = graph.einsum %a, %wo "bhsd,ohd->bso" : (tensor<8x4x16x4xf32>, tensor<24x4x4xf32>) -> tensor<8x16x24xf32>
    %r = graph.sum %x, %o : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %r : tensor<8x16x24xf32>
  }
  func.func @step(%x: tensor<8x16x24xf32>) -> tensor<8x16x24xf32> {
    %y = graph.call @attention(%x) parameters ["q", "k", "v", "o"] path "attention" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<ulysses = 4>} : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    return %y : tensor<8x16x24xf32>
  }
}

// -----

// Context parallelism: queries stay, all keys and values are gathered, in backward once more. Gradients of keys and
// values are sums over the devices' queries.
// CHECK-LABEL: graph.layer @attention.cp2(
// CHECK: %[[Q:.*]] = graph.einsum {{.*}} -> tensor<8x4x16x4xf32, #dist.placement<[8, 4, 2@g0 * 8, 4]>>
// CHECK-NEXT: %[[K:.*]] = graph.einsum {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 2@g0 * 8, 4]>>
// CHECK-NEXT: %[[V:.*]] = graph.einsum
// CHECK-NEXT: %[[KA:.*]] = dist.redistribute %[[K]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 16, 4]>>
// CHECK-NEXT: %[[VA:.*]] = dist.redistribute %[[V]] : {{.*}} -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 16, 4]>>
// CHECK-NEXT: graph.attention %[[Q]], %[[KA]], %[[VA]] {{.*}} -> (tensor<8x4x16x4xf32, #dist.placement<[8, 4, 2@g0 * 8, 4]>>
// CHECK-NOT: dist.redistribute
// CHECK: graph.backward
// CHECK: %[[KB:.*]] = dist.redistribute %[[K]]
// CHECK-NEXT: %[[VB:.*]] = dist.redistribute %[[V]]
// CHECK-NEXT: graph.attention_backward %{{.*}}, %[[Q]], %[[KB]], %[[VB]], {{.*}} -> (tensor<8x4x16x4xf32, #dist.placement<[8, 4, 2@g0 * 8, 4]>>, tensor<8x2x16x4xf32, #dist.placement<[8, 2, 16, 4] partial [sum@g0]>>
// CHECK-COUNT-2: dist.redistribute {{.*}} partial [sum@g0]>> -> tensor<8x2x16x4xf32, #dist.placement<[8, 2, 2@g0 * 8, 4]>>
// CHECK-NOT: dist.redistribute
// CHECK-LABEL: func.func @step
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @attention(%x: tensor<8x16x24xf32>, %wq: tensor<4x4x24xf32> {graph.parameter = "q"}, %wk: tensor<2x4x24xf32> {graph.parameter = "k"}, %wv: tensor<2x4x24xf32> {graph.parameter = "v"}, %wo: tensor<24x4x4xf32> {graph.parameter = "o"}) -> tensor<8x16x24xf32> {
    %q = graph.einsum %x, %wq "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<4x4x24xf32>) -> tensor<8x4x16x4xf32>
    %k = graph.einsum %x, %wk "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %v = graph.einsum %x, %wv "bsi,hdi->bhsd" : (tensor<8x16x24xf32>, tensor<2x4x24xf32>) -> tensor<8x2x16x4xf32>
    %a, %lse = graph.attention %q, %k, %v {scale = 0.5, causal} : (tensor<8x4x16x4xf32>, tensor<8x2x16x4xf32>, tensor<8x2x16x4xf32>) -> (tensor<8x4x16x4xf32>, tensor<8x4x16xf32>)
    %o = graph.einsum %a, %wo "bhsd,ohd->bso" : (tensor<8x4x16x4xf32>, tensor<24x4x4xf32>) -> tensor<8x16x24xf32>
    %r = graph.sum %x, %o : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %r : tensor<8x16x24xf32>
  }
  func.func @step(%x: tensor<8x16x24xf32>) -> tensor<8x16x24xf32> {
    %y = graph.call @attention(%x) parameters ["q", "k", "v", "o"] path "attention" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 2>} : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    return %y : tensor<8x16x24xf32>
  }
}
