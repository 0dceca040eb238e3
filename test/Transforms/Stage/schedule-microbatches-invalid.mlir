// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-schedule-microbatches

// expected-error @below {{expects the attribute plan.pipeline; run galvatron-annotate-plan or galvatron-search-plan first}}
module {
}

// -----

// expected-error @below {{expects a schedule that its stages can run: key 'micro_batches' expects a multiple of the 2 stages under schedule interleaved, but got 3; change either, or use schedule 1f1b}}
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 3, schedule = "interleaved", virtual_stages = 2>} {
}

// -----

// expected-error @below {{key 'pipeline' expects at least 2 stages under schedule interleaved, but got 1; use more stages, or schedule 1f1b}}
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "interleaved", virtual_stages = 2>} {
}
