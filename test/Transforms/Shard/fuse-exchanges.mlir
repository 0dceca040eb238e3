// RUN: galvatron-opt %s --galvatron-fuse-exchanges | FileCheck %s

// CHECK-LABEL: graph.layer @heads
// CHECK: %[[BOTH:.*]]:2 = dist.coalesced_all_to_all %arg0, %arg1 axes [0]
// CHECK: graph.return %[[BOTH]]#0, %[[BOTH]]#1
graph.layer @heads(%k: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>, %v: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>) -> (tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>) {
  %0 = dist.all_to_all %k axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 2 : i64, split_outer = 1 : i64} : tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>> -> tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
  %1 = dist.all_to_all %v axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 2 : i64, split_outer = 1 : i64} : tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>> -> tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
  graph.return %0, %1 : tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
}

// A view of the first result moves down, a view that leads to the second operand up.
// CHECK-LABEL: graph.layer @views_move
// CHECK: %[[H:.*]] = graph.activation
// CHECK-NEXT: %[[T:.*]] = graph.transpose %[[H]]
// CHECK-NEXT: %[[BOTH:.*]]:2 = dist.coalesced_all_to_all %arg0, %[[T]] axes [0]
// CHECK-SAME: concat_dims = array<i64: 0, 1>
// CHECK-SAME: split_dims = array<i64: 1, 0>
// CHECK-NEXT: graph.transpose %[[BOTH]]#0
// CHECK-NEXT: graph.return
graph.layer @views_move(%x: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>) -> (tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>, tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>) {
  %0 = dist.all_to_all %x axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %1 = graph.transpose %0 [1, 0] : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>
  %2 = graph.activation relu %x : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
  %3 = graph.transpose %2 [1, 0] : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>
  %4 = dist.all_to_all %3 axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 0 : i64, split_outer = 1 : i64} : tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>> -> tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>
  graph.return %1, %4 : tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>, tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>
}

// What is sent depends on what was received.
// CHECK-LABEL: graph.layer @dependent
// CHECK-NOT: coalesced
graph.layer @dependent(%x: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>) -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> {
  %0 = dist.all_to_all %x axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %1 = graph.activation relu %0 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %2 = dist.all_to_all %1 axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 0 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
  graph.return %2 : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
}

// Through a view alone.
// CHECK-LABEL: graph.layer @dependent_view
// CHECK-NOT: coalesced
graph.layer @dependent_view(%x: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>) -> tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>> {
  %0 = dist.all_to_all %x axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %1 = graph.transpose %0 [1, 0] : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>>
  %2 = dist.all_to_all %1 axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<4x8xf32, #dist.placement<[2@g0 * 2, 8]>> -> tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>
  graph.return %2 : tensor<4x8xf32, #dist.placement<[4, 2@g0 * 4]>>
}

// A computation reads the first result before the second operand is there.
// CHECK-LABEL: graph.layer @read_before
// CHECK-NOT: coalesced
graph.layer @read_before(%x: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>) -> (tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>) {
  %0 = dist.all_to_all %x axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %1 = graph.activation relu %0 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %2 = graph.activation relu %x : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
  %3 = dist.all_to_all %2 axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  graph.return %1, %3 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
}

// Other mesh axes are other devices.
// CHECK-LABEL: graph.layer @other_axes
// CHECK-NOT: coalesced
graph.layer @other_axes(%x: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>, %y: tensor<8x4xf32, #dist.placement<[2@g1 * 4, 4]>>) -> (tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<8x4xf32, #dist.placement<[8, 2@g1 * 2]>>) {
  %0 = dist.all_to_all %x axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  %1 = dist.all_to_all %y axes [1] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g1 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g1 * 2]>>
  graph.return %0, %1 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<8x4xf32, #dist.placement<[8, 2@g1 * 2]>>
}

// Backward by itself: the gradients of both wait for neither.
// CHECK-LABEL: graph.layer @backward
// CHECK: graph.backward
// CHECK-NEXT: %[[H:.*]] = graph.activation relu
// CHECK-NEXT: dist.coalesced_all_to_all %{{.*}}, %[[H]]
// CHECK-NEXT: graph.activation relu
graph.layer @backward(%x: tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, %z: tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>) -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> {
  %y = dist.all_to_all %x axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 0 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
  graph.backward(%dy: tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>) {
    %h = graph.activation relu %dy : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
    %0 = dist.all_to_all %dy axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
    %1 = graph.activation relu %0 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
    %2 = dist.all_to_all %h axes [0] {concat_dim = 0 : i64, concat_outer = 1 : i64, split_dim = 1 : i64, split_outer = 1 : i64} : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>> -> tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
    graph.return %1, %2 : tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>, tensor<8x4xf32, #dist.placement<[8, 2@g0 * 2]>>
  }
  graph.return %y : tensor<8x4xf32, #dist.placement<[2@g0 * 4, 4]>>
}
