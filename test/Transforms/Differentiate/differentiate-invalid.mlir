// RUN: galvatron-opt %s --galvatron-differentiate -split-input-file -verify-diagnostics

// expected-error@+1 {{expects a layer without backward, but got one that is differentiated}}
graph.layer @twice(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @an_op_without_rule(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects a rule for its gradient, but it has none; raise it to an op that has one, or detach its operands}}
  %y = math.fma %x, %x, %x : tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// -----

graph.layer @an_operand_without_rule(%q: tensor<1x1x2x4xf32>, %bias: tensor<2x2xf32> {graph.parameter = "bias"}) -> tensor<1x1x2x4xf32> {
  // expected-error@+1 {{expects a rule for the gradient of operand 3, which depends on an argument of the layer, but it has none}}
  %y, %lse = graph.attention %q, %q, %q bias %bias {scale = 1.0 : f64} : (tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<2x2xf32>) -> (tensor<1x1x2x4xf32>, tensor<1x1x2xf32>)
  graph.return %y : tensor<1x1x2x4xf32>
}

// -----

graph.layer @a_statistic_is_no_value(%x: tensor<4x8xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects no gradient of its rstd, but a differentiated op uses it}}
  %y, %mean, %rstd = graph.norm rms %x {epsilon = 1.0e-5} : (tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  graph.return %rstd : tensor<4xf32>
}
