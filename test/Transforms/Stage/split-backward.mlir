// RUN: galvatron-opt %s -split-input-file --galvatron-split-backward | FileCheck %s

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zb-h1">} {
  dist.body @l.forward(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> { %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32> dist.return %0 : tensor<4x8xf32> }
  dist.body @l.backward(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<8x8xf32>) {
    %0 = graph.einsum %dy, %w "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %1 = graph.einsum %dy, %x "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    dist.return %0, %1 : tensor<4x8xf32>, tensor<8x8xf32>
  }
  dist.layer @l {backward = @l.backward, forward = @l.forward, gradients = [#dist.placement<[8, 8]>], homes = [#dist.placement<[8, 8]>], input_gradients = [#dist.placement<[4, 8]>], inputs = [#dist.placement<[4, 8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[4, 8]>], outputs = [#dist.placement<[4, 8]>]}
  dist.stage @stage0 index 0 { %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #dist.placement<[4, 8]>> %1 = graph.call @l(%0) parameters ["w"] path "l" : (tensor<4x8xf32, #dist.placement<[4, 8]>>) -> tensor<4x8xf32, #dist.placement<[4, 8]>> dist.send %1 to 1 tag 1 : tensor<4x8xf32, #dist.placement<[4, 8]>> }
}

// CHECK-LABEL: dist.body @l.backward
// CHECK-NEXT: %[[DX:.*]] = graph.einsum %arg0, %arg2 "bo,oi->bi"
// CHECK-NEXT: dist.return %[[DX]] : tensor<4x8xf32>
// CHECK-LABEL: dist.body @l.weights
// CHECK-NEXT: %[[DW:.*]] = graph.einsum %arg0, %arg1 "bo,bi->oi"
// CHECK-NEXT: dist.return %[[DW]] : tensor<8x8xf32>
// CHECK: dist.layer @l {{.*}} put_off = array<i64: 0>, weights = @l.weights}

// -----

#x = #dist.placement<[4, 8]>
#w = #dist.placement<[8, 8]>

// What B computes and W reads is kept; a bias stays, and so does what is recomputed; a view of an argument is read where it
// lies; a gather that nothing else needs goes along; one that both need is made again, as the strategy keeps none.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "zb-h1">} {
  dist.body @m.forward(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf32>) -> (tensor<4x8xf32>, tensor<8x4xf32>) {
    %0 = graph.transpose %x [1, 0] : tensor<4x8xf32> -> tensor<8x4xf32>
    dist.return %x, %0 : tensor<4x8xf32>, tensor<8x4xf32>
  }
  dist.body @m.backward(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf32>, %saved: tensor<8x4xf32>) -> (tensor<4x8xf32>, tensor<8x8xf32>, tensor<8xf32>) {
    %again = math.exp %x : tensor<4x8xf32>
    %dh = arith.mulf %dy, %again : tensor<4x8xf32>
    %whole = dist.all_gather %dh axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<4x8xf32> -> tensor<8x8xf32>
    %dx = graph.einsum %whole, %w "bo,oi->bi" : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
    %piece = dist.reduce_scatter sum %dx axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8x8xf32> -> tensor<4x8xf32>
    %db = graph.reduce sum %dh dims [0] : tensor<4x8xf32> -> tensor<8xf32>
    %h = math.tanh %again : tensor<4x8xf32>
    %rows = dist.all_gather %h axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<4x8xf32> -> tensor<8x8xf32>
    %one = graph.einsum %whole, %rows "bo,bi->oi" : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
    %view = graph.transpose %saved [1, 0] : tensor<8x4xf32> -> tensor<4x8xf32>
    %other = graph.einsum %dy, %view "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    %dw = arith.addf %one, %other : tensor<8x8xf32>
    dist.return %piece, %dw, %db : tensor<4x8xf32>, tensor<8x8xf32>, tensor<8xf32>
  }
  dist.layer @m {backward = @m.backward, forward = @m.forward, gradients = [#w, #dist.placement<[8]>], homes = [#w, #dist.placement<[8]>], input_gradients = [#x], inputs = [#x], num_saved = 1 : i64, output_gradients = [#x], outputs = [#x]}
  dist.stage @stage0 index 0 {
    %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #x>
    %1 = graph.call @m(%0) parameters ["w", "b"] path "m" : (tensor<4x8xf32, #x>) -> tensor<4x8xf32, #x>
    dist.send %1 to 1 tag 1 : tensor<4x8xf32, #x>
  }
}

// CHECK-LABEL: dist.body @m.backward
// CHECK-NEXT: %[[AGAIN:.*]] = math.exp %arg1
// CHECK-NEXT: %[[DH:.*]] = arith.mulf %arg0, %[[AGAIN]]
// CHECK-NEXT: dist.all_gather %[[DH]]
// CHECK-NEXT: graph.einsum
// CHECK-NEXT: %[[DX:.*]] = dist.reduce_scatter
// CHECK-NEXT: %[[DB:.*]] = graph.reduce sum %[[DH]]
// CHECK-NEXT: %[[H:.*]] = math.tanh %[[AGAIN]]
// CHECK-NEXT: dist.return %[[DX]], %[[H]], %[[DH]], %[[DB]]
// CHECK-LABEL: dist.body @m.weights
// CHECK-SAME: %arg5: tensor<4x8xf32>, %arg6: tensor<4x8xf32>
// CHECK-NEXT: %[[ROWS:.*]] = dist.all_gather %arg5
// CHECK-NEXT: %[[WHOLE:.*]] = dist.all_gather %arg6
// CHECK-NEXT: %[[ONE:.*]] = graph.einsum %[[WHOLE]], %[[ROWS]] "bo,bi->oi"
// CHECK-NEXT: %[[VIEW:.*]] = graph.transpose %arg4 [1, 0]
// CHECK-NEXT: %[[OTHER:.*]] = graph.einsum %arg0, %[[VIEW]] "bo,bi->oi"
// CHECK-NEXT: %[[DW:.*]] = arith.addf %[[ONE]], %[[OTHER]]
// CHECK-NEXT: dist.return %[[DW]]
// CHECK: dist.layer @m {{.*}} num_kept = 2 : i64, {{.*}} put_off = array<i64: 0>, weights = @m.weights}

// -----

#x = #dist.placement<[4, 8]>
#w = #dist.placement<[8, 8]>

// One layer as the plan says and as it does not: what ends in the loss stays whole, a call that is split has a layer of its own.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zb-h1">} {
  dist.body @l.forward(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    dist.return %0 : tensor<4x8xf32>
  }
  dist.body @l.backward(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<8x8xf32>) {
    %0 = graph.einsum %dy, %w "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %1 = graph.einsum %dy, %x "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    dist.return %0, %1 : tensor<4x8xf32>, tensor<8x8xf32>
  }
  dist.layer @l {backward = @l.backward, forward = @l.forward, gradients = [#w], homes = [#w], input_gradients = [#x], inputs = [#x], num_saved = 0 : i64, output_gradients = [#x], outputs = [#x]}
  dist.stage @stage0 index 0 {
    %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #x>
    %1 = graph.call @l(%0) parameters ["w"] path "split" : (tensor<4x8xf32, #x>) -> tensor<4x8xf32, #x>
    %2 = graph.call @l(%1) parameters ["w2"] path "whole" {plan.split_backward = false} : (tensor<4x8xf32, #x>) -> tensor<4x8xf32, #x>
    %3 = graph.call @l(%2) parameters ["w3"] path "head" : (tensor<4x8xf32, #x>) -> tensor<4x8xf32, #x>
    dist.loss %3 : tensor<4x8xf32, #x>
  }
}

// CHECK-LABEL: dist.body @l.backward
// CHECK-SAME: -> (tensor<4x8xf32>, tensor<8x8xf32>) {
// CHECK: dist.body @l.split.weights
// CHECK: dist.layer @l {
// CHECK-NOT: weights =
// CHECK: dist.layer @l.split {{.*}} weights = @l.split.weights}
// CHECK: graph.call @l.split({{.*}} path "split"
// CHECK: graph.call @l({{.*}} path "whole"
// CHECK: graph.call @l({{.*}} path "head"

// -----

// Under other schedules nothing is.
module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "1f1b">} {
  dist.body @l.forward(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> {
    %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    dist.return %0 : tensor<4x8xf32>
  }
  dist.body @l.backward(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<8x8xf32>) {
    %0 = graph.einsum %dy, %w "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
    %1 = graph.einsum %dy, %x "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
    dist.return %0, %1 : tensor<4x8xf32>, tensor<8x8xf32>
  }
  dist.layer @l {backward = @l.backward, forward = @l.forward, gradients = [#dist.placement<[8, 8]>], homes = [#dist.placement<[8, 8]>], input_gradients = [#dist.placement<[4, 8]>], inputs = [#dist.placement<[4, 8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[4, 8]>], outputs = [#dist.placement<[4, 8]>]}
  dist.stage @stage0 index 0 {
    %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #dist.placement<[4, 8]>>
    %1 = graph.call @l(%0) parameters ["w"] path "l" : (tensor<4x8xf32, #dist.placement<[4, 8]>>) -> tensor<4x8xf32, #dist.placement<[4, 8]>>
    dist.send %1 to 1 tag 1 : tensor<4x8xf32, #dist.placement<[4, 8]>>
  }
}

// CHECK-LABEL: dist.body @l.backward
// CHECK-NOT: dist.body @l.weights
