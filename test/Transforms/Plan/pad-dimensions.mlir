// RUN: galvatron-opt %s --galvatron-pad-dimensions | FileCheck %s
// RUN: echo '{"ranks":12,"units":[{"path":"embedding","strategy":{"tp":3,"pad":true}},{"path":"layers.0","strategy":{"tp":3,"pad":true}},{"path":"layers.1","strategy":{"tp":12,"pad":true}},{"path":"head","strategy":{"tp":3,"pad":true}}]}' > %t.json
// RUN: echo '{"ranks":12,"units":[{"path":"embedding","strategy":{"tp":3,"pad":true}},{"path":"layers.0","strategy":{"tp":3,"pad":true}},{"path":"layers.1","strategy":{"tp":3,"pad":true}},{"path":"head","strategy":{"tp":12,"pad":true}}]}' > %t.tied.json
// RUN: galvatron-opt %inputs/llama.mlir --galvatron-differentiate --galvatron-expand-cross-entropy --cse --galvatron-annotate-plan=plan=%t.json --galvatron-pad-dimensions | FileCheck %s --check-prefix=LLAMA
// RUN: sed 's/1.0e-1/0.0/' %inputs/gpt2.mlir | galvatron-opt --galvatron-annotate-plan=plan=%t.tied.json --galvatron-pad-dimensions | FileCheck %s --check-prefix=TIED
// RUN: echo '{"ranks":3,"units":[{"path":"embedding","strategy":{"cp":3,"pad":true}},{"path":"layers.0","strategy":{"tp":3,"pad":true}},{"path":"layers.1","strategy":{"cp":3,"pad":true}},{"path":"head","strategy":{"cp":3,"pad":true}}]}' > %t.cp.json
// RUN: sed 's/1.0e-1/0.0/' %inputs/gpt2_ignored.mlir | galvatron-opt --galvatron-differentiate --galvatron-expand-cross-entropy --cse --galvatron-annotate-plan=plan=%t.cp.json --galvatron-pad-dimensions | FileCheck %s --check-prefix=POSITIONS
// RUN: echo '{"ranks":3,"units":[{"path":"embedding","strategy":{"tp":3,"sequence_parallel":true,"pad":true}},{"path":"layers.0","strategy":{"tp":3,"sequence_parallel":true,"pad":true}},{"path":"layers.1","strategy":{"tp":3,"sequence_parallel":true,"pad":true}},{"path":"head","strategy":{"tp":3,"sequence_parallel":true,"pad":true}}]}' > %t.sp.json
// RUN: sed 's/\(%v20 =\) graph.gated_activation silu %v18, %v19 : .*/%exp = math.exp %v18 : tensor<8x16x40xf32>\n    \1 arith.mulf %exp, %v19 : tensor<8x16x40xf32>/' %inputs/llama_ignored.mlir | galvatron-opt --galvatron-differentiate --galvatron-expand-cross-entropy --cse --galvatron-annotate-plan=plan=%t.sp.json --galvatron-pad-dimensions | FileCheck %s --check-prefix=BOTH

module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
  graph.layer @mlp(%x: tensor<4x8xf32>, %w: tensor<3x8xf32> {graph.parameter = "w"}) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<3x8xf32>) -> tensor<4x3xf32>
    %1 = graph.einsum %0, %w "bo,oi->bi" : (tensor<4x3xf32>, tensor<3x8xf32>) -> tensor<4x8xf32>
    graph.return %1 : tensor<4x8xf32>
  }
  func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.call @mlp(%x) parameters ["w"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
    return %0 : tensor<4x8xf32>
  }
}

// A parameter is 0 in its padding, so nothing needs a mask.
// CHECK: graph.layer @mlp.padded(%{{.*}}, %[[W:.*]]: tensor<4x8xf32> {graph.padding = #graph.padding<[3 pad 1, 8]>, graph.parameter = "w"})
// CHECK-SAME: plan.layer_type = "mlp"
// CHECK-NEXT: %[[Y:.*]] = graph.einsum %{{.*}}, %[[W]] "bi,oi->bo" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x4xf32>
// CHECK-NEXT: graph.einsum %[[Y]], %[[W]]
// CHECK-NOT: arith.select
// CHECK: graph.call @mlp.padded(

