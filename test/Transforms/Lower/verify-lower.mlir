// RUN: galvatron-opt %s --galvatron-verify-lower | FileCheck %s

exec.function @double.forward(%arg0: memref<4xf32>, %arg1: memref<4xf32>, %arg2: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 0 : i64} {
}

// CHECK-LABEL: exec.function @double.forward
// CHECK: dist.layer @double
// CHECK: dist.stage @stage0
