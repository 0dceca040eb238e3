// The phase plan: every call has its part, text holds all of it, and later phases start from text.
// RUN: galvatron-opt --search --compile-to=plan %inputs/llama.mlir --ranks=4 --memory=120KiB -o %t.plan.mlir
// RUN: FileCheck %s < %t.plan.mlir
// RUN: galvatron-opt %t.plan.mlir --galvatron-verify-plan -o %t.again.mlir
// RUN: diff %t.plan.mlir %t.again.mlir
// RUN: galvatron-opt --search --compile-to=lower %inputs/llama.mlir --ranks=4 --memory=120KiB -o %t.direct.mlir
// RUN: galvatron-opt --compile-to=shard %t.plan.mlir | galvatron-opt --compile-to=stage - | galvatron-opt --compile-to=lower - -o %t.steps.mlir
// RUN: diff %t.direct.mlir %t.steps.mlir
// RUN: galvatron-opt --galvatron-phase-import --galvatron-phase-differentiate --galvatron-phase-plan="ranks=4 memory=1GiB" %inputs/imported/llama-sdpa.mlir | FileCheck %s --check-prefix=PHASES

// CHECK: module attributes {graph.batch = 8 : i64
// CHECK-SAME: plan.pipeline = #plan.pipeline<stages = 2, devices = 2
// CHECK-SAME: plan.predicted_step_seconds =
// CHECK: graph.call @embedding({{.*}} {plan.stage = 0 : i64, plan.strategy = #plan.strategy<
// CHECK: graph.call @decoder({{.*}} {plan.stage = 0 : i64, plan.strategy = #plan.strategy<
// CHECK: graph.call @decoder({{.*}} {plan.stage = 1 : i64, plan.strategy = #plan.strategy<
// CHECK: graph.call @head({{.*}} {plan.stage = 1 : i64, plan.strategy = #plan.strategy<

// PHASES: plan.pipeline = #plan.pipeline<
// PHASES: graph.call @{{.*}} path "model.embed_tokens" {plan.stage = 0
