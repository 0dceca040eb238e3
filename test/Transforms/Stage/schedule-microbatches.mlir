// RUN: galvatron-opt %s -split-input-file -galvatron-schedule-microbatches | FileCheck %s

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  dist.stage @stage0 index 0 {
  }
}

// CHECK: dist.stage @stage0 index 0 order <F0, B0, F1, B1>

// -----

// Every stage runs ahead by the stages after it.
module attributes {plan.pipeline = #plan.pipeline<stages = 3, devices = 1, micro_batches = 4, schedule = "1f1b">} {
  dist.stage @first index 0 {
  }
  dist.stage @last index 2 {
  }
}

// CHECK: dist.stage @first index 0 order <F0, F1, F2, B0, F3, B1, B2, B3>
// CHECK: dist.stage @last index 2 order <F0, B0, F1, B1, F2, B2, F3, B3>

// -----

// Fewer micro-batches than stages: never more forwards ahead than there are.
module attributes {plan.pipeline = #plan.pipeline<stages = 4, devices = 1, micro_batches = 2, schedule = "1f1b">} {
  dist.stage @few index 0 {
  }
}

// CHECK: dist.stage @few index 0 order <F0, F1, B0, B1>

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 3, schedule = "gpipe">} {
  dist.stage @gpipe index 0 {
  }
}

// CHECK: dist.stage @gpipe index 0 order <F0, F1, F2, B0, B1, B2>

// -----

// Two parts a stage: groups of as many micro-batches as there are stages pass part after part.
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
  dist.stage @outer index 0 {
  }
  dist.stage @inner index 1 {
  }
}

// CHECK: dist.stage @outer index 0 order <F0, F1, F0.1, F1.1, B0.1, B1.1, B0, B1>
// CHECK: dist.stage @inner index 1 order <F0, F1, F0.1, B0.1, F1.1, B1.1, B0, B1>

// -----

// Gradients of weights apart: on stage s they wait for s more backwards.
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 4, schedule = "zb-h1">} {
  dist.stage @early index 0 {
  }
  dist.stage @late index 1 {
  }
}

// CHECK: dist.stage @early index 0 order <F0, F1, B0, W0, F2, B1, W1, F3, B2, W2, B3, W3>
// CHECK: dist.stage @late index 1 order <F0, B0, F1, B1, W0, F2, B2, W1, F3, B3, W2, W3>
