// RUN: galvatron-opt %s | galvatron-opt | FileCheck %s
// RUN: galvatron-opt %s --mlir-print-op-generic | galvatron-opt | FileCheck %s

// CHECK-LABEL: @nothing_round_trips
func.func @nothing_round_trips() {
  // CHECK: plan.nothing
  plan.nothing
  return
}
