// RUN: galvatron-opt %s -split-input-file -galvatron-fuse-slices | FileCheck %s

dist.body @b(%x: tensor<4x8xf32>, %w: tensor<8x32xf32>) -> (tensor<4x16xf32>, tensor<4x16xf32>) {
  %0 = graph.slice %w offsets [0, 0] : tensor<8x32xf32> -> tensor<8x16xf32>
  %1 = graph.einsum %x, %0 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %2 = graph.slice %w offsets [0, 16] : tensor<8x32xf32> -> tensor<8x16xf32>
  %3 = graph.einsum %x, %2 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  dist.return %1, %3 : tensor<4x16xf32>, tensor<4x16xf32>
}

// CHECK-LABEL: dist.body @b
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[W:.*]]: tensor<8x32xf32>)
// CHECK: %[[Y:.*]] = graph.einsum %[[X]], %[[W]] "ac,cd->ad" {{.*}} -> tensor<4x32xf32>
// CHECK: %[[FIRST:.*]] = graph.slice %[[Y]] offsets [0, 0]
// CHECK: %[[SECOND:.*]] = graph.slice %[[Y]] offsets [0, 16]
// CHECK: dist.return %[[FIRST]], %[[SECOND]]

// -----

// Pieces in any order; the bias is added to the whole. A parameter may lie with its rows as the result's columns.

dist.body @biased(%x: tensor<4x8xbf16>, %w: tensor<32x8xbf16>, %b: tensor<32xbf16>) -> (tensor<4x8xbf16>, tensor<4x24xbf16>) {
  %0 = graph.slice %w offsets [8, 0] : tensor<32x8xbf16> -> tensor<24x8xbf16>
  %1 = graph.einsum %x, %0 "ac,dc->ad" : (tensor<4x8xbf16>, tensor<24x8xbf16>) -> tensor<4x24xbf16>
  %2 = graph.slice %b offsets [8] : tensor<32xbf16> -> tensor<24xbf16>
  %3 = graph.broadcast %2 dims [1] : tensor<24xbf16> -> tensor<4x24xbf16>
  %4 = graph.sum %1, %3 : (tensor<4x24xbf16>, tensor<4x24xbf16>) -> tensor<4x24xbf16>
  %5 = graph.slice %w offsets [0, 0] : tensor<32x8xbf16> -> tensor<8x8xbf16>
  %6 = graph.einsum %x, %5 "ac,dc->ad" : (tensor<4x8xbf16>, tensor<8x8xbf16>) -> tensor<4x8xbf16>
  %7 = graph.slice %b offsets [0] : tensor<32xbf16> -> tensor<8xbf16>
  %8 = graph.broadcast %7 dims [1] : tensor<8xbf16> -> tensor<4x8xbf16>
  %9 = graph.sum %8, %6 : (tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<4x8xbf16>
  dist.return %9, %4 : tensor<4x8xbf16>, tensor<4x24xbf16>
}

// CHECK-LABEL: dist.body @biased
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xbf16>, %[[W:.*]]: tensor<32x8xbf16>, %[[B:.*]]: tensor<32xbf16>)
// CHECK-NEXT: %[[Y:.*]] = graph.einsum %[[X]], %[[W]] "ac,dc->ad" {{.*}} -> tensor<4x32xbf16>
// CHECK-NEXT: %[[ROWS:.*]] = graph.broadcast %[[B]] dims [1]
// CHECK-NEXT: %[[SUM:.*]] = graph.sum %[[Y]], %[[ROWS]]
// CHECK-NEXT: %[[FIRST:.*]] = graph.slice %[[SUM]] offsets [0, 0] : tensor<4x32xbf16> -> tensor<4x8xbf16>
// CHECK-NEXT: %[[SECOND:.*]] = graph.slice %[[SUM]] offsets [0, 8] : tensor<4x32xbf16> -> tensor<4x24xbf16>
// CHECK-NEXT: dist.return %[[FIRST]], %[[SECOND]]

// -----

// Gradients of the input, the parameter and the bias; what else is added to the input's gradient stays.

