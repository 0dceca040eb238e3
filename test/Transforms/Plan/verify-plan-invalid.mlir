// RUN: galvatron-opt %s --galvatron-verify-plan -split-input-file -verify-diagnostics

// expected-error @below {{expects the module attribute plan.pipeline; run the phase plan first}}
module attributes {graph.batch = 4 : i64} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    // expected-error @below {{expects plan.strategy and plan.stage for 'same', but lacks plan.strategy}}
    %0 = graph.call @same(%ids) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    // expected-error @below {{expects plan.strategy and plan.stage for 'same', but lacks plan.stage}}
    %0 = graph.call @same(%ids) parameters [] path "same" {plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  // expected-error @below {{plan layer 'same' (stage 0) key 'dp' expects 2 (ranks 2 / pipeline 1 / tp / ulysses / cp), but got 4}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 4>} : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  // expected-error @below {{plan layer 'same' (stage 0) key 'zero' expects 0 where dp x ulysses x cp is 1, but got 1}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, zero = 1>} : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 4, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  // expected-error @below {{plan layer 'same' (stage 0) expects dp to divide the micro-batch of 1 samples}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  // expected-error @below {{plan expects layers on each of its 2 stages, but the last layer is on stage 0}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}
