// RUN: galvatron-opt --galvatron-form-layers -split-input-file %s | FileCheck %s

func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w0 = graph.parameter ["h.0.p.w"] : tensor<4xf32>
  %0 = arith.mulf %x, %w0 : tensor<4xf32> loc("h.0.p")
  %w1 = graph.parameter ["h.1.p.w"] : tensor<4xf32>
  %1 = arith.mulf %0, %w1 : tensor<4xf32> loc("h.1.p")
  return %1 : tensor<4xf32>
}

// CHECK: graph.layer @layer(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32> {graph.parameter = "p.w"}) -> tensor<4xf32>
// CHECK: func.func @step
// CHECK: %[[H:.*]] = graph.call @layer(%{{.*}}) parameters ["h.0.p.w"] path "h.0"
// CHECK: graph.call @layer(%[[H]]) parameters ["h.1.p.w"] path "h.1"

// -----

// Embedding, blocks and head are layers; a tied table is one name in both calls.
// CHECK: module attributes
// CHECK-SAME: graph.tied = {lm_head.weight = "m.wte.weight"}
// CHECK-SAME: graph.vocabulary = 16 : i64
// CHECK: graph.layer @embedding(%{{.*}}: tensor<2x4xi64>, %{{.*}}: tensor<16x8xf32> {graph.init = {normal = [0.000000e+00, 2.000000e-02]}, graph.parameter = "weight"})
// CHECK: graph.layer @layer(
// CHECK: graph.layer @head(%{{.*}}: tensor<2x4x8xf32>, %{{.*}}: tensor<2x4xi64>, %{{.*}}: tensor<16x8xf32> {graph.init = {normal = [0.000000e+00, 2.000000e-02]}, graph.parameter = "weight"}) -> tensor<f32>
// CHECK: graph.call @embedding(%{{.*}}) parameters ["m.wte.weight"] path "m.wte"
// CHECK: graph.call @layer(%{{.*}}) parameters ["m.h.0.fc.w"] path "m.h.0"
// CHECK: graph.call @layer(%{{.*}}) parameters ["m.h.1.fc.w"] path "m.h.1"
// CHECK: graph.call @head(%{{.*}}, %{{.*}}) parameters ["m.wte.weight"] path "lm_head"
module attributes {graph.batch = 2 : i64} {
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
    %table = graph.parameter ["m.wte.weight", "lm_head.weight"] init {normal = [0.0, 0.02]} : tensor<16x8xf32>
    %0 = graph.embedding %table, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32> loc("m.wte")
    %w0 = graph.parameter ["m.h.0.fc.w"] : tensor<8x8xf32>
    %1 = graph.einsum %0, %w0 "abc,dc->abd" : (tensor<2x4x8xf32>, tensor<8x8xf32>) -> tensor<2x4x8xf32> loc("m.h.0.fc")
    %2 = arith.addf %0, %1 : tensor<2x4x8xf32> loc("m.h.0")
    %w1 = graph.parameter ["m.h.1.fc.w"] : tensor<8x8xf32>
    %3 = graph.einsum %2, %w1 "abc,dc->abd" : (tensor<2x4x8xf32>, tensor<8x8xf32>) -> tensor<2x4x8xf32> loc("m.h.1.fc")
    %4 = arith.addf %2, %3 : tensor<2x4x8xf32> loc("m.h.1")
    %5 = graph.einsum %4, %table "abc,dc->abd" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32> loc("lm_head")
    %6 = graph.cross_entropy %5, %labels : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32> loc("")
    return %6 : tensor<f32>
  }
}

// -----

