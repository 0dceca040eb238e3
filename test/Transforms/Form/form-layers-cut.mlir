// RUN: galvatron-opt --galvatron-form-layers -split-input-file %s | FileCheck %s

// Without module paths: the longest repetition between points where one value is alive.
// CHECK-DAG: graph.layer @embedding
// CHECK-DAG: graph.layer @layer(%{{.*}}: tensor<2x8xf32>, %{{.*}}: tensor<8x8xf32> {graph.parameter = "w"})
// CHECK-DAG: graph.layer @head
// CHECK: graph.call @embedding(
// CHECK: graph.call @layer(%{{.*}}) parameters ["blocks.0.w"] path "blocks.0"
// CHECK: graph.call @layer(%{{.*}}) parameters ["blocks.1.w"] path "blocks.1"
// CHECK: graph.call @layer(%{{.*}}) parameters ["blocks.2.w"] path "blocks.2"
// CHECK: graph.call @head(
func.func @step(%ids: tensor<2xi64>, %labels: tensor<2xi64>) -> tensor<f32> {
  %table = graph.parameter ["table"] : tensor<16x8xf32>
  %0 = graph.embedding %table, %ids : (tensor<16x8xf32>, tensor<2xi64>) -> tensor<2x8xf32>
  %w0 = graph.parameter ["blocks.0.w"] : tensor<8x8xf32>
  %1 = graph.einsum %0, %w0 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %2 = arith.addf %0, %1 : tensor<2x8xf32>
  %w1 = graph.parameter ["blocks.1.w"] : tensor<8x8xf32>
  %3 = graph.einsum %2, %w1 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %4 = arith.addf %2, %3 : tensor<2x8xf32>
  %w2 = graph.parameter ["blocks.2.w"] : tensor<8x8xf32>
  %5 = graph.einsum %4, %w2 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %6 = arith.addf %4, %5 : tensor<2x8xf32>
  %head = graph.parameter ["head"] : tensor<16x8xf32>
  %7 = graph.einsum %6, %head "ab,cb->ac" : (tensor<2x8xf32>, tensor<16x8xf32>) -> tensor<2x16xf32>
  %8 = graph.cross_entropy %7, %labels : (tensor<2x16xf32>, tensor<2xi64>) -> tensor<f32>
  return %8 : tensor<f32>
}

// -----

// A list inside a member is part of it.
// CHECK: graph.call @layer({{.*}} path "h.0"
// CHECK-NEXT: graph.call @layer({{.*}} path "h.1"
// CHECK-NEXT: return
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32> loc("h.0.parts.0.p")
  %1 = math.sin %0 : tensor<4xf32> loc("h.0.parts.1.p")
  %2 = math.exp %1 : tensor<4xf32> loc("h.1.parts.0.p")
  %3 = math.sin %2 : tensor<4xf32> loc("h.1.parts.1.p")
  return %3 : tensor<4xf32>
}

// -----

// Ops of the root between two members belong to the first, those that feed back into one to that one.
// CHECK: graph.layer @layer0
// CHECK: math.exp
// CHECK-NEXT: arith.negf
// CHECK-NEXT: math.sin
// CHECK-NEXT: math.tanh
// CHECK-NEXT: graph.return
// CHECK: graph.call @layer0({{.*}} path "h.0"
// CHECK-NEXT: graph.call @layer1({{.*}} path "h.1"
// CHECK-NEXT: return
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32> loc("h.0.p")
  %1 = arith.negf %0 : tensor<4xf32> loc("")
  %2 = math.sin %1 : tensor<4xf32> loc("h.0.p")
  %3 = math.tanh %2 : tensor<4xf32> loc("")
  %4 = math.exp %3 : tensor<4xf32> loc("h.1.p")
  return %4 : tensor<4xf32>
}

// -----

