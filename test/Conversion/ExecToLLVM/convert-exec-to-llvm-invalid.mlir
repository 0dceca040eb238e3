// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-convert-exec-to-llvm

module attributes {exec.device = "cuda"} {
  exec.function @constant_of_a_call(%y: memref<2xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    %k = exec.constant dense<[1.0, 2.0]> : tensor<2xf32> : memref<2xf32>
    // expected-error @+1 {{expects a constant to be read by generated kernels alone, but it is an operand of accumulate}}
    exec.call "accumulate"(%k, %y) {type = 0, y_type = 0, count = 2} : memref<2xf32>, memref<2xf32>
    exec.return
  }
}
