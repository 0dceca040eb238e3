// A plan names values of a layer that backward recomputes: bits on calls, names and tags on the layer.
// RUN: echo '{"ranks":1,"micro_batches":1,"units":[{"path":"mlp","strategy":{"recompute_values":["up","head"]}},{"path":"loss"}]}' > %t.json
// RUN: not galvatron-opt %s --galvatron-differentiate --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: layer 'mlp' expects key 'recompute_values' to name values out of gate, up, down, but got 'head'; remove it, or use recompute true
// RUN: echo '{"ranks":1,"micro_batches":1,"units":[{"path":"mlp","strategy":{"recompute_values":["up","down"]}},{"path":"loss"}]}' > %t.json
// RUN: galvatron-opt %s --galvatron-differentiate --galvatron-annotate-plan=plan=%t.json | FileCheck %s
// RUN: galvatron-opt %s --galvatron-differentiate --galvatron-annotate-plan=plan=%t.json --galvatron-assign-placements --galvatron-insert-collectives --galvatron-plan-recomputation | FileCheck %s --check-prefix=AGAIN
// RUN: galvatron-opt %s --galvatron-differentiate --galvatron-annotate-plan=plan=%t.json | sed 's/, plan.values = \[[^]]*\]//; s/plan.values = \[[^]]*\]//' | not galvatron-opt --galvatron-verify-plan 2>&1 | FileCheck %s --check-prefix=TAGS
// TAGS: error: {{.*}}expects 'plan.values' of its layer to name each value of 'recompute_values', but it has 0 names; run annotate-plan

// CHECK: graph.layer @mlp
// CHECK-SAME: plan.values = ["gate", "up", "down"]
// CHECK: graph.einsum %{{.*}}, %{{.*}} "bi,oi->bo" {plan.value = 0 : i64}
// CHECK: graph.einsum %{{.*}}, %{{.*}} "bi,oi->bo" {plan.value = 1 : i64}
// CHECK: plan.strategy = #plan.strategy<recompute_values = 6>

// Of the two products that the gate reads, one is kept.
// AGAIN: graph.layer @mlp.dp1.values6
// AGAIN-NOT: plan.value
// AGAIN: graph.backward
// AGAIN: graph.einsum %arg0, %arg2 "bi,oi->bo"
// AGAIN-NOT: graph.einsum %arg0, %arg1 "bi,oi->bo"
// AGAIN: graph.return
module attributes {graph.batch = 4 : i64, graph.seq = 1 : i64} {
  graph.layer @mlp(%x: tensor<4x8xf32>, %g: tensor<8x8xf32> {graph.parameter = "gate.weight"}, %u: tensor<8x8xf32> {graph.parameter = "up.weight"}, %d: tensor<8x8xf32> {graph.parameter = "down.weight"}) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %g "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %1 = graph.einsum %x, %u "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %2 = arith.mulf %0, %1 : tensor<4x8xf32>
    %3 = graph.einsum %2, %d "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %4 = arith.mulf %3, %3 : tensor<4x8xf32>
    graph.return %4 : tensor<4x8xf32>
  }
  graph.layer @loss(%x: tensor<4x8xf32>) -> tensor<f32> {
    %0 = graph.reduce sum %x dims [0, 1] : tensor<4x8xf32> -> tensor<f32>
    graph.return %0 : tensor<f32>
  }
  func.func @step(%x: tensor<4x8xf32>) -> tensor<f32> {
    %0 = graph.call @mlp(%x) parameters ["g", "u", "d"] path "mlp" : (tensor<4x8xf32>) -> tensor<4x8xf32>
    %1 = graph.call @loss(%0) parameters [] path "loss" : (tensor<4x8xf32>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}
