// RUN: galvatron-opt %s --galvatron-annotate-plan="pp=2 dp=2 micro-batches=2" -split-input-file -verify-diagnostics
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan="schedule=zigzag" 2>&1 | FileCheck %s --check-prefix=SCHEDULE
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan="tp=0" 2>&1 | FileCheck %s --check-prefix=DEGREES
// RUN: not galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan="tp=2 ranks=4" 2>&1 | FileCheck %s --check-prefix=RANKS
// SCHEDULE: error: expects schedule gpipe or 1f1b, but got 'zigzag'
// DEGREES: error: expects degrees of at least 1, but got pp 1, tp 0, dp 1
// RANKS: error: expects pp x tp x dp to be the 4 ranks, but got 2

// expected-error @below {{expects a function @step with the model's layers; run the phase import first}}
module attributes {graph.batch = 4 : i64} {
}

// -----

// expected-error @below {{expects the module attribute graph.batch, the samples of a step}}
module {
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    return %ids : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64} {
  // expected-error @below {{expects at least one graph.call to plan, but has none; run the phase import first}}
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    return %ids : tensor<4xi64>
  }
}

// -----

module attributes {graph.batch = 4 : i64} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    // expected-note @below {{first used here}}
    %0 = graph.call @same(%ids) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    // expected-error @below {{expects a path of its own, but got 'same' a second time}}
    %1 = graph.call @same(%0) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    return %1 : tensor<4xi64>
  }
}

// -----

// One unit cannot make two stages.
// expected-error @below {{plan layer 'same' (stage 1) expects stages to rise one by one from 0}}
module attributes {graph.batch = 4 : i64} {
  graph.layer @same(%ids: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %ids : tensor<4xi64>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    %0 = graph.call @same(%ids) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}