// An encoder and a decoder, with a norm between; both read the ids.
// CHECK: graph.call @{{.*}}path "table"
// CHECK-NEXT: graph.call @{{.*}}path "encoder.0"
// CHECK-NEXT: graph.call @{{.*}}path "encoder.1"
// CHECK-NEXT: graph.call @{{.*}}parameters ["norm"] path "final"
// CHECK-NEXT: graph.call @{{.*}}path "decoder.0"
// CHECK-NEXT: graph.call @{{.*}}path "decoder.1"
// CHECK-NEXT: return
func.func @step(%ids: tensor<2xi64>) -> tensor<2x8xf32> {
  %table = graph.parameter ["table.weight"] : tensor<16x8xf32>
  %norm = graph.parameter ["norm"] : tensor<2x8xf32>
  %0 = graph.embedding %table, %ids : (tensor<16x8xf32>, tensor<2xi64>) -> tensor<2x8xf32> loc("table")
  %1 = math.exp %0 : tensor<2x8xf32> loc("encoder.0.p")
  %2 = math.exp %1 : tensor<2x8xf32> loc("encoder.1.p")
  %3 = arith.mulf %2, %norm : tensor<2x8xf32> loc("final")
  %4 = arith.addf %0, %3 : tensor<2x8xf32> loc("decoder.0.p")
  %5 = arith.addf %4, %3 : tensor<2x8xf32> loc("decoder.1.p")
  return %5 : tensor<2x8xf32>
}

// -----

// Members that are called in turns: a member's second call is a unit of its own, of the same parameters.
// CHECK: graph.layer @layer(%{{.*}}: tensor<2x8xf32>, %{{.*}}: tensor<8x8xf32> {graph.parameter = "w"})
// CHECK-NOT: graph.layer
// CHECK: %[[A:.*]] = graph.call @layer(%{{.*}}) parameters ["h.0.w"] path "h.0"
// CHECK-NEXT: %[[B:.*]] = graph.call @layer(%[[A]]) parameters ["h.1.w"] path "h.1"
// CHECK-NEXT: %[[C:.*]] = graph.call @layer(%[[B]]) parameters ["h.0.w"] path "h.0:1"
// CHECK-NEXT: %[[D:.*]] = graph.call @layer(%[[C]]) parameters ["h.1.w"] path "h.1:1"
// CHECK-NEXT: return %[[D]]
func.func @step(%x: tensor<2x8xf32>) -> tensor<2x8xf32> {
  %w0 = graph.parameter ["h.0.w"] : tensor<8x8xf32>
  %w1 = graph.parameter ["h.1.w"] : tensor<8x8xf32>
  %0 = graph.einsum %x, %w0 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32> loc("h.0.p")
  %1 = graph.einsum %0, %w1 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32> loc("h.1.p")
  %2 = graph.einsum %1, %w0 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32> loc("h.0.p")
  %3 = graph.einsum %2, %w1 "ab,cb->ac" : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32> loc("h.1.p")
  return %3 : tensor<2x8xf32>
}

// -----

// What is drawn in one member and read in another is passed on, whatever lies between: it is data, even of a constant.
// CHECK: graph.layer @layer0
// CHECK: graph.dropout
// CHECK-NEXT: graph.reshape
// CHECK: %[[DRAWN:.*]]:2 = graph.call @layer0({{.*}} path "h.0"
// CHECK-NEXT: graph.call @layer1(%[[DRAWN]]#{{[01]}}, %[[DRAWN]]#{{[01]}}) {{.*}}path "h.1"
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %ones = arith.constant dense<1.0> : tensor<4x1xf32>
  %kept = graph.dropout %ones {id = 3 : i64, p = 0.5 : f64} : tensor<4x1xf32> -> tensor<4x1xf32> loc("h.0.drop")
  %mask = graph.reshape %kept : tensor<4x1xf32> -> tensor<4xf32> loc("h.0.drop")
  %0 = arith.mulf %x, %mask : tensor<4xf32> loc("h.0.p")
  %1 = math.sin %0 : tensor<4xf32> loc("h.1.p")
  %2 = arith.mulf %1, %mask : tensor<4xf32> loc("h.1.p")
  return %2 : tensor<4xf32>
}
