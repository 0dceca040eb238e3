// RUN: galvatron-opt %s | galvatron-opt | FileCheck %s
// RUN: galvatron-opt %s --mlir-print-op-generic | galvatron-opt | FileCheck %s

// CHECK-LABEL: func.func @parameter
func.func @parameter() -> tensor<4x8xf32> {
  // CHECK: graph.parameter ["lm_head.weight", "embed.weight"] init {normal = [0.000000e+00, 2.000000e-02]} : tensor<4x8xf32>
  %w = graph.parameter ["lm_head.weight", "embed.weight"] init {normal = [0.0, 0.02]} : tensor<4x8xf32>
  // CHECK: graph.parameter ["bias"] : tensor<8xf32>
  %b = graph.parameter ["bias"] : tensor<8xf32>
  // CHECK: graph.parameter ["scale"] frozen init {constant = 1.000000e+00 : f64} : tensor<8xf32>
  %s = graph.parameter ["scale"] frozen init {constant = 1.0} : tensor<8xf32>
  return %w : tensor<4x8xf32>
}

// CHECK-LABEL: graph.layer @merged_backward(
// CHECK-SAME: %{{.*}}: tensor<4x8xf32>, %{{.*}}: tensor<8xf32> {graph.init = {constant = 1.000000e+00 : f64}, graph.parameter = "norm.weight"}) -> tensor<4x8xf32> {
graph.layer @merged_backward(%x: tensor<4x8xf32>,
    %w: tensor<8xf32> {graph.parameter = "norm.weight", graph.init = {constant = 1.0}}) -> tensor<4x8xf32> {
  // CHECK: %[[Y:.*]], %[[MEAN:.*]], %[[RSTD:.*]] = graph.norm rms %{{.*}} weight %{{.*}} {epsilon
  %y, %mean, %rstd = graph.norm rms %x weight %w {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  // CHECK: graph.backward(%[[DY:.*]]: tensor<4x8xf32>) {
  graph.backward(%dy: tensor<4x8xf32>) {
    // CHECK: graph.norm_backward rms %[[DY]], %{{.*}}, %[[MEAN]], %[[RSTD]] weight
    %dx = graph.norm_backward rms %dy, %x, %mean, %rstd weight %w : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x8xf32>
    // CHECK: graph.norm_weight_backward %[[DY]]
    %dw = graph.norm_weight_backward %dy, %x, %mean, %rstd : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<8xf32>
    graph.return %dx, %dw : tensor<4x8xf32>, tensor<8xf32>
  }
  // CHECK: graph.return %[[Y]] : tensor<4x8xf32>
  graph.return %y : tensor<4x8xf32>
}

// Gradients come and go for what is not frozen, and not for integers.
// CHECK-LABEL: graph.layer @frozen(
// CHECK-SAME: %{{.*}}: tensor<4xf32> {graph.frozen}, %{{.*}}: tensor<4xi64>, %{{.*}}: tensor<4xf32> {graph.frozen, graph.parameter = "v"}, %{{.*}}: tensor<4xf32> {graph.parameter = "w"}) -> (tensor<4xf32> {graph.frozen}, tensor<4xi64>, tensor<4xf32>) {
graph.layer @frozen(%x: tensor<4xf32> {graph.frozen}, %i: tensor<4xi64>, %v: tensor<4xf32> {graph.parameter = "v", graph.frozen}, %w: tensor<4xf32> {graph.parameter = "w"}) -> (tensor<4xf32> {graph.frozen}, tensor<4xi64>, tensor<4xf32>) {
  %a = arith.mulf %x, %v : tensor<4xf32>
  %b = arith.mulf %a, %w : tensor<4xf32>
  // CHECK: graph.backward(%{{.*}}: tensor<4xf32>) {
  graph.backward(%db: tensor<4xf32>) {
    %dw = arith.mulf %db, %a : tensor<4xf32>
    graph.return %dw : tensor<4xf32>
  }
  graph.return %a, %i, %b : tensor<4xf32>, tensor<4xi64>, tensor<4xf32>
}

// CHECK-LABEL: graph.layer @backward_pair
graph.layer @backward_pair(%x: tensor<4x8xf32>, %w: tensor<8x8xf32> {graph.parameter = "w"}) -> tensor<4x8xf32> {
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  // CHECK: graph.backward input(%{{.*}}: tensor<4x8xf32>) {
  graph.backward input(%dy: tensor<4x8xf32>) {
    %dx = graph.einsum %dy, %w "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    graph.return %dx, %dy : tensor<4x8xf32>, tensor<4x8xf32>
  }
  // CHECK: graph.backward weight(%{{.*}}: tensor<4x8xf32>, %{{.*}}: tensor<4x8xf32>) {
  graph.backward weight(%dy: tensor<4x8xf32>, %kept: tensor<4x8xf32>) {
    %dw = graph.einsum %kept, %x "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    graph.return %dw : tensor<8x8xf32>
  }
  graph.return %y : tensor<4x8xf32>
}

// CHECK-LABEL: func.func @call
func.func @call(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // CHECK: graph.call @merged_backward(%{{.*}}) parameters ["h.0.norm.weight"] path "h.0" : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %0 = graph.call @merged_backward(%x) parameters ["h.0.norm.weight"] path "h.0" : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %0 : tensor<4x8xf32>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x5xf32>,
                     %bias: tensor<4x6x6xf32>, %dy: tensor<2x4x6x5xf32>) {
  // CHECK: %[[Y:.*]], %[[LSE:.*]] = graph.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 5.000000e-01 : f64, window = 4 : i64}
  %y, %lse = graph.attention %q, %k, %v {scale = 0.5 : f64, causal, window = 4 : i64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x5xf32>) -> (tensor<2x4x6x5xf32>, tensor<2x4x6xf32>)
  // CHECK: graph.attention_backward %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[Y]], %[[LSE]] {
  %dq, %dk, %dv = graph.attention_backward %dy, %q, %k, %v, %y, %lse {scale = 0.5 : f64, causal, window = 4 : i64} : (tensor<2x4x6x5xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x5xf32>, tensor<2x4x6x5xf32>, tensor<2x4x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x5xf32>)
  // CHECK: graph.attention %{{.*}}, %{{.*}}, %{{.*}} bias %{{.*}} {
  %z, %lse2 = graph.attention %q, %k, %v bias %bias {scale = 0.5 : f64, softcap = 30.0 : f64, dropout = 0.1 : f64, id = 3 : i64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x5xf32>, tensor<4x6x6xf32>) -> (tensor<2x4x6x5xf32>, tensor<2x4x6xf32>)
  return
}

// CHECK-LABEL: func.func @rope
func.func @rope(%x: tensor<2x6x4x8xf32>) -> tensor<2x6x4x8xf32> {
  // CHECK: graph.rope %{{.*}} half {inverse, inverse_frequencies = array<f64: 1.000000e+00, 1.000000e-02>, seq_dim = 1 : i64}
  %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.0, 0.01>, seq_dim = 1 : i64, inverse} : tensor<2x6x4x8xf32> -> tensor<2x6x4x8xf32>
  return %0 : tensor<2x6x4x8xf32>
}