// One layer under two strategies is padded in two ways, each known to plans by its old name; parameters keep theirs.
// LLAMA: graph.layer @embedding.padded(%{{.*}}, %{{.*}}: tensor<33x24xf32> {{{.*}}graph.padding = #graph.padding<[32 pad 1, 24]>
// LLAMA: graph.layer @decoder.padded_0(
// LLAMA-SAME: graph.padding = #graph.padding<[40 pad 8, 24]>
// LLAMA-SAME: plan.layer_type = "decoder"
// Queries of 2 x 2 heads of 4: tp 3 pads those of keys and values.
// LLAMA: graph.layer @decoder.padded(%{{.*}}, %{{.*}}: tensor<24x24xf32> {{{.*}}graph.padding = #graph.padding<[2 pad 1 * 8, 24]>
// LLAMA-SAME: graph.padding = #graph.padding<[2 pad 1 * 4, 24]>, graph.parameter = "self_attn.k_proj.weight"
// LLAMA-SAME: graph.padding = #graph.padding<[24, 2 pad 1 * 8]>, graph.parameter = "self_attn.o_proj.weight"
// LLAMA-SAME: graph.padding = #graph.padding<[40 pad 2, 24]>, graph.parameter = "mlp.gate_proj.weight"
// LLAMA-SAME: plan.layer_type = "decoder"
// LLAMA-NOT: arith.select

// Logits beyond the vocabulary are the lowest number wherever they are read.
// LLAMA: graph.layer @head.padded(
// LLAMA: %[[LOGITS:.*]] = graph.einsum {{.*}} -> tensor<8x16x33xf32>
// LLAMA: %[[LOWEST:.*]] = arith.constant dense<-3.40282347E+38> : tensor<8x16x33xf32>
// LLAMA: %[[ROW:.*]] = graph.iota {dim = 0 : i64} : tensor<33xi64>
// LLAMA: %[[END:.*]] = arith.constant dense<32> : tensor<33xi64>
// LLAMA: %[[OWN:.*]] = arith.cmpi slt, %[[ROW]], %[[END]] : tensor<33xi64>
// LLAMA: %[[ALL:.*]] = graph.broadcast %[[OWN]] dims [2] : tensor<33xi1> -> tensor<8x16x33xi1>
// LLAMA: %[[MASKED:.*]] = arith.select %[[ALL]], %[[LOGITS]], %[[LOWEST]]
// LLAMA: %[[MAX:.*]] = graph.reduce max %[[MASKED]] dims [2]
// LLAMA: graph.sum_exp %[[MASKED]], %[[MAX]]
// LLAMA: graph.target_logit %[[MASKED]]
// LLAMA: graph.cross_entropy_backward %{{.*}}, %[[MASKED]]
// LLAMA-NOT: arith.select
// LLAMA: graph.call @decoder.padded({{.*}} path "model.layers.0"
// LLAMA: graph.call @decoder.padded_0({{.*}} path "model.layers.1"

// A table that both ends read is padded to what both need. The table of positions is none that plans speak of. Of a fused
// q|k|v each of the three is padded.
// TIED: graph.layer @embedding.padded(%{{.*}}, %{{.*}}: tensor<36x24xf32> {{{.*}}graph.padding = #graph.padding<[32 pad 4, 24]>
// TIED-SAME: tensor<32x24xf32> {graph.init = {normal = [0.000000e+00, 2.000000e-02]}, graph.parameter = "wpe.weight"}
// TIED: graph.layer @decoder.padded(
// TIED-SAME: graph.padding = #graph.padding<[24, 3 * 4 pad 2 * 4]>, graph.parameter = "attn.c_attn.weight"
// TIED: graph.slice %[[FUSED:.*]] offsets [0, 0, 0] : tensor<8x16x72xf32> -> tensor<8x16x24xf32>
// TIED: graph.slice %[[FUSED]] offsets [0, 0, 24]
// TIED: graph.slice %[[FUSED]] offsets [0, 0, 48]
// TIED: graph.layer @head.padded(
// TIED-SAME: tensor<36x24xf32>

