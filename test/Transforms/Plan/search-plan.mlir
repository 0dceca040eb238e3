// RUN: galvatron-opt %s --galvatron-search-plan="ranks=1 memory=1GiB" | FileCheck %s
// RUN: galvatron-opt --compile-to=differentiate %inputs/llama.mlir -o %t.mlir
// RUN: galvatron-opt %t.mlir --galvatron-search-plan="ranks=2 memory=1GiB" | FileCheck %s --check-prefix=ROOMY
// RUN: galvatron-opt %t.mlir --galvatron-search-plan="ranks=4 memory=100KiB" | FileCheck %s --check-prefix=TIGHT
// RUN: galvatron-opt %t.mlir --galvatron-search-plan="ranks=4 memory=1GiB reserve=1073639424" | FileCheck %s --check-prefix=TIGHT
// RUN: echo '{"nodes": 1, "devices_per_node": 4, "memory_bytes_per_device": 102400}' > %t.json
// RUN: galvatron-opt %t.mlir --galvatron-search-plan="cluster=%t.json" | FileCheck %s --check-prefix=TIGHT
// RUN: galvatron-opt --compile-to=differentiate %inputs/gpt2.mlir -o %t.gpt2.mlir
// RUN: galvatron-opt %t.gpt2.mlir --galvatron-search-plan="ranks=4 memory=80KiB" | FileCheck %s --check-prefix=TIED
// RUN: galvatron-opt %t.mlir --galvatron-search-plan="ranks=2 memory=1GiB micro-batches=4" | FileCheck %s --check-prefix=FOUR

module attributes {graph.batch = 1 : i64} {
  graph.layer @same(%x: tensor<1xf32>) -> tensor<1xf32> {
    graph.backward(%dy: tensor<1xf32>) {
      graph.return %dy : tensor<1xf32>
    }
    graph.return %x : tensor<1xf32>
  }
  func.func @step(%x: tensor<1xf32>) -> tensor<1xf32> {
    %0 = graph.call @same(%x) parameters [] path "same" : (tensor<1xf32>) -> tensor<1xf32>
    return %0 : tensor<1xf32>
  }
}

// CHECK: module attributes {graph.batch = 1 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1
// CHECK: path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<>}

// With room for everything a tiny model does best on two devices without any communication inside of a step; each
// updates half of the states.
// ROOMY: plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1
// ROOMY-SAME: plan.predicted_step_seconds
// ROOMY: path "model.layers.0" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2, zero = 1>}

// FOUR: micro_batches = 4

// Less memory, or as much of it reserved: states must be divided, and some values are recomputed. The cluster file
// says the same as the options.
// TIGHT: plan.pipeline = #plan.pipeline<stages = 2, devices = 2
// TIGHT: path "model.layers.0" {{.*}}#plan.strategy<dp = 2, zero = 1, recompute_values = {{[0-9]+}}>
// TIGHT: path "lm_head" {plan.stage = 1 : i64

// Layers that share a parameter divide it alike.
// TIED: path "transformer.wte" {{.*}}plan.strategy = #plan.strategy<[[STRATEGY:[^>]*]]>
// TIED: path "lm_head" {{.*}}plan.strategy = #plan.strategy<[[STRATEGY]]>
