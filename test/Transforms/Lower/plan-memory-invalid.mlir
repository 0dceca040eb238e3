// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-plan-memory

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects an order; run galvatron-schedule-microbatches first}}
  dist.stage @stage0 index 0 {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects parts below the 1 of a stage, but got F0.1; give plan.pipeline its virtual_stages}}
  dist.stage @stage0 index 0 order <F0, F0.1, B0.1, B0> {
  }
}

// -----

// expected-error @below {{expects the attribute plan.pipeline}}
module {
  dist.stage @stage0 index 0 order <F0> {
  }
}

// -----

#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @a(%x: tensor<4xi64>) -> tensor<4xi64> {
    graph.return %x : tensor<4xi64>
  }
  dist.stage @stage0 index 0 order <F0> {
    %0 = dist.input "input_ids" : tensor<4xi64, #x>
    // expected-error @below {{expects a dist.layer named a}}
    %1 = graph.call @a(%0) parameters [] path "a" : (tensor<4xi64, #x>) -> tensor<4xi64, #x>
  }
}

// -----

#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.body @a.forward(%x: tensor<4xi64>) -> tensor<4xi64> {
    dist.return %x : tensor<4xi64>
  }
  dist.layer @a {forward = @a.forward, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0> {
    %0 = dist.input "input_ids" : tensor<4xi64, #x>
    // expected-error @below {{expects an exec.function named a.forward}}
    %1 = graph.call @a(%0) parameters [] path "a" : (tensor<4xi64, #x>) -> tensor<4xi64, #x>
  }
}

// -----

#x = #dist.placement<[4]>
#s = #dist.placement<[]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.body @a.forward(%x: tensor<4xi64>) -> tensor<f32> {
    %y = arith.constant dense<0.0> : tensor<f32>
    dist.return %y : tensor<f32>
  }
  dist.layer @a {forward = @a.forward, inputs = [#x], outputs = [#s], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0> {
    %0 = dist.input "input_ids" : tensor<4xi64, #x>
    // expected-error @below {{expects a dist.layer with an exec.function named a}}
    %1 = graph.total @a(%0) : (tensor<4xi64, #x>) -> tensor<f32, #s>
  }
}

// -----

// The first call wants v before w in memory, the second w before v.
#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  exec.function @a.forward(%x: memref<4xf32>, %v: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @a {dist.adjacent = [array<i64: 0, 1>], forward = @a.forward, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [#x, #x], gradients = [], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0> {
    %0 = dist.input "x" : tensor<4xf32, #x>
    %1 = graph.call @a(%0) parameters ["v", "w"] path "a" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    // expected-error @below {{expects the shared parameter w to lie beside the same parameters in all its layers; run without galvatron-fuse-parameters}}
    %2 = graph.call @a(%1) parameters ["w", "v"] path "b" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
  }
}

// -----

// One layer holds w whole, the other a half of it.
#x = #dist.placement<[4]>
#y = #dist.placement<[2@g0, 4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  exec.function @a.forward(%x: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @a {forward = @a.forward, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [#x], gradients = [], num_saved = 0 : i64}
  dist.layer @b {forward = @a.forward, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [#y], gradients = [], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0> {
    %0 = dist.input "x" : tensor<4xf32, #x>
    %1 = graph.call @a(%0) parameters ["w"] path "a" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    // expected-error @below {{expects one placement of the tied parameter w, but it is used as #dist.placement<[4]> and as #dist.placement<[2@g0, 4]>; give its layers the same strategy}}
    %2 = graph.call @b(%1) parameters ["w"] path "b" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
    %0 = dist.input "labels" : tensor<f32, #dist.placement<[]>>
    // expected-error @below {{expects an attribute plan.chunk below the 1 parts of a stage, but got 1}}
    dist.loss %0 {plan.chunk = 1 : i64} : tensor<f32, #dist.placement<[]>>
  }
}
