// RUN: galvatron-opt %s | galvatron-opt | FileCheck %s
// RUN: galvatron-opt %s --mlir-print-op-generic | galvatron-opt | FileCheck %s

// CHECK: plan.pipeline = #plan.pipeline<stages = 2, devices = 4, micro_batches = 2, schedule = "1f1b">
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 4, micro_batches = 2, schedule = "1f1b">} {
  // CHECK-LABEL: @strategies_round_trip
  // CHECK-SAME: default = #plan.strategy<{{>?}}
  // CHECK-SAME: mixed = #plan.strategy<dp = 2, tp = 2, sequence_parallel = true, recompute = true>
  // CHECK-SAME: once = #plan.strategy<dp = 2, zero = 2, reduce_every_micro_batch = false>
  func.func private @strategies_round_trip() attributes {
    default = #plan.strategy<dp = 1>,
    mixed = #plan.strategy<tp = 2, dp = 2, sequence_parallel = true, recompute = true>,
    once = #plan.strategy<dp = 2, reduce_every_micro_batch = false, zero = 2>}
}
