// RUN: galvatron-opt %s --galvatron-annotate-plan="dp=2 micro-batches=2" | FileCheck %s
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan="pp=2 tp=2 micro-batches=4 recompute=true schedule=gpipe" | FileCheck %s --check-prefix=UNIFORM
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%S/../Inputs/plan-own.json | FileCheck %s --check-prefix=OWN
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%S/../Inputs/plan-reference.json | FileCheck %s --check-prefix=REFERENCE
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --galvatron-annotate-plan=plan=%S/../Inputs/plan-own.json --galvatron-annotate-plan="dp=1" | FileCheck %s --check-prefix=REPLACED

module attributes {graph.batch = 4 : i64} {
  graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = arith.constant dense<0.0> : tensor<f32>
    graph.return %0 : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @mean(%ids) parameters [] path "mean" : (tensor<4xi64>) -> tensor<f32>
    return %0 : tensor<f32>
  }
}

// CHECK: module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">}
// CHECK: graph.call @mean{{.*}} {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>}

// Three layers on two stages: the remainder goes to the last one. Ends never recompute.
// UNIFORM: plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 4, schedule = "gpipe">
// UNIFORM: path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>}
// UNIFORM: path "h.0" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, recompute = true>}
// UNIFORM: path "h.1" {plan.stage = 1 : i64
// UNIFORM: path "h.2" {plan.stage = 1 : i64
// UNIFORM: path "head" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<tp = 2>}

// Units are found by path, whatever their order in the file; dp is what the other degrees leave.
// OWN: plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 2, schedule = "1f1b">
// OWN-SAME: plan.predicted_step_seconds = 5.000000e-01
// OWN: path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 4>}
// OWN: path "h.0" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 4>}
// OWN: path "h.1" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 4, recompute = true>}
// OWN: path "h.2" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2, tp = 2>}
// OWN: path "head" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2, tp = 2>}

// The reference's lists number the layers; `vtp` is for both ends.
// REFERENCE: plan.pipeline = #plan.pipeline<stages = 2, devices = 2, micro_batches = 4, schedule = "1f1b">
// REFERENCE: path "embed" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>}
// REFERENCE: path "h.0" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2>}
// REFERENCE: path "h.1" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2, recompute = true>}
// REFERENCE: path "h.2" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<tp = 2>}
// REFERENCE: path "head" {plan.stage = 1 : i64, plan.strategy = #plan.strategy<tp = 2>}

// REPLACED-NOT: predicted
// REPLACED: path "h.1" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<>}
