// RUN: galvatron-opt %s -split-input-file -galvatron-approximate-math | FileCheck %s

func.func @logarithm(%x: f32) -> f32 {
  %0 = math.absf %x : f32
  return %0 : f32
}

// CHECK-LABEL: @logarithm
// CHECK: math.absf

// -----

func.func @nothing_is_called(%x: f32) -> (f32, f32, f32, f32, f32, f32) {
  %0 = math.exp %x : f32
  %1 = math.tanh %x : f32
  %2 = math.erf %x : f32
  %3 = math.log %x : f32
  %4 = math.atan %x : f32
  %5 = math.atan2 %x, %3 : f32
  return %0, %1, %2, %3, %4, %5 : f32, f32, f32, f32, f32, f32
}

// CHECK-LABEL: @nothing_is_called
// CHECK-NOT: math.{{exp|tanh|erf|log |atan}}
// CHECK: return
