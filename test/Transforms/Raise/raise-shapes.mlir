// RUN: galvatron-opt %s --galvatron-raise-shapes --galvatron-normalize-equations | FileCheck %s

func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
  %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = graph.einsum %0, %w "bi,oi->bo" : (tensor<8x8xf32>, tensor<16x8xf32>) -> tensor<8x16xf32>
  %2 = graph.reshape %1 : tensor<8x16xf32> -> tensor<2x4x16xf32>
  return %2 : tensor<2x4x16xf32>
}

// CHECK-LABEL: @step
// CHECK-NEXT: graph.einsum %{{.*}}, %{{.*}} "abc,dc->abd" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
// CHECK-NEXT: return

// GPT-2's Conv1D: x.view(-1, H) @ W + b, viewed back.
// CHECK-LABEL: @flattened_linear
// CHECK-SAME: (%[[X:.*]]: tensor<2x4x8xf32>, %[[W:.*]]: tensor<8x16xf32>, %[[B:.*]]: tensor<16xf32>)
func.func @flattened_linear(%x: tensor<2x4x8xf32>, %w: tensor<8x16xf32>, %b: tensor<16xf32>) -> tensor<2x4x16xf32> {
  // CHECK-NEXT: %[[Y:.*]] = graph.einsum %[[X]], %[[W]] "abc,cd->abd"
  // CHECK-NEXT: %[[BIAS:.*]] = graph.broadcast %[[B]] dims [2]
  // CHECK-NEXT: arith.addf %[[BIAS]], %[[Y]]
  // CHECK-NEXT: return
  %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = graph.einsum %0, %w "xi,io->xo" : (tensor<8x8xf32>, tensor<8x16xf32>) -> tensor<8x16xf32>
  %2 = graph.broadcast %b dims [1] : tensor<16xf32> -> tensor<8x16xf32>
  %3 = arith.addf %2, %1 : tensor<8x16xf32>
  %4 = graph.reshape %3 : tensor<8x16xf32> -> tensor<2x4x16xf32>
  return %4 : tensor<2x4x16xf32>
}

// A model that is flat from the embedding on.
// CHECK-LABEL: @flattened_embedding_and_norm
func.func @flattened_embedding_and_norm(%ids: tensor<2x4xi64>, %table: tensor<16x8xf32>) -> tensor<2x4x8xf32> {
  // CHECK-NEXT: graph.embedding
  // CHECK-NEXT: graph.norm layer %{{.*}} : (tensor<2x4x8xf32>)
  // CHECK-NEXT: graph.activation relu
  // CHECK-NEXT: return
  %0 = graph.reshape %ids : tensor<2x4xi64> -> tensor<8xi64>
  %1 = graph.embedding %table, %0 : (tensor<16x8xf32>, tensor<8xi64>) -> tensor<8x8xf32>
  %2, %mean, %rstd = graph.norm layer %1 {epsilon = 0.5 : f64} : (tensor<8x8xf32>) -> (tensor<8x8xf32>, tensor<8xf32>, tensor<8xf32>)
  %3 = graph.activation relu %2 : tensor<8x8xf32> -> tensor<8x8xf32>
  %4 = graph.reshape %3 : tensor<8x8xf32> -> tensor<2x4x8xf32>
  return %4 : tensor<2x4x8xf32>
}

// Bloom's baddbmm on [B·N, S, D].
// CHECK-LABEL: @flattened_heads
func.func @flattened_heads(%q: tensor<2x3x4x8xf32>, %k: tensor<2x3x4x8xf32>) -> tensor<2x3x4x4xf32> {
  // CHECK-NEXT: graph.einsum %{{.*}}, %{{.*}} "abcd,abed->abce"
  // CHECK-NEXT: return
  %0 = graph.reshape %q : tensor<2x3x4x8xf32> -> tensor<6x4x8xf32>
  %1 = graph.transpose %k [0, 1, 3, 2] : tensor<2x3x4x8xf32> -> tensor<2x3x8x4xf32>
  %2 = graph.reshape %1 : tensor<2x3x8x4xf32> -> tensor<6x8x4xf32>
  %3 = graph.einsum %0, %2 "xsd,xdt->xst" : (tensor<6x4x8xf32>, tensor<6x8x4xf32>) -> tensor<6x4x4xf32>
  %4 = graph.reshape %3 : tensor<6x4x4xf32> -> tensor<2x3x4x4xf32>
  return %4 : tensor<2x3x4x4xf32>
}

