// RUN: galvatron-opt %s --galvatron-split-projections --galvatron-raise-gated-activations --galvatron-raise-shapes \
// RUN:   --galvatron-normalize-equations | FileCheck %s

func.func @step(%x: tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4x4xf32>) {
  %w = graph.parameter ["w"] : tensor<12x8xf32>
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<12x8xf32>) -> tensor<2x4x12xf32>
  %1 = graph.slice %0 offsets [0, 0, 0] : tensor<2x4x12xf32> -> tensor<2x4x8xf32>
  %2 = graph.slice %0 offsets [0, 0, 8] : tensor<2x4x12xf32> -> tensor<2x4x4xf32>
  return %1, %2 : tensor<2x4x8xf32>, tensor<2x4x4xf32>
}

// CHECK-LABEL: @step
// CHECK: %[[W:.*]] = graph.parameter ["w"]
// CHECK: %[[WQ:.*]] = graph.slice %[[W]] offsets [0, 0] : tensor<12x8xf32> -> tensor<8x8xf32>
// CHECK: graph.einsum %{{.*}}, %[[WQ]]
// CHECK: %[[WK:.*]] = graph.slice %[[W]] offsets [8, 0] : tensor<12x8xf32> -> tensor<4x8xf32>
// CHECK: graph.einsum %{{.*}}, %[[WK]]

// Unequal widths, with a bias: no axis can be cut along the whole.
// CHECK-LABEL: @fused_query_and_key
func.func @fused_query_and_key(%x: tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4x4xf32>) {
  // CHECK-DAG: %[[W:.*]] = graph.parameter ["w"]
  // CHECK-DAG: %[[B:.*]] = graph.parameter ["b"]
  // CHECK-DAG: %[[WQ:.*]] = graph.slice %[[W]] offsets [0, 0] : tensor<12x8xf32> -> tensor<8x8xf32>
  // CHECK-DAG: %[[WK:.*]] = graph.slice %[[W]] offsets [8, 0] : tensor<12x8xf32> -> tensor<4x8xf32>
  // CHECK-DAG: graph.einsum %{{.*}}, %[[WQ]] "abc,dc->abd"
  // CHECK-DAG: graph.einsum %{{.*}}, %[[WK]] "abc,dc->abd"
  // CHECK-DAG: graph.slice %[[B]] offsets [0] : tensor<12xf32> -> tensor<8xf32>
  // CHECK-DAG: graph.slice %[[B]] offsets [8] : tensor<12xf32> -> tensor<4xf32>
  %w = graph.parameter ["w"] : tensor<12x8xf32>
  %b = graph.parameter ["b"] : tensor<12xf32>
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<12x8xf32>) -> tensor<2x4x12xf32>
  %1 = graph.broadcast %b dims [2] : tensor<12xf32> -> tensor<2x4x12xf32>
  %2 = arith.addf %0, %1 : tensor<2x4x12xf32>
  %3 = graph.slice %2 offsets [0, 0, 0] : tensor<2x4x12xf32> -> tensor<2x4x8xf32>
  %4 = graph.slice %2 offsets [0, 0, 8] : tensor<2x4x12xf32> -> tensor<2x4x4xf32>
  return %3, %4 : tensor<2x4x8xf32>, tensor<2x4x4xf32>
}

// As GPT-NeoX has it: [heads, 3·D], cut after a transpose. The parameter is cut as heads × 3 × D.
// CHECK-LABEL: @interleaved_heads
func.func @interleaved_heads(%x: tensor<2x4x8xf32>) -> (tensor<2x2x4x3xf32>, tensor<2x2x4x3xf32>) {
  // CHECK: %[[W:.*]] = graph.parameter ["w"]
  // CHECK: %[[WIDE:.*]] = graph.reshape %[[W]] : tensor<12x8xf32> -> tensor<2x6x8xf32>
  // CHECK: %[[CUT:.*]] = graph.slice %[[WIDE]] offsets [0, 0, 0] : tensor<2x6x8xf32> -> tensor<2x3x8xf32>
  // CHECK: %[[WQ:.*]] = graph.reshape %[[CUT]] : tensor<2x3x8xf32> -> tensor<6x8xf32>
  // CHECK: %[[Q:.*]] = graph.einsum %{{.*}}, %[[WQ]]
  // CHECK: %[[HEADS:.*]] = graph.reshape %[[Q]] : tensor<2x4x6xf32> -> tensor<2x4x2x3xf32>
  // CHECK: graph.transpose %[[HEADS]] [0, 2, 1, 3]
  %w = graph.parameter ["w"] : tensor<12x8xf32>
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<12x8xf32>) -> tensor<2x4x12xf32>
  %1 = graph.reshape %0 : tensor<2x4x12xf32> -> tensor<2x4x2x6xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x4x2x6xf32> -> tensor<2x2x4x6xf32>
  %3 = graph.slice %2 offsets [0, 0, 0, 0] : tensor<2x2x4x6xf32> -> tensor<2x2x4x3xf32>
  %4 = graph.slice %2 offsets [0, 0, 0, 3] : tensor<2x2x4x6xf32> -> tensor<2x2x4x3xf32>
  return %3, %4 : tensor<2x2x4x3xf32>, tensor<2x2x4x3xf32>
}

