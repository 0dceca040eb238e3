// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-partition-stages

// expected-error @below {{expects a function @step and the attribute plan.pipeline; run the phases import to shard first}}
module {
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @all(%x: tensor<4xi64>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    // expected-error @below {{expects an attribute plan.stage below 2}}
    %0 = graph.call @all(%ids) parameters [] path "all" {plan.stage = 2 : i64} : (tensor<4xi64>) -> tensor<f32>
    return %0 : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @first(%x: tensor<4xi64>) -> tensor<4xf32> {
    %y = arith.constant dense<0.0> : tensor<4xf32>
    graph.return %y : tensor<4xf32>
  }
  graph.layer @second(%x: tensor<4xf32>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @first(%ids) parameters [] path "first" {plan.stage = 1 : i64} : (tensor<4xi64>) -> tensor<4xf32>
    // expected-error @below {{expects stages that do not fall along the model, but got stage 0 after stage 1}}
    %1 = graph.call @second(%0) parameters [] path "second" {plan.stage = 0 : i64} : (tensor<4xf32>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @all(%x: tensor<4xi64>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  // expected-error @below {{expects layers in every stage, but the last of 2 stages has none}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @all(%ids) parameters [] path "all" {plan.stage = 0 : i64} : (tensor<4xi64>) -> tensor<f32>
    return %0 : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects to return terms of the loss that its calls compute}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    return %ids : tensor<4xi64>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects at most 4 inputs, but got 5}}
  func.func @step(%ids: tensor<4xi64>, %labels: tensor<4xi64>, %positions: tensor<4xi64>, %documents: tensor<4xi64>, %more: tensor<4xi64>) -> tensor<4xi64> {
    return %ids : tensor<4xi64>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
  graph.layer @first(%x: tensor<4xi64>) -> tensor<4xf32> {
    %y = arith.constant dense<0.0> : tensor<4xf32>
    graph.return %y : tensor<4xf32>
  }
  graph.layer @second(%x: tensor<4xf32>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @first(%ids) parameters [] path "first" {plan.stage = 0 : i64} : (tensor<4xi64>) -> tensor<4xf32>
    // expected-error @below {{expects an attribute plan.chunk below the 2 parts of a stage, but got 2}}
    %1 = graph.call @second(%0) parameters [] path "second" {plan.chunk = 2 : i64, plan.stage = 1 : i64} : (tensor<4xf32>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
  graph.layer @first(%x: tensor<4xi64>) -> tensor<4xf32> {
    %y = arith.constant dense<0.0> : tensor<4xf32>
    graph.return %y : tensor<4xf32>
  }
  graph.layer @second(%x: tensor<4xf32>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @first(%ids) parameters [] path "first" {plan.chunk = 1 : i64, plan.stage = 0 : i64} : (tensor<4xi64>) -> tensor<4xf32>
    // expected-error @below {{expects parts that do not fall along the model, but got part 1 (stage 1, chunk 0) after part 2}}
    %1 = graph.call @second(%0) parameters [] path "second" {plan.stage = 1 : i64} : (tensor<4xf32>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
  graph.layer @first(%x: tensor<4xi64>) -> tensor<4xf32> {
    %y = arith.constant dense<0.0> : tensor<4xf32>
    graph.return %y : tensor<4xf32>
  }
  graph.layer @second(%x: tensor<4xf32>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    graph.return %y : tensor<f32>
  }
  // expected-error @below {{expects layers in every part, but the last of 4 parts has none}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @first(%ids) parameters [] path "first" {plan.stage = 0 : i64} : (tensor<4xi64>) -> tensor<4xf32>
    %1 = graph.call @second(%0) parameters [] path "second" {plan.stage = 1 : i64} : (tensor<4xf32>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}
