// RUN: galvatron-opt %s -split-input-file -galvatron-partition-stages | FileCheck %s

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @all(%ids: tensor<4xi64, #dist.placement<[4]>>, %labels: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
    %loss = arith.constant dense<0.0> : tensor<f32, #dist.placement<[]>>
    graph.return %loss : tensor<f32, #dist.placement<[]>>
  }
  func.func @step(%ids: tensor<4xi64, #dist.placement<[4]>>, %labels: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
    %0 = graph.call @all(%ids, %labels) parameters [] path "all" {plan.stage = 0 : i64} : (tensor<4xi64, #dist.placement<[4]>>, tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>>
    return %0 : tensor<f32, #dist.placement<[]>>
  }
}

// CHECK-LABEL: dist.stage @stage0 index 0
// CHECK: %[[IDS:.*]] = dist.input "input_ids"
// CHECK: %[[LABELS:.*]] = dist.input "labels"
// CHECK: %[[LOSS:.*]] = graph.call @all(%[[IDS]], %[[LABELS]])
// CHECK: dist.loss %[[LOSS]]
// CHECK-NOT: func.func @step

// -----

#p = #dist.placement<[4]>
#s = #dist.placement<[]>
#strategy = #plan.strategy<dp = 1>

// A value that is read two stages later is relayed; data is read where it is used. Layers are numbered over the
// whole model; what has no strategy (a redistribution) is no layer.
module attributes {plan.pipeline = #plan.pipeline<stages = 3, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  graph.layer @embed(%ids: tensor<4xi64, #p>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32, #p> {
    %y = arith.constant dense<0.0> : tensor<4xf32, #p>
    graph.return %y : tensor<4xf32, #p>
  }
  graph.layer @redistribute(%x: tensor<4xf32, #p>) -> tensor<4xf32, #p> {
    graph.return %x : tensor<4xf32, #p>
  }
  graph.layer @layer(%x: tensor<4xf32, #p>) -> tensor<4xf32, #p> {
    graph.return %x : tensor<4xf32, #p>
  }
  graph.layer @head(%x: tensor<4xf32, #p>, %e: tensor<4xf32, #p>, %labels: tensor<4xi64, #p>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<f32, #s> {
    %loss = arith.constant dense<0.0> : tensor<f32, #s>
    graph.return %loss : tensor<f32, #s>
  }
  func.func @step(%ids: tensor<4xi64, #p>, %labels: tensor<4xi64, #p>) -> tensor<f32, #s> {
    %0 = graph.call @embed(%ids) parameters ["w"] path "embed" {plan.stage = 0 : i64, plan.strategy = #strategy} : (tensor<4xi64, #p>) -> tensor<4xf32, #p>
    %1 = graph.call @redistribute(%0) parameters [] path "mid:input" {plan.stage = 1 : i64} : (tensor<4xf32, #p>) -> tensor<4xf32, #p>
    %2 = graph.call @layer(%1) parameters [] path "mid" {plan.stage = 1 : i64, plan.strategy = #strategy} : (tensor<4xf32, #p>) -> tensor<4xf32, #p>
    %3 = graph.call @head(%2, %0, %labels) parameters ["w"] path "head" {plan.stage = 2 : i64, plan.strategy = #strategy} : (tensor<4xf32, #p>, tensor<4xf32, #p>, tensor<4xi64, #p>) -> tensor<f32, #s>
    return %3 : tensor<f32, #s>
  }
}

// CHECK-LABEL: module attributes
// CHECK-SAME: dist.layer_paths = ["embed", "mid", "head"]
// CHECK: dist.stage @stage0
// CHECK: %[[EMBEDDED:.*]] = graph.call @embed
// CHECK-SAME: dist.layer_index = 0
// CHECK: dist.send %[[EMBEDDED]] to 1 tag [[$TAG:[0-9]+]]
// CHECK-LABEL: dist.stage @stage1
// CHECK: %[[RECEIVED:.*]] = dist.receive from 0 tag [[$TAG]]
// CHECK: graph.call @redistribute(%[[RECEIVED]])
// CHECK-NOT: dist.layer_index
// CHECK: graph.call @layer
// CHECK-SAME: dist.layer_index = 1
// CHECK: dist.send %{{.*}} to 2 tag [[$FIRST:[0-9]+]]
// CHECK: dist.send %[[RECEIVED]] to 2 tag [[$SECOND:[0-9]+]]
// CHECK-LABEL: dist.stage @stage2
// CHECK-DAG: dist.receive from 1 tag [[$FIRST]]
// CHECK-DAG: dist.receive from 1 tag [[$SECOND]]
// CHECK-DAG: dist.input "labels"
// CHECK: graph.call @head

// -----

#p = #dist.placement<[4]>

// The gradient of a value goes back the way that it came, if it has one.
// CHECK-LABEL: dist.stage @stage0
// CHECK: dist.send %{{.*}} to 1 tag 0 frozen : tensor<4xf32
// CHECK: dist.send %{{.*}} to 1 tag 1 : tensor<4xf32
// CHECK-LABEL: dist.stage @stage1
// CHECK: dist.receive from 0 tag 0 frozen : tensor<4xf32
// CHECK: dist.receive from 0 tag 1 : tensor<4xf32
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  dist.body @first.forward(%ids: tensor<4xi64>, %w: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
    dist.return %w, %w : tensor<4xf32>, tensor<4xf32>
  }
  dist.body @first.backward(%dy: tensor<4xf32>, %ids: tensor<4xi64>, %w: tensor<4xf32>) -> tensor<4xf32> {
    dist.return %dy : tensor<4xf32>
  }
  dist.layer @first {forward = @first.forward, backward = @first.backward, inputs = [#p], outputs = [#p, #p], input_gradients = [unit], output_gradients = [unit, #p], homes = [#p], gradients = [#p], num_saved = 0 : i64}
  dist.body @second.forward(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
    dist.return %y : tensor<4xf32>
  }
  dist.layer @second {forward = @second.forward, inputs = [#p, #p], outputs = [#p], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
  func.func @step(%ids: tensor<4xi64, #p>, %labels: tensor<4xi64, #p>) -> tensor<4xf32, #p> {
    %0:2 = graph.call @first(%ids) parameters ["w"] path "first" {plan.stage = 0 : i64} : (tensor<4xi64, #p>) -> (tensor<4xf32, #p>, tensor<4xf32, #p>)
    %1 = graph.call @second(%0#0, %0#1) parameters [] path "second" {plan.stage = 1 : i64} : (tensor<4xf32, #p>, tensor<4xf32, #p>) -> tensor<4xf32, #p>
    return %1 : tensor<4xf32, #p>
  }
}

// -----

#p = #dist.placement<[4]>
#s = #dist.placement<[]>

// Two parts a stage. What part 1 gets is there for part 3, on the same stage, without a message; a value goes on from
// the part that has it, and every op but data says which part it belongs to.
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
  graph.layer @embed(%ids: tensor<4xi64, #p>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32, #p> {
    %y = arith.constant dense<0.0> : tensor<4xf32, #p>
    graph.return %y : tensor<4xf32, #p>
  }
  graph.layer @layer(%x: tensor<4xf32, #p>) -> tensor<4xf32, #p> {
    graph.return %x : tensor<4xf32, #p>
  }
  graph.layer @head(%x: tensor<4xf32, #p>, %e: tensor<4xf32, #p>) -> tensor<f32, #s> {
    %loss = arith.constant dense<0.0> : tensor<f32, #s>
    graph.return %loss : tensor<f32, #s>
  }
  func.func @step(%ids: tensor<4xi64, #p>, %labels: tensor<4xi64, #p>) -> tensor<f32, #s> {
    %0 = graph.call @embed(%ids) parameters ["w"] path "embed" {plan.stage = 0 : i64} : (tensor<4xi64, #p>) -> tensor<4xf32, #p>
    %1 = graph.call @layer(%0) parameters [] path "one" {plan.stage = 1 : i64} : (tensor<4xf32, #p>) -> tensor<4xf32, #p>
    %2 = graph.call @layer(%1) parameters [] path "two" {plan.chunk = 1 : i64, plan.stage = 0 : i64} : (tensor<4xf32, #p>) -> tensor<4xf32, #p>
    %3 = graph.call @head(%2, %0) parameters [] path "head" {plan.chunk = 1 : i64, plan.stage = 1 : i64} : (tensor<4xf32, #p>, tensor<4xf32, #p>) -> tensor<f32, #s>
    return %3 : tensor<f32, #s>
  }
}

// CHECK-LABEL: dist.stage @stage0
// CHECK: %[[EMBEDDED:.*]] = graph.call @embed
// CHECK-NEXT: dist.send %[[EMBEDDED]] to 1 tag 0 : tensor
// CHECK-NEXT: %[[FIRST:.*]] = dist.receive from 1 tag 1 {plan.chunk = 1 : i64}
// CHECK-NEXT: %[[SECOND:.*]] = graph.call @layer(%[[FIRST]])
// CHECK-NEXT: dist.send %[[SECOND]] to 1 tag 2 {plan.chunk = 1 : i64}
// CHECK-NEXT: }
// CHECK-LABEL: dist.stage @stage1
// CHECK-NEXT: %[[RECEIVED:.*]] = dist.receive from 0 tag 0 : tensor
// CHECK-NEXT: %[[LAYER:.*]] = graph.call @layer(%[[RECEIVED]])
// CHECK-NEXT: dist.send %[[LAYER]] to 0 tag 1 : tensor
// CHECK-NEXT: %[[THIRD:.*]] = dist.receive from 0 tag 2 {plan.chunk = 1 : i64}
// CHECK-NEXT: %[[LOSS:.*]] = graph.call @head(%[[THIRD]], %[[RECEIVED]])
// CHECK-NEXT: dist.loss %[[LOSS]] {plan.chunk = 1 : i64}
