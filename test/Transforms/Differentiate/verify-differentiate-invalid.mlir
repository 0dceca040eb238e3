// RUN: galvatron-opt %s --galvatron-verify-differentiate -split-input-file -verify-diagnostics

// expected-error@+1 {{expects a backward, but got none; run --galvatron-differentiate}}
graph.layer @forward_only(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @loss(%x: tensor<4x8xf32>, %labels: tensor<4xi64>) -> tensor<f32> {
  // expected-error@+1 {{expects cross-entropy to be expanded; run --galvatron-expand-cross-entropy}}
  %0 = graph.cross_entropy %x, %labels : (tensor<4x8xf32>, tensor<4xi64>) -> tensor<f32>
  graph.backward(%dy: tensor<f32>) {
    %dx = graph.broadcast %dy dims [] : tensor<f32> -> tensor<4x8xf32>
    graph.return %dx : tensor<4x8xf32>
  }
  graph.return %0 : tensor<f32>
}

// -----

graph.layer @loops(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects an op that declares its loops and cost, but this one has no loops}}
  %y = tensor.cast %x : tensor<4xf32> to tensor<4xf32>
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.return %y : tensor<4xf32>
}

// -----

graph.layer @cost(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.backward(%dy: tensor<4xf32>) {
    // expected-error@+1 {{expects an op that declares its loops and cost, but this one has no cost}}
    %dx = math.fma %dy, %dy, %dy : tensor<4xf32>
    graph.return %dx : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @detached(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects detached values to be those they came from; run --galvatron-differentiate}}
  %y = graph.detach %x : tensor<4xf32>
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.return %y : tensor<4xf32>
}
