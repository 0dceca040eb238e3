// RUN: galvatron-opt %s | galvatron-opt | FileCheck %s
// RUN: galvatron-opt %s --mlir-print-op-generic | galvatron-opt | FileCheck %s

// CHECK-LABEL: exec.function @call
// CHECK-SAME: exec.scratch_bytes = 64
exec.function @call(%x: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 64 : i64} {
  // CHECK: exec.buffer %{{.*}}[16] : memref<?xi8> -> memref<2x2xf32, strided<[1, 2]>>
  %0 = exec.buffer %scratch[16] : memref<?xi8> -> memref<2x2xf32, strided<[1, 2]>>
  // CHECK: exec.constant dense<{{.*}}> : tensor<2xf32> : memref<2xf32>
  %1 = exec.constant dense<[1.0, 2.0]> : tensor<2xf32> : memref<2xf32>
  // CHECK: exec.call "copy"(%{{.*}}, %{{.*}}) {element_bytes = 4, rank = 1, extents = [4], x_strides = [1], y_strides = [1]} : memref<4xf32>, memref<4xf32>
  exec.call "copy"(%x, %y) {x_strides = [1], y_strides = [1], element_bytes = 4, rank = 1, extents = [4]} : memref<4xf32>, memref<4xf32>
  // CHECK: exec.call "norm"({{.*}}) {type = 0, rows = 1, columns = 4, kind = 0, epsilon = 5.000000e-01, offset = 0.000000e+00} present [1, 0, 0, 1, 1, 1]
  exec.call "norm"(%x, %y, %x, %x) {type = 0, rows = 1, columns = 4, kind = 0, epsilon = 0.5, offset = 0.0} present [1, 0, 0, 1, 1, 1] : memref<4xf32>, memref<4xf32>, memref<4xf32>, memref<4xf32>
  // CHECK: exec.call "norm_weight_backward"({{.*}}) {type = 0, rows = 1, columns = 4, accumulate = 1} entry {accumulate = 2 : i64}
  exec.call "norm_weight_backward"(%x, %x, %x, %x, %y) {type = 0, rows = 1, columns = 4, accumulate = 1} entry {accumulate = 2 : i64} : memref<4xf32>, memref<4xf32>, memref<4xf32>, memref<4xf32>, memref<4xf32>
  // Two sub-axes of dimension 0, one of dimension 1.
  // CHECK: exec.call "iota"({{.*}}) {type = 1, dim = 0, rank = 2, extents = [4, 2], positions = [2, 2, 0, 2, -1, 1, 2, -1]}
  exec.call "iota"(%x) {type = 1, dim = 0, rank = 2, extents = [4, 2], positions = [2, 2, 0, 2, -1, 1, 2, -1]} : memref<4xf32>
  exec.return
}

// CHECK-LABEL: exec.function @loops
exec.function @loops(%x: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // CHECK: exec.loops [4] inputs(%{{.*}} : memref<4xf32>) outputs(%{{.*}} : memref<4xf32>) strides [1, 1]
  exec.loops [4] inputs(%x : memref<4xf32>) outputs(%y : memref<4xf32>) strides [1, 1] {
  ^bb0(%a: f32):
    // CHECK: exec.yield
    exec.yield %a : f32
  }
  exec.return
}

// CHECK-LABEL: exec.function @rows
exec.function @rows(%x: memref<2x4xf32>, %y: memref<2x4xf32>, %m: memref<2xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y, %m : memref<2x4xf32>, memref<2xf32>) strides [4, 1, 4, 1, 1, 0] {
  ^bb0(%a: f32):
    // CHECK: %[[SUM:.*]] = exec.row_sum %{{.*}} : f32
    %sum = exec.row_sum %a : f32
    %z = arith.subf %a, %sum : f32
    // CHECK: exec.yield %{{.*}}, %[[SUM]]
    exec.yield %z, %sum : f32, f32
  }
  exec.return
}

// CHECK-LABEL: exec.function @column_sums
exec.function @column_sums(%x: memref<2x4xf32>, %y: memref<3x4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // CHECK: exec.loops {{.*}} strides [4, 1, 0, 1] attributes {column_sums = 1 : i64}
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y : memref<3x4xf32>) strides [4, 1, 0, 1] attributes {column_sums = 1 : i64} {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}
