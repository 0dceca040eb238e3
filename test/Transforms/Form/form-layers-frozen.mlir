// RUN: galvatron-opt --galvatron-form-layers -split-input-file %s | FileCheck %s

// Four equal layers, of three types: frozen after the frozen embedding, the first that trains, two with all gradients.
// CHECK: graph.layer @layer0(%{{.*}}: tensor<4xf32> {graph.frozen}, %{{.*}}: tensor<4xf32> {graph.frozen, graph.parameter = "w"}) -> (tensor<4xf32> {graph.frozen})
// CHECK: graph.layer @layer1(%{{.*}}: tensor<4xf32> {graph.frozen}, %{{.*}}: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32>
// CHECK: graph.layer @layer2(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32>
// CHECK: func.func @step
// CHECK: graph.call @embedding
// CHECK: graph.call @layer0
// CHECK: graph.call @layer1
// CHECK-COUNT-2: graph.call @layer2
func.func @step(%ids: tensor<4xi64>) -> tensor<4xf32> {
  %table = graph.parameter ["table"] frozen : tensor<16x1xf32>
  %rows = graph.embedding %table, %ids : (tensor<16x1xf32>, tensor<4xi64>) -> tensor<4x1xf32> loc("e")
  %0 = graph.reshape %rows : tensor<4x1xf32> -> tensor<4xf32> loc("e")
  %w0 = graph.parameter ["h.0.w"] frozen : tensor<4xf32>
  %1 = arith.mulf %0, %w0 : tensor<4xf32> loc("h.0")
  %w1 = graph.parameter ["h.1.w"] : tensor<4xf32>
  %2 = arith.mulf %1, %w1 : tensor<4xf32> loc("h.1")
  %w2 = graph.parameter ["h.2.w"] : tensor<4xf32>
  %3 = arith.mulf %2, %w2 : tensor<4xf32> loc("h.2")
  %w3 = graph.parameter ["h.3.w"] : tensor<4xf32>
  %4 = arith.mulf %3, %w3 : tensor<4xf32> loc("h.3")
  return %4 : tensor<4xf32>
}

// -----

// No gradient comes through a detached value, nor to a parameter that is read so; where another layer reads it with
// its gradient it is trained there. What nothing reads is carried beside the layers.
// CHECK: module attributes {graph.carried = [{buffer, dtype = "I64", name = "n", shape = array<i64>}, {dtype = "F32", init = {constant = 1.000000e+00 : f64}, name = "unused", shape = array<i64: 2, 3>}]}
// CHECK: graph.layer @layer0(%{{.*}}: tensor<4xf32> {graph.frozen}, %{{.*}}: tensor<4xf32> {graph.frozen, graph.parameter = "shared"}) -> (tensor<4xf32> {graph.frozen})
// CHECK: graph.layer @layer1(%{{.*}}: tensor<4xf32> {graph.frozen}, %{{.*}}: tensor<4xf32> {graph.parameter = "shared"}) -> tensor<4xf32>
module attributes {graph.carried = [{name = "n", dtype = "I64", shape = array<i64>, buffer}]} {
  func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
    %unused = graph.parameter ["unused"] init {constant = 1.0} : tensor<2x3xf32>
    %w = graph.parameter ["shared"] : tensor<4xf32>
    %0 = arith.mulf %x, %w : tensor<4xf32> loc("h.0.p")
    %1 = graph.detach %0 : tensor<4xf32> loc("h.0.p")
    %2 = arith.mulf %1, %w : tensor<4xf32> loc("h.1.p")
    %3 = arith.addf %2, %2 : tensor<4xf32> loc("h.1.p")
    return %3 : tensor<4xf32>
  }
}
