// Kernels over rows, for test_gpu_kernels.py: a block with idle threads and two sums one after the other; parts of a warp,
// the last of several blocks nearly empty; sums over rows, with shared memory used again by the next row; large angles.
module attributes {exec.device = "cuda"} {
  exec.function @rows(%x: memref<3x1600xbf16>, %w: memref<1600xf32>, %y: memref<3x1600xbf16>, %m: memref<3xf32>, %v: memref<3xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [3, 1600] inputs(%x, %w : memref<3x1600xbf16>, memref<1600xf32>) outputs(%y, %m, %v : memref<3x1600xbf16>, memref<3xf32>, memref<3xf32>) strides [1600, 1, 0, 1, 1600, 1, 1, 0, 1, 0] {
    ^bb0(%a: bf16, %factor: f32):
      %share = arith.constant 6.25e-4 : f32
      %b = arith.extf %a : bf16 to f32
      %sum = exec.row_sum %b : f32
      %mean = arith.mulf %sum, %share : f32
      %c = arith.subf %b, %mean : f32
      %square = arith.mulf %c, %c : f32
      %squares = exec.row_sum %square : f32
      %variance = arith.mulf %squares, %share : f32
      %d = arith.mulf %c, %factor : f32
      %e = arith.addf %d, %variance : f32
      %f = arith.truncf %e : f32 to bf16
      exec.yield %f, %mean, %variance : bf16, f32, f32
    }
    exec.return
  }
  exec.function @lanes(%x: memref<33x24xf32>, %y: memref<33x24xf32>, %s: memref<33xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [33, 24] inputs(%x : memref<33x24xf32>) outputs(%y, %s : memref<33x24xf32>, memref<33xf32>) strides [24, 1, 24, 1, 1, 0] {
    ^bb0(%a: f32):
      %sum = exec.row_sum %a : f32
      %d = arith.subf %a, %sum : f32
      exec.yield %d, %sum : f32, f32
    }
    exec.return
  }
  exec.function @columns(%x: memref<9x1600xbf16>, %z: memref<9x1600xbf16>, %y: memref<9x1600xbf16>, %s: memref<2x1600xf32>, %q: memref<2x1600xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [9, 1600] inputs(%x, %z : memref<9x1600xbf16>, memref<9x1600xbf16>) outputs(%y, %s, %q : memref<9x1600xbf16>, memref<2x1600xf32>, memref<2x1600xf32>) strides [1600, 1, 1600, 1, 1600, 1, 0, 1, 0, 1] attributes {column_sums = 2 : i64} {
    ^bb0(%a: bf16, %b: bf16):
      %c = arith.extf %a : bf16 to f32
      %d = arith.extf %b : bf16 to f32
      %product = arith.mulf %c, %d : f32
      %sum = exec.row_sum %c : f32
      %products = exec.row_sum %product : f32
      %e = arith.subf %c, %sum : f32
      %f = arith.addf %e, %products : f32
      %g = arith.truncf %f : f32 to bf16
      exec.yield %g, %f, %d : bf16, f32, f32
    }
    exec.return
  }
  exec.function @angles(%x: memref<2048xf32>, %c: memref<2048xf32>, %s: memref<2048xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.loops [2048] inputs(%x : memref<2048xf32>) outputs(%c, %s : memref<2048xf32>, memref<2048xf32>) strides [1, 1, 1] {
    ^bb0(%a: f32):
      %cosine = math.cos %a : f32
      %sine = math.sin %a : f32
      exec.yield %cosine, %sine : f32, f32
    }
    exec.return
  }
}
