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
  exec.call "levitate"(%x) {bytes = 1} : memref<4xf32>
  exec.return
}

// -----

exec.function @buffers(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 2 buffers for "copy", but got 1}}
  exec.call "copy"(%x) {element_bytes = 4, rank = 1, extents = [4], x_strides = [1], y_strides = [1]} : memref<4xf32>
  exec.return
}

// -----

exec.function @present(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects 2 entries in present, but got 1}}
  exec.call "copy"(%x, %x) {element_bytes = 4, rank = 1, extents = [4], x_strides = [1], y_strides = [1]} present [1] : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @missing_constant(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant columns of "softmax", but got none}}
  exec.call "softmax"(%x, %x) {type = 0, rows = 1} : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @unknown_constant(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constants type, rows, columns of "softmax", but got column}}
  exec.call "softmax"(%x, %x) {type = 0, rows = 1, columns = 4, column = 4} : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @number_for_a_list(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant extents of "copy" to be an array of i64, but got 4 : i64}}
  exec.call "copy"(%x, %x) {element_bytes = 4, rank = 1, extents = 4, x_strides = [1], y_strides = [1]} : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @integer_for_a_double(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant epsilon of "norm" to be f64, but got 0 : i64}}
  exec.call "norm"(%x, %x, %x, %x) {type = 0, rows = 1, columns = 4, kind = 0, epsilon = 0, offset = 0.0} present [1, 0, 0, 1, 1, 1] : memref<4xf32>, memref<4xf32>, memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @surplus_stride(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant y_strides of "copy" to be a list of length rank, but got [4, 1]}}
  exec.call "copy"(%x, %x) {element_bytes = 4, rank = 1, extents = [4], x_strides = [1], y_strides = [4, 1]} : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @incomplete_batch_loop(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant batch of "matmul" to be a list of length num_batch x 4, but got [2, 1, 1]}}
  exec.call "matmul"(%x, %x, %x) {type = 0, c_type = 0, M = 1, N = 1, K = 1, a_m = 1, a_k = 1, b_k = 1, b_n = 1, c_m = 1, c_n = 1, accumulate = 0, num_batch = 1, batch = [2, 1, 1]} : memref<4xf32>, memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @map_of_too_few_dimensions(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant positions of "iota" to be a map of length rank, but got [1, 4, -1]}}
  exec.call "iota"(%x) {type = 0, dim = 0, rank = 2, extents = [2, 2], positions = [1, 4, -1]} : memref<4xf32>
  exec.return
}

// -----

exec.function @map_that_ends_early(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects constant positions of "iota" to be a map of length rank, but got [2, 4, -1]}}
  exec.call "iota"(%x) {type = 0, dim = 0, rank = 1, extents = [4], positions = [2, 4, -1]} : memref<4xf32>
  exec.return
}

// -----

exec.function @entry(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects entry {number among the constants = word}, but got stride = 0 : i64}}
  exec.call "accumulate"(%x, %x) {type = 0, y_type = 0, count = 4} entry {stride = 0} : memref<4xf32>, memref<4xf32>
  exec.return
}

// -----

exec.function @entry_word(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects entry {number among the constants = word}, but got count = -1 : i64}}
  exec.call "accumulate"(%x, %x) {type = 0, y_type = 0, count = 4} entry {count = -1} : memref<4xf32>, memref<4xf32>
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
