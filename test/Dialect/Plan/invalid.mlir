// RUN: galvatron-opt %s -split-input-file -verify-diagnostics

// expected-error@+1 {{expects degree 'tp' to be at least 1, but got 0}}
func.func private @no_degree_zero() attributes {s = #plan.strategy<tp = 0>}

// -----

// expected-error@+1 {{expects ZeRO level from 0 to 3, but got 4}}
func.func private @no_zero_level_4() attributes {s = #plan.strategy<zero = 4>}

// -----

// expected-error@+1 {{expects 'recompute_values' as 32 bits, but got 4294967296}}
func.func private @no_value_33() attributes {s = #plan.strategy<recompute_values = 4294967296>}

// -----

// expected-error@+1 {{expects 'devices' to be at least 1, but got 0}}
func.func private @no_empty_stage() attributes {p = #plan.pipeline<stages = 1, devices = 0, micro_batches = 1, schedule = "gpipe">}

// -----

// expected-error@+2 {{expects schedule gpipe, 1f1b, interleaved, zb-h1 or zb-v, but got 'zigzag'}}
// expected-error@+1 {{failed to parse Plan_PipelineAttr parameter 'schedule'}}
func.func private @no_unknown_schedule() attributes {p = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zigzag">}

// -----

// expected-error@+1 {{unknown key 'tensor' of a strategy}}
func.func private @no_unknown_key() attributes {s = #plan.strategy<tensor = 2>}

// -----

// expected-error@+1 {{expects 'reduce_every_micro_batch' to be one of false true, but got never}}
func.func private @no_other_word() attributes {s = #plan.strategy<reduce_every_micro_batch = never>}

// -----

// expected-error@+1 {{expects 'cp_kind' to be one of gathered ring, but got spiral}}
func.func private @choice() attributes {plan.strategy = #plan.strategy<cp = 2, cp_kind = spiral>}

// -----

// expected-error@+1 {{expects 'cp_zigzag' only with cp above 1}}
func.func private @no_cp() attributes {plan.strategy = #plan.strategy<tp = 2, cp_zigzag = true>}

// -----

// expected-error@+1 {{key 'tp' of a strategy is given twice}}
func.func private @no_key_twice() attributes {s = #plan.strategy<tp = 2, tp = 2>}

// -----

// expected-error@+1 {{expects 'mesh' to hold the prime factors of 12 devices, but got array<i64: 4, 3>}}
func.func private @no_mesh_but_of_primes() attributes {p = #plan.pipeline<stages = 1, devices = 12, micro_batches = 1, schedule = "gpipe", mesh = [4, 3]>}

// -----

// expected-error@+1 {{expects 'virtual_stages' to be at least 2 under schedule interleaved, but got 1}}
#one_part = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "interleaved">

// -----

// expected-error@+1 {{expects 'virtual_stages' to be 1 under schedule 1f1b, but got 2}}
#two_parts = #plan.pipeline<stages = 2, devices = 1, micro_batches = 2, schedule = "1f1b", virtual_stages = 2>
