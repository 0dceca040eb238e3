// RUN: galvatron-opt %s --galvatron-plan-recomputation | FileCheck %s

// CHECK-LABEL: graph.layer @relu
// CHECK: graph.backward(%[[DY:.*]]: tensor<8xf32>) {
// CHECK-NEXT: %[[AGAIN:.*]] = graph.activation relu
// CHECK-NEXT: arith.mulf %[[DY]], %[[AGAIN]]
graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
  %y = graph.activation relu %x : tensor<8xf32> -> tensor<8xf32>
  graph.backward(%dy: tensor<8xf32>) {
    %dx = arith.mulf %dy, %y : tensor<8xf32>
    graph.return %dx : tensor<8xf32>
  }
  graph.return %y : tensor<8xf32>
}

// A product is kept; its transpose and what is elementwise in it are recomputed.
// CHECK-LABEL: graph.layer @views_and_elementwise_of_kept
// CHECK: %[[H:.*]] = graph.einsum
// CHECK: graph.backward
// CHECK-NEXT: %[[T:.*]] = graph.transpose %[[H]]
// CHECK-NEXT: graph.einsum %{{.*}}, %[[T]]
// CHECK-NEXT: %[[A:.*]] = graph.activation silu %[[H]]
// CHECK-NEXT: graph.einsum %{{.*}}, %[[A]]
// CHECK-NEXT: graph.activation_backward silu %{{.*}}, %[[H]]
graph.layer @views_and_elementwise_of_kept(%x: tensor<8x4xf32>, %w: tensor<4x4xf32> {graph.parameter = "w"}) -> tensor<8x4xf32> {
  %h = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<4x4xf32>) -> tensor<8x4xf32>
  %t = graph.transpose %h [1, 0] : tensor<8x4xf32> -> tensor<4x8xf32>
  %a = graph.activation silu %h : tensor<8x4xf32> -> tensor<8x4xf32>
  graph.backward(%dy: tensor<8x4xf32>) {
    %d0 = graph.einsum %dy, %t "bi,ib->bi" : (tensor<8x4xf32>, tensor<4x8xf32>) -> tensor<8x4xf32>
    %dw = graph.einsum %dy, %a "bo,bi->oi" : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<4x4xf32>
    %d1 = graph.activation_backward silu %d0, %h : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
    graph.return %d1, %dw : tensor<8x4xf32>, tensor<4x4xf32>
  }
  graph.return %a : tensor<8x4xf32>
}

// Reductions are kept, also where they are elementwise otherwise.
// CHECK-LABEL: graph.layer @statistics_are_kept
// CHECK: %[[S:.*]] = graph.reduce
// CHECK: graph.backward
// CHECK-NEXT: graph.broadcast %[[S]]
graph.layer @statistics_are_kept(%x: tensor<8x4xf32>) -> tensor<8x4xf32> {
  %s = graph.reduce sum %x dims [1] : tensor<8x4xf32> -> tensor<8xf32>
  graph.backward(%dy: tensor<8x4xf32>) {
    %b = graph.broadcast %s dims [0] : tensor<8xf32> -> tensor<8x4xf32>
    %dx = arith.mulf %dy, %b : tensor<8x4xf32>
    graph.return %dx : tensor<8x4xf32>
  }
  graph.return %x : tensor<8x4xf32>
}

// CHECK-LABEL: graph.layer @recompute_runs_forward_again
// CHECK: graph.backward
// CHECK-NEXT: %[[P:.*]] = graph.einsum
// CHECK-NEXT: %[[R:.*]] = dist.all_reduce sum %[[P]]
// CHECK-NEXT: arith.mulf %{{.*}}, %[[R]]
graph.layer @recompute_runs_forward_again(%x: tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, %w: tensor<4x4xf32, #dist.placement<[4, 2@g0 * 2]>> {graph.parameter = "w"}) -> tensor<8x4xf32, #dist.placement<[8, 4]>> attributes {plan.strategy = #plan.strategy<tp = 2, recompute = true>} {
  %p = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<4x4xf32, #dist.placement<[4, 2@g0 * 2]>>) -> tensor<8x4xf32, #dist.placement<[8, 4] partial [sum@g0]>>
  %y = dist.all_reduce sum %p axes [0] : tensor<8x4xf32, #dist.placement<[8, 4] partial [sum@g0]>> -> tensor<8x4xf32, #dist.placement<[8, 4]>>
  graph.backward(%dy: tensor<8x4xf32, #dist.placement<[8, 4]>>) {
    %d = arith.mulf %dy, %y : tensor<8x4xf32, #dist.placement<[8, 4]>>
    %dx = graph.einsum %d, %w "bo,oi->bi" : (tensor<8x4xf32, #dist.placement<[8, 4]>>, tensor<4x4xf32, #dist.placement<[4, 2@g0 * 2]>>) -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
    %dw = graph.einsum %d, %x "bo,bi->oi" : (tensor<8x4xf32, #dist.placement<[8, 4]>>, tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>) -> tensor<4x4xf32, #dist.placement<[4, 2@g0 * 2]>>
    graph.return %dx, %dw : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<4x4xf32, #dist.placement<[4, 2@g0 * 2]>>
  }
  graph.return %y : tensor<8x4xf32, #dist.placement<[8, 4]>>
}

// Of a mask, the integers that it is made of are kept, where they were gathered.
// CHECK-LABEL: graph.layer @masks_are_made_again
// CHECK: %[[KEYS:.*]] = dist.all_gather
// CHECK: graph.backward
// CHECK-NOT: dist.all_gather
// CHECK: graph.broadcast %[[KEYS]] dims [1]
// CHECK: arith.cmpi eq
// CHECK: %[[MASK:.*]] = arith.select
// CHECK-NEXT: arith.mulf %{{.*}}, %[[MASK]]
graph.layer @masks_are_made_again(%x: tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>, %documents: tensor<8xi64, #dist.placement<[2@g0 * 4]>>) -> tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>> {
  %zero = arith.constant dense<0.0> : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
  %one = arith.constant dense<1.0> : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
  %all = dist.all_gather %documents axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8xi64, #dist.placement<[2@g0 * 4]>> -> tensor<8xi64, #dist.placement<[8]>>
  %q = graph.broadcast %documents dims [0] : tensor<8xi64, #dist.placement<[2@g0 * 4]>> -> tensor<8x8xi64, #dist.placement<[2@g0 * 4, 8]>>
  %k = graph.broadcast %all dims [1] : tensor<8xi64, #dist.placement<[8]>> -> tensor<8x8xi64, #dist.placement<[2@g0 * 4, 8]>>
  %same = arith.cmpi eq, %q, %k : tensor<8x8xi64, #dist.placement<[2@g0 * 4, 8]>>
  %mask = arith.select %same, %one, %zero : tensor<8x8xi1, #dist.placement<[2@g0 * 4, 8]>>, tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
  %y = arith.mulf %x, %mask : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
  graph.backward(%dy: tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>) {
    %dx = arith.mulf %dy, %mask : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
    graph.return %dx : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
  }
  graph.return %y : tensor<8x8xf32, #dist.placement<[2@g0 * 4, 8]>>
}