// Both views change more than the batch.
// CHECK-LABEL: @merge_beside_another_reshape
func.func @merge_beside_another_reshape(%x: tensor<2x4x3x8xf32>, %w: tensor<24x16xf32>) -> tensor<2x4x16xf32> {
  // CHECK-NEXT: graph.reshape %{{.*}} : tensor<2x4x3x8xf32> -> tensor<2x4x24xf32>
  // CHECK-NEXT: graph.einsum
  // CHECK-NEXT: return
  %0 = graph.reshape %x : tensor<2x4x3x8xf32> -> tensor<8x24xf32>
  %1 = graph.einsum %0, %w "xi,io->xo" : (tensor<8x24xf32>, tensor<24x16xf32>) -> tensor<8x16xf32>
  %2 = graph.reshape %1 : tensor<8x16xf32> -> tensor<2x4x16xf32>
  return %2 : tensor<2x4x16xf32>
}

// Heads are merged for a product with a parameter: its layout stays.
// CHECK-LABEL: @merged_heads_stay
func.func @merged_heads_stay(%x: tensor<2x4x3x8xf32>, %w: tensor<24x16xf32>) -> tensor<2x4x16xf32> {
  // CHECK-NEXT: graph.reshape
  // CHECK-NEXT: graph.einsum %{{.*}} : (tensor<2x4x24xf32>, tensor<24x16xf32>)
  %0 = graph.reshape %x : tensor<2x4x3x8xf32> -> tensor<2x4x24xf32>
  %1 = graph.einsum %0, %w "bsi,io->bso" : (tensor<2x4x24xf32>, tensor<24x16xf32>) -> tensor<2x4x16xf32>
  return %1 : tensor<2x4x16xf32>
}

// CHECK-LABEL: @merge_through_movement
func.func @merge_through_movement(%x: tensor<2x4x8xf32>, %y: tensor<2x4x8xf32>) -> tensor<16x2x4xf32> {
  // CHECK-NEXT: %[[JOINED:.*]] = graph.concat {{.*}} {dim = 2 : i64}
  // CHECK-NEXT: graph.transpose %[[JOINED]] [2, 0, 1]
  // CHECK-NEXT: return
  %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = graph.reshape %y : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %2 = graph.concat %0, %1 {dim = 1 : i64} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x16xf32>
  %3 = graph.transpose %2 [1, 0] : tensor<8x16xf32> -> tensor<16x8xf32>
  %4 = graph.reshape %3 : tensor<16x8xf32> -> tensor<16x2x4xf32>
  return %4 : tensor<16x2x4xf32>
}

// CHECK-LABEL: @merge_through_reduce_and_broadcast
func.func @merge_through_reduce_and_broadcast(%x: tensor<2x4x8xf32>) -> tensor<2x4x8xf32> {
  // CHECK-NEXT: graph.reduce sum %{{.*}} dims [2] : tensor<2x4x8xf32> -> tensor<2x4xf32>
  // CHECK-NEXT: graph.broadcast %{{.*}} dims [0, 1] : tensor<2x4xf32> -> tensor<2x4x8xf32>
  // CHECK-NEXT: return
  %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
  %1 = graph.reduce sum %0 dims [1] : tensor<8x8xf32> -> tensor<8xf32>
  %2 = graph.broadcast %1 dims [0] : tensor<8xf32> -> tensor<8x8xf32>
  %3 = graph.reshape %2 : tensor<8x8xf32> -> tensor<2x4x8xf32>
  return %3 : tensor<2x4x8xf32>
}

// torch's own attention: [S, B, N·D] as [S, B·N, D], then moved, then [B, N, S, D].
// CHECK-LABEL: @merge_that_is_split_after_a_transpose
func.func @merge_that_is_split_after_a_transpose(%x: tensor<5x2x12xf32>) -> tensor<2x3x5x4xf32> {
  // CHECK-NEXT: %[[HEADS:.*]] = graph.reshape %{{.*}} : tensor<5x2x12xf32> -> tensor<5x2x3x4xf32>
  // CHECK-NEXT: graph.transpose %[[HEADS]] [1, 2, 0, 3]
  // CHECK-NEXT: return
  %0 = graph.reshape %x : tensor<5x2x12xf32> -> tensor<5x6x4xf32>
  %1 = graph.transpose %0 [1, 0, 2] : tensor<5x6x4xf32> -> tensor<6x5x4xf32>
  %2 = graph.reshape %1 : tensor<6x5x4xf32> -> tensor<2x3x5x4xf32>
  return %2 : tensor<2x3x5x4xf32>
}

