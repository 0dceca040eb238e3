// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-verify-lower

// expected-error @below {{expects functions, layers and stages alone after phase lower}}
dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}

// -----

exec.function @f(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  // expected-error @below {{expects to be gone after convert-dist-to-exec}}
  %0 = arith.constant 1.0 : f32
  exec.return
}

// -----

module attributes {exec.groups = [array<i64: 0>]} {
  exec.function @f(%x: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    // expected-error @below {{expects a group below 1, but got 1}}
    exec.call "all_reduce"(%x, %x) {group = 1, type = 0, kind = 0, count = 4, handle = -1} : memref<4xf32>, memref<4xf32>
    exec.return
  }
}

// -----

#x = #dist.placement<[2@g0 * 4]>

// expected-error @below {{expects an exec.function named f}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#x], num_saved = 0 : i64, output_gradients = [], outputs = [#x]}
dist.body @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  dist.return %x : tensor<4xf32>
}

// -----

#x = #dist.placement<[2@g0 * 4]>

exec.function @f(%a0: memref<4xf32>, %a1: memref<8xf32>, %a2: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
// expected-error @below {{expects output 0 of @f to be held as #dist.placement<[2@g0 * 4]>, but got 'memref<8xf32>'}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#x], num_saved = 0 : i64, output_gradients = [], outputs = [#x]}

// -----

#x = #dist.placement<[2@g0 * 4]>

exec.function @f(%a0: memref<4xf32>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
// expected-error @below {{expects output 0 of @f to be held as #dist.placement<[2@g0 * 4]>, but got nothing}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#x], num_saved = 0 : i64, output_gradients = [], outputs = [#x]}

// -----

#x = #dist.placement<[2@g0 * 4]>

exec.function @f(%a0: memref<4xf32>, %a1: memref<4xf32>, %a2: memref<4xf32>, %a3: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
// expected-error @below {{expects one argument of @f after its values, its scratch, but got 2}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#x], num_saved = 0 : i64, output_gradients = [], outputs = [#x]}

// -----

#x = #dist.placement<[2@g0 * 4]>

exec.function @f(%a0: memref<4xf32>, %a1: memref<4xf32>, %a2: memref<4xf32>, %a3: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
// expected-error @below {{expects an exec.function named b}}
dist.layer @l {forward = @f, backward = @b, gradients = [#x], homes = [#x], input_gradients = [#x], inputs = [#x], num_saved = 0 : i64, output_gradients = [#x], outputs = [#x]}

// -----

// Of a frozen parameter there is no gradient.
#x = #dist.placement<[2@g0 * 4]>

exec.function @f(%a0: memref<4xf32>, %a1: memref<4xf32>, %a2: memref<4xf32>, %a3: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
exec.function @b(%a0: memref<4xf32>, %a1: memref<4xf32>, %a2: memref<4xf32>, %a3: memref<4xf32>, %a4: memref<4xf32>, %a5: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
  exec.return
}
// expected-error @below {{expects one argument of @b after its values, its scratch, but got 2}}
dist.layer @l {forward = @f, backward = @b, gradients = [unit], homes = [#x], input_gradients = [#x], inputs = [#x], num_saved = 0 : i64, output_gradients = [#x], outputs = [#x]}

// -----

// expected-error @below {{expects the attribute dist.arena_bytes; run galvatron-plan-memory}}
dist.stage @stage0 index 0 order <F0, B0> {
}

// -----

// expected-error @below {{expects an arena of whole cache lines of 64 bytes, but got 100}}
dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 100 : i64} {
}
