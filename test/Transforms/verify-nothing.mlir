// RUN: galvatron-opt --galvatron-verify-nothing %s | FileCheck %s

// CHECK-LABEL: @example
func.func @example() {
  return
}
