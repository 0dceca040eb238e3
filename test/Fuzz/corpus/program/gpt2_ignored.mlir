// test/Inputs/gpt2.mlir with labels that are ignored: a mean over those of the batch that are not 3, counted in a total.
module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64, graph.vocabulary = 32 : i64} {
  graph.layer @embedding(%ids: tensor<8x16xi64>,
      %table: tensor<32x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "wte.weight"},
      %positions: tensor<32x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "wpe.weight"}) -> tensor<8x16x24xf32> {
    %v0 = graph.embedding %table, %ids : (tensor<32x24xf32>, tensor<8x16xi64>) -> tensor<8x16x24xf32>
    %v1 = graph.iota {dim = 0 : i64} : tensor<16xi64>
    %v2 = graph.embedding %positions, %v1 : (tensor<32x24xf32>, tensor<16xi64>) -> tensor<16x24xf32>
    %v3 = graph.broadcast %v2 dims [1, 2] : tensor<16x24xf32> -> tensor<8x16x24xf32>
    %v4 = graph.sum %v0, %v3 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %v5 = graph.dropout %v4 {p = 1.0e-1, id = 0 : i64} : tensor<8x16x24xf32> -> tensor<8x16x24xf32>
    graph.return %v5 : tensor<8x16x24xf32>
  }
  graph.layer @decoder(%x: tensor<8x16x24xf32>,
      %g1: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "ln_1.weight"},
      %b1: tensor<24xf32> {graph.init = {constant = 0.0}, graph.parameter = "ln_1.bias"},
      %wqkv: tensor<24x48xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "attn.c_attn.weight"},
      %bqkv: tensor<48xf32> {graph.init = {constant = 0.0}, graph.parameter = "attn.c_attn.bias"},
      %wo: tensor<16x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "attn.c_proj.weight"},
      %bo: tensor<24xf32> {graph.init = {constant = 0.0}, graph.parameter = "attn.c_proj.bias"},
      %g2: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "ln_2.weight"},
      %b2: tensor<24xf32> {graph.init = {constant = 0.0}, graph.parameter = "ln_2.bias"},
      %wf: tensor<24x40xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "mlp.c_fc.weight"},
      %bf: tensor<40xf32> {graph.init = {constant = 0.0}, graph.parameter = "mlp.c_fc.bias"},
      %wp: tensor<40x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "mlp.c_proj.weight"},
      %bp: tensor<24xf32> {graph.init = {constant = 0.0}, graph.parameter = "mlp.c_proj.bias"}) -> tensor<8x16x24xf32> {
    %v0, %v0_mean, %v0_rstd = graph.norm layer %x weight %g1 bias %b1 {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v1 = graph.einsum %v0, %wqkv "bsi,io->bso" : (tensor<8x16x24xf32>, tensor<24x48xf32>) -> tensor<8x16x48xf32>
    %v2 = graph.broadcast %bqkv dims [2] : tensor<48xf32> -> tensor<8x16x48xf32>
    %v3 = graph.sum %v1, %v2 : (tensor<8x16x48xf32>, tensor<8x16x48xf32>) -> tensor<8x16x48xf32>
    %v4 = graph.slice %v3 offsets [0, 0, 0] : tensor<8x16x48xf32> -> tensor<8x16x16xf32>
    %v5 = graph.reshape %v4  : tensor<8x16x16xf32> -> tensor<8x16x4x4xf32>
    %v6 = graph.transpose %v5 [0, 2, 1, 3] : tensor<8x16x4x4xf32> -> tensor<8x4x16x4xf32>
    %v7 = graph.slice %v3 offsets [0, 0, 16] : tensor<8x16x48xf32> -> tensor<8x16x16xf32>
    %v8 = graph.reshape %v7  : tensor<8x16x16xf32> -> tensor<8x16x4x4xf32>
    %v9 = graph.transpose %v8 [0, 2, 1, 3] : tensor<8x16x4x4xf32> -> tensor<8x4x16x4xf32>
    %v10 = graph.slice %v3 offsets [0, 0, 32] : tensor<8x16x48xf32> -> tensor<8x16x16xf32>
    %v11 = graph.reshape %v10  : tensor<8x16x16xf32> -> tensor<8x16x4x4xf32>
    %v12 = graph.transpose %v11 [0, 2, 1, 3] : tensor<8x16x4x4xf32> -> tensor<8x4x16x4xf32>
    %v13, %v13_lse = graph.attention %v6, %v9, %v12 {scale = 5.000000e-01, causal, dropout = 1.0e-1, id = 1 : i64} : (tensor<8x4x16x4xf32>, tensor<8x4x16x4xf32>, tensor<8x4x16x4xf32>) -> (tensor<8x4x16x4xf32>, tensor<8x4x16xf32>)
    %v14 = graph.transpose %v13 [0, 2, 1, 3] : tensor<8x4x16x4xf32> -> tensor<8x16x4x4xf32>
    %v15 = graph.reshape %v14  : tensor<8x16x4x4xf32> -> tensor<8x16x16xf32>
    %v16 = graph.einsum %v15, %wo "bsi,io->bso" : (tensor<8x16x16xf32>, tensor<16x24xf32>) -> tensor<8x16x24xf32>
    %v17 = graph.broadcast %bo dims [2] : tensor<24xf32> -> tensor<8x16x24xf32>
    %v18 = graph.sum %v16, %v17 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %v19 = graph.dropout %v18 {p = 1.0e-1, id = 2 : i64} : tensor<8x16x24xf32> -> tensor<8x16x24xf32>
    %v20 = graph.sum %x, %v19 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %v21, %v21_mean, %v21_rstd = graph.norm layer %v20 weight %g2 bias %b2 {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v22 = graph.einsum %v21, %wf "bsi,io->bso" : (tensor<8x16x24xf32>, tensor<24x40xf32>) -> tensor<8x16x40xf32>
    %v23 = graph.broadcast %bf dims [2] : tensor<40xf32> -> tensor<8x16x40xf32>
    %v24 = graph.sum %v22, %v23 : (tensor<8x16x40xf32>, tensor<8x16x40xf32>) -> tensor<8x16x40xf32>
    %v25 = graph.activation gelu_tanh %v24  : tensor<8x16x40xf32> -> tensor<8x16x40xf32>
    %v26 = graph.einsum %v25, %wp "bsi,io->bso" : (tensor<8x16x40xf32>, tensor<40x24xf32>) -> tensor<8x16x24xf32>
    %v27 = graph.broadcast %bp dims [2] : tensor<24xf32> -> tensor<8x16x24xf32>
    %v28 = graph.sum %v26, %v27 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %v29 = graph.dropout %v28 {p = 1.0e-1, id = 3 : i64} : tensor<8x16x24xf32> -> tensor<8x16x24xf32>
    %v30 = graph.sum %v20, %v29 : (tensor<8x16x24xf32>, tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    graph.return %v30 : tensor<8x16x24xf32>
  }
  graph.layer @head(%x: tensor<8x16x24xf32>,
      %labels: tensor<8x16xi64>, %count: tensor<f32> {graph.frozen},
      %norm: tensor<24xf32> {graph.init = {constant = 1.0}, graph.parameter = "norm.weight"},
      %normb: tensor<24xf32> {graph.init = {constant = 0.0}, graph.parameter = "norm.bias"},
      %w: tensor<32x24xf32> {graph.init = {normal = [0.0, 0.02]}, graph.parameter = "lm_head.weight"}) -> tensor<f32> {
    %v0, %v0_mean, %v0_rstd = graph.norm layer %x weight %norm bias %normb {epsilon = 1.0e-5} : (tensor<8x16x24xf32>, tensor<24xf32>, tensor<24xf32>) -> (tensor<8x16x24xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
    %v1 = graph.einsum %v0, %w "bsi,oi->bso" : (tensor<8x16x24xf32>, tensor<32x24xf32>) -> tensor<8x16x32xf32>
    %v2 = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = 3 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %v3 = graph.cross_entropy %v1, %v2 count %count {ignore_index = 3 : i64} : (tensor<8x16x32xf32>, tensor<8x16xi64>, tensor<f32>) -> tensor<f32>
    graph.return %v3 : tensor<f32>
  }
    graph.layer @count(%labels: tensor<8x16xi64>) -> tensor<f32> {
    %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = 3 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %none = arith.constant dense<3> : tensor<8x16xi64>
    %counts = arith.cmpi ne, %next, %none : tensor<8x16xi64>
    %ones = arith.uitofp %counts : tensor<8x16xi1> to tensor<8x16xf32>
    %sum = graph.reduce sum %ones dims [0, 1] : tensor<8x16xf32> -> tensor<f32>
    graph.return %sum : tensor<f32>
  }
  func.func @step(%input_ids: tensor<8x16xi64>, %labels: tensor<8x16xi64>) -> tensor<f32> {
    %n = graph.total @count(%labels) : (tensor<8x16xi64>) -> tensor<f32>
    %0 = graph.call @embedding(%input_ids) parameters ["transformer.wte.weight", "transformer.wpe.weight"] path "transformer.wte" : (tensor<8x16xi64>) -> tensor<8x16x24xf32>
    %1 = graph.call @decoder(%0) parameters ["transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias", "transformer.h.0.attn.c_proj.weight", "transformer.h.0.attn.c_proj.bias", "transformer.h.0.ln_2.weight", "transformer.h.0.ln_2.bias", "transformer.h.0.mlp.c_fc.weight", "transformer.h.0.mlp.c_fc.bias", "transformer.h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj.bias"] path "transformer.h.0" : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %2 = graph.call @decoder(%1) parameters ["transformer.h.1.ln_1.weight", "transformer.h.1.ln_1.bias", "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn.bias", "transformer.h.1.attn.c_proj.weight", "transformer.h.1.attn.c_proj.bias", "transformer.h.1.ln_2.weight", "transformer.h.1.ln_2.bias", "transformer.h.1.mlp.c_fc.weight", "transformer.h.1.mlp.c_fc.bias", "transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.bias"] path "transformer.h.1" : (tensor<8x16x24xf32>) -> tensor<8x16x24xf32>
    %3 = graph.call @head(%2, %labels, %n) parameters ["transformer.ln_f.weight", "transformer.ln_f.bias", "transformer.wte.weight"] path "lm_head" : (tensor<8x16x24xf32>, tensor<8x16xi64>, tensor<f32>) -> tensor<f32>
    return %3 : tensor<f32>
  }
}