// CHECK-LABEL: func.func @rows
func.func @rows(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %dy: tensor<4x8xf32>) {
  // CHECK: graph.norm layer %{{.*}} weight %{{.*}} bias %{{.*}} {epsilon
  %y:3 = graph.norm layer %x weight %w bias %w {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  // CHECK: graph.softmax
  %s = graph.softmax %x : tensor<4x8xf32> -> tensor<4x8xf32>
  // CHECK: graph.softmax_backward
  %ds = graph.softmax_backward %dy, %s : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: tensor<4x8xf32>, %y: tensor<4x8xf32>) {
  // CHECK: graph.activation gelu_tanh
  %0 = graph.activation gelu_tanh %x : tensor<4x8xf32> -> tensor<4x8xf32>
  // CHECK: graph.activation_backward silu
  %1 = graph.activation_backward silu %y, %x : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: graph.gated_activation silu
  %2 = graph.gated_activation silu %x, %y : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  // CHECK: graph.gated_activation_backward silu
  %3, %4 = graph.gated_activation_backward silu %2, %x, %y : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>)
  // CHECK: graph.dropout %{{.*}} {id = 7 : i64, p = 1.000000e-01 : f64}
  %5 = graph.dropout %x {p = 0.1 : f64, id = 7 : i64} : tensor<4x8xf32> -> tensor<4x8xf32>
  // CHECK: graph.detach %{{.*}} : tensor<4x8xf32>
  %detached = graph.detach %x : tensor<4x8xf32>
  // CHECK: graph.sum %{{.*}}, %{{.*}}, %{{.*}} :
  %6 = graph.sum %x, %y, %5 : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return
}

