// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-verify-stage

// expected-error @below {{expects the attribute plan.pipeline}}
module {
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects to be gone after partition-stages}}
  func.func @step() {
    return
  }
}

// -----

// expected-error @below {{expects 2 stages, but got 1}}
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects stages in order, number 0 next, but got 1}}
  dist.stage @stage1 index 1 order <F0, B0> {
  }
  dist.stage @stage0 index 0 order <F0, B0> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects an order; run galvatron-schedule-microbatches}}
  dist.stage @stage0 index 0 {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects micro-batches below 1, but got F1}}
  dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects F0 before B0}}
  dist.stage @stage0 index 0 order <B0, F0> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects B0 before W0}}
  dist.stage @stage0 index 0 order <F0, W0, B0> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects each instruction once, but got F0 twice}}
  dist.stage @stage0 index 0 order <F0, F0, B0> {
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  // expected-error @below {{expects an order with B0, but got #dist.order<F0, F1, B1>}}
  dist.stage @stage0 index 0 order <F0, F1, B1> {
  }
}

// -----

// Some gradients of weights apart, and others not.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  // expected-error @below {{expects an order with W1, but got #dist.order<F0, F1, B0, W0, B1>}}
  dist.stage @stage0 index 0 order <F0, F1, B0, W0, B1> {
  }
}

// -----

#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
    %0 = dist.input "input_ids" : tensor<4xi64, #x>
    dist.send %0 to 1 tag 0 : tensor<4xi64, #x>
    // expected-error @below {{expects a tag of its own, but got 0 twice}}
    dist.send %0 to 1 tag 0 : tensor<4xi64, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0> {
  }
}

// -----

#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
  }
  dist.stage @stage1 index 1 order <F0, B0> {
    // expected-error @below {{expects stage 0 to send value 0 here once}}
    %0 = dist.receive from 0 tag 0 : tensor<4xi64, #x>
  }
}

// -----

#x = #dist.placement<[4]>

module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
    %0 = dist.input "input_ids" : tensor<4xi64, #x>
    // expected-error @below {{expects stage 1 to receive value 0}}
    dist.send %0 to 1 tag 0 : tensor<4xi64, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0> {
  }
}

// -----

#x = #dist.placement<[4]>

// A gradient that only one of them waits for.
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0, B0> {
    %0 = dist.input "x" : tensor<4xf32, #x>
    // expected-note @below {{is sent here as 'tensor<4xf32, #dist.placement<[4]>>', frozen}}
    dist.send %0 to 1 tag 0 frozen : tensor<4xf32, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0> {
    // expected-error @below {{expects the value as it is sent}}
    %0 = dist.receive from 0 tag 0 : tensor<4xf32, #x>
  }
}

// -----

#x = #dist.placement<[4]>

// The second stage begins with a micro-batch whose value comes only after a gradient of it.
// expected-error @below {{expects orders that let every stage end, but the stages wait for one another}}
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "gpipe">} {
  // expected-note @below {{stage 0 waits before B0}}
  dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
    %0 = dist.input "x" : tensor<4xf32, #x>
    dist.send %0 to 1 tag 0 : tensor<4xf32, #x>
  }
  // expected-note @below {{stage 1 waits before F1}}
  dist.stage @stage1 index 1 order <F1, F0, B0, B1> {
    %0 = dist.receive from 0 tag 0 : tensor<4xf32, #x>
  }
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  // expected-error @below {{expects parts below the 1 of a stage, but got B0.1; give plan.pipeline its virtual_stages}}
  dist.stage @stage0 index 0 order <F0, F0.1, B0.1, B0> {
  }
}
