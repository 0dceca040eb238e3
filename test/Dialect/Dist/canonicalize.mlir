// RUN: galvatron-opt %s --canonicalize | FileCheck %s

// CHECK-LABEL: func.func @redistribution_to_itself
// CHECK-SAME: %[[X:.*]]: tensor
// CHECK-NEXT: return %[[X]]
func.func @redistribution_to_itself(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
  %0 = dist.redistribute %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
  return %0 : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
}
