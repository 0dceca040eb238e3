// RUN: galvatron-opt %s --galvatron-differentiate | FileCheck %s
// RUN: galvatron-opt %s --galvatron-differentiate=split-backward | FileCheck %s --check-prefix=SPLIT

// CHECK-LABEL: graph.layer @example
// CHECK-SAME: %[[X:.*]]: tensor<8x4xf32>, %[[W:.*]]: tensor<6x4xf32> {
graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}) -> tensor<8x6xf32> {
  // CHECK: %[[Y:.*]] = graph.einsum
  // CHECK: graph.backward(%[[DY:.*]]: tensor<8x6xf32>) {
  // CHECK-NEXT: %[[DX:.*]] = graph.einsum %[[DY]], %[[W]] "bo,oi->bi"
  // CHECK-NEXT: %[[DW:.*]] = graph.einsum %[[DY]], %[[X]] "bo,bi->oi"
  // CHECK-NEXT: graph.return %[[DX]], %[[DW]]
  // CHECK-NEXT: }
  // CHECK-NEXT: graph.return %[[Y]]
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
  graph.return %y : tensor<8x6xf32>
}

// CHECK-LABEL: graph.layer @several_uses_are_one_sum
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>
graph.layer @several_uses_are_one_sum(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK: %[[D1:.*]] = graph.activation_backward relu %[[DY]], %[[X]]
  // CHECK: %[[D0:.*]] = graph.activation_backward silu %[[DY]], %[[X]]
  // CHECK: %[[DX:.*]] = graph.sum %[[DY]], %[[D1]], %[[D0]]
  // CHECK: graph.return %[[DX]]
  %0 = graph.activation silu %x : tensor<4xf32> -> tensor<4xf32>
  %1 = graph.activation relu %x : tensor<4xf32> -> tensor<4xf32>
  %2 = graph.sum %x, %0, %1 : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  graph.return %2 : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @unused_arguments_get_zeros
graph.layer @unused_arguments_get_zeros(%x: tensor<4xf32>, %w: tensor<2xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK-NEXT: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<2xf32>
  // CHECK-NEXT: graph.return %[[DY]], %[[ZERO]]
  graph.return %x : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @integers_get_none
// CHECK-SAME: %[[IDS:.*]]: tensor<2x3xi64>
graph.layer @integers_get_none(%ids: tensor<2x3xi64>, %t: tensor<16x8xf32> {graph.parameter = "t"}) -> tensor<2x3x8xf32> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<2x3x8xf32>) {
  // CHECK-NEXT: %[[DT:.*]] = graph.embedding_backward %[[DY]], %[[IDS]]
  // CHECK-NEXT: graph.return %[[DT]] : tensor<16x8xf32>
  %y = graph.embedding %t, %ids : (tensor<16x8xf32>, tensor<2x3xi64>) -> tensor<2x3x8xf32>
  graph.return %y : tensor<2x3x8xf32>
}

// Values made from nothing are not differentiated: `math.fma` has no rule.
// CHECK-LABEL: graph.layer @constants_get_none
graph.layer @constants_get_none(%x: tensor<4xf32>) -> tensor<4xf32> {
  %c = graph.iota {dim = 0 : i64} : tensor<4xf32>
  %d = math.fma %c, %c, %c : tensor<4xf32>
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK-NEXT: %[[DX:.*]] = arith.mulf %[[DY]], %{{.*}}
  // CHECK-NEXT: graph.return %[[DX]]
  %y = arith.mulf %x, %d : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @a_result_without_gradient
graph.layer @a_result_without_gradient(%x: tensor<4x8xf32>, %w: tensor<8xf32> {graph.parameter = "w"}) -> tensor<4x8xf32> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4x8xf32>) {
  // CHECK: graph.norm_backward rms %[[DY]]
  // CHECK: graph.norm_weight_backward %[[DY]]
  %y, %mean, %rstd = graph.norm rms %x weight %w {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  graph.return %y : tensor<4x8xf32>
}

// CHECK-LABEL: graph.layer @statistics_stand_in_the_forward
// CHECK-SAME: %[[X:.*]]: tensor<2x16xf32>
graph.layer @statistics_stand_in_the_forward(%x: tensor<2x16xf32>, %labels: tensor<2xi64>) -> tensor<f32> {
  // CHECK-NEXT: %[[MAX:.*]] = graph.reduce max %[[X]] dims [1]
  // CHECK-NEXT: %[[SUM:.*]] = graph.sum_exp %[[X]], %[[MAX]]
  // CHECK-NEXT: %[[LOSS:.*]] = graph.cross_entropy
  // CHECK-NEXT: graph.backward(%[[DY:.*]]: tensor<f32>) {
  // CHECK-NEXT: %[[SHARE:.*]] = arith.constant dense<5.000000e-01> : tensor<f32>
  // CHECK-NEXT: %[[DLOSS:.*]] = arith.mulf %[[DY]], %[[SHARE]]
  // CHECK-NEXT: %[[DROWS:.*]] = graph.broadcast %[[DLOSS]] dims []
  // CHECK-NEXT: graph.cross_entropy_backward %[[DROWS]], %[[X]], %[[SUM]], %[[MAX]]
  %loss = graph.cross_entropy %x, %labels : (tensor<2x16xf32>, tensor<2xi64>) -> tensor<f32>
  graph.return %loss : tensor<f32>
}

// SPLIT-LABEL: graph.layer @the_pair_shares_kept_values
// SPLIT-SAME: %[[X:.*]]: tensor<8x4xf32>, %[[W:.*]]: tensor<6x4xf32> {
graph.layer @the_pair_shares_kept_values(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "w"}) -> tensor<8x6xf32> {
  // SPLIT: %[[H:.*]] = graph.einsum
  // SPLIT: graph.backward input(%[[DY:.*]]: tensor<8x6xf32>) {
  // SPLIT-NEXT: %[[DH:.*]] = graph.activation_backward silu %[[DY]], %[[H]]
  // SPLIT-NEXT: %[[DX:.*]] = graph.einsum %[[DH]], %[[W]]
  // SPLIT-NEXT: graph.return %[[DX]], %[[DH]]
  // SPLIT: graph.backward weight(%{{.*}}: tensor<8x6xf32>, %[[KEPT:.*]]: tensor<8x6xf32>) {
  // SPLIT-NEXT: %[[DW:.*]] = graph.einsum %[[KEPT]], %[[X]]
  // SPLIT-NEXT: graph.return %[[DW]]
  %h = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
  %y = graph.activation silu %h : tensor<8x6xf32> -> tensor<8x6xf32>
  graph.return %y : tensor<8x6xf32>
}

// Parameters' gradients are f32, written so by what sums over the batch; activations' are bf16.
// CHECK-LABEL: graph.layer @gradients_of_bf16_parameters
graph.layer @gradients_of_bf16_parameters(%x: tensor<8x4xbf16>, %w: tensor<24xbf16> {graph.parameter = "w"}, %b: tensor<6xbf16> {graph.parameter = "b"}, %unused: tensor<3xbf16> {graph.parameter = "unused"}) -> tensor<8x6xbf16> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<8x6xbf16>)
  // CHECK-DAG: %[[DB:.*]] = graph.reduce sum %[[DY]] dims [0] : tensor<8x6xbf16> -> tensor<6xf32>
  // CHECK-DAG: %[[DX:.*]] = graph.einsum {{.*}} -> tensor<8x4xbf16>
  // CHECK-DAG: %[[DM:.*]] = graph.einsum {{.*}} : (tensor<8x6xbf16>, tensor<8x4xbf16>) -> tensor<6x4xf32>
  // CHECK-DAG: %[[DW:.*]] = graph.reshape %[[DM]] : tensor<6x4xf32> -> tensor<24xf32>
  // CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<3xf32>
  // CHECK: graph.return %[[DX]], %[[DW]], %[[DB]], %[[ZERO]]
  %m = graph.reshape %w : tensor<24xbf16> -> tensor<6x4xbf16>
  %p = graph.einsum %x, %m "bi,oi->bo" : (tensor<8x4xbf16>, tensor<6x4xbf16>) -> tensor<8x6xbf16>
  %r = graph.broadcast %b dims [1] : tensor<6xbf16> -> tensor<8x6xbf16>
  %y = graph.sum %p, %r : (tensor<8x6xbf16>, tensor<8x6xbf16>) -> tensor<8x6xbf16>
  graph.return %y : tensor<8x6xbf16>
}