dist.body @gradients(%dk: tensor<4x16xbf16>, %dq: tensor<4x16xbf16>, %x: tensor<4x8xbf16>, %w: tensor<8x32xbf16>) -> (tensor<4x8xbf16>, tensor<8x32xf32>, tensor<32xf32>) {
  %0 = graph.slice %w offsets [0, 16] : tensor<8x32xbf16> -> tensor<8x16xbf16>
  %1 = graph.einsum %dk, %0 "ad,cd->ac" : (tensor<4x16xbf16>, tensor<8x16xbf16>) -> tensor<4x8xbf16>
  %2 = graph.einsum %dk, %x "ad,ac->cd" : (tensor<4x16xbf16>, tensor<4x8xbf16>) -> tensor<8x16xf32>
  %3 = graph.pad %2 offsets [0, 16] : tensor<8x16xf32> -> tensor<8x32xf32>
  %4 = graph.reduce sum %dk dims [0] : tensor<4x16xbf16> -> tensor<16xf32>
  %5 = graph.pad %4 offsets [16] : tensor<16xf32> -> tensor<32xf32>
  %6 = graph.slice %w offsets [0, 0] : tensor<8x32xbf16> -> tensor<8x16xbf16>
  %7 = graph.einsum %dq, %6 "ad,cd->ac" : (tensor<4x16xbf16>, tensor<8x16xbf16>) -> tensor<4x8xbf16>
  %8 = graph.einsum %dq, %x "ad,ac->cd" : (tensor<4x16xbf16>, tensor<4x8xbf16>) -> tensor<8x16xf32>
  %9 = graph.pad %8 offsets [0, 0] : tensor<8x16xf32> -> tensor<8x32xf32>
  %10 = graph.reduce sum %dq dims [0] : tensor<4x16xbf16> -> tensor<16xf32>
  %11 = graph.pad %10 offsets [0] : tensor<16xf32> -> tensor<32xf32>
  %12 = graph.sum %1, %x, %7 : (tensor<4x8xbf16>, tensor<4x8xbf16>, tensor<4x8xbf16>) -> tensor<4x8xbf16>
  %13 = graph.sum %3, %9 : (tensor<8x32xf32>, tensor<8x32xf32>) -> tensor<8x32xf32>
  %14 = graph.sum %5, %11 : (tensor<32xf32>, tensor<32xf32>) -> tensor<32xf32>
  dist.return %12, %13, %14 : tensor<4x8xbf16>, tensor<8x32xf32>, tensor<32xf32>
}

// CHECK-LABEL: dist.body @gradients
// CHECK-SAME: (%[[DK:.*]]: tensor<4x16xbf16>, %[[DQ:.*]]: tensor<4x16xbf16>, %[[X:.*]]: tensor<4x8xbf16>, %[[W:.*]]: tensor<8x32xbf16>)
// CHECK-NEXT: %[[DY:.*]] = graph.concat %[[DQ]], %[[DK]] {dim = 1 : i64}
// CHECK-DAG: %[[DW:.*]] = graph.einsum %[[DY]], %[[X]] "ad,ac->cd" {{.*}} -> tensor<8x32xf32>
// CHECK-DAG: %[[DB:.*]] = graph.reduce sum %[[DY]] dims [0] : tensor<4x32xbf16> -> tensor<32xf32>
// CHECK-DAG: %[[PRODUCT:.*]] = graph.einsum %[[DY]], %[[W]] "ad,cd->ac" {{.*}} -> tensor<4x8xbf16>
// CHECK-DAG: %[[DX:.*]] = graph.sum %[[PRODUCT]], %[[X]]
// CHECK-NOT: graph.pad
// CHECK: dist.return %[[DX]], %[[DW]], %[[DB]]

// -----

// Pieces that are not all of the parameter, or that multiply different values, stay.

dist.body @apart(%x: tensor<4x8xf32>, %z: tensor<4x8xf32>, %w: tensor<8x32xf32>, %v: tensor<8x32xf32>) -> (tensor<4x16xf32>, tensor<4x8xf32>, tensor<4x16xf32>, tensor<4x16xf32>) {
  %0 = graph.slice %w offsets [0, 0] : tensor<8x32xf32> -> tensor<8x16xf32>
  %1 = graph.einsum %x, %0 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %2 = graph.slice %w offsets [0, 16] : tensor<8x32xf32> -> tensor<8x8xf32>
  %3 = graph.einsum %x, %2 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %4 = graph.slice %v offsets [0, 0] : tensor<8x32xf32> -> tensor<8x16xf32>
  %5 = graph.einsum %x, %4 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %6 = graph.slice %v offsets [0, 16] : tensor<8x32xf32> -> tensor<8x16xf32>
  %7 = graph.einsum %z, %6 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  dist.return %1, %3, %5, %7 : tensor<4x16xf32>, tensor<4x8xf32>, tensor<4x16xf32>, tensor<4x16xf32>
}

// CHECK-LABEL: dist.body @apart
// CHECK-COUNT-4: graph.slice
// CHECK: dist.return

// -----

// Gradients of biases that sum over other rows, as of keys that are whole where queries are cut, stay.

dist.body @rows(%dk: tensor<8x16xf32>, %dq: tensor<4x16xf32>) -> tensor<32xf32> {
  %0 = graph.reduce sum %dk dims [0] : tensor<8x16xf32> -> tensor<16xf32>
  %1 = graph.pad %0 offsets [16] : tensor<16xf32> -> tensor<32xf32>
  %2 = graph.reduce sum %dq dims [0] : tensor<4x16xf32> -> tensor<16xf32>
  %3 = graph.pad %2 offsets [0] : tensor<16xf32> -> tensor<32xf32>
  %4 = graph.sum %1, %3 : (tensor<32xf32>, tensor<32xf32>) -> tensor<32xf32>
  dist.return %4 : tensor<32xf32>
}

// CHECK-LABEL: dist.body @rows
// CHECK-COUNT-2: graph.reduce
// CHECK-NOT: graph.concat
// CHECK: dist.return
