// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-schedule-microbatches

// expected-error @below {{expects the attribute plan.pipeline; run galvatron-annotate-plan or galvatron-search-plan first}}
module {
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zigzag">} {
  // expected-error @below {{expects the schedule gpipe or 1f1b, but got zigzag}}
  dist.stage @stage0 index 0 {
  }
}
