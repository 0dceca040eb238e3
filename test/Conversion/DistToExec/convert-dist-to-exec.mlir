// RUN: galvatron-opt %s -split-input-file -galvatron-convert-dist-to-exec | FileCheck %s

dist.body @add.forward(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %z = arith.addf %x, %y : tensor<4xf32>
  dist.return %z : tensor<4xf32>
}
dist.layer @add {forward = @add.forward, inputs = [#dist.placement<[4]>, #dist.placement<[4]>], outputs = [#dist.placement<[4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @add.forward
// CHECK-SAME: (%[[X:.*]]: memref<4xf32>, %[[Y:.*]]: memref<4xf32>, %[[Z:.*]]: memref<4xf32>, %{{.*}}: memref<?xi8>)
// CHECK: exec.loops [4] inputs(%[[X]], %[[Y]]
// CHECK-SAME: outputs(%[[Z]]

// -----

// A chain is one kernel: only its last link is stored; a broadcast reads with stride 0.
dist.body @chain_is_fused(%x: tensor<2x4xf32>, %b: tensor<4xf32>) -> tensor<2x4xf32> {
  %0 = graph.broadcast %b dims [1] : tensor<4xf32> -> tensor<2x4xf32>
  %1 = arith.addf %x, %0 : tensor<2x4xf32>
  %2 = graph.activation silu %1 : tensor<2x4xf32> -> tensor<2x4xf32>
  %3 = arith.mulf %2, %x : tensor<2x4xf32>
  dist.return %3 : tensor<2x4xf32>
}
dist.layer @chain {forward = @chain_is_fused, inputs = [#dist.placement<[2, 4]>, #dist.placement<[4]>], outputs = [#dist.placement<[2, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @chain_is_fused
// CHECK: exec.loops [2, 4] inputs(%[[X:.*]], %[[B:.*]] :
// CHECK-SAME: strides [4, 1, 0, 1, 4, 1]
// CHECK: math.exp
// CHECK-NOT: exec.loops
// CHECK: exec.return

// -----

// Batch and position merge into rows; the transpose that follows the product decides how it is written.
dist.body @product_writes_for_its_reader(%x: tensor<2x3x8xf32>, %w: tensor<6x8xf32>) -> tensor<2x2x3x3xf32> {
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x3x8xf32>, tensor<6x8xf32>) -> tensor<2x3x6xf32>
  %1 = graph.reshape %0 : tensor<2x3x6xf32> -> tensor<2x3x2x3xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x3x2x3xf32> -> tensor<2x2x3x3xf32>
  dist.return %2 : tensor<2x2x3x3xf32>
}
dist.layer @product {forward = @product_writes_for_its_reader, inputs = [#dist.placement<[2, 3, 8]>, #dist.placement<[6, 8]>], outputs = [#dist.placement<[2, 2, 3, 3]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @product_writes_for_its_reader
// CHECK: exec.call "matmul"({{.*}}) {type = 0, c_type = 0, M = 6, N = 6, K = 8, a_m = 8, a_k = 1, b_k = 1, b_n = 8, c_m = 6, c_n = 1, accumulate = 0, num_batch = 0, batch = []}
// CHECK: exec.call "copy"({{.*}}) {element_bytes = 4, rank = 4, extents = [2, 2, 3, 3], x_strides = [18, 3, 6, 1], y_strides = [18, 9, 3, 1]}

// -----

// A saved value may lie as its producer likes; the backward body reads it so. Parameter gradients accumulate.
dist.body @saved.forward(%x: tensor<2x4xf32>, %w: tensor<4x4xf32>) -> (tensor<2x4xf32>, tensor<4x2xf32>) {
  %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %1 = graph.transpose %0 [1, 0] : tensor<2x4xf32> -> tensor<4x2xf32>
  %2 = graph.activation relu %0 : tensor<2x4xf32> -> tensor<2x4xf32>
  dist.return %2, %1 : tensor<2x4xf32>, tensor<4x2xf32>
}
dist.body @saved.backward(%dy: tensor<2x4xf32>, %x: tensor<2x4xf32>, %w: tensor<4x4xf32>, %s: tensor<4x2xf32>) -> (tensor<2x4xf32>, tensor<4x4xf32>) {
  %0 = graph.transpose %s [1, 0] : tensor<4x2xf32> -> tensor<2x4xf32>
  %1 = graph.activation_backward relu %dy, %0 : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<2x4xf32>
  %2 = graph.einsum %1, %w "bo,oi->bi" : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %3 = graph.einsum %1, %x "bo,bi->oi" : (tensor<2x4xf32>, tensor<2x4xf32>) -> tensor<4x4xf32>
  dist.return %2, %3 : tensor<2x4xf32>, tensor<4x4xf32>
}
dist.layer @saved {forward = @saved.forward, backward = @saved.backward, inputs = [#dist.placement<[2, 4]>], outputs = [#dist.placement<[2, 4]>], input_gradients = [#dist.placement<[2, 4]>], output_gradients = [#dist.placement<[2, 4]>], homes = [#dist.placement<[4, 4]>], gradients = [#dist.placement<[4, 4]>], num_saved = 1 : i64}

// CHECK-LABEL: exec.function @saved.backward
// CHECK-SAME: memref<4x2xf32
// The last product is the gradient of parameter 0: whether it adds to its buffer stands in the entry.
// CHECK: exec.call "matmul"({{.*}}) {{.*}}M = 2, N = 4, K = 4, {{.*}}accumulate = 0, num_batch = 0, batch = []} :
// CHECK: exec.call "matmul"({{.*}}) {{.*}}M = 4, N = 4, K = 2, {{.*}}accumulate = 1, num_batch = 0, batch = []} entry {accumulate = 0 : i64}

// -----

// Loops can only add to a gradient, so the timetable zeroes it; a sum of rows is written or added to.
dist.body @gradients.forward(%x: tensor<2x4xf32>, %v: tensor<4xf32>, %w: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %0 = arith.mulf %x, %w : tensor<2x4xf32>
  dist.return %0 : tensor<2x4xf32>
}
dist.body @gradients.backward(%dy: tensor<2x4xf32>, %x: tensor<2x4xf32>, %v: tensor<4xf32>, %w: tensor<2x4xf32>) -> (tensor<2x4xf32>, tensor<4xf32>, tensor<2x4xf32>) {
  %0 = arith.mulf %dy, %w : tensor<2x4xf32>
  %1 = graph.reduce sum %dy dims [0] : tensor<2x4xf32> -> tensor<4xf32>
  %2 = arith.mulf %dy, %x : tensor<2x4xf32>
  dist.return %0, %1, %2 : tensor<2x4xf32>, tensor<4xf32>, tensor<2x4xf32>
}
dist.layer @gradients {forward = @gradients.forward, backward = @gradients.backward, inputs = [#dist.placement<[2, 4]>], outputs = [#dist.placement<[2, 4]>], input_gradients = [#dist.placement<[2, 4]>], output_gradients = [#dist.placement<[2, 4]>], homes = [#dist.placement<[4]>, #dist.placement<[2, 4]>], gradients = [#dist.placement<[4]>, #dist.placement<[2, 4]>], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @gradients.backward
// CHECK-SAME: exec.adds = array<i64: 1>
// CHECK: exec.call "reduce"({{.*}}) {type = 0, y_type = 0, kind = 0, accumulate = 1, rank = 2, extents = [1, 4], x_strides = [4, 1], y_strides = [0, 1]} entry {accumulate = 0 : i64}

// -----

// A dimension of extent 1 has the stride of a longer one, [48, 4, 8, 1], not some other: libraries look at it too.
dist.body @one_sequence(%x: tensor<1x6x8xf32>) -> tensor<1x2x6x4xf32> {
  %0 = graph.reshape %x : tensor<1x6x8xf32> -> tensor<1x6x2x4xf32>
  %1 = graph.transpose %0 [0, 2, 1, 3] : tensor<1x6x2x4xf32> -> tensor<1x2x6x4xf32>
  %y, %lse = graph.attention %1, %1, %1 {scale = 1.0, causal} : (tensor<1x2x6x4xf32>, tensor<1x2x6x4xf32>, tensor<1x2x6x4xf32>) -> (tensor<1x2x6x4xf32>, tensor<1x2x6xf32>)
  dist.return %y : tensor<1x2x6x4xf32>
}
dist.layer @one_sequence.layer {forward = @one_sequence, inputs = [#dist.placement<[1, 6, 8]>], outputs = [#dist.placement<[1, 2, 6, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @one_sequence
// CHECK: exec.call "attention"({{.*}}) {{.*}}q_strides = [48, 4, 8], k_strides = [48, 4, 8], v_strides = [48, 4, 8], y_strides = [48, 24, 4],

// -----

// A gradient that leaves the body as it came is read by the return, which has no result: the bias's sum asks its
// readers for loops.
dist.body @passed.forward(%x: tensor<2x4xf32>, %b: tensor<4xf32>) -> tensor<2x4xf32> {
  %0 = graph.broadcast %b dims [1] : tensor<4xf32> -> tensor<2x4xf32>
  %1 = arith.addf %x, %0 : tensor<2x4xf32>
  dist.return %1 : tensor<2x4xf32>
}
dist.body @passed.backward(%dy: tensor<2x4xf32>, %x: tensor<2x4xf32>, %b: tensor<4xf32>) -> (tensor<2x4xf32>, tensor<4xf32>) {
  %0 = graph.reduce sum %dy dims [0] : tensor<2x4xf32> -> tensor<4xf32>
  dist.return %dy, %0 : tensor<2x4xf32>, tensor<4xf32>
}
dist.layer @passed {forward = @passed.forward, backward = @passed.backward, inputs = [#dist.placement<[2, 4]>], outputs = [#dist.placement<[2, 4]>], input_gradients = [#dist.placement<[2, 4]>], output_gradients = [#dist.placement<[2, 4]>], homes = [#dist.placement<[4]>], gradients = [#dist.placement<[4]>], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @passed.backward
// CHECK: exec.call "reduce"(%[[DY:.*]], %{{.*}})
// CHECK: exec.call "copy"(%[[DY]], %{{.*}})

// -----

// Booleans are gathered as larger elements: 2 · 16 bytes of each rank are four of eight.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @booleans(%x: tensor<2x16xf32>) -> tensor<4x16xf32> {
    %zero = arith.constant dense<0.0> : tensor<2x16xf32>
    %less = arith.cmpf olt, %x, %zero : tensor<2x16xf32>
    %all = dist.all_gather %less axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<2x16xi1> -> tensor<4x16xi1>
    %y = arith.uitofp %all : tensor<4x16xi1> to tensor<4x16xf32>
    dist.return %y : tensor<4x16xf32>
  }
  dist.layer @layer {forward = @booleans, inputs = [#dist.placement<[2@g0 * 2, 16]>], outputs = [#dist.placement<[4, 16]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}

// CHECK-LABEL: exec.function @booleans
// CHECK: exec.call "all_gather"({{.*}}) {group = 0, type = 1, outer = 1, inner = 4, 

// -----

// Where they are an odd number, as integers.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @odd_booleans(%x: tensor<2x3xf32>) -> tensor<2x6xf32> {
    %zero = arith.constant dense<0.0> : tensor<2x3xf32>
    %less = arith.cmpf olt, %x, %zero : tensor<2x3xf32>
    %all = dist.all_gather %less axes [0] {dim = 1 : i64, outer = 1 : i64} : tensor<2x3xi1> -> tensor<2x6xi1>
    %y = arith.uitofp %all : tensor<2x6xi1> to tensor<2x6xf32>
    dist.return %y : tensor<2x6xf32>
  }
  dist.layer @layer {forward = @odd_booleans, inputs = [#dist.placement<[2, 2@g0 * 3]>], outputs = [#dist.placement<[2, 6]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}

// CHECK-LABEL: exec.function @odd_booleans
// CHECK: exec.call "all_gather"({{.*}}) {group = 0, type = 1, outer = 2, inner = 3, 
// CHECK: arith.cmpi ne

// -----

// Two values go to each rank as one message: packed for one rank after another, q before k, and unpacked.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @exchange(%q: tensor<8x4xf32>, %k: tensor<8x2xf32>) -> (tensor<16x2xf32>, tensor<16x1xf32>) {
    %0:2 = dist.coalesced_all_to_all %q, %k axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 0, 0>, concat_outers = array<i64: 1, 1>} : (tensor<8x4xf32>, tensor<8x2xf32>) -> (tensor<16x2xf32>, tensor<16x1xf32>)
    dist.return %0#0, %0#1 : tensor<16x2xf32>, tensor<16x1xf32>
  }
  dist.layer @layer {forward = @exchange, inputs = [#dist.placement<[2@g0 * 8, 4]>, #dist.placement<[2@g0 * 8, 2]>], outputs = [#dist.placement<[16, 2@g0 * 2]>, #dist.placement<[16, 2@g0 * 1]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}

// CHECK-LABEL: exec.function @exchange
// CHECK: exec.call "copy"({{.*}}) {element_bytes = 4, rank = 4, extents = [8, 1, 2, 2], x_strides = [4, 4, 2, 1], y_strides = [2, 2, 24, 1]}
// CHECK: exec.call "copy"({{.*}}) {element_bytes = 4, rank = 4, extents = [8, 1, 2, 1], x_strides = [2, 2, 1, 1], y_strides = [1, 1, 24, 1]}
// CHECK: exec.call "all_to_all"({{.*}}) {group = 0, type = 0, rank = 2, extents = [2, 24], split_dim = 0, split_outer = 1, concat_dim = 0, concat_outer = 1, handle = -1}
// CHECK: exec.call "copy"({{.*}}) {element_bytes = 4, rank = 4, extents = [1, 2, 8, 2], x_strides = [16, 24, 2, 1], y_strides = [32, 16, 2, 1]}
// CHECK: exec.call "copy"({{.*}}) {element_bytes = 4, rank = 4, extents = [1, 2, 8, 1], x_strides = [8, 24, 1, 1], y_strides = [16, 8, 1, 1]}
