// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-assign-placements

// expected-error@+1 {{expects a function @step and 'plan.pipeline', but one is missing; run annotate-plan or search-plan}}
module {
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
    graph.return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    // expected-error@+1 {{expects a layer, 'plan.strategy' and 'plan.stage', but one is missing; run annotate-plan or search-plan}}
    %y = graph.call @relu(%x) parameters [] path "relu" : (tensor<8xf32>) -> tensor<8xf32>
    return %y : tensor<8xf32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
    graph.return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    // expected-error@+1 {{expects the degrees of layer 'relu' to use all 4 devices of a stage, but got #plan.strategy<dp = 2>}}
    %y = graph.call @relu(%x) parameters [] path "relu" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8xf32>) -> tensor<8xf32>
    return %y : tensor<8xf32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
    graph.return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    // expected-error@+1 {{expects the degrees of layer 'relu' to factor the 4 devices of a stage, but got dp = 3}}
    %y = graph.call @relu(%x) parameters [] path "relu" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 3>} : (tensor<8xf32>) -> tensor<8xf32>
    return %y : tensor<8xf32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 3, schedule = "gpipe">} {
  graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
    graph.return %x : tensor<8xf32>
  }
  func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
    // expected-error@+1 {{expects 3 micro-batches to divide the global batch, but got 8 samples}}
    %y = graph.call @relu(%x) parameters [] path "relu" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8xf32>) -> tensor<8xf32>
    return %y : tensor<8xf32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 3, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @linear(%x: tensor<8x64xf32>, %u: tensor<32x64xf32> {graph.parameter = "u"}, %d: tensor<64x32xf32> {graph.parameter = "d"}) -> tensor<8x64xf32> {
    %h = graph.einsum %x, %u "bi,oi->bo" : (tensor<8x64xf32>, tensor<32x64xf32>) -> tensor<8x32xf32>
    %y = graph.einsum %h, %d "bi,oi->bo" : (tensor<8x32xf32>, tensor<64x32xf32>) -> tensor<8x64xf32>
    graph.return %y : tensor<8x64xf32>
  }
  func.func @step(%x: tensor<8x64xf32>) -> tensor<8x64xf32> {
    // expected-error@+1 {{layer 'linear' cannot use tp = 3: expects it to divide 32 (dimension 0 of u); use a degree that does}}
    %y = graph.call @linear(%x) parameters ["u", "d"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 3>} : (tensor<8x64xf32>) -> tensor<8x64xf32>
    return %y : tensor<8x64xf32>
  }
}

// -----

// A table other than the vocabulary may stay whole.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @embed(%ids: tensor<8x16xi64>, %types: tensor<8x16xi64>, %t: tensor<32x64xf32> {graph.parameter = "t"}, %u: tensor<3x64xf32> {graph.parameter = "u"}) -> tensor<8x16x64xf32> {
    %x = graph.embedding %t, %ids : (tensor<32x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    %y = graph.embedding %u, %types : (tensor<3x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    %z = graph.sum %x, %y : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    graph.return %z : tensor<8x16x64xf32>
  }
  func.func @step(%ids: tensor<8x16xi64>, %types: tensor<8x16xi64>) -> tensor<8x16x64xf32> {
    // expected-remark@+1 {{layer 'embed': tp = 2 does not divide 3 (dimension 0 of u), which is replicated}}
    %x = graph.call @embed(%ids, %types) parameters ["t", "u"] path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>} : (tensor<8x16xi64>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    return %x : tensor<8x16x64xf32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  graph.layer @square(%x: tensor<8x4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<f32> {
    %s = graph.reduce sum %x dims [0, 1] : tensor<8x4xf32> -> tensor<f32>
    // expected-error@+1 {{needs the whole batch at once: expects an op that can be cut into 2 micro-batches, but got one that reads a sum over them; use one micro-batch: --micro-batches 1 with --search, "micro_batches": 1 in a plan}}
    %y = math.exp %s : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%x: tensor<8x4xf32>) -> tensor<f32> {
    %y = graph.call @square(%x) parameters ["w"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 1>} : (tensor<8x4xf32>) -> tensor<f32>
    return %y : tensor<f32>
  }
}

// -----

// A softmax over the samples.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  graph.layer @a(%x: tensor<8x16xf32>, %w: tensor<16x16xf32> {graph.parameter = "w"}) -> tensor<8x16xf32> {
    %h = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x16xf32>, tensor<16x16xf32>) -> tensor<8x16xf32>
    %t = graph.transpose %h [1, 0] : tensor<8x16xf32> -> tensor<16x8xf32>
    %y = graph.softmax %t : tensor<16x8xf32> -> tensor<16x8xf32>
    %u = graph.transpose %y [1, 0] : tensor<16x8xf32> -> tensor<8x16xf32>
    graph.return %u : tensor<8x16xf32>
  }
  func.func @step(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
    // expected-error @below {{expects an op for each sample, to cut the batch into 2 micro-batches, but some op reads all samples together; use one micro-batch}}
    %y = graph.call @a(%x) parameters ["w"] path "a" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 1>} : (tensor<8x16xf32>) -> tensor<8x16xf32>
    return %y : tensor<8x16xf32>
  }
}
