// RUN: galvatron-opt %s --split-input-file --galvatron-insert-documents --verify-diagnostics

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  // expected-error@+1 {{'graph.reduce' op joins the positions of a row, so documents cannot be kept apart; export the module with position_ids as third input, so that it keeps documents apart itself}}
  %1 = graph.reduce sum %0 dims [1] : tensor<2x4x8xf32> -> tensor<2x8xf32>
  return %1 : tensor<2x8xf32>
}

// -----

// As attention that was not recognized.
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x4xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  // expected-error@+1 {{'graph.einsum' op mixes or cuts the positions of a row, so documents cannot be kept apart}}
  %1 = graph.einsum %0, %0 "abc,adc->abd" : (tensor<2x4x8xf32>, tensor<2x4x8xf32>) -> tensor<2x4x4xf32>
  return %1 : tensor<2x4x4xf32>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x1x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  // expected-error@+1 {{'graph.slice' op mixes or cuts the positions of a row}}
  %1 = graph.slice %0 offsets [0, 3, 0] : tensor<2x4x8xf32> -> tensor<2x1x8xf32>
  return %1 : tensor<2x1x8xf32>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.reduce sum %0 dims [0, 1, 2] : tensor<2x4x8xf32> -> tensor<f32>
  %2 = graph.broadcast %1 dims [] : tensor<f32> -> tensor<2x4x8xf32>
  // expected-error@+1 {{'arith.addf' op brings what all positions say to each of them, also to those of other documents}}
  %3 = arith.addf %0, %2 : tensor<2x4x8xf32>
  return %3 : tensor<2x4x8xf32>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  // expected-error@+1 {{'graph.shift' op moves tokens from one position to another, also into other documents}}
  %0 = graph.shift %ids {dim = 1 : i64, fill = 0 : i64, offset = -1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
  %1 = graph.embedding %tokens, %0 : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  return %1 : tensor<2x4x8xf32>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4xi64> {
  // expected-error@+1 {{'graph.shift' op moves labels by 2, but only of those moved by one is a document's last known to be ignored}}
  %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 2 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
  return %0 : tensor<2x4xi64>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x4xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %mixer = graph.parameter ["mixer"] : tensor<4x8x4xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  // expected-error@+1 {{'graph.einsum' op reads positions of its own in a way that documents cannot take the place of}}
  %1 = graph.einsum %0, %mixer "abc,bcd->abd" : (tensor<2x4x8xf32>, tensor<4x8x4xf32>) -> tensor<2x4x4xf32>
  return %1 : tensor<2x4x4xf32>
}

// -----

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<8x4x4xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x16xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x16xf32>, tensor<2x4xi64>) -> tensor<2x4x16xf32>
  %1 = graph.reshape %0 : tensor<2x4x16xf32> -> tensor<2x4x4x4xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x4x4x4xf32> -> tensor<2x4x4x4xf32>
  %3 = graph.reshape %2 : tensor<2x4x4x4xf32> -> tensor<8x4x4xf32>
  // expected-error@+1 {{'graph.rope' op rotates by positions of its own in a way that documents cannot take the place of}}
  %4 = graph.rope %3 half {inverse_frequencies = array<f64: 1.0, 0.1>, seq_dim = 1 : i64} : tensor<8x4x4xf32> -> tensor<8x4x4xf32>
  return %4 : tensor<8x4x4xf32>
}

// -----

// Keys that are parameters.
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x1x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %keys = graph.parameter ["keys"] : tensor<2x1x4x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.reshape %0 : tensor<2x4x8xf32> -> tensor<2x1x4x8xf32>
  // expected-error@+1 {{'graph.attention' op attends to what is not the positions of its own row}}
  %2, %lse = graph.attention %1, %keys, %keys {causal, scale = 1.0 : f64} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  return %2 : tensor<2x1x4x8xf32>
}

// -----

// Blocks of two: a document that begins at 1 has others.
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x1x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %blocks = arith.constant dense<[[[[0.0, 0.0, -1.0, -1.0], [0.0, 0.0, -1.0, -1.0], [-1.0, -1.0, 0.0, 0.0], [-1.0, -1.0, 0.0, 0.0]]]]> : tensor<1x1x4x4xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.reshape %0 : tensor<2x4x8xf32> -> tensor<2x1x4x8xf32>
  // expected-error@+1 {{'graph.attention' op adds a bias that is no function of the distance between query and key}}
  %2, %lse = graph.attention %1, %1, %1 bias %blocks {causal, scale = 1.0 : f64} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<1x1x4x4xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  return %2 : tensor<2x1x4x8xf32>
}

// -----

// The first two keys of a row are seen by all.
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x1x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %prefix = arith.constant dense<[[[[0.0, 0.0, 0xFF800000, 0xFF800000], [0.0, 0.0, 0xFF800000, 0xFF800000], [0.0, 0.0, 0.0, 0xFF800000], [0.0, 0.0, 0.0, 0.0]]]]> : tensor<1x1x4x4xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.reshape %0 : tensor<2x4x8xf32> -> tensor<2x1x4x8xf32>
  // expected-error@+1 {{'graph.attention' op adds a bias that is no function of the distance between query and key}}
  %2, %lse = graph.attention %1, %1, %1 bias %prefix {scale = 1.0 : f64} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<1x1x4x4xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  return %2 : tensor<2x1x4x8xf32>
}

// -----

// expected-error@+1 {{expects a step with the inputs positions and documents}}
module {
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<2x4xi64> {
    return %ids : tensor<2x4xi64>
  }
}

// -----

// expected-error@+1 {{expects a model that does not read positions or documents yet, but this one keeps documents apart itself}}
module {
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4xi64> {
    return %positions : tensor<2x4xi64>
  }
}