// Positions are padded for the step: in all layers, whatever these cut, and in what counts labels.
// POSITIONS: module attributes {graph.batch = 8 : i64, graph.padded_seq = 18 : i64, graph.seq = 16 : i64
// No row of the table is looked up that there may not be.
// POSITIONS: graph.layer @embedding.padded(%{{.*}}: tensor<8x18xi64>, {{.*}} tensor<32x24xf32> {{{.*}}graph.parameter = "wpe.weight"
// POSITIONS: %[[INDEX:.*]] = graph.iota {dim = 0 : i64} : tensor<18xi64>
// POSITIONS-NEXT: %[[ROW0:.*]] = arith.constant dense<0> : tensor<18xi64>
// POSITIONS: %[[ROWS:.*]] = arith.select %{{.*}}, %[[INDEX]], %[[ROW0]]
// POSITIONS: graph.embedding %{{.*}}, %[[ROWS]]
// POSITIONS: graph.embedding_backward %{{.*}}, %[[ROWS]]
// POSITIONS: graph.layer @decoder.padded_0(%{{.*}}: tensor<8x18x24xf32>
// POSITIONS-SAME: graph.padding = #graph.padding<[24, 40 pad 2]>
// POSITIONS-NOT: arith.select
// POSITIONS: graph.layer @decoder.padded(%{{.*}}: tensor<8x18x24xf32>
// POSITIONS-NOT: arith.select

// A label of padding is none, before labels are shifted; so nothing else of the loss is masked but a logarithm.
// POSITIONS: graph.layer @head.padded(
// POSITIONS: %[[IGNORED:.*]] = arith.constant dense<3> : tensor<8x18xi64>
// POSITIONS-NEXT: %[[END:.*]] = arith.constant dense<16> : tensor<8x18xi64>
// POSITIONS-NEXT: %[[AT:.*]] = graph.iota {dim = 1 : i64} : tensor<8x18xi64>
// POSITIONS-NEXT: %[[OWN:.*]] = arith.cmpi slt, %[[AT]], %[[END]]
// POSITIONS: %[[LABELS:.*]] = arith.select %[[OWN]], %{{.*}}, %[[IGNORED]]
// POSITIONS-NEXT: %[[NEXT:.*]] = graph.shift %[[LABELS]]
// POSITIONS: math.log
// POSITIONS: arith.select
// POSITIONS: %[[COUNTS:.*]] = arith.cmpi ne, %[[NEXT]]
// POSITIONS: arith.select %[[COUNTS]]
// POSITIONS: graph.backward
// POSITIONS-NOT: arith.select
// POSITIONS: graph.layer @count.padded(
// POSITIONS: arith.select
// POSITIONS-NEXT: graph.shift
// POSITIONS: func.func @step(%[[IDS:.*]]: tensor<8x18xi64>, %[[GIVEN:.*]]: tensor<8x18xi64>)
// POSITIONS-NEXT: graph.total @count.padded(%[[GIVEN]])
// POSITIONS-NEXT: graph.call @embedding.padded(%[[IDS]])

// Positions and the width: each has its mask, of what the other one left.
// BOTH: graph.layer @decoder.padded(
// BOTH: %[[EXP:.*]] = math.exp %{{.*}} : tensor<8x18x42xf32>
// BOTH: %[[FIRST:.*]] = arith.select %{{.*}}, %[[EXP]], %{{.*}} : tensor<8x18x42xi1>, tensor<8x18x42xf32>
// BOTH: %[[BOTH:.*]] = arith.select %{{.*}}, %[[FIRST]], %{{.*}} : tensor<8x18x42xi1>, tensor<8x18x42xf32>
// BOTH-NEXT: arith.mulf %[[BOTH]], %{{.*}}
