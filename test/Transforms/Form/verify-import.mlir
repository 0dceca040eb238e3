// RUN: galvatron-opt --galvatron-verify-import %s | FileCheck %s

graph.layer @layer(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  %0 = arith.mulf %x, %w : tensor<4xf32>
  graph.return %0 : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.call @layer(%x) parameters ["h.0.w"] path "h.0" : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK: graph.layer @layer
// CHECK: graph.call @layer
