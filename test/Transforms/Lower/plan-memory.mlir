// RUN: galvatron-opt %s -split-input-file -galvatron-plan-memory | FileCheck %s

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
  }
}

// CHECK: dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 0 : i64}

// -----

#x = #dist.placement<[4]>
#s = #dist.placement<[]>

// One parameter of 16 bytes: itself, gradient, two moments (4 cache lines); labels of 32 bytes for each of two
// micro-batches (1 line); loss and its gradient (2 lines); one value of the loss at a time (1 line).
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  exec.function @head.forward(%labels: memref<4xi64>, %w: memref<4xf32>, %loss: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @head.backward(%dy: memref<f32>, %labels: memref<4xi64>, %w: memref<4xf32>, %dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @head {forward = @head.forward, backward = @head.backward, inputs = [#x], outputs = [#s], input_gradients = [unit], output_gradients = [#s], homes = [#x], gradients = [#x], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
    %labels = dist.input "labels" : tensor<4xi64, #x>
    %loss = graph.call @head(%labels) parameters ["w"] path "head" {dist.layer_index = 0 : i64} : (tensor<4xi64, #x>) -> tensor<f32, #s>
    dist.loss %loss : tensor<f32, #s>
  }
}

// CHECK: dist.arena_bytes = 512 : i64
