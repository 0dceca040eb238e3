// The phase stage: for each stage a list of its layers, what it receives and sends, and its order.
// RUN: echo '{"ranks": 4, "global_batch": 8, "micro_batches": 4, "units": [{"path": "embedding", "strategy": {"tp": 2}}, {"path": "layers.0", "strategy": {"tp": 2}}, {"path": "layers.1", "stage": 1}, {"path": "head", "stage": 1}]}' > %t.json
// RUN: galvatron-opt --plan=%t.json --compile-to=stage %inputs/llama.mlir -o %t.stage.mlir
// RUN: FileCheck %s < %t.stage.mlir
// RUN: galvatron-opt %t.stage.mlir --galvatron-verify-stage | diff %t.stage.mlir -
// RUN: galvatron-opt --plan=%t.json --compile-to=shard %inputs/llama.mlir | galvatron-opt --galvatron-phase-stage | diff %t.stage.mlir -

// CHECK: module attributes {dist.layer_paths = ["model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"]
// CHECK-NOT: func.func
// CHECK-LABEL: dist.stage @stage0 index 0 order <F0, F1, B0, F2, B1, F3, B2, B3> {
// CHECK-NEXT: %[[IDS:.*]] = dist.input "input_ids"
// CHECK-NEXT: %[[X:.*]] = graph.call @embedding.tp2(%[[IDS]]) {{.*}} {dist.layer_index = 0
// CHECK-NEXT: %[[Y:.*]] = graph.call @decoder.tp2(%[[X]]) {{.*}} {dist.layer_index = 1
// The stage that computes a value redistributes it.
// CHECK-NEXT: %[[MOVED:.*]] = graph.call @redistribute.0(%[[Y]])
// CHECK-NEXT: dist.send %[[MOVED]] to 1 tag 0 : tensor<8x16x24xf32, #dist.placement<[4@t * 2@g0, 16, 24]>>
// CHECK-LABEL: dist.stage @stage1 index 1 order <F0, B0, F1, B1, F2, B2, F3, B3> {
// CHECK-NEXT: %[[X:.*]] = dist.receive from 0 tag 0 : tensor<8x16x24xf32, #dist.placement<[4@t * 2@g0, 16, 24]>>
// CHECK-NEXT: %[[Y:.*]] = graph.call @decoder.dp2(%[[X]]) {{.*}} {dist.layer_index = 2
// CHECK-NEXT: %[[LABELS:.*]] = dist.input "labels"
// CHECK-NEXT: %[[LOSS:.*]] = graph.call @head.dp2(%[[Y]], %[[LABELS]]) {{.*}} {dist.layer_index = 3
// CHECK-NEXT: dist.loss %[[LOSS]]
