// RUN: galvatron-opt --galvatron-form-layers -split-input-file -verify-diagnostics %s

// expected-error @+1 {{expects a function @step with a body; write one with galvatron-import}}
module {
}

// -----

// expected-error @+1 {{expects the loss to depend on a parameter that is trained, but 1 of 2 are frozen and it depends on no other; let at least one have requires_grad}}
func.func @step(%ids: tensor<4xi64>) -> tensor<4xf32> {
  %v = graph.parameter ["v"] frozen : tensor<4xf32>
  %w = graph.parameter ["w"] : tensor<4xf32>
  %d = graph.detach %w : tensor<4xf32>
  %f = arith.sitofp %ids : tensor<4xi64> to tensor<4xf32>
  %0 = arith.mulf %f, %v : tensor<4xf32> loc("h.0")
  %1 = arith.mulf %0, %d : tensor<4xf32> loc("h.1")
  return %1 : tensor<4xf32>
}
