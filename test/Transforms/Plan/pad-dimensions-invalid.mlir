// RUN: galvatron-opt %s --galvatron-pad-dimensions -split-input-file -verify-diagnostics

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @dropout(%x: tensor<4x8xf32>, %w: tensor<3x8xf32> {graph.parameter = "w"}) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<3x8xf32>) -> tensor<4x3xf32>
    // expected-error @below {{layer 'dropout': cannot pad 3 to 4: 'graph.dropout' draws random numbers by the index of elements, which padding would change; use a degree that divides it}}
    %1 = graph.dropout %0 {p = 5.0e-1, id = 0 : i64} : tensor<4x3xf32> -> tensor<4x3xf32>
    %2 = graph.einsum %1, %w "bo,oi->bi" : (tensor<4x3xf32>, tensor<3x8xf32>) -> tensor<4x8xf32>
    graph.return %2 : tensor<4x8xf32>
  }
  func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.call @dropout(%x) parameters ["w"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
    return %0 : tensor<4x8xf32>
  }
}

// -----

// Positions of a table that padding would move: rows 0, 1, 2 become 0, 1, 2 and 5, 6, 7.
module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 5, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @positions(%x: tensor<4x8xf32>, %q: tensor<6x8xf32> {graph.parameter = "q"}, %k: tensor<2x8xf32> {graph.parameter = "k"}) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %q "bi,oi->bo" : (tensor<4x8xf32>, tensor<6x8xf32>) -> tensor<4x6xf32>
    %1 = graph.reshape %0 : tensor<4x6xf32> -> tensor<4x2x3xf32>
    %2 = graph.einsum %x, %k "bi,oi->bo" : (tensor<4x8xf32>, tensor<2x8xf32>) -> tensor<4x2xf32>
    %3 = graph.einsum %1, %2 "bkg,bk->bkg" : (tensor<4x2x3xf32>, tensor<4x2xf32>) -> tensor<4x2x3xf32>
    %4 = graph.reshape %3 : tensor<4x2x3xf32> -> tensor<4x6xf32>
    // expected-error @below {{layer 'positions': cannot pad 3 to 5: 'graph.iota' reads the index of elements, which padding would change; use a degree that divides it}}
    %5 = graph.iota {dim = 1 : i64} : tensor<4x6xf32>
    %6 = arith.addf %4, %5 : tensor<4x6xf32>
    %7 = graph.einsum %6, %q "bo,oi->bi" : (tensor<4x6xf32>, tensor<6x8xf32>) -> tensor<4x8xf32>
    graph.return %7 : tensor<4x8xf32>
  }
  func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.call @positions(%x) parameters ["q", "k"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 5, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
    return %0 : tensor<4x8xf32>
  }
}

// -----

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 4, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @barrier(%x: tensor<4x8xf32>, %w: tensor<6x8xf32> {graph.parameter = "w"}, %v: tensor<2x8xf32> {graph.parameter = "v"}) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<6x8xf32>) -> tensor<4x6xf32>
    %1 = graph.reshape %0 : tensor<4x6xf32> -> tensor<4x2x3xf32>
    %2 = graph.einsum %1, %v "bkg,ki->bi" : (tensor<4x2x3xf32>, tensor<2x8xf32>) -> tensor<4x8xf32>
    // expected-error @below {{layer 'barrier': cannot pad 3 to 4: 'graph.reshape' takes it whole; use a degree that divides it}}
    %3 = graph.reshape %0 : tensor<4x6xf32> -> tensor<4x3x2xf32>
    %4 = graph.reduce sum %3 dims [1, 2] : tensor<4x3x2xf32> -> tensor<4xf32>
    %5 = graph.broadcast %4 dims [0] : tensor<4xf32> -> tensor<4x8xf32>
    %6 = arith.addf %2, %5 : tensor<4x8xf32>
    graph.return %6 : tensor<4x8xf32>
  }
  func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.call @barrier(%x) parameters ["w", "v"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 4, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
    return %0 : tensor<4x8xf32>
  }
}

// -----

// What is not padded is refused as ever.
module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 3, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @shift(%ids: tensor<4x16xi64>) -> tensor<4x16xi64> {
    %0 = graph.shift %ids {dim = 1 : i64, offset = 1 : i64, fill = 0 : i64} : tensor<4x16xi64> -> tensor<4x16xi64>
    graph.return %0 : tensor<4x16xi64>
  }
  func.func @step(%ids: tensor<4x16xi64>) -> tensor<4x16xi64> {
    // expected-error @below {{layer 'shift' cannot use cp = 3: expects it to divide 16 positions; use a degree that does, as padding positions is not supported yet}}
    %0 = graph.call @shift(%ids) parameters [] path "ids" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 3, pad = true>} : (tensor<4x16xi64>) -> tensor<4x16xi64>
    return %0 : tensor<4x16xi64>
  }
}
