// RUN: galvatron-opt %s -split-input-file -galvatron-convert-exec-to-llvm | FileCheck %s

exec.function @nothing(%scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}

// CHECK-LABEL: func.func @nothing(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr)

// -----

exec.function @zero(%y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.call "fill_zero"(%y) {bytes = 16} : memref<4xf32>
  exec.return
}

// CHECK: func.func private @gvrt_fill_zero
// CHECK: llvm.mlir.global private constant @[[$CONSTANTS:.*]](dense<16> : tensor<1xi64>)
// CHECK-LABEL: func.func @zero
// CHECK-SAME: (%[[CONTEXT:.*]]: !llvm.ptr, %[[BUFFERS:.*]]: !llvm.ptr, %{{.*}}: !llvm.ptr)
// CHECK: %[[TABLE:.*]] = llvm.alloca
// CHECK: %[[ATTRIBUTES:.*]] = llvm.mlir.addressof @[[$CONSTANTS]]
// CHECK: call @gvrt_fill_zero(%[[CONTEXT]], %[[TABLE]], %[[ATTRIBUTES]])

// -----

// A constant that the entry gives: word 2 of this function's attributes becomes attribute 3 of the call.
exec.function @entry(%x: memref<4xf32>, %y: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.call "reduce"(%x, %y) {type = 0, y_type = 0, kind = 0, accumulate = 1, rank = 1, extents = [4], x_strides = [1], y_strides = [0]} entry {accumulate = 2} : memref<4xf32>, memref<f32>
  exec.return
}

// CHECK-LABEL: func.func @entry
// CHECK-SAME: (%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %[[GIVEN:.*]]: !llvm.ptr)
// CHECK-DAG: %[[CONSTANTS:.*]] = llvm.mlir.addressof @constants_
// CHECK-DAG: %[[COPY:.*]] = llvm.alloca %{{.*}} x i64
// CHECK: "llvm.intr.memcpy"(%[[COPY]], %[[CONSTANTS]], %{{.*}})
// CHECK: %[[FROM:.*]] = llvm.getelementptr %[[GIVEN]][2]
// CHECK: %[[WORD:.*]] = llvm.load %[[FROM]] : !llvm.ptr -> i64
// CHECK: %[[TO:.*]] = llvm.getelementptr %[[COPY]][3]
// CHECK: llvm.store %[[WORD]], %[[TO]] : i64
// CHECK: call @gvrt_reduce(%{{.*}}, %{{.*}}, %[[COPY]])

// -----

// Both dimensions lie behind one another in both buffers: one loop of 8.
exec.function @neighbours_merge(%x: memref<2x4xf32>, %y: memref<2x4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y : memref<2x4xf32>) strides [4, 1, 4, 1] {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}

// CHECK-LABEL: func.func private @kernel_0
// CHECK-SAME: llvm.noalias
// CHECK: %[[EXTENT:.*]] = arith.constant 8 : index
// CHECK: scf.for {{.*}} to %[[EXTENT]]
// CHECK-NOT: scf.for

// -----

// An input that is also the output is one pointer: `noalias` stays true.
exec.function @accumulates(%x: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.loops [4] inputs(%x, %y : memref<4xf32>, memref<4xf32>) outputs(%y : memref<4xf32>) strides [1, 1, 1] {
  ^bb0(%a: f32, %b: f32):
    %c = arith.addf %a, %b : f32
    exec.yield %c : f32
  }
  exec.return
}

// CHECK-LABEL: func.func @accumulates
// CHECK: call @kernel_0(%{{.*}}, %{{.*}}) : (!llvm.ptr, !llvm.ptr) -> ()

// -----

// A row is walked once for the sums that stand together and once to write; what the row has only one of is written between.
exec.function @rows(%x: memref<5x7xf32>, %y: memref<5x7xf32>, %m: memref<5xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.loops [5, 7] inputs(%x : memref<5x7xf32>) outputs(%y, %m : memref<5x7xf32>, memref<5xf32>) strides [7, 1, 7, 1, 1, 0] {
  ^bb0(%a: f32):
    %b = arith.mulf %a, %a : f32
    %sum = exec.row_sum %a : f32
    %squares = exec.row_sum %b : f32
    %c = arith.addf %sum, %squares : f32
    %z = arith.subf %a, %c : f32
    exec.yield %z, %c : f32, f32
  }
  exec.return
}

// CHECK-LABEL: func.func @rows
// CHECK: func.func private @kernel_0
// CHECK: scf.for
// CHECK: %[[SUMS:.*]]:2 = scf.for {{.*}} iter_args(%[[S:.*]] = %{{.*}}, %[[Q:.*]] = %{{.*}}) -> (f32, f32)
// CHECK: %[[X:.*]] = llvm.load
// CHECK: %[[XX:.*]] = arith.mulf %[[X]], %[[X]]
// CHECK-DAG: arith.addf %[[S]], %[[X]] fastmath<reassoc>
// CHECK-DAG: arith.addf %[[Q]], %[[XX]] fastmath<reassoc>
// CHECK: scf.yield
// CHECK: %[[C:.*]] = arith.addf %[[SUMS]]#0, %[[SUMS]]#1
// CHECK: llvm.store %[[C]]
// CHECK: scf.for
// CHECK: arith.subf %{{.*}}, %[[C]]
// CHECK: llvm.store

// -----

// A sum over rows is cleared, all its parts, and then grows row by row in the first.
exec.function @column_sums(%x: memref<5x7xf32>, %s: memref<2x7xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.loops [5, 7] inputs(%x : memref<5x7xf32>) outputs(%s : memref<2x7xf32>) strides [7, 1, 0, 1] attributes {column_sums = 1 : i64} {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}

// CHECK-LABEL: func.func @column_sums
// CHECK: func.func private @kernel_0
// CHECK: %[[ALL:.*]] = arith.constant 14 : index
// CHECK: scf.for {{.*}} to %[[ALL]]
// CHECK: llvm.store %{{.*}} : f32
// CHECK: %[[ROWS:.*]] = arith.constant 5 : index
// CHECK: scf.for {{.*}} to %[[ROWS]]
// CHECK: %[[COLUMNS:.*]] = arith.constant 7 : index
// CHECK: scf.for {{.*}} to %[[COLUMNS]]
// CHECK: %[[X:.*]] = llvm.load
// CHECK: %[[BEFORE:.*]] = llvm.load
// CHECK: %[[AFTER:.*]] = arith.addf %[[BEFORE]], %[[X]]
// CHECK: llvm.store %[[AFTER]]