// Gate and up from one product.
// CHECK-LABEL: @fused_gate_and_up
func.func @fused_gate_and_up(%x: tensor<4x8xf32>) -> tensor<4x6xf32> {
  // CHECK: %[[GATE:.*]] = graph.einsum %{{.*}} : (tensor<4x8xf32>, tensor<8x6xf32>)
  // CHECK: %[[UP:.*]] = graph.einsum %{{.*}} : (tensor<4x8xf32>, tensor<8x6xf32>)
  // CHECK: graph.gated_activation silu %[[GATE]], %[[UP]]
  %w = graph.parameter ["w"] : tensor<8x12xf32>
  %0 = graph.einsum %x, %w "si,io->so" : (tensor<4x8xf32>, tensor<8x12xf32>) -> tensor<4x12xf32>
  %1 = graph.slice %0 offsets [0, 0] : tensor<4x12xf32> -> tensor<4x6xf32>
  %2 = graph.slice %0 offsets [0, 6] : tensor<4x12xf32> -> tensor<4x6xf32>
  %3 = graph.activation silu %1 : tensor<4x6xf32> -> tensor<4x6xf32>
  %4 = arith.mulf %3, %2 : tensor<4x6xf32>
  return %4 : tensor<4x6xf32>
}

// CHECK-LABEL: @product_read_whole_stays
func.func @product_read_whole_stays(%x: tensor<4x8xf32>) -> (tensor<4x12xf32>, tensor<4x6xf32>) {
  // CHECK: graph.einsum
  // CHECK-NOT: graph.einsum
  %w = graph.parameter ["w"] : tensor<8x12xf32>
  %0 = graph.einsum %x, %w "si,io->so" : (tensor<4x8xf32>, tensor<8x12xf32>) -> tensor<4x12xf32>
  %1 = graph.slice %0 offsets [0, 0] : tensor<4x12xf32> -> tensor<4x6xf32>
  return %0, %1 : tensor<4x12xf32>, tensor<4x6xf32>
}

// Cut along positions, not along the parameter's outputs.
// CHECK-LABEL: @slice_of_positions_stays
func.func @slice_of_positions_stays(%x: tensor<4x8xf32>) -> tensor<2x12xf32> {
  // CHECK: graph.einsum
  // CHECK: graph.slice
  %w = graph.parameter ["w"] : tensor<8x12xf32>
  %0 = graph.einsum %x, %w "si,io->so" : (tensor<4x8xf32>, tensor<8x12xf32>) -> tensor<4x12xf32>
  %1 = graph.slice %0 offsets [0, 0] : tensor<4x12xf32> -> tensor<2x12xf32>
  return %1 : tensor<2x12xf32>
}

// Queries and keys clamped together: constants are the same for every piece.
// CHECK-LABEL: @clamped
func.func @clamped(%x: tensor<4x8xf32>) -> (tensor<4x6xf32>, tensor<4x6xf32>) {
  // CHECK: %[[A:.*]] = graph.einsum %{{.*}} : (tensor<4x8xf32>, tensor<8x6xf32>)
  // CHECK: arith.minimumf %[[A]], %{{.*}} : tensor<4x6xf32>
  // CHECK: %[[B:.*]] = graph.einsum %{{.*}} : (tensor<4x8xf32>, tensor<8x6xf32>)
  // CHECK: arith.minimumf %[[B]], %{{.*}} : tensor<4x6xf32>
  %eight = arith.constant dense<8.0> : tensor<4x12xf32>
  %w = graph.parameter ["w"] : tensor<8x12xf32>
  %0 = graph.einsum %x, %w "si,io->so" : (tensor<4x8xf32>, tensor<8x12xf32>) -> tensor<4x12xf32>
  %1 = arith.minimumf %0, %eight : tensor<4x12xf32>
  %2 = graph.slice %1 offsets [0, 0] : tensor<4x12xf32> -> tensor<4x6xf32>
  %3 = graph.slice %1 offsets [0, 6] : tensor<4x12xf32> -> tensor<4x6xf32>
  return %2, %3 : tensor<4x6xf32>, tensor<4x6xf32>
}
