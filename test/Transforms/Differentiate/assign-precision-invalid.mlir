// RUN: galvatron-opt %s --galvatron-assign-precision -split-input-file -verify-diagnostics
// RUN: not galvatron-opt %s --galvatron-assign-precision=precision=fp8 -split-input-file 2>&1 | FileCheck %s
// CHECK: expects a precision of fp32, bf16 or fp16, but got fp8

// expected-error@+1 {{expects a layer without backward, but got one that is differentiated}}
graph.layer @differentiated(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}
