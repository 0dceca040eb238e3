// RUN: galvatron-opt %s --galvatron-raise-shapes --galvatron-raise-rope --galvatron-raise-attention \
// RUN:   --galvatron-raise-shapes --galvatron-normalize-equations | FileCheck %s

func.func @step(%q: tensor<2x4x6x8xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  %half = arith.constant dense<0.5> : tensor<2x4x6x6xf32>
  %0 = graph.einsum %q, %k "bnsd,bntd->bnst" : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x6xf32>
  %1 = arith.mulf %0, %half : tensor<2x4x6x6xf32>
  %2 = graph.softmax %1 : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
  %3 = graph.einsum %2, %v "bnst,bntd->bnsd" : (tensor<2x4x6x6xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32>
  return %3 : tensor<2x4x6x8xf32>
}

// CHECK-LABEL: @step
// CHECK-NEXT: graph.attention %{{.*}}, %{{.*}}, %{{.*}} {scale = 5.000000e-01 : f64}
// CHECK-NEXT: return

// [B, S, N, D] all along, keys first; the result in yet another order.
// CHECK-LABEL: @any_layout_of_heads
func.func @any_layout_of_heads(%q: tensor<2x6x4x8xf32>, %k: tensor<2x6x4x8xf32>, %v: tensor<2x6x4x8xf32>) -> tensor<2x6x4x8xf32> {
  // CHECK: %[[Q:.*]] = graph.transpose %{{.*}} [0, 2, 1, 3]
  // CHECK: %[[K:.*]] = graph.transpose %{{.*}} [0, 2, 1, 3]
  // CHECK: %[[V:.*]] = graph.transpose %{{.*}} [0, 2, 1, 3]
  // CHECK: %[[Y:.*]], %{{.*}} = graph.attention %[[Q]], %[[K]], %[[V]]
  // CHECK: graph.transpose %[[Y]] [0, 2, 1, 3]
  %0 = graph.einsum %k, %q "btnd,bsnd->bnst" : (tensor<2x6x4x8xf32>, tensor<2x6x4x8xf32>) -> tensor<2x4x6x6xf32>
  %1 = graph.softmax %0 : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
  %2 = graph.einsum %v, %1 "btne,bnst->bsne" : (tensor<2x6x4x8xf32>, tensor<2x4x6x6xf32>) -> tensor<2x6x4x8xf32>
  return %2 : tensor<2x6x4x8xf32>
}

// Gemma 2: c · tanh(s · qk / c), then the mask; dropout on the probabilities.
// CHECK-LABEL: @softcap_and_dropout
func.func @softcap_and_dropout(%q: tensor<2x4x6x8xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK: graph.attention
  // CHECK-SAME: dropout = 1.250000e-01 : f64, id = 3 : i64, scale = 2.500000e-01 : f64, softcap = 5.000000e+01 : f64
  %quarter = arith.constant dense<0.25> : tensor<2x4x6x6xf32>
  %cap = arith.constant dense<50.0> : tensor<2x4x6x6xf32>
  %0 = graph.einsum %q, %k "bnsd,bntd->bnst" : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x6xf32>
  %1 = arith.mulf %0, %quarter : tensor<2x4x6x6xf32>
  %2 = arith.divf %1, %cap : tensor<2x4x6x6xf32>
  %3 = math.tanh %2 : tensor<2x4x6x6xf32>
  %4 = arith.mulf %3, %cap : tensor<2x4x6x6xf32>
  %5 = graph.softmax %4 : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
  %6 = graph.dropout %5 {p = 0.125 : f64, id = 3 : i64} : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
  %7 = graph.einsum %6, %v "bnst,bntd->bnsd" : (tensor<2x4x6x6xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32>
  return %7 : tensor<2x4x6x8xf32>
}

// repeat_kv: unsqueeze, expand, reshape.
// CHECK-LABEL: @repeated_heads
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x6x8xf32>, %[[K:.*]]: tensor<2x2x6x8xf32>, %[[V:.*]]: tensor<2x2x6x8xf32>)
func.func @repeated_heads(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NEXT: graph.attention %[[Q]], %[[K]], %[[V]]
  %0 = graph.broadcast %k dims [0, 1, 3, 4] : tensor<2x2x6x8xf32> -> tensor<2x2x2x6x8xf32>
  %1 = graph.reshape %0 : tensor<2x2x2x6x8xf32> -> tensor<2x4x6x8xf32>
  %2 = graph.broadcast %v dims [0, 1, 3, 4] : tensor<2x2x6x8xf32> -> tensor<2x2x2x6x8xf32>
  %3 = graph.reshape %2 : tensor<2x2x2x6x8xf32> -> tensor<2x4x6x8xf32>
  %4, %lse = graph.attention %q, %1, %3 {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %4 : tensor<2x4x6x8xf32>
}

// New Falcon: keys repeated first, rotated afterwards.
// CHECK-LABEL: @repeated_before_rotation
// CHECK-SAME: (%[[Q:.*]]: tensor<2x4x6x8xf32>, %[[K:.*]]: tensor<2x2x6x8xf32>)
func.func @repeated_before_rotation(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NEXT: %[[ROTATED:.*]] = graph.rope %[[K]] half {{.*}} : tensor<2x2x6x8xf32>
  // CHECK-NEXT: graph.attention %[[Q]], %[[ROTATED]], %[[K]]
  %0 = graph.broadcast %k dims [0, 1, 3, 4] : tensor<2x2x6x8xf32> -> tensor<2x2x2x6x8xf32>
  %1 = graph.reshape %0 : tensor<2x2x2x6x8xf32> -> tensor<2x4x6x8xf32>
  %2 = graph.rope %1 half {inverse_frequencies = array<f64: 1.0>, seq_dim = 2 : i64} : tensor<2x4x6x8xf32> -> tensor<2x4x6x8xf32>
  %3, %lse = graph.attention %q, %2, %1 {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %3 : tensor<2x4x6x8xf32>
}

// Groups as a dimension of their own: heads are key/value heads × group.
// CHECK-LABEL: @grouped_subscripts
func.func @grouped_subscripts(%q: tensor<2x2x3x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) -> tensor<2x2x3x6x8xf32> {
  // CHECK: %[[Q:.*]] = graph.reshape %{{.*}} : tensor<2x2x3x6x8xf32> -> tensor<2x6x6x8xf32>
  // CHECK: graph.attention %[[Q]], %{{.*}} : (tensor<2x6x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>)
  %0 = graph.einsum %q, %k "bkgsd,bktd->bkgst" : (tensor<2x2x3x6x8xf32>, tensor<2x2x6x8xf32>) -> tensor<2x2x3x6x6xf32>
  %1 = graph.softmax %0 : tensor<2x2x3x6x6xf32> -> tensor<2x2x3x6x6xf32>
  %2 = graph.einsum %1, %v "bkgst,bktd->bkgsd" : (tensor<2x2x3x6x6xf32>, tensor<2x2x6x8xf32>) -> tensor<2x2x3x6x8xf32>
  return %2 : tensor<2x2x3x6x8xf32>
}

// Falcon: one key/value head for all.
// CHECK-LABEL: @one_head_for_all
func.func @one_head_for_all(%q: tensor<2x4x6x8xf32>, %k: tensor<2x6x8xf32>, %v: tensor<2x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK: graph.attention %{{.*}} : (tensor<2x4x6x8xf32>, tensor<2x1x6x8xf32>, tensor<2x1x6x8xf32>)
  %0 = graph.broadcast %k dims [0, 2, 3] : tensor<2x6x8xf32> -> tensor<2x4x6x8xf32>
  %1 = graph.broadcast %v dims [0, 2, 3] : tensor<2x6x8xf32> -> tensor<2x4x6x8xf32>
  %2, %lse = graph.attention %q, %0, %1 {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %2 : tensor<2x4x6x8xf32>
}

// OPT scales queries before they are split into heads.
// CHECK-LABEL: @scale_of_queries
func.func @scale_of_queries(%q: tensor<2x6x32xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NOT: arith.mulf
  // CHECK: graph.attention %{{.*}} {scale = 1.250000e-01 : f64}
  %quarter = arith.constant dense<0.25> : tensor<2x6x32xf32>
  %0 = arith.mulf %q, %quarter : tensor<2x6x32xf32>
  %1 = graph.reshape %0 : tensor<2x6x32xf32> -> tensor<2x6x4x8xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x6x4x8xf32> -> tensor<2x4x6x8xf32>
  %3, %lse = graph.attention %2, %k, %v {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %3 : tensor<2x4x6x8xf32>
}

// Attention gives its bias no gradient, so a learned one keeps the products.
// CHECK-LABEL: @learned_bias_stays
func.func @learned_bias_stays(%q: tensor<2x4x6x8xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NOT: graph.attention
  // CHECK: graph.softmax
  %bias = graph.parameter ["relative"] : tensor<4x6x6xf32>
  %0 = graph.einsum %q, %k "bnsd,bntd->bnst" : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x6xf32>
  %1 = graph.broadcast %bias dims [1, 2, 3] : tensor<4x6x6xf32> -> tensor<2x4x6x6xf32>
  %2 = arith.addf %0, %1 : tensor<2x4x6x6xf32>
  %3 = graph.softmax %2 : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
  %4 = graph.einsum %3, %v "bnst,bntd->bnsd" : (tensor<2x4x6x6xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32>
  return %4 : tensor<2x4x6x8xf32>
}

// What arrives as the op is written out for the same reason, with its own mask.
// CHECK-LABEL: @learned_bias_of_the_op_is_written_out
func.func @learned_bias_of_the_op_is_written_out(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NOT: graph.attention
  // CHECK: %[[SCORES:.*]] = graph.einsum %{{.*}} "abcde,abfe->abcdf" : (tensor<2x2x2x6x8xf32>, tensor<2x2x6x8xf32>)
  // CHECK: arith.cmpi sle
  // CHECK: graph.softmax
  // CHECK: graph.einsum %{{.*}} "abcde,abef->abcdf"
  %bias = graph.parameter ["relative"] : tensor<4x6x6xf32>
  %0, %lse = graph.attention %q, %k, %k bias %bias {causal, scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<4x6x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %0 : tensor<2x4x6x8xf32>
}
