// RUN: galvatron-opt %s --galvatron-pad-dimensions | FileCheck %s
// RUN: echo '{"ranks":3,"units":[{"path":"embedding","strategy":{"tp":3,"pad":true}},{"path":"layers.0","strategy":{"tp":3,"pad":true}},{"path":"layers.1"},{"path":"head","strategy":{"tp":3,"pad":true}}]}' > %t.json
// RUN: galvatron-opt %inputs/llama.mlir --galvatron-differentiate --galvatron-expand-cross-entropy --cse --galvatron-annotate-plan=plan=%t.json --galvatron-pad-dimensions | FileCheck %s --check-prefix=LLAMA

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