// CHECK-LABEL: func.func @vocabulary
func.func @vocabulary(%table: tensor<16x8xf32>, %ids: tensor<2x3xi64>, %logits: tensor<2x3x16xf32>, %rows: tensor<2x3xf32>) {
  // CHECK: graph.embedding %
  %0 = graph.embedding %table, %ids : (tensor<16x8xf32>, tensor<2x3xi64>) -> tensor<2x3x8xf32>
  // CHECK: graph.embedding_backward
  %1 = graph.embedding_backward %0, %ids : (tensor<2x3x8xf32>, tensor<2x3xi64>) -> tensor<16x8xf32>
  // CHECK: graph.shift %{{.*}} {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64}
  %2 = graph.shift %ids {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<2x3xi64> -> tensor<2x3xi64>
  // CHECK: graph.cross_entropy %
  %3 = graph.cross_entropy %logits, %2 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<f32>
  // CHECK: graph.cross_entropy %{{.*}}, %{{.*}} count %{{.*}} {ignore_index = 7 : i64}
  %counted = graph.cross_entropy %logits, %2 count %3 {ignore_index = 7 : i64} : (tensor<2x3x16xf32>, tensor<2x3xi64>, tensor<f32>) -> tensor<f32>
  // CHECK: graph.cross_entropy %{{.*}} -> tensor<2x3xf32>
  %each = graph.cross_entropy %logits, %2 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
  // CHECK: graph.logsumexp %{{.*}} : tensor<2x3x16xf32> -> tensor<2x3xf32>
  %lse = graph.logsumexp %logits : tensor<2x3x16xf32> -> tensor<2x3xf32>
  // CHECK: graph.sum_exp
  %4 = graph.sum_exp %logits, %rows : (tensor<2x3x16xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  // CHECK: graph.target_logit
  %5 = graph.target_logit %logits, %2 {ignore_index = -100 : i64} : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
  // CHECK: graph.cross_entropy_backward
  %6 = graph.cross_entropy_backward %rows, %logits, %4, %rows, %2 {ignore_index = -100 : i64} : (tensor<2x3xf32>, tensor<2x3x16xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xi64>) -> tensor<2x3x16xf32>
  return
}

// CHECK-LABEL: func.func @shapes
func.func @shapes(%x: tensor<2x6x4xf32>) {
  // CHECK: graph.reduce max %{{.*}} dims [2]
  %0 = graph.reduce max %x dims [2] : tensor<2x6x4xf32> -> tensor<2x6xf32>
  // CHECK: graph.broadcast %{{.*}} dims [0, 1]
  %1 = graph.broadcast %0 dims [0, 1] : tensor<2x6xf32> -> tensor<2x6x4xf32>
  // CHECK: graph.reshape
  %2 = graph.reshape %x : tensor<2x6x4xf32> -> tensor<12x4xf32>
  // CHECK: graph.transpose %{{.*}} [2, 0, 1]
  %3 = graph.transpose %x [2, 0, 1] : tensor<2x6x4xf32> -> tensor<4x2x6xf32>
  // CHECK: graph.slice %{{.*}} offsets [0, 1, 0]
  %4 = graph.slice %x offsets [0, 1, 0] : tensor<2x6x4xf32> -> tensor<2x3x4xf32>
  // CHECK: graph.pad %{{.*}} offsets [0, 1, 0]
  %5 = graph.pad %4 offsets [0, 1, 0] : tensor<2x3x4xf32> -> tensor<2x6x4xf32>
  // CHECK: graph.concat %{{.*}}, %{{.*}} {dim = 1 : i64}
  %6 = graph.concat %x, %4 {dim = 1 : i64} : (tensor<2x6x4xf32>, tensor<2x3x4xf32>) -> tensor<2x9x4xf32>
  // CHECK: graph.iota {dim = 0 : i64} : tensor<6xi64>
  %7 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  return
}

graph.layer @count(%labels: tensor<2x3xi64>) -> tensor<f32> {
  %six = arith.constant dense<6.0> : tensor<f32>
  graph.return %six : tensor<f32>
}
// CHECK-LABEL: func.func @totals
func.func @totals(%labels: tensor<2x3xi64>) -> tensor<f32> {
  // CHECK: graph.total @count(%{{.*}}) : (tensor<2x3xi64>) -> tensor<f32>
  %0 = graph.total @count(%labels) : (tensor<2x3xi64>) -> tensor<f32>
  return %0 : tensor<f32>
}

// Neighbours without padding are one factor.
// CHECK-LABEL: graph.layer @padded(
// CHECK-SAME: graph.padding = #graph.padding<[8, 6 pad 1 * 4]>
graph.layer @padded(%w: tensor<8x28xf32> {graph.parameter = "w", graph.padding = #graph.padding<[2 * 4, 6 pad 1 * 2 * 2]>}) -> tensor<8x28xf32> {
  graph.return %w : tensor<8x28xf32>
}
