// RUN: galvatron-opt %s -split-input-file -verify-diagnostics

// expected-error @below {{expects no results, but got 1}}
exec.function @result(%scratch: memref<?xi8>) -> memref<4xf32> attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}

// -----

// expected-error @below {{expects memref arguments, but got}}
exec.function @argument(%x: f32) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}

// -----

// expected-error @below {{expects an integer attribute exec.scratch_bytes}}
exec.function @scratch(%scratch: memref<?xi8>) {
  exec.return
}

// -----

exec.function @offset(%scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects an offset of at least 0 bytes, but got -4}}
  %0 = exec.buffer %scratch[-4] : memref<?xi8> -> memref<4xf32>
  exec.return
}

// -----

exec.function @unknown(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects a function of runtime/api/Functions.def, but got "levitate"}}
  exec.call "levitate"(%x) [1] : memref<4xf32>
  exec.return
}

// -----

exec.function @buffers(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 2 buffers for "copy", but got 1}}
  exec.call "copy"(%x) [4, 1, 4, 1, 1] : memref<4xf32>
  exec.return
}

// -----

exec.function @present(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 2 entries in present, but got 1}}
  exec.call "copy"(%x, %x) [4, 1, 4, 1, 1] present [1] : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @entry(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects entry [constant below 3, word], but got [3, 0]}}
  exec.call "accumulate"(%x, %x) [0, 0, 4] entry [3, 0] : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @strides(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 2 strides, but got 1}}
  exec.loops [4] inputs(%x : memref<4xf32>) outputs(%x : memref<4xf32>) strides [1] {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}

// -----

exec.function @arguments(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 1 block arguments, but got 0}}
  exec.loops [4] inputs(%x : memref<4xf32>) outputs(%x : memref<4xf32>) strides [1, 1] {
    %a = arith.constant 0.0 : f32
    exec.yield %a : f32
  }
  exec.return
}

// -----

exec.function @yields(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects its body to yield 1 values}}
  exec.loops [4] inputs(%x : memref<4xf32>) outputs(%x : memref<4xf32>) strides [1, 1] {
  ^bb0(%a: f32):
    exec.yield
  }
  exec.return
}

// -----

exec.function @no_row(%x: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects a loop to sum over}}
  exec.loops [] inputs(%x : memref<f32>) outputs(%x : memref<f32>) strides [] {
  ^bb0(%a: f32):
    %b = exec.row_sum %a : f32
    exec.yield %b : f32
  }
  exec.return
}

// -----

exec.function @not_of_the_row(%x: memref<2x4xf32>, %y: memref<2xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects output 0, of stride 0 along the row, to take a value of the row}}
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y : memref<2xf32>) strides [4, 1, 1, 0] {
  ^bb0(%a: f32):
    %s = exec.row_sum %a : f32
    %b = arith.addf %a, %s : f32
    exec.yield %b : f32
  }
  exec.return
}

// -----

exec.function @parts_of_another_row(%x: memref<2x4xf32>, %y: memref<3x5xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects a column sum of type memref<?x4xf32>, but got 'memref<3x5xf32>'}}
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y : memref<3x5xf32>) strides [4, 1, 0, 1] attributes {column_sums = 1 : i64} {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}

// -----

exec.function @too_many_sums(%x: memref<2x4xf32>, %y: memref<3x4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects at most 1 column sums, but got 2}}
  exec.loops [2, 4] inputs(%x : memref<2x4xf32>) outputs(%y : memref<3x4xf32>) strides [4, 1, 0, 1] attributes {column_sums = 2 : i64} {
  ^bb0(%a: f32):
    exec.yield %a : f32
  }
  exec.return
}
