// RUN: galvatron-opt %s --galvatron-verify-plan | FileCheck %s

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = arith.constant dense<0.0> : tensor<f32>
    graph.return %0 : tensor<f32>
  }
  func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
    %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
    return %0 : tensor<f32>
  }
}

// CHECK: graph.call @mean{{.*}} {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>}
