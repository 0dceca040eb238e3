// RUN: galvatron-opt %s --galvatron-expand-bfloat16 | FileCheck %s

// CHECK-LABEL: func.func @widen
func.func @widen(%x: bf16) -> f32 {
  // CHECK: arith.shli
  // CHECK-NOT: arith.extf
  %0 = arith.extf %x : bf16 to f32
  return %0 : f32
}

// CHECK-LABEL: func.func @round
func.func @round(%x: f32) -> bf16 {
  // Not a number is chosen apart.
  // CHECK-NOT: arith.truncf
  // CHECK: arith.cmpf une
  // CHECK: arith.trunci
  // CHECK: arith.select
  // CHECK-NOT: arith.truncf
  %0 = arith.truncf %x : f32 to bf16
  return %0 : bf16
}

// CHECK-LABEL: func.func @other_types_stay
func.func @other_types_stay(%x: f16) -> f32 {
  // CHECK: arith.extf
  %0 = arith.extf %x : f16 to f32
  return %0 : f32
}
