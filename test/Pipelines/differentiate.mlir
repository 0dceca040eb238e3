// RUN: galvatron-opt %inputs/llama.mlir --galvatron-phase-differentiate | FileCheck %s
// RUN: galvatron-opt %inputs/llama.mlir --galvatron-phase-differentiate | galvatron-opt --galvatron-verify-differentiate -o %t

// The token table's gradient is the only one of the embedding: ids have none.
// CHECK-LABEL: graph.layer @embedding
// CHECK: graph.backward(%[[DY:.*]]: tensor<8x16x24xf32>) {
// CHECK-NEXT: %[[DTABLE:.*]] = graph.embedding_backward %[[DY]], %
// CHECK-NEXT: graph.return %[[DTABLE]] : tensor<32x24xf32>

// The three readers of the normalized input wait in one sum.
// CHECK-LABEL: graph.layer @decoder
// CHECK: %[[Y:.*]], %[[LSE:.*]] = graph.attention
// CHECK: graph.backward(%{{.*}}: tensor<8x16x24xf32>) {
// CHECK: graph.gated_activation_backward silu
// CHECK: graph.attention_backward %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[Y]], %[[LSE]]
// CHECK: graph.sum %{{.*}}, %{{.*}}, %{{.*}} :
// CHECK: graph.norm_backward rms

// Statistics over the vocabulary are computed once, for loss and gradient.
// CHECK-LABEL: graph.layer @head
// CHECK: %[[MAX:.*]] = graph.reduce max
// CHECK: %[[SUM:.*]] = graph.sum_exp %{{.*}}, %[[MAX]]
// CHECK-NOT: graph.cross_entropy %
// CHECK: graph.backward(%{{.*}}: tensor<f32>) {
// CHECK: graph.cross_entropy_backward %{{.*}}, %{{.*}}, %[[SUM]], %[[MAX]],
