// Generated kernels that become one: what is read twice is read once, and what only the other one reads is not stored.
// RUN: galvatron-opt %s -split-input-file --galvatron-convert-dist-to-exec=device=cuda | FileCheck %s

// Backward of a gated activation: the product of forward, recomputed, and both gradients, in one walk over gate and up,
// before the product that stands between them.
// CHECK-LABEL: exec.function @gated.forward
// CHECK-SAME: (%[[GATE:[a-z0-9]+]]: memref<8x6xbf16>, %[[UP:[a-z0-9]+]]: memref<8x6xbf16>, %[[DY:[a-z0-9]+]]: memref<8x6xbf16>,
// CHECK: exec.loops [8, 6] inputs(%[[GATE]], %[[UP]], %[[DY]] : {{.*}}) outputs(%{{.*}}, %{{.*}}, %{{.*}} : memref<8x6xbf16>, memref<8x6xbf16>, memref<8x6xbf16>)
// CHECK: exec.yield %{{.*}}, %{{.*}}, %{{.*}} : bf16, bf16, bf16
// CHECK: exec.call "matmul"
// CHECK-NOT: exec.loops
// CHECK: exec.return
dist.body @gated.forward(%gate: tensor<8x6xbf16>, %up: tensor<8x6xbf16>, %dy: tensor<8x6xbf16>) -> (tensor<6x6xf32>, tensor<8x6xbf16>, tensor<8x6xbf16>) {
  %y = graph.gated_activation silu %gate, %up : (tensor<8x6xbf16>, tensor<8x6xbf16>) -> tensor<8x6xbf16>
  %dw = graph.einsum %dy, %y "bo,bi->oi" : (tensor<8x6xbf16>, tensor<8x6xbf16>) -> tensor<6x6xf32>
  %dgate, %dup = graph.gated_activation_backward silu %dy, %gate, %up : (tensor<8x6xbf16>, tensor<8x6xbf16>, tensor<8x6xbf16>) -> (tensor<8x6xbf16>, tensor<8x6xbf16>)
  dist.return %dw, %dgate, %dup : tensor<6x6xf32>, tensor<8x6xbf16>, tensor<8x6xbf16>
}
dist.layer @gated {forward = @gated.forward, inputs = [#dist.placement<[8, 6]>, #dist.placement<[8, 6]>, #dist.placement<[8, 6]>], outputs = [#dist.placement<[6, 6]>, #dist.placement<[8, 6]>, #dist.placement<[8, 6]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// A norm takes the sum before it along. Both are kept; the norm reads the sum as it is stored.
// CHECK-LABEL: exec.function @residual.forward
// CHECK-SAME: (%[[X:[a-z0-9]+]]: memref<2x4x8xbf16>, %[[Y:[a-z0-9]+]]: memref<2x4x8xbf16>, %[[W:[a-z0-9]+]]: memref<8xf32>,
// CHECK: exec.loops [2, 4, 8] inputs(%[[X]], %[[Y]], %[[W]] : {{.*}}) outputs(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : memref<2x4x8xbf16>, memref<2x4x8xbf16>, memref<2x4xf32>, memref<2x4xf32>) strides [32, 8, 1, 32, 8, 1, 0, 0, 1, 32, 8, 1, 32, 8, 1, 4, 1, 0, 4, 1, 0]
// CHECK: %[[SUM:.*]] = arith.addf
// CHECK: %[[STORED:.*]] = arith.truncf %[[SUM]] : f32 to bf16
// CHECK: %[[READ:.*]] = arith.extf %[[STORED]] : bf16 to f32
// CHECK: %[[SQUARE:.*]] = arith.mulf %[[READ]], %[[READ]]
// CHECK: exec.row_sum %[[SQUARE]]
// CHECK: exec.yield %[[STORED]],
// CHECK-NOT: exec.loops
// CHECK: exec.return
dist.body @residual.forward(%x: tensor<2x4x8xbf16>, %y: tensor<2x4x8xbf16>, %w: tensor<8xf32>) -> (tensor<2x4x8xbf16>, tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4xf32>) {
  %sum = graph.sum %x, %y : (tensor<2x4x8xbf16>, tensor<2x4x8xbf16>) -> tensor<2x4x8xbf16>
  %n, %mean, %rstd = graph.norm rms %sum weight %w {epsilon = 1.0e-5} : (tensor<2x4x8xbf16>, tensor<8xf32>) -> (tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4xf32>)
  dist.return %sum, %n, %mean, %rstd : tensor<2x4x8xbf16>, tensor<2x4x8xbf16>, tensor<2x4xf32>, tensor<2x4xf32>
}
dist.layer @residual {forward = @residual.forward, inputs = [#dist.placement<[2, 4, 8]>, #dist.placement<[2, 4, 8]>], outputs = [#dist.placement<[2, 4, 8]>, #dist.placement<[2, 4, 8]>, #dist.placement<[2, 4]>, #dist.placement<[2, 4]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[8]>], gradients = [], num_saved = 0 : i64}

// -----

// The gradient of a layer norm's input is only added to another: it is not stored. Sums over the same row stand
// together. The weight's gradient between them reads what both read, and stays.
// CHECK-LABEL: exec.function @backward.forward
// CHECK: exec.loops [4, 8] inputs({{.*}}) outputs(%{{.*}} : memref<4x8xbf16>)
// CHECK: exec.row_sum
// CHECK-NEXT: exec.row_sum
// CHECK: exec.yield %{{[a-z0-9]*}} : bf16
// CHECK: exec.call "norm_weight_backward"
// CHECK-NOT: exec.loops
// CHECK: exec.return
dist.body @backward.forward(%dy: tensor<4x8xbf16>, %x: tensor<4x8xbf16>, %mean: tensor<4xf32>, %rstd: tensor<4xf32>, %w: tensor<8xf32>) -> (tensor<8xf32>, tensor<4x8xbf16>) {
  %dx = graph.norm_backward layer %dy, %x, %mean, %rstd weight %w : (tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x8xbf16>
  %dw = graph.norm_weight_backward %dy, %x, %mean, %rstd : (tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4xf32>, tensor<4xf32>) -> tensor<8xf32>
  %sum = graph.sum %dy, %dx : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<4x8xbf16>
  dist.return %dw, %sum : tensor<8xf32>, tensor<4x8xbf16>
}
dist.layer @backward {forward = @backward.forward, inputs = [#dist.placement<[4, 8]>, #dist.placement<[4, 8]>, #dist.placement<[4]>, #dist.placement<[4]>], outputs = [#dist.placement<[8]>, #dist.placement<[4, 8]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[8]>], gradients = [], num_saved = 0 : i64}

// -----

// What a product between them makes cannot be read earlier, and what it reads cannot be made later.
// CHECK-LABEL: exec.function @ordered.forward
// CHECK: exec.loops [4, 4]
// CHECK: exec.call "matmul"
// CHECK: exec.loops [4, 4]
dist.body @ordered.forward(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>) {
  %a = graph.sum %x, %y : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %p = graph.einsum %a, %y "ac,cd->ad" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %b = graph.sum %x, %y, %p : (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  dist.return %b, %p : tensor<4x4xf32>, tensor<4x4xf32>
}
dist.layer @ordered {forward = @ordered.forward, inputs = [#dist.placement<[4, 4]>, #dist.placement<[4, 4]>], outputs = [#dist.placement<[4, 4]>, #dist.placement<[4, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// A bias in common is too little to share a kernel for; and a value that is read at another index is not there yet.
// CHECK-LABEL: exec.function @apart.forward
// CHECK-COUNT-3: exec.loops
// CHECK: exec.return
dist.body @apart.forward(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>, %b: tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>) {
  %rows = graph.broadcast %b dims [1] : tensor<4xf32> -> tensor<4x4xf32>
  %0 = graph.sum %x, %rows : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = graph.sum %y, %rows : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %t = graph.transpose %1 [1, 0] : tensor<4x4xf32> -> tensor<4x4xf32>
  %2 = arith.mulf %t, %t : tensor<4x4xf32>
  dist.return %0, %1, %2 : tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xf32>
}
dist.layer @apart {forward = @apart.forward, inputs = [#dist.placement<[4, 4]>, #dist.placement<[4, 4]>, #dist.placement<[4]>], outputs = [#dist.placement<[4, 4]>, #dist.placement<[4, 4]>, #dist.placement<[4, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// A bias and a residual go into the product. The other product of a sum is what is added; a broadcast along rows is not a bias.
// CHECK-LABEL: exec.function @product.forward
// CHECK-SAME: (%[[X:[a-z0-9]+]]: memref<2x4x8xbf16>, %[[W:[a-z0-9]+]]: memref<6x8xbf16>, %[[B:[a-z0-9]+]]: memref<6xbf16>, %[[R:[a-z0-9]+]]: memref<2x4x6xbf16>, %[[C:[a-z0-9]+]]: memref<4xbf16>,
// CHECK: exec.call "matmul_add"(%[[X]], %[[W]], %[[B]], %[[R]], %{{.*}}) {type = 2, c_type = 2, M = 8, N = 6, K = 8, a_m = 8, a_k = 1, b_k = 1, b_n = 8, c_m = 6} present [1, 1, 1, 1, 1]
// CHECK: exec.call "matmul"(%[[X]], %[[W]], %[[SECOND:.*]]) {
// CHECK: exec.call "matmul_add"(%[[X]], %[[W]], %[[SECOND]], %{{.*}}) {type = 2, c_type = 2, M = 8, N = 6, K = 8, a_m = 8, a_k = 1, b_k = 1, b_n = 8, c_m = 6} present [1, 1, 0, 1, 1]
// CHECK: exec.call "matmul"
// CHECK: exec.loops
// CHECK: exec.return
dist.body @product.forward(%x: tensor<2x4x8xbf16>, %w: tensor<6x8xbf16>, %b: tensor<6xbf16>, %r: tensor<2x4x6xbf16>, %c: tensor<4xbf16>) -> (tensor<2x4x6xbf16>, tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) {
  %0 = graph.einsum %x, %w "abc,dc->abd" : (tensor<2x4x8xbf16>, tensor<6x8xbf16>) -> tensor<2x4x6xbf16>
  %1 = graph.broadcast %b dims [2] : tensor<6xbf16> -> tensor<2x4x6xbf16>
  %2 = graph.sum %r, %1, %0 : (tensor<2x4x6xbf16>, tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) -> tensor<2x4x6xbf16>
  %3 = graph.einsum %x, %w "abc,dc->abd" : (tensor<2x4x8xbf16>, tensor<6x8xbf16>) -> tensor<2x4x6xbf16>
  %4 = graph.einsum %x, %w "abc,dc->abd" : (tensor<2x4x8xbf16>, tensor<6x8xbf16>) -> tensor<2x4x6xbf16>
  %5 = graph.sum %3, %4 : (tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) -> tensor<2x4x6xbf16>
  %6 = graph.einsum %x, %w "abc,dc->abd" : (tensor<2x4x8xbf16>, tensor<6x8xbf16>) -> tensor<2x4x6xbf16>
  %7 = graph.broadcast %c dims [1] : tensor<4xbf16> -> tensor<2x4x6xbf16>
  %8 = graph.sum %6, %7 : (tensor<2x4x6xbf16>, tensor<2x4x6xbf16>) -> tensor<2x4x6xbf16>
  dist.return %2, %5, %8 : tensor<2x4x6xbf16>, tensor<2x4x6xbf16>, tensor<2x4x6xbf16>
}
dist.layer @product {forward = @product.forward, inputs = [#dist.placement<[2, 4, 8]>, #dist.placement<[6, 8]>, #dist.placement<[6]>, #dist.placement<[2, 4, 6]>, #dist.placement<[4]>], outputs = [#dist.placement<[2, 4, 6]>, #dist.placement<[2, 4, 6]>, #dist.placement<[2, 4, 6]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// Gradients of a norm's weight and bias, and of the bias before it, are summed where their terms are made; their parts
// are added at the end.
// CHECK-LABEL: exec.function @sums.backward
// CHECK-SAME: %[[DW:[a-z0-9]+]]: memref<512xf32>, %[[DB:[a-z0-9]+]]: memref<512xf32>, %[[DC:[a-z0-9]+]]: memref<512xf32>, %{{[a-z0-9]+}}: memref<?xi8>)
// CHECK: exec.loops [4, 512] {{.*}} outputs(%{{.*}}, %[[W:.*]], %[[B:.*]], %[[C:.*]] : memref<4x512xbf16>, memref<4x512xf32>, memref<4x512xf32>, memref<4x512xf32>) {{.*}} attributes {column_sums = 3 : i64}
// CHECK-NOT: exec.loops
// CHECK-NOT: norm_weight_backward
// CHECK-DAG: exec.call "reduce"(%[[W]], %{{.*}}) {type = 0, y_type = 0, kind = 0, accumulate = 1, rank = 2, extents = [4, 512], x_strides = [512, 1], y_strides = [0, 1]}
// CHECK-DAG: exec.call "reduce"(%[[B]], %{{.*}}) {type = 0, y_type = 0, kind = 0, accumulate = 1, rank = 2, extents = [4, 512], x_strides = [512, 1], y_strides = [0, 1]}
// CHECK-DAG: exec.call "reduce"(%[[C]], %{{.*}}) {type = 0, y_type = 0, kind = 0, accumulate = 1, rank = 2, extents = [4, 512], x_strides = [512, 1], y_strides = [0, 1]}
// CHECK: exec.return
dist.body @sums.forward(%x: tensor<4x512xbf16>, %w: tensor<512xf32>, %b: tensor<512xf32>, %c: tensor<512xf32>) -> tensor<4x512xbf16> {
  dist.return %x : tensor<4x512xbf16>
}
dist.body @sums.backward(%dy: tensor<4x512xbf16>, %x: tensor<4x512xbf16>, %w: tensor<512xf32>, %b: tensor<512xf32>, %c: tensor<512xf32>) -> (tensor<4x512xbf16>, tensor<512xf32>, tensor<512xf32>, tensor<512xf32>) {
  %row = arith.constant dense<1.0> : tensor<4xf32>
  %dx = graph.norm_backward layer %dy, %x, %row, %row weight %w : (tensor<4x512xbf16>, tensor<4x512xbf16>, tensor<512xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x512xbf16>
  %dw = graph.norm_weight_backward %dy, %x, %row, %row : (tensor<4x512xbf16>, tensor<4x512xbf16>, tensor<4xf32>, tensor<4xf32>) -> tensor<512xf32>
  %db = graph.reduce sum %dy dims [0] : tensor<4x512xbf16> -> tensor<512xf32>
  %sum = graph.sum %dy, %dx : (tensor<4x512xbf16>, tensor<4x512xbf16>) -> tensor<4x512xbf16>
  %dc = graph.reduce sum %sum dims [0] : tensor<4x512xbf16> -> tensor<512xf32>
  dist.return %sum, %dw, %db, %dc : tensor<4x512xbf16>, tensor<512xf32>, tensor<512xf32>, tensor<512xf32>
}
dist.layer @sums {forward = @sums.forward, backward = @sums.backward, inputs = [#dist.placement<[4, 512]>], outputs = [#dist.placement<[4, 512]>], input_gradients = [#dist.placement<[4, 512]>], output_gradients = [#dist.placement<[4, 512]>], homes = [#dist.placement<[512]>, #dist.placement<[512]>, #dist.placement<[512]>], gradients = [#dist.placement<[512]>, #dist.placement<[512]>, #dist.placement<[512]>], num_saved = 0 : i64}