// What is computed from nothing, from integers or from parameters alone is cloned, so only %0 crosses.
// CHECK: graph.layer @layer(%[[X:.*]]: tensor<4xf32>, %[[IDS:.*]]: tensor<4xi64>, %{{.*}}: tensor<4xf32> {graph.parameter = "shared"})
// CHECK-DAG: arith.sitofp %[[IDS]]
// CHECK-DAG: graph.iota
// CHECK-DAG: math.exp
// CHECK: graph.return
// CHECK-NOT: graph.layer
// CHECK: %[[H:.*]] = graph.call @layer(%{{.*}}, %{{.*}}) parameters ["shared"] path "h.0"
// CHECK: graph.call @layer(%[[H]], %{{.*}}) parameters ["shared"] path "h.1"
func.func @step(%x: tensor<4xf32>, %ids: tensor<4xi64>) -> tensor<4xf32> {
  %positions = graph.iota {dim = 0 : i64} : tensor<4xi64> loc("h.0.p")
  %sum = arith.addi %positions, %ids : tensor<4xi64> loc("h.0.p")
  %table = arith.sitofp %ids : tensor<4xi64> to tensor<4xf32> loc("rotary")
  %floats = arith.sitofp %sum : tensor<4xi64> to tensor<4xf32> loc("h.0.p")
  %w = graph.parameter ["shared"] : tensor<4xf32>
  %scale = math.exp %w : tensor<4xf32> loc("h.0.p")
  %0 = arith.mulf %x, %table : tensor<4xf32> loc("h.0.p")
  %1 = arith.mulf %0, %floats : tensor<4xf32> loc("h.0.p")
  %2 = arith.mulf %1, %scale : tensor<4xf32> loc("h.0.p")
  %3 = arith.mulf %2, %table : tensor<4xf32> loc("h.1.p")
  %4 = arith.mulf %3, %floats : tensor<4xf32> loc("h.1.p")
  %5 = arith.mulf %4, %scale : tensor<4xf32> loc("h.1.p")
  return %5 : tensor<4xf32>
}

// -----

// Layers that differ in an attribute are two types.
// CHECK: graph.layer @layer0
// CHECK: graph.activation relu
// CHECK: graph.layer @layer1
// CHECK: graph.activation silu
// CHECK: graph.call @layer0({{.*}} path "h.0"
// CHECK: graph.call @layer1({{.*}} path "h.1"
// CHECK: graph.call @layer0({{.*}} path "h.2"
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %w = graph.parameter ["w"] : tensor<4xf32>
  %0 = arith.mulf %x, %w : tensor<4xf32> loc("h.0.p")
  %1 = graph.activation relu %0 : tensor<4xf32> -> tensor<4xf32> loc("h.0.p")
  %2 = arith.mulf %1, %w : tensor<4xf32> loc("h.1.p")
  %3 = graph.activation silu %2 : tensor<4xf32> -> tensor<4xf32> loc("h.1.p")
  %4 = arith.mulf %3, %w : tensor<4xf32> loc("h.2.p")
  %5 = graph.activation relu %4 : tensor<4xf32> -> tensor<4xf32> loc("h.2.p")
  return %5 : tensor<4xf32>
}

// -----

// Random bits count within their layer, so that equal layers are equal.
// CHECK: graph.layer @layer
// CHECK: graph.dropout %{{.*}} {id = 0 : i64, p = 1.000000e-01 : f64}
// CHECK: graph.dropout %{{.*}} {id = 1 : i64, p = 1.000000e-01 : f64}
// CHECK-NOT: graph.layer
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.dropout %x {id = 7 : i64, p = 0.1 : f64} : tensor<4xf32> -> tensor<4xf32> loc("h.0.p")
  %1 = graph.dropout %0 {id = 9 : i64, p = 0.1 : f64} : tensor<4xf32> -> tensor<4xf32> loc("h.0.p")
  %2 = graph.dropout %1 {id = 5 : i64, p = 0.1 : f64} : tensor<4xf32> -> tensor<4xf32> loc("h.1.p")
  %3 = graph.dropout %2 {id = 3 : i64, p = 0.1 : f64} : tensor<4xf32> -> tensor<4xf32> loc("h.1.p")
  return %3 : tensor<4xf32>
}
