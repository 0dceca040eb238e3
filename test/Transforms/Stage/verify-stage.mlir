// RUN: galvatron-opt %s -split-input-file --galvatron-verify-stage | FileCheck %s

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
    %0 = dist.input "labels" : tensor<f32, #dist.placement<[]>>
    dist.loss %0 : tensor<f32, #dist.placement<[]>>
  }
}

// CHECK: dist.stage @stage0 index 0 order <F0, B0, F1, B1>

// -----

// Two parts a stage, and gradients of weights apart.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "interleaved", virtual_stages = 2>} {
  dist.stage @parts index 0 order <F0, F0.1, B0.1, W0.1, B0, W0> {
  }
}

// CHECK: dist.stage @parts index 0 order <F0, F0.1, B0.1, W0.1, B0, W0>
