// RUN: galvatron-opt %s --galvatron-normalize-equations | FileCheck %s

func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
  %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
  return %0 : tensor<2x4x16xf32>
}

// CHECK-LABEL: @step
// CHECK: graph.einsum %{{.*}}, %{{.*}} "abc,dc->abd"
