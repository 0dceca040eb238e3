// The phase shard: bodies on what one device holds, a clone for each strategy of a layer type, and the step as it was.
// RUN: echo '{"ranks": 4, "global_batch": 8, "micro_batches": 4, "units": [{"path": "embedding", "strategy": {"tp": 2}}, {"path": "layers.0", "strategy": {"tp": 2}}, {"path": "layers.1", "stage": 1}, {"path": "head", "stage": 1}]}' > %t.json
// RUN: galvatron-opt --plan=%t.json --compile-to=shard %inputs/llama.mlir -o %t.shard.mlir
// RUN: FileCheck %s < %t.shard.mlir
// RUN: galvatron-opt %t.shard.mlir --galvatron-verify-shard | diff %t.shard.mlir -
// RUN: galvatron-opt --plan=%t.json --compile-to=plan %inputs/llama.mlir | galvatron-opt --galvatron-phase-shard | diff %t.shard.mlir -

// The table's rows are cut: each device adds what it has of a row.
// CHECK-LABEL: dist.body @embedding.tp2.forward(
// CHECK-SAME: tensor<2x16xi64>, %{{.*}}: tensor<16x24xf32> {{{.*}}graph.parameter = "weight"}) -> tensor<2x16x24xf32>
// CHECK: dist.all_reduce sum %{{.*}} axes [0]
// CHECK: dist.layer @embedding.tp2
// CHECK-SAME: gradients = [#dist.placement<[2@g0 * 16, 24]>], homes = [#dist.placement<[2@g0 * 16, 24]>]

// Half of the heads on a device, or half of the samples: gradients of weights are then partial.
// CHECK-LABEL: dist.body @decoder.tp2.forward(
// CHECK-SAME: tensor<2x16x24xf32>, %{{.*}}: tensor<8x24xf32> {{{.*}}graph.parameter = "self_attn.q_proj.weight"}
// CHECK-LABEL: dist.body @decoder.dp2.forward(
// CHECK-SAME: tensor<1x16x24xf32>, %{{.*}}: tensor<16x24xf32> {{{.*}}graph.parameter = "self_attn.q_proj.weight"}
// CHECK-NOT: dist.all_reduce
// CHECK: dist.layer @decoder.dp2
// CHECK-SAME: gradients = [#dist.placement<[16, 24] partial [sum@g0]>

// Where strategies meet a layer of its own moves the values.
// CHECK-LABEL: dist.body @redistribute.0.forward(
// CHECK: dist.shard %{{.*}} axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<2x16x24xf32> -> tensor<1x16x24xf32>
// CHECK-LABEL: dist.body @redistribute.0.backward(
// CHECK: dist.all_gather %{{.*}} axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<1x16x24xf32> -> tensor<2x16x24xf32>

// CHECK-NOT: graph.layer
// CHECK-LABEL: func.func @step(
// CHECK: %[[X:.*]] = graph.call @embedding.tp2(
// CHECK: %[[Y:.*]] = graph.call @decoder.tp2(%[[X]])
// CHECK: %[[MOVED:.*]] = graph.call @redistribute.0(%[[Y]])
// CHECK: %[[Z:.*]] = graph.call @decoder.dp2(%[[MOVED]])
// CHECK: graph.call @head.dp2(%[[Z]], %{{.*}})
