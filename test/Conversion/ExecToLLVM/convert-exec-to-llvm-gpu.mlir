// RUN: galvatron-opt %s -split-input-file -galvatron-convert-exec-to-llvm | FileCheck %s

// Eight bf16 elements are 16 bytes: one load and one store of each thread; 4096 elements are two blocks.
module attributes {exec.device = "cuda"} {
  exec.function @double(%x: memref<4096xbf16>, %y: memref<4096xbf16>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [4096] inputs(%x : memref<4096xbf16>) outputs(%y : memref<4096xbf16>) strides [1, 1] {
    ^bb0(%a: bf16):
      %b = arith.extf %a : bf16 to f32
      %c = arith.addf %b, %b : f32
      %d = arith.truncf %c : f32 to bf16
      exec.yield %d : bf16
    }
    exec.return
  }
}

// CHECK: llvm.mlir.global private constant @[[$LAUNCH:.*]](dense<[0, 2, 256, 2]> : tensor<4xi64>)
// CHECK-LABEL: func.func @double
// CHECK: llvm.mlir.addressof @[[$LAUNCH]]
// CHECK: call @gvrt_launch
// CHECK: module @kernels
// CHECK: llvm.func ptx_kernelcc @kernel_0(%{{.*}}: !llvm.ptr<1> {llvm.noalias}, %{{.*}}: !llvm.ptr<1> {llvm.noalias, llvm.readonly})
// CHECK: llvm.load %{{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xbf16>
// CHECK-COUNT-8: arith.addf
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<8xbf16>, !llvm.ptr<1>

// -----

// Rows of 6: runs of 2, since 4 does not divide them; a row's value is read once a run; quotients and exponentials are
// the GPU's approximations; threads beyond the end do nothing.
module attributes {exec.device = "cuda"} {
  exec.function @rows(%x: memref<50x6xf32>, %m: memref<50xf32>, %y: memref<50x6xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [50, 6] inputs(%x, %m : memref<50x6xf32>, memref<50xf32>) outputs(%y : memref<50x6xf32>) strides [6, 1, 1, 0, 6, 1] {
    ^bb0(%a: f32, %b: f32):
      %c = math.exp %a : f32
      %d = arith.divf %c, %b : f32
      exec.yield %d : f32
    }
    exec.return
  }
}

// CHECK-LABEL: func.func @rows
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK-SAME: !llvm.ptr<1>
// CHECK: llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> vector<2xf32>
// CHECK: llvm.load %{{.*}} : !llvm.ptr<1> -> f32
// CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx"
// CHECK: llvm.call_intrinsic "llvm.nvvm.rcp.approx.ftz.f"
// CHECK-NOT: arith.divf

// -----

// A view 4 bytes behind an aligned address is read element by element.
module attributes {exec.device = "cuda"} {
  exec.function @unaligned(%x: memref<9xf32>, %y: memref<8xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    %v = exec.buffer %x[4] : memref<9xf32> -> memref<8xf32>
    exec.loops [8] inputs(%v : memref<8xf32>) outputs(%y : memref<8xf32>) strides [1, 1] {
    ^bb0(%a: f32):
      exec.yield %a : f32
    }
    exec.return
  }
}

// CHECK-LABEL: func.func @unaligned
// CHECK: llvm.func ptx_kernelcc @kernel_0
// CHECK-COUNT-4: llvm.load %{{.*}} : !llvm.ptr<1> -> f32
// CHECK: llvm.store %{{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>

// -----

// Kernels hold their constants; a truth value is a byte in memory.
module attributes {exec.device = "cuda"} {
  exec.function @constant(%x: memref<2xi1>, %y: memref<2xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    %k = exec.constant dense<[1.0, 2.0]> : tensor<2xf32> : memref<2xf32>
    exec.loops [2] inputs(%x, %k : memref<2xi1>, memref<2xf32>) outputs(%y : memref<2xf32>) strides [1, 1, 1] {
    ^bb0(%a: i1, %b: f32):
      %zero = arith.constant 0.0 : f32
      %c = arith.select %a, %b, %zero : f32
      exec.yield %c : f32
    }
    exec.return
  }
}

// CHECK: llvm.mlir.global internal constant @kernel_0_data_{{.}}(dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>) {addr_space = 1 : i32, alignment = 64 : i64}
// CHECK: llvm.load %{{.*}} -> vector<2xi8>
// CHECK: arith.trunci {{.*}} : i8 to i1

// -----

// An angle loses its whole turns in double precision before the GPU's cosine sees it.
module attributes {exec.device = "cuda"} {
  exec.function @cosine(%x: memref<64xf32>, %y: memref<64xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [64] inputs(%x : memref<64xf32>) outputs(%y : memref<64xf32>) strides [1, 1] {
    ^bb0(%a: f32):
      %c = math.cos %a : f32
      exec.yield %c : f32
    }
    exec.return
  }
}

// CHECK: module @kernels
// CHECK: %[[WIDE:.*]] = arith.extf %{{.*}} : f32 to f64
// CHECK: %[[TURNS:.*]] = arith.mulf %[[WIDE]], %{{.*}} : f64
// CHECK: %[[WHOLE:.*]] = math.roundeven %[[TURNS]] : f64
// CHECK: arith.mulf %[[WHOLE]]
// CHECK: %[[LEFT:.*]] = arith.subf %[[WIDE]]
// CHECK: %[[SINGLE:.*]] = arith.truncf %[[LEFT]] : f64 to f32
// CHECK: llvm.call_intrinsic "llvm.nvvm.cos.approx.f"(%[[SINGLE]])
