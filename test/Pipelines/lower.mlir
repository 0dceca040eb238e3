// The phase lower: calls and loops on buffers, and how much memory a rank of each stage takes.
// RUN: echo '{"ranks": 4, "global_batch": 8, "micro_batches": 4, "units": [{"path": "embedding", "strategy": {"tp": 2}}, {"path": "layers.0", "strategy": {"tp": 2}}, {"path": "layers.1", "stage": 1}, {"path": "head", "stage": 1}]}' > %t.json
// RUN: galvatron-opt --plan=%t.json --compile-to=lower %inputs/llama.mlir -o %t.lower.mlir
// RUN: FileCheck %s < %t.lower.mlir
// RUN: galvatron-opt %t.lower.mlir --galvatron-verify-lower | diff %t.lower.mlir -
// RUN: galvatron-opt --plan=%t.json --compile-to=stage %inputs/llama.mlir | galvatron-opt --galvatron-phase-lower | diff %t.lower.mlir -

// CHECK: module attributes {{{.*}}exec.groups = [array<i64: 0>]
// CHECK-NOT: dist.body
// A function's last buffer is its scratch; before it what it writes.
// CHECK-LABEL: exec.function @embedding.tp2.forward(
// CHECK-SAME: %[[IDS:.*]]: memref<2x16xi64>, %[[TABLE:.*]]: memref<16x24xf32> {{{.*}}}, %[[Y:.*]]: memref<2x16x24xf32>, %[[SCRATCH:.*]]: memref<?xi8>) attributes {exec.scratch_bytes = 3072 : i64}
// CHECK: %[[WHOLE:.*]] = exec.buffer %[[Y]][0]
// CHECK: %[[PLACE:.*]] = exec.buffer %[[SCRATCH]][0]
// CHECK: %[[PART:.*]] = exec.buffer %[[PLACE]][0]
// CHECK: exec.call "embedding"(%[[TABLE]], %[[IDS]], %[[PART]])
// CHECK: %[[SUM:.*]] = exec.buffer %[[WHOLE]][0]
// CHECK: exec.call "all_reduce"(%[[PART]], %[[SUM]])
// CHECK-LABEL: exec.function @decoder.dp2.backward(
// CHECK: exec.loops [
// CHECK: exec.call "matmul"(
// CHECK: dist.layer @decoder.dp2
// CHECK-LABEL: dist.stage @stage0 index 0
// CHECK-SAME: attributes {dist.arena_bytes = {{[0-9]+}} : i64, dist.calls = 48 : i64, dist.channels = 2 : i64, dist.entries = 36 : i64, dist.group_sizes = array<i64: 2>}
// CHECK-LABEL: dist.stage @stage1 index 1
// CHECK-SAME: attributes {dist.arena_bytes = {{[0-9]+}} : i64, dist.calls = 14 : i64, dist.channels = 2 : i64, dist.entries = 24 : i64, dist.group_sizes = array<i64: 2>}
