// RUN: galvatron-opt %s --galvatron-verify-differentiate | FileCheck %s

// CHECK-LABEL: graph.layer @example
graph.layer @example(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.activation silu %x : tensor<4xf32> -> tensor<4xf32>
  graph.backward(%dy: tensor<4xf32>) {
    %dx = graph.activation_backward silu %dy, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    graph.return %dx : tensor<4xf32>
  }
  graph.return %0 : tensor<4xf32>
}

// CHECK-LABEL: graph.layer @nothing_to_differentiate
graph.layer @nothing_to_differentiate(%ids: tensor<4xi64>) -> tensor<4xi64> {
  graph.return %ids : tensor<4xi64>
}
