// RUN: galvatron-opt %s --galvatron-assign-precision | FileCheck %s

// A model that casts to bf16 by itself: what it computes there is widened, too, and casts of what is bf16 now go.
// CHECK-LABEL: graph.layer @casts_of_its_own
// CHECK-SAME: %[[X:.*]]: tensor<4xbf16>
graph.layer @casts_of_its_own(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: %[[P:.*]] = arith.sitofp %{{.*}} : tensor<4xi64> to tensor<4xbf16>
  // CHECK: %[[WX:.*]] = arith.extf %[[X]]
  // CHECK: %[[WP:.*]] = arith.extf %[[P]]
  // CHECK: %[[Y:.*]] = arith.mulf %[[WX]], %[[WP]] : tensor<4xf32>
  // CHECK: %[[R:.*]] = arith.truncf %[[Y]] : tensor<4xf32> to tensor<4xbf16>
  // CHECK-NEXT: graph.return %[[R]]
  %i = graph.iota {dim = 0 : i64} : tensor<4xi64>
  %p = arith.sitofp %i : tensor<4xi64> to tensor<4xbf16>
  %n = arith.truncf %x : tensor<4xf32> to tensor<4xbf16>
  %y = arith.mulf %n, %p : tensor<4xbf16>
  %w = arith.extf %y : tensor<4xbf16> to tensor<4xf32>
  graph.return %w : tensor<4xf32>
}
