// A small Llama as phase import leaves it: grouped-query attention, untied head.
module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64, graph.vocabulary = 32 : i64} {
  graph.layer @embedding(%ids: tensor<8x16xi64>,
      %table: tensor<32x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "weight"}) -> tensor<8x16x24xf32> {
    %v0 = graph.embedding %table, %ids : (tensor<32x24xf32>, tensor<8x16xi64>) -> tensor<8x16x24xf32>
    graph.return %v0 : tensor<8x16x24xf32>
  }
  graph.layer @decoder(%x: tensor<8x16x24xf32>,
      %wq: tensor<16x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "self_attn.q_proj.weight"},
      %wk: tensor<8x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "self_attn.k_proj.weight"},
      %wv: tensor<8x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "self_attn.v_proj.weight"},
      %wo: tensor<24x16xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "self_attn.o_proj.weight"},
      %wg: tensor<40x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "mlp.gate_proj.weight"},
      %wu: tensor<40x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "mlp.up_proj.weight"},
      %wd: tensor<24x40xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "mlp.down_proj.weight"},
      %n1: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "input_layernorm.weight"},
      %n2: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "post_attention_layernorm.weight"}) -> tensor<8x16x24xf32> {
    %v0, %v0_mean, %v0_rstd = graph.norm rms %x weight %n1 {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v1 = graph.einsum %v0, %wq "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<16x24xf32>) -> tensor<8x16x16xf32>
    %v2 = graph.reshape %v1  : tensor<8x16x16xf32> -> tensor<8x16x4x4xf32>
    %v3 = graph.transpose %v2 [0, 2, 1, 3] : tensor<8x16x4x4xf32> -> tensor<8x4x16x4xf32>
    %v4 = graph.einsum %v0, %wk "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<8x24xf32>) -> tensor<8x16x8xf32>
    %v5 = graph.reshape %v4  : tensor<8x16x8xf32> -> tensor<8x16x2x4xf32>
    %v6 = graph.transpose %v5 [0, 2, 1, 3] : tensor<8x16x2x4xf32> -> tensor<8x2x16x4xf32>
    %v7 = graph.einsum %v0, %wv "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<8x24xf32>) -> tensor<8x16x8xf32>
    %v8 = graph.reshape %v7  : tensor<8x16x8xf32> -> tensor<8x16x2x4xf32>
    %v9 = graph.transpose %v8 [0, 2, 1, 3] : tensor<8x16x2x4xf32> -> tensor<8x2x16x4xf32>
    %v10 = graph.rope %v3 half {inverse_frequencies = array<f64: 1.000000e+00, 1.000000e-02>, seq_dim = 2 : i64} : tensor<8x4x16x4xf32> -> tensor<8x4x16x4xf32>
    %v11 = graph.rope %v6 half {inverse_frequencies = array<f64: 1.000000e+00, 1.000000e-02>, seq_dim = 2 : i64} : tensor<8x2x16x4xf32> -> tensor<8x2x16x4xf32>
    %v12, %v12_lse = graph.attention %v10, %v11, %v9 {scale = 5.000000e-01, causal} : (tensor<8x4x16x4xf32>, tensor<8x2x16x4xf32>, tensor<8x2x16x4xf32>) -> (tensor<8x4x16x4xf32>, tensor<8x4x16xf32>)
    %v13 = graph.transpose %v12 [0, 2, 1, 3] : tensor<8x4x16x4xf32> -> tensor<8x16x4x4xf32>
    %v14 = graph.reshape %v13  : tensor<8x16x4x4xf32> -> tensor<8x16x16xf32>
    %v15 = graph.einsum %v14, %wo "bsi,oi->bso" : (tensor<8x16x16xf32>, tensor<24x16xf32>) -> tensor<8x16x24xf32>
    %v16 = graph.sum %x, %v15 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %v17, %v17_mean, %v17_rstd = graph.norm rms %v16 weight %n2 {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v18 = graph.einsum %v17, %wg "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<40x24xf32>) -> tensor<8x16x40xf32>
    %v19 = graph.einsum %v17, %wu "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<40x24xf32>) -> tensor<8x16x40xf32>
    %v20 = graph.gated_activation silu %v18, %v19 : (tensor<8x16x40xf32>, tensor<8x16x40xf32>) -> tensor<8x16x40xf32>
    %v21 = graph.einsum %v20, %wd "bsi,oi->bso" : (tensor<8x16x40xf32>, tensor<24x40xf32>) -> tensor<8x16x24xf32>
    %v22 = graph.sum %v16, %v21 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %v22 : tensor<8x16x24xf32>
  }
  graph.layer @head(%x: tensor<8x16x24xf32>,
      %labels: tensor<8x16xi64>,
      %norm: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "norm.weight"},
      %w: tensor<32x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "lm_head.weight"}) -> tensor<f32> {
    %v0, %v0_mean, %v0_rstd = graph.norm rms %x weight %norm {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v1 = graph.einsum %v0, %w "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<32x24xf32>) -> tensor<8x16x32xf32>
    %v2 = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %v3 = graph.cross_entropy %v1, %v2 : (tensor<8x16x32xf32>, tensor<8x16xi64>) -> tensor<f32>
    graph.return %v3 : tensor<f32>
  }
  func.func @step(%input_ids: tensor<8x16xi64>, %labels: tensor<8x16xi64>) -> tensor<f32> {
    %0 = graph.call @embedding(%input_ids) parameters ["model.embed_tokens.weight"] path "model.embed_tokens" : (tensor<8x16xi64>) -> tensor<8x16x24xf32>
    %1 = graph.call @decoder(%0) parameters ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight", "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"] path "model.layers.0" : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %2 = graph.call @decoder(%1) parameters ["model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight", "model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight"] path "model.layers.1" : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %3 = graph.call @head(%2, %labels) parameters ["model.norm.weight", "lm_head.weight"] path "lm_head" : (tensor<8x16x24xf32>, tensor<8x16xi64>) -> tensor<f32>
    return %3 : tensor<f32>
  }
}
