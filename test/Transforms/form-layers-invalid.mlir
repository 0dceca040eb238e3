// RUN: galvatron-opt --galvatron-form-layers -split-input-file -verify-diagnostics %s

// expected-error @+1 {{expects a function @step with a body; write one with galvatron-import}}
module {
}

// -----

// Member 0 goes on with what member 1 made.
// expected-error@unknown {{expects layer 'h.0' to read earlier layers only, but it reads a value of 'h.1'; do not call members of a module list in turns}}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32> loc("h.0.p")
  %1 = math.sin %0 : tensor<4xf32> loc("h.1.p")
  %2 = math.exp %1 : tensor<4xf32> loc("h.0.p")
  return %2 : tensor<4xf32>
}