// What no op can write in f32 is widened; two uses add up in f32.
// CHECK-LABEL: graph.layer @other_gradients_are_widened
graph.layer @other_gradients_are_widened(%x: tensor<4xbf16>, %w: tensor<4xbf16> {graph.parameter = "w"}) -> tensor<4xbf16> {
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xbf16>)
  // CHECK: %[[A:.*]] = arith.extf %[[DY]]
  // CHECK: %[[B:.*]] = arith.extf %[[DY]]
  // CHECK: graph.sum %[[A]], %[[B]] : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %y = graph.sum %x, %w, %w : (tensor<4xbf16>, tensor<4xbf16>, tensor<4xbf16>) -> tensor<4xbf16>
  graph.return %y : tensor<4xbf16>
}

// The gradient of the identity for `round`: nothing flows through the detached difference.
// CHECK-LABEL: graph.layer @detached_values_get_none
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>, %[[W:.*]]: tensor<4xf32>
graph.layer @detached_values_get_none(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  // CHECK-NOT: graph.detach
  // CHECK: %[[S:.*]] = arith.addf %[[X]]
  // CHECK: arith.mulf %[[S]], %[[W]]
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK-NEXT: %[[DS:.*]] = arith.mulf %[[DY]], %[[W]]
  // CHECK-NEXT: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<4xf32>
  // CHECK-NEXT: graph.return %[[DS]], %[[ZERO]]
  %r = math.roundeven %x : tensor<4xf32>
  %d = arith.subf %r, %x : tensor<4xf32>
  %e = graph.detach %d : tensor<4xf32>
  %s = arith.addf %x, %e : tensor<4xf32>
  %v = graph.detach %w : tensor<4xf32>
  %y = arith.mulf %s, %v : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @steps_get_none
graph.layer @steps_get_none(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  // CHECK: graph.backward(%{{.*}}: tensor<4xf32>) {
  // CHECK-NEXT: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<4xf32>
  // CHECK-NEXT: %[[ZERO1:.*]] = arith.constant dense<0.000000e+00> : tensor<4xf32>
  // CHECK-NEXT: graph.return %[[ZERO]], %[[ZERO1]]
  %p = arith.mulf %x, %w : tensor<4xf32>
  %y = math.floor %p : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// What is frozen has no gradient, and nothing is computed for it; the gradient of x passes by.
// CHECK-LABEL: graph.layer @frozen_parameters_get_none
// CHECK-SAME: %[[X:.*]]: tensor<4xf32>, %[[V:.*]]: tensor<4xf32> {graph.frozen, graph.parameter = "v"}, %[[W:.*]]: tensor<4xf32>
graph.layer @frozen_parameters_get_none(%x: tensor<4xf32>, %v: tensor<4xf32> {graph.parameter = "v", graph.frozen}, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  // CHECK: %[[P:.*]] = arith.mulf %[[X]], %[[V]]
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK-NEXT: %[[DP:.*]] = arith.mulf %[[DY]], %[[W]]
  // CHECK-NEXT: %[[DW:.*]] = arith.mulf %[[DY]], %[[P]]
  // CHECK-NEXT: %[[DX:.*]] = arith.mulf %[[DP]], %[[V]]
  // CHECK-NEXT: graph.return %[[DX]], %[[DW]]
  %p = arith.mulf %x, %v : tensor<4xf32>
  %y = arith.mulf %p, %w : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @frozen_results_bring_none
graph.layer @frozen_results_bring_none(%x: tensor<4xf32> {graph.frozen}, %w: tensor<4xf32> {graph.parameter = "w"}) -> (tensor<4xf32> {graph.frozen}, tensor<4xf32>) {
  // CHECK: %[[E:.*]] = math.exp
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4xf32>) {
  // CHECK-NEXT: %[[DW:.*]] = arith.mulf %[[DY]], %[[E]]
  // CHECK-NEXT: graph.return %[[DW]]
  %e = math.exp %x : tensor<4xf32>
  %y = arith.mulf %w, %e : tensor<4xf32>
  graph.return %e, %y : tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: graph.layer @frozen_layers_have_no_backward
graph.layer @frozen_layers_have_no_backward(%x: tensor<4xf32> {graph.frozen}, %w: tensor<4xf32> {graph.parameter = "w", graph.frozen}) -> (tensor<4xf32> {graph.frozen}) {
  // CHECK-NOT: graph.backward
  // CHECK-NOT: graph.detach
  // CHECK: graph.return
  %d = graph.detach %x : tensor<4xf32>
  %y = arith.mulf %d, %w : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}