// CHECK-LABEL: @transposes_go_into_equations
func.func @transposes_go_into_equations(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
  // CHECK-NEXT: graph.einsum %{{.*}} "abc,dc->abd"
  %0 = graph.transpose %w [1, 0] : tensor<16x8xf32> -> tensor<8x16xf32>
  %1 = graph.einsum %x, %0 "bsi,io->bso" : (tensor<2x4x8xf32>, tensor<8x16xf32>) -> tensor<2x4x16xf32>
  return %1 : tensor<2x4x16xf32>
}

// CHECK-LABEL: @repetition_needs_no_subscript
func.func @repetition_needs_no_subscript(%x: tensor<2x4x8xf32>, %w: tensor<8x16xf32>) -> tensor<2x4x16xf32> {
  // CHECK-NEXT: graph.einsum %{{.*}} "abc,cd->abd" : (tensor<2x4x8xf32>, tensor<8x16xf32>)
  %0 = graph.broadcast %w dims [1, 2] : tensor<8x16xf32> -> tensor<2x8x16xf32>
  %1 = graph.einsum %x, %0 "bsi,bio->bso" : (tensor<2x4x8xf32>, tensor<2x8x16xf32>) -> tensor<2x4x16xf32>
  return %1 : tensor<2x4x16xf32>
}

// CHECK-LABEL: @arithmetic_before_repetition
func.func @arithmetic_before_repetition(%x: tensor<8xf32>) -> tensor<2x4x8xf32> {
  // CHECK: arith.addf %{{.*}} : tensor<8xf32>
  // CHECK-NEXT: graph.broadcast
  %one = arith.constant dense<1.0> : tensor<2x4x8xf32>
  %0 = graph.broadcast %x dims [2] : tensor<8xf32> -> tensor<2x4x8xf32>
  %1 = arith.addf %0, %one : tensor<2x4x8xf32>
  return %1 : tensor<2x4x8xf32>
}

// CHECK-LABEL: @slice_of_one_piece
func.func @slice_of_one_piece(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<2xf32> {
  // CHECK-NEXT: graph.slice %{{.*}} offsets [1] : tensor<4xf32> -> tensor<2xf32>
  %0 = graph.concat %x, %y {dim = 0 : i64} : (tensor<4xf32>, tensor<4xf32>) -> tensor<8xf32>
  %1 = graph.slice %0 offsets [5] : tensor<8xf32> -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// CHECK-LABEL: @arithmetic_that_does_nothing_goes
func.func @arithmetic_that_does_nothing_goes(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: return %{{.*}}
  %zero = arith.constant dense<0.0> : tensor<4xf32>
  %one = arith.constant dense<1.0> : tensor<4xf32>
  %0 = arith.addf %zero, %x : tensor<4xf32>
  %1 = arith.mulf %0, %one : tensor<4xf32>
  %2 = arith.divf %1, %one : tensor<4xf32>
  %3 = arith.subf %2, %zero : tensor<4xf32>
  %4 = graph.dropout %3 {p = 0.0 : f64, id = 0 : i64} : tensor<4xf32> -> tensor<4xf32>
  return %4 : tensor<4xf32>
}

// CHECK-LABEL: @unused_ops_are_erased
func.func @unused_ops_are_erased(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: return
  %0 = math.exp %x : tensor<4xf32>
  return %x : tensor<4xf32>
}

// A batch of one sample: the loss is one of positions, as that of several.
// CHECK-LABEL: func.func @loss_of_one_sample
func.func @loss_of_one_sample(%x: tensor<1x7x8xf32>, %labels: tensor<1x7xi64>) -> tensor<f32> {
  // CHECK-NOT: graph.reshape
  // CHECK: graph.cross_entropy %arg0, %arg1 : (tensor<1x7x8xf32>, tensor<1x7xi64>) -> tensor<f32>
  %0 = graph.reshape %x : tensor<1x7x8xf32> -> tensor<7x8xf32>
  %1 = graph.reshape %labels : tensor<1x7xi64> -> tensor<7xi64>
  %2 = graph.cross_entropy %0, %1 : (tensor<7x8xf32>, tensor<7xi64>) -> tensor<f32>
  return %2 : tensor<f32>
}
