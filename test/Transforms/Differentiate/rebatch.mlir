// RUN: galvatron-opt %s -split-input-file --galvatron-rebatch=batch=32 | FileCheck %s
// RUN: galvatron-opt %s -split-input-file --galvatron-rebatch | FileCheck %s --check-prefix=KEEP

// CHECK: graph.batch = 32
// CHECK: func.func @step(%{{.*}}: tensor<32x16xi64>, %{{.*}}: tensor<32x16xi64>) -> tensor<32x16xi64>
// KEEP: graph.batch = 8
// KEEP: func.func @step(%{{.*}}: tensor<8x16xi64>
module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64} {
  func.func @step(%ids: tensor<8x16xi64>, %labels: tensor<8x16xi64>) -> tensor<8x16xi64> {
    return %ids : tensor<8x16xi64>
  }
}

// -----

// An extent of 8 that is no batch stays; the batch within a flattened dimension does not.
// CHECK: graph.layer @flatten(%{{.*}}: tensor<32x8xf32>, %{{.*}}: tensor<8xf32> {{.*}} -> tensor<256xf32>
// CHECK: arith.constant dense<2.000000e+00> : tensor<32x8xf32>
// CHECK: graph.call @flatten({{.*}} (tensor<32x8xf32>) -> tensor<256xf32>
module attributes {graph.batch = 8 : i64, graph.seq = 8 : i64} {
  graph.layer @flatten(%x: tensor<8x8xf32>, %w: tensor<8xf32> {graph.parameter = "w"}) -> tensor<64xf32> {
    %two = arith.constant dense<2.0> : tensor<8x8xf32>
    %wb = graph.broadcast %w dims [1] : tensor<8xf32> -> tensor<8x8xf32>
    %y = arith.mulf %x, %two : tensor<8x8xf32>
    %z = arith.mulf %y, %wb : tensor<8x8xf32>
    %f = graph.reshape %z : tensor<8x8xf32> -> tensor<64xf32>
    graph.return %f : tensor<64xf32>
  }
  func.func @step(%x: tensor<8x8xf32>) -> tensor<64xf32> {
    %y = graph.call @flatten(%x) parameters ["w"] path "flatten" : (tensor<8x8xf32>) -> tensor<64xf32>
    return %y : tensor<64xf32>
  }
}
