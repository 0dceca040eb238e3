// Kernels of a GPU with sums over rows.
// RUN: galvatron-opt %s -split-input-file -galvatron-convert-exec-to-llvm | FileCheck %s

// 1600 bf16 are 200 runs of 16 bytes: 224 threads of seven warps, of which the last 24 threads add nothing. The row is
// read once; both sums go through the block together; one thread writes the row's value.
module attributes {exec.device = "cuda"} {
  exec.function @block(%x: memref<3x1600xbf16>, %y: memref<3x1600xbf16>, %m: memref<3xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [3, 1600] inputs(%x : memref<3x1600xbf16>) outputs(%y, %m : memref<3x1600xbf16>, memref<3xf32>) strides [1600, 1, 1600, 1, 1, 0] {
    ^bb0(%a: bf16):
      %b = arith.extf %a : bf16 to f32
      %square = arith.mulf %b, %b : f32
      %sum = exec.row_sum %b : f32
      %squares = exec.row_sum %square : f32
      %c = arith.addf %sum, %squares : f32
      %d = arith.subf %b, %c : f32
      %e = arith.truncf %d : f32 to bf16
      exec.yield %e, %c : bf16, f32
    }
    exec.return
  }
}

// CHECK: llvm.mlir.global private constant @{{.*}}(dense<[0, 3, 224, 3]> : tensor<4xi64>)
// CHECK: llvm.mlir.global internal @kernel_0_shared() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<14 x f32>
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK-SAME: passthrough = {{\[}}["nvvm.maxntid", "224"]]
// CHECK: %[[RUNS:.*]] = arith.constant 200 : i32
// CHECK-NEXT: %[[INSIDE:.*]] = arith.cmpi ult, %{{.*}}, %[[RUNS]]
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK-NOT: llvm.load {{.*}}vector
// CHECK-COUNT-2: arith.select %[[INSIDE]], %{{.*}}, %{{.*}} : f32
// CHECK-COUNT-10: llvm.nvvm.shfl.sync.bfly.f32
// CHECK: llvm.call_intrinsic "llvm.nvvm.barrier.cta.sync.aligned.all"
// CHECK-COUNT-14: llvm.load %{{.*}} : !llvm.ptr<3> -> f32
// CHECK-NEXT: arith.addf
// CHECK-NEXT: %[[VALUE:.*]] = arith.addf %{{.*}}, %{{.*}} : f32
// CHECK-COUNT-8: arith.subf %{{.*}}, %[[VALUE]] : f32
// CHECK: llvm.cond_br %[[INSIDE]],
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>
// CHECK: llvm.store %[[VALUE]], %{{.*}} : f32, !llvm.ptr<1>

// -----

// 24 f32 are six runs: eight lanes share a row, three shuffles add it up, and a block has 32 rows. Of the two blocks for
// 33 rows, one is nearly empty: its threads read the last row again and write nothing.
module attributes {exec.device = "cuda"} {
  exec.function @lanes(%x: memref<33x24xf32>, %y: memref<33x24xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [33, 24] inputs(%x : memref<33x24xf32>) outputs(%y : memref<33x24xf32>) strides [24, 1, 24, 1] {
    ^bb0(%a: f32):
      %sum = exec.row_sum %a : f32
      %d = arith.subf %a, %sum : f32
      exec.yield %d : f32
    }
    exec.return
  }
}

// CHECK: dense<[0, 2, 256, 2]> : tensor<4xi64>
// CHECK-NOT: addr_space = 3
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK: %[[ROWS:.*]] = arith.constant 33 : i32
// CHECK-NEXT: %[[IS_ROW:.*]] = arith.cmpi ult, %{{.*}}, %[[ROWS]]
// CHECK: arith.minui
// CHECK-COUNT-3: llvm.nvvm.shfl.sync.bfly.f32
// CHECK-NOT: llvm.nvvm.shfl
// CHECK-NOT: barrier
// CHECK: %[[BOTH:.*]] = arith.andi %{{.*}}, %[[IS_ROW]]
// CHECK: llvm.cond_br %[[BOTH]],

// -----

// 8192 f32: 2048 runs, four to each of 512 threads.
module attributes {exec.device = "cuda"} {
  exec.function @long(%x: memref<2x8192xf32>, %y: memref<2xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [2, 8192] inputs(%x : memref<2x8192xf32>) outputs(%y : memref<2xf32>) strides [8192, 1, 1, 0] {
    ^bb0(%a: f32):
      %sum = exec.row_sum %a : f32
      exec.yield %sum : f32
    }
    exec.return
  }
}

// CHECK: dense<[0, 2, 512, 2]> : tensor<4xi64>
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK-COUNT-4: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
// CHECK-NOT: arith.select
// CHECK: llvm.nvvm.shfl.sync.bfly.f32

// -----

// A sum over rows in two parts: two blocks, each of which walks over every other row with its part in registers. What a
// row's sum left in shared memory has been read by all before the next row writes there.
module attributes {exec.device = "cuda"} {
  exec.function @columns(%x: memref<9x512xbf16>, %y: memref<9x512xbf16>, %s: memref<2x512xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [9, 512] inputs(%x : memref<9x512xbf16>) outputs(%y, %s : memref<9x512xbf16>, memref<2x512xf32>) strides [512, 1, 512, 1, 0, 1] attributes {column_sums = 1 : i64} {
    ^bb0(%a: bf16):
      %b = arith.extf %a : bf16 to f32
      %sum = exec.row_sum %b : f32
      %d = arith.subf %b, %sum : f32
      %e = arith.truncf %d : f32 to bf16
      exec.yield %e, %d : bf16, f32
    }
    exec.return
  }
}

// CHECK: dense<[0, 2, 64, 3]> : tensor<4xi64>
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK-SAME: "nvvm.maxntid", "64"
// CHECK-SAME: "nvvm.minctasm", "16"
// CHECK: llvm.br ^[[LOOP:bb[0-9]+]](%{{.*}} : i32, f32, f32, f32, f32, f32, f32, f32, f32)
// CHECK: ^[[LOOP]](%[[ROW:.*]]: i32, %[[TOTAL:[a-z0-9]+]]: f32,
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK: "llvm.nvvm.barrier.cta.sync.aligned.all"
// CHECK: %[[TERM:.*]] = arith.subf
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>
// CHECK: %[[NEW:.*]] = arith.addf %[[TOTAL]], %[[TERM]]
// CHECK: "llvm.nvvm.barrier.cta.sync.aligned.all"
// CHECK: %[[TWO:.*]] = arith.constant 2 : i32
// CHECK: %[[NEXT:.*]] = arith.addi %[[ROW]], %[[TWO]]
// CHECK: %[[NINE:.*]] = arith.constant 9 : i32
// CHECK: %[[MORE:.*]] = arith.cmpi ult, %[[NEXT]], %[[NINE]]
// CHECK: llvm.cond_br %[[MORE]], ^[[LOOP]](%[[NEXT]], %[[NEW]],
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xf32>
