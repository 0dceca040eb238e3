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

// Keys after a query would be padding, and the bias has no place for their mask.
module attributes {graph.batch = 4 : i64, graph.seq = 15 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @bidirectional(%ids: tensor<4x15xi64>, %w: tensor<8x8xf32> {graph.parameter = "w"}) -> tensor<4x15x8xf32> {
    %0 = graph.embedding %w, %ids : (tensor<8x8xf32>, tensor<4x15xi64>) -> tensor<4x15x8xf32>
    %1 = graph.reshape %0 : tensor<4x15x8xf32> -> tensor<4x15x2x4xf32>
    %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<4x15x2x4xf32> -> tensor<4x2x15x4xf32>
    %5 = arith.constant dense<1.0> : tensor<15x1xf32>
    // expected-error @below {{layer 'bidirectional': cannot pad 15 to 16: 'graph.attention' lets positions see those after them, which would be padding; use a degree that divides it}}
    %6, %lse = graph.attention %2, %2, %2 bias %5 {scale = 5.0e-1} : (tensor<4x2x15x4xf32>, tensor<4x2x15x4xf32>, tensor<4x2x15x4xf32>, tensor<15x1xf32>) -> (tensor<4x2x15x4xf32>, tensor<4x2x15xf32>)
    %7 = graph.transpose %6 [0, 2, 1, 3] : tensor<4x2x15x4xf32> -> tensor<4x15x2x4xf32>
    %8 = graph.reshape %7 : tensor<4x15x2x4xf32> -> tensor<4x15x8xf32>
    graph.return %8 : tensor<4x15x8xf32>
  }
  func.func @step(%ids: tensor<4x15xi64>) -> tensor<4x15x8xf32> {
    %0 = graph.call @bidirectional(%ids) parameters ["w"] path "h" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 2, pad = true>} : (tensor<4x15xi64>) -> tensor<4x15x8xf32>
    return %0 : tensor<4x15x8xf32>
  }
}

// -----

// A product of probabilities and values, of which one axis is both.
module attributes {graph.batch = 4 : i64, graph.seq = 15 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @scores(%ids: tensor<4x15xi64>, %w: tensor<8x8xf32> {graph.parameter = "w"}) -> tensor<4x15x8xf32> {
    %0 = graph.embedding %w, %ids : (tensor<8x8xf32>, tensor<4x15xi64>) -> tensor<4x15x8xf32>
    %1 = graph.reshape %0 : tensor<4x15x8xf32> -> tensor<4x15x2x4xf32>
    %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<4x15x2x4xf32> -> tensor<4x2x15x4xf32>
    %3 = graph.einsum %2, %2 "bhqd,bhkd->bhqk" : (tensor<4x2x15x4xf32>, tensor<4x2x15x4xf32>) -> tensor<4x2x15x15xf32>
    // expected-error @below {{layer 'scores': cannot pad 15 to 16: 'graph.einsum' lets positions see those after them, which would be padding; use a degree that divides it}}
    %6 = graph.einsum %3, %2 "bhqk,bhkd->bhqd" : (tensor<4x2x15x15xf32>, tensor<4x2x15x4xf32>) -> tensor<4x2x15x4xf32>
    %7 = graph.transpose %6 [0, 2, 1, 3] : tensor<4x2x15x4xf32> -> tensor<4x15x2x4xf32>
    %8 = graph.reshape %7 : tensor<4x15x2x4xf32> -> tensor<4x15x8xf32>
    graph.return %8 : tensor<4x15x8xf32>
  }
  func.func @step(%ids: tensor<4x15xi64>) -> tensor<4x15x8xf32> {
    %0 = graph.call @scores(%ids) parameters ["w"] path "h" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 2, pad = true>} : (tensor<4x15xi64>) -> tensor<4x15x8xf32>
    return %0 : tensor<4x15x8xf32>
  }
}

// -----

module attributes {graph.batch = 4 : i64, graph.seq = 15 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @softmax(%ids: tensor<4x15xi64>, %w: tensor<8x8xf32> {graph.parameter = "w"}) -> tensor<4x15x8xf32> {
    %0 = graph.embedding %w, %ids : (tensor<8x8xf32>, tensor<4x15xi64>) -> tensor<4x15x8xf32>
    %1 = graph.transpose %0 [0, 2, 1] : tensor<4x15x8xf32> -> tensor<4x8x15xf32>
    // expected-error @below {{layer 'softmax': cannot pad 15 to 16: 'graph.softmax' takes it whole; use a degree that divides it}}
    %2 = graph.softmax %1 : tensor<4x8x15xf32> -> tensor<4x8x15xf32>
    %3 = graph.transpose %2 [0, 2, 1] : tensor<4x8x15xf32> -> tensor<4x15x8xf32>
    graph.return %3 : tensor<4x15x8xf32>
  }
  func.func @step(%ids: tensor<4x15xi64>) -> tensor<4x15x8xf32> {
    %0 = graph.call @softmax(%ids) parameters ["w"] path "h" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 2, pad = true>} : (tensor<4x15xi64>) -> tensor<4x15x8xf32>
    return %0 : tensor<4x15x8xf32>
  }
}

// -----

// expected-error @below {{expects the module attribute graph.seq to be the 15 positions that are padded to 16}}
module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @shift(%ids: tensor<4x15xi64>) -> tensor<4x15xi64> {
    %0 = graph.shift %ids {dim = 1 : i64, offset = 1 : i64, fill = 0 : i64} : tensor<4x15xi64> -> tensor<4x15xi64>
    graph.return %0 : tensor<4x15xi64>
  }
  func.func @step(%ids: tensor<4x15xi64>) -> tensor<4x15xi64> {
    %0 = graph.call @shift(%ids) parameters [] path "ids" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 2, pad = true>} : (tensor<4x15xi64>) -> tensor<4x15xi64>
    return %0 : tensor<4x15xi64>
  }
}

// -----

// What is not padded is refused as ever.
module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 3, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @shift(%ids: tensor<4x16xi64>) -> tensor<4x4x4xi64> {
    %0 = graph.reshape %ids : tensor<4x16xi64> -> tensor<4x4x4xi64>
    %1 = graph.shift %0 {dim = 1 : i64, offset = 1 : i64, fill = 0 : i64} : tensor<4x4x4xi64> -> tensor<4x4x4xi64>
    graph.return %1 : tensor<4x4x4xi64>
  }
  func.func @step(%ids: tensor<4x16xi64>) -> tensor<4x4x4xi64> {
    // expected-error @below {{layer 'shift' cannot use cp = 3: expects it to divide 16 positions; use a degree that does, as only positions that are a whole dimension of the step's inputs are padded}}
    %0 = graph.call @shift(%ids) parameters [] path "ids" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<cp = 3, pad = true>} : (tensor<4x16xi64>) -> tensor<4x4x4xi64>
    return %0 : tensor<4x4x4xi64>
  }
}
