// RUN: galvatron-opt %s -split-input-file -galvatron-fuse-parameters | FileCheck %s

dist.body @l.forward(%x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> tensor<4x32xf32> {
  %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  dist.return %0 : tensor<4x32xf32>
}
dist.body @l.backward(%dy: tensor<4x32xf32>, %x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> (tensor<32x32xf32>, tensor<32x32xf32>) {
  %0 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  dist.return %0, %0 : tensor<32x32xf32>, tensor<32x32xf32>
}
dist.layer @l {forward = @l.forward, backward = @l.backward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [unit], output_gradients = [#dist.placement<[4, 32]>], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], gradients = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], num_saved = 0 : i64}

// CHECK-LABEL: dist.body @l.forward
// CHECK: graph.einsum {{.*}} -> tensor<4x64xf32>

// -----

// q and k read x alike; o reads something else. Both gradients of x are one product, and both weight gradients.

dist.body @attention.forward(%x: tensor<4x32xf32>, %q: tensor<64x32xf32>, %k: tensor<32x32xf32>, %o: tensor<32x64xf32>) -> (tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x64xf32>) {
  %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<64x32xf32>) -> tensor<4x64xf32>
  %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %2 = graph.einsum %0, %o "ac,dc->ad" : (tensor<4x64xf32>, tensor<32x64xf32>) -> tensor<4x32xf32>
  %3 = graph.sum %1, %2 : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<4x32xf32>
  dist.return %3, %1, %0 : tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x64xf32>
}
dist.body @attention.backward(%dy: tensor<4x32xf32>, %x: tensor<4x32xf32>, %q: tensor<64x32xf32>, %k: tensor<32x32xf32>, %o: tensor<32x64xf32>, %sk: tensor<4x32xf32>, %sq: tensor<4x64xf32>) -> (tensor<4x32xf32>, tensor<64x32xf32>, tensor<32x32xf32>, tensor<32x64xf32>) {
  %0 = graph.einsum %dy, %o "ad,dc->ac" : (tensor<4x32xf32>, tensor<32x64xf32>) -> tensor<4x64xf32>
  %1 = arith.mulf %0, %sq : tensor<4x64xf32>
  %2 = arith.mulf %dy, %sk : tensor<4x32xf32>
  %3 = graph.einsum %dy, %sq "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x64xf32>) -> tensor<32x64xf32>
  %4 = graph.einsum %1, %q "ad,dc->ac" : (tensor<4x64xf32>, tensor<64x32xf32>) -> tensor<4x32xf32>
  %5 = graph.einsum %1, %x "ad,ac->dc" : (tensor<4x64xf32>, tensor<4x32xf32>) -> tensor<64x32xf32>
  %6 = graph.einsum %2, %k "ad,dc->ac" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %7 = graph.einsum %2, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  %8 = graph.sum %4, %6, %dy : (tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<4x32xf32>
  dist.return %8, %5, %7, %3 : tensor<4x32xf32>, tensor<64x32xf32>, tensor<32x32xf32>, tensor<32x64xf32>
}
dist.layer @attention {forward = @attention.forward, backward = @attention.backward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [#dist.placement<[4, 32]>], output_gradients = [#dist.placement<[4, 32]>], homes = [#dist.placement<[64, 32]>, #dist.placement<[32, 32]>, #dist.placement<[32, 64]>], gradients = [#dist.placement<[64, 32]>, #dist.placement<[32, 32]>, #dist.placement<[32, 64]>], num_saved = 2 : i64}

// CHECK-LABEL: dist.body @attention.forward
// CHECK-SAME: (%[[X:.*]]: tensor<4x32xf32>, %[[Q:.*]]: tensor<64x32xf32>, %[[K:.*]]: tensor<32x32xf32>, %{{.*}}: tensor<32x64xf32>) -> (tensor<4x32xf32>, tensor<4x96xf32>)
// CHECK: %[[W:.*]] = graph.concat %[[Q]], %[[K]] {dim = 0 : i64, dist.adjacent} {{.*}} -> tensor<96x32xf32>
// CHECK: %[[Y:.*]] = graph.einsum %[[X]], %[[W]] "ac,dc->ad" {{.*}} -> tensor<4x96xf32>
// CHECK: graph.slice %[[Y]] {{.*}}0, 0{{.*}} -> tensor<4x64xf32>
// CHECK: graph.slice %[[Y]] {{.*}}0, 64{{.*}} -> tensor<4x32xf32>
// Both are kept for backward: the whole is.
// CHECK: dist.return %{{.*}}, %[[Y]] : tensor<4x32xf32>, tensor<4x96xf32>

// CHECK-LABEL: dist.body @attention.backward
// CHECK-SAME: %[[Y:[a-z0-9]*]]: tensor<4x96xf32>)
// CHECK-DAG: graph.slice %[[Y]] {{.*}}0, 64{{.*}} -> tensor<4x32xf32>
// CHECK: %[[DY:.*]] = graph.concat %{{.*}}, %{{.*}} {dim = 1 : i64} {{.*}} -> tensor<4x96xf32>
// CHECK: %[[DW:.*]] = graph.einsum %[[DY]], %{{.*}} "ad,ac->dc" {dist.adjacent} {{.*}} -> tensor<96x32xf32>
// CHECK: %[[DQ:.*]] = graph.slice %[[DW]] {{.*}} -> tensor<64x32xf32>
// CHECK: %[[DK:.*]] = graph.slice %[[DW]] {{.*}} -> tensor<32x32xf32>
// CHECK: graph.concat {{.*}} {dim = 0 : i64, dist.adjacent}
// CHECK: %[[DX:.*]] = graph.einsum %[[DY]], %{{.*}} "ad,dc->ac" {{.*}} -> tensor<4x32xf32>
// CHECK: graph.sum %[[DX]], %{{.*}} : (tensor<4x32xf32>, tensor<4x32xf32>)
// CHECK: dist.return %{{.*}}, %[[DQ]], %[[DK]], %{{.*}}
// CHECK: dist.layer @attention
// CHECK-SAME: dist.adjacent = [array<i64: 0, 1>]
// CHECK-SAME: num_saved = 1

// -----

// Gradients that are summed over different ranks cannot be reduced in one piece.

dist.body @apart.forward(%x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> tensor<4x32xf32> {
  %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %2 = arith.mulf %0, %1 : tensor<4x32xf32>
  dist.return %2 : tensor<4x32xf32>
}
dist.body @apart.backward(%dy: tensor<4x32xf32>, %x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> (tensor<4x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>) {
  %0 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  %1 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  dist.return %dy, %0, %1 : tensor<4x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>
}
dist.layer @apart {forward = @apart.forward, backward = @apart.backward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [#dist.placement<[4, 32]>], output_gradients = [#dist.placement<[4, 32]>], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], gradients = [#dist.placement<[32, 32] partial [sum@g0]>, #dist.placement<[32, 32]>], num_saved = 0 : i64}

// CHECK-LABEL: dist.layer @apart
// CHECK-NOT: dist.adjacent

// -----

// Of three parameters that multiply x the frozen one stays apart: the others are one product, and their gradients.
dist.body @frozen.forward(%x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>, %v: tensor<32x32xf32>) -> tensor<4x32xf32> {
  %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %2 = graph.einsum %x, %v "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %3 = graph.sum %0, %1, %2 : (tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<4x32xf32>
  dist.return %3 : tensor<4x32xf32>
}
dist.body @frozen.backward(%dy: tensor<4x32xf32>, %x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>, %v: tensor<32x32xf32>) -> (tensor<4x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>) {
  %0 = graph.einsum %dy, %q "ad,dc->ac" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %1 = graph.einsum %dy, %k "ad,dc->ac" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %2 = graph.einsum %dy, %v "ad,dc->ac" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %3 = graph.sum %0, %1, %2 : (tensor<4x32xf32>, tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<4x32xf32>
  %4 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  %5 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
  dist.return %3, %4, %5 : tensor<4x32xf32>, tensor<32x32xf32>, tensor<32x32xf32>
}
dist.layer @frozen {forward = @frozen.forward, backward = @frozen.backward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [#dist.placement<[4, 32]>], output_gradients = [#dist.placement<[4, 32]>], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>, #dist.placement<[32, 32]>], gradients = [#dist.placement<[32, 32]>, unit, #dist.placement<[32, 32]>], num_saved = 0 : i64}

// CHECK-LABEL: dist.body @frozen.forward
// CHECK-DAG: graph.einsum {{.*}} -> tensor<4x64xf32>
// CHECK-DAG: graph.einsum {{.*}} -> tensor<4x32xf32>
// CHECK-LABEL: dist.body @frozen.backward
// CHECK: %[[DW:.*]] = graph.einsum {{.*}} -> tensor<64x32xf32>
// CHECK: %[[DQ:.*]] = graph.slice %[[DW]] offsets [0, 0]
// CHECK: %[[DV:.*]] = graph.slice %[[DW]] offsets [32, 0]
// CHECK: dist.return %{{.*}}, %[[DQ]], %[[DV]]
// CHECK: dist.layer @frozen
// CHECK-SAME: dist.adjacent = [array<i64: 0, 2>]

// -----

// A layer without a backward has one product, too.
dist.body @no_backward.forward(%x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> tensor<4x32xf32> {
  %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
  %2 = arith.mulf %0, %1 : tensor<4x32xf32>
  dist.return %2 : tensor<4x32xf32>
}
dist.layer @no_backward {forward = @no_backward.forward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: dist.body @no_backward.forward
// CHECK: graph.einsum {{.*}} -> tensor<4x64xf32>
// CHECK: dist.layer @no_backward
// CHECK-SAME: dist.adjacent = [array<i64: 0, 1>]
