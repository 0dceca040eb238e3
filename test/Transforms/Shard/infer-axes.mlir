// RUN: galvatron-opt %s -split-input-file --galvatron-infer-axes | FileCheck %s

// CHECK-LABEL: graph.layer @mlp
// CHECK-SAME: %{{.*}}: tensor<8x16x64xf32> {graph.axes = ["batch", "seq", "hidden"]}
// CHECK-SAME: %{{.*}}: tensor<32x64xf32> {graph.axes = ["fixed", "hidden"]
graph.layer @mlp(%x: tensor<8x16x64xf32>, %w: tensor<32x64xf32> {graph.parameter = "w"}) -> tensor<8x16x32xf32> {
  %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
  graph.return %y : tensor<8x16x32xf32>
}

// -----

// What is contracted again before it leaves the layer is internal.
// CHECK-LABEL: graph.layer @contracted_again_is_internal
// CHECK-SAME: tensor<32x64xf32> {graph.axes = ["internal", "hidden"]
// CHECK-SAME: tensor<64x32xf32> {graph.axes = ["hidden", "internal"]
graph.layer @contracted_again_is_internal(%x: tensor<8x16x64xf32>, %u: tensor<32x64xf32> {graph.parameter = "u"}, %d: tensor<64x32xf32> {graph.parameter = "d"}) -> tensor<8x16x64xf32> {
  %h = graph.einsum %x, %u "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
  %o = graph.einsum %h, %d "bsi,oi->bso" : (tensor<8x16x32xf32>, tensor<64x32xf32>) -> tensor<8x16x64xf32>
  %y = graph.sum %x, %o : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
  graph.return %y : tensor<8x16x64xf32>
}

// -----

// Key/value heads times group, and the head size that attention needs whole.
// CHECK-LABEL: graph.layer @grouped_heads_are_split
// CHECK-SAME: tensor<8x16x64xf32> {graph.axes = ["batch", "seq", "hidden"]}
// CHECK-SAME: tensor<32x64xf32> {graph.axes = ["internal * internal1 * fixed", "hidden"]
// CHECK-SAME: tensor<16x64xf32> {graph.axes = ["internal * fixed", "hidden"]
graph.layer @grouped_heads_are_split(%x: tensor<8x16x64xf32>, %wq: tensor<32x64xf32> {graph.parameter = "q"}, %wk: tensor<16x64xf32> {graph.parameter = "k"}, %wo: tensor<64x32xf32> {graph.parameter = "o"}) -> tensor<8x16x64xf32> {
  %q0 = graph.einsum %x, %wq "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
  %q1 = graph.reshape %q0 : tensor<8x16x32xf32> -> tensor<8x16x4x8xf32>
  %q = graph.transpose %q1 [0, 2, 1, 3] : tensor<8x16x4x8xf32> -> tensor<8x4x16x8xf32>
  %k0 = graph.einsum %x, %wk "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<16x64xf32>) -> tensor<8x16x16xf32>
  %k1 = graph.reshape %k0 : tensor<8x16x16xf32> -> tensor<8x16x2x8xf32>
  %k = graph.transpose %k1 [0, 2, 1, 3] : tensor<8x16x2x8xf32> -> tensor<8x2x16x8xf32>
  %a, %lse = graph.attention %q, %k, %k {scale = 0.35, causal} : (tensor<8x4x16x8xf32>, tensor<8x2x16x8xf32>, tensor<8x2x16x8xf32>) -> (tensor<8x4x16x8xf32>, tensor<8x4x16xf32>)
  %t = graph.transpose %a [0, 2, 1, 3] : tensor<8x4x16x8xf32> -> tensor<8x16x4x8xf32>
  %f = graph.reshape %t : tensor<8x16x4x8xf32> -> tensor<8x16x32xf32>
  %o = graph.einsum %f, %wo "bsi,oi->bso" : (tensor<8x16x32xf32>, tensor<64x32xf32>) -> tensor<8x16x64xf32>
  %y = graph.sum %x, %o : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
  graph.return %y : tensor<8x16x64xf32>
}

// -----

