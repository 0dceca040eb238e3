// RUN: galvatron-opt --galvatron-form-sublayers="units=h.0.up,h.0.down" -split-input-file -verify-diagnostics %s

// expected-error @+1 {{layer 'h.0' cannot be cut into 'down' and 'up', so list it whole: it has no attention}}
module attributes {graph.batch = 4 : i64} {
  graph.layer @mixer(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "up.w"}, %b: tensor<4x4xf32> {graph.parameter = "down.w"}) -> tensor<4x4xf32> {
    %0 = graph.einsum %x, %a "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.einsum %0, %b "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    graph.return %1 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @mixer(%x) parameters ["h.0.up.w", "h.0.down.w"] path "h.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %0 : tensor<4x4xf32>
  }
}

// -----

// expected-error @+1 {{expects a function @step with the model's layers}}
module attributes {graph.batch = 4 : i64} {
}
