// RUN: galvatron-opt --galvatron-verify-import -split-input-file -verify-diagnostics %s

// expected-error @+1 {{expects a function @step with a body; write one with galvatron-import}}
module {
}

// -----

// expected-error @+1 {{expects static shapes, but got 'tensor<?xf32>'; import with --batch and --seq, which fix every shape}}
func.func @step(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

// -----

func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{expects only graph.call and graph.total in @step; run --galvatron-form-layers}}
  %0 = math.exp %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

graph.layer @layer(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{expects parameters to be arguments of their layer; run --galvatron-form-layers}}
  %w = graph.parameter ["w"] : tensor<4xf32>
  graph.return %w : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

graph.layer @layer(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{expects graph ops and elementwise arithmetic in a layer, but got dialect 'tensor'}}
  %0 = tensor.empty() : tensor<4xf32>
  graph.return %0 : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

graph.layer @layer(%x: tensor<2x16384xf32>) -> tensor<2x16384xf32> {
  // expected-error @+1 {{expects constants of at most 65536 bytes, but got 131072; make it a parameter, or compute it from positions}}
  %0 = arith.constant dense_resource<table> : tensor<2x16384xf32>
  graph.return %0 : tensor<2x16384xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
{-#
  dialect_resources: {
    builtin: {
      table: "0x04000000"
    }
  }
#-}

// -----

// expected-note @+1 {{the other is @a}}
graph.layer @a(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32>
  graph.return %0 : tensor<4xf32>
}
// expected-error @+1 {{expects one body per layer type, but got two that are equal; run --galvatron-form-layers on the step as imported}}
graph.layer @b(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = math.exp %x : tensor<4xf32>
  graph.return %0 : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

graph.layer @frozen(%x: tensor<4xf32> {graph.frozen}) -> (tensor<4xf32> {graph.frozen}) {
  graph.return %x : tensor<4xf32>
}
graph.layer @trained(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.return %x : tensor<4xf32>
}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = graph.call @frozen(%x) parameters [] path "h.0" : (tensor<4xf32>) -> tensor<4xf32>
  // expected-error @+1 {{expects input 0 to be frozen in @trained if it is as result 0 of @frozen, and not otherwise}}
  %1 = graph.call @trained(%0) parameters [] path "h.1" : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