// Rows that data addresses are a vocabulary, rows that constants address a table of positions.
// CHECK-LABEL: graph.layer @tables
// CHECK-SAME: tensor<100x64xf32> {graph.axes = ["internal", "[[H:[a-z]+]]"]
// CHECK-SAME: tensor<32x64xf32> {graph.axes = ["fixed1", "[[H]]"]
graph.layer @tables(%ids: tensor<8x16xi64>, %table: tensor<100x64xf32> {graph.parameter = "t"}, %positions: tensor<32x64xf32> {graph.parameter = "p"}, %w: tensor<64x64xf32> {graph.parameter = "w"}) -> tensor<8x16x64xf32> {
  %i = graph.iota {dim = 0 : i64} : tensor<16xi64>
  %p = graph.embedding %positions, %i : (tensor<32x64xf32>, tensor<16xi64>) -> tensor<16x64xf32>
  %pb = graph.broadcast %p dims [1, 2] : tensor<16x64xf32> -> tensor<8x16x64xf32>
  %x = graph.embedding %table, %ids : (tensor<100x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
  %s = graph.sum %x, %pb : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
  %n, %mean, %rstd = graph.norm rms %s {epsilon = 1.0e-5} : (tensor<8x16x64xf32>) -> (tensor<8x16x64xf32>, tensor<8x16xf32>, tensor<8x16xf32>)
  %y = graph.einsum %n, %w "bsi,ji->bsj" : (tensor<8x16x64xf32>, tensor<64x64xf32>) -> tensor<8x16x64xf32>
  graph.return %y : tensor<8x16x64xf32>
}

// -----

// Layers of one type share their axes, and a tied parameter has one set of them.
// CHECK-LABEL: graph.layer @embed
// CHECK-SAME: tensor<100x64xf32> {graph.axes = ["internal", "hidden"]
// CHECK-LABEL: graph.layer @unembed
// CHECK-SAME: tensor<100x64xf32> {graph.axes = ["internal", "hidden"]
graph.layer @embed(%ids: tensor<8x16xi64>, %t: tensor<100x64xf32> {graph.parameter = "t"}) -> tensor<8x16x64xf32> {
  %x = graph.embedding %t, %ids : (tensor<100x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
  graph.return %x : tensor<8x16x64xf32>
}
graph.layer @unembed(%x: tensor<8x16x64xf32>, %t: tensor<100x64xf32> {graph.parameter = "t"}) -> tensor<8x16xf32> {
  %l = graph.einsum %x, %t "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<100x64xf32>) -> tensor<8x16x100xf32>
  %m = graph.reduce max %l dims [2] : tensor<8x16x100xf32> -> tensor<8x16xf32>
  graph.return %m : tensor<8x16xf32>
}
func.func @step(%ids: tensor<8x16xi64>) -> tensor<8x16xf32> {
  %x = graph.call @embed(%ids) parameters ["t"] path "embed" : (tensor<8x16xi64>) -> tensor<8x16x64xf32>
  %y = graph.call @unembed(%x) parameters ["t"] path "unembed" : (tensor<8x16x64xf32>) -> tensor<8x16xf32>
  return %y : tensor<8x16xf32>
}

// -----

// Products of low rank, into a width and out of it, as adapters have them: all ranks have the narrow one.
// CHECK-LABEL: graph.layer @low_ranks_are_whole
// CHECK-SAME: tensor<3x64xf32> {graph.axes = ["fixed", "hidden"], graph.parameter = "a"}
// CHECK-SAME: tensor<32x3xf32> {graph.axes = ["internal", "fixed"], graph.parameter = "b"}
// CHECK-SAME: tensor<5x32xf32> {graph.axes = ["fixed1", "internal"], graph.parameter = "c"}
// CHECK-SAME: tensor<64x5xf32> {graph.axes = ["hidden", "fixed1"], graph.parameter = "d"}
graph.layer @low_ranks_are_whole(%x: tensor<8x16x64xf32>, %a: tensor<3x64xf32> {graph.parameter = "a"}, %b: tensor<32x3xf32> {graph.parameter = "b"}, %c: tensor<5x32xf32> {graph.parameter = "c"}, %d: tensor<64x5xf32> {graph.parameter = "d"}) -> tensor<8x16x64xf32> {
  %0 = graph.einsum %x, %a "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<3x64xf32>) -> tensor<8x16x3xf32>
  %1 = graph.einsum %0, %b "bsi,oi->bso" : (tensor<8x16x3xf32>, tensor<32x3xf32>) -> tensor<8x16x32xf32>
  %2 = graph.einsum %1, %c "bsi,oi->bso" : (tensor<8x16x32xf32>, tensor<5x32xf32>) -> tensor<8x16x5xf32>
  %3 = graph.einsum %2, %d "bsi,oi->bso" : (tensor<8x16x5xf32>, tensor<64x5xf32>) -> tensor<8x16x64xf32>
  %4 = graph.sum %x, %3 : (tensor<8x16x64xf32>, tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
  graph.return %4 : tensor<8x16x64xf32>
}
