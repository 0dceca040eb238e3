// RUN: galvatron-opt %s --split-input-file --galvatron-insert-documents --canonicalize | FileCheck %s

func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %places = graph.parameter ["wpe"] : tensor<32x8xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.slice %places offsets [0, 0] : tensor<32x8xf32> -> tensor<4x8xf32>
  %2 = graph.broadcast %1 dims [1, 2] : tensor<4x8xf32> -> tensor<2x4x8xf32>
  %3 = arith.addf %0, %2 : tensor<2x4x8xf32>
  return %3 : tensor<2x4x8xf32>
}

// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[POSITIONS:[^:]*]]: tensor<2x4xi64>, %{{[^:]*}}: tensor<2x4xi64>)
// CHECK: %[[TABLE:.*]] = graph.parameter ["wpe"]
// CHECK: %[[ROWS:.*]] = graph.embedding %[[TABLE]], %[[POSITIONS]] : (tensor<32x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
// CHECK: arith.addf %{{.*}}, %[[ROWS]]

// -----

// A table that begins later, one of constants, and one that is the same at every position.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[POSITIONS:[^:]*]]: tensor<2x4xi64>, %{{[^:]*}}: tensor<2x4xi64>)
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x2xf32> {
  // CHECK-DAG: %[[WAVES:.*]] = arith.constant dense<{{\[\[}}0.0{{.*}}> : tensor<4x2xf32>
  // CHECK-DAG: %[[TWO:.*]] = arith.constant dense<2> : tensor<2x4xi64>
  // CHECK-DAG: %[[TABLE:.*]] = graph.parameter ["wpe"]
  // CHECK-DAG: %[[BIAS:.*]] = graph.parameter ["bias"]
  %tokens = graph.parameter ["wte"] : tensor<16x2xf32>
  %places = graph.parameter ["wpe"] : tensor<32x2xf32>
  %bias = graph.parameter ["bias"] : tensor<2xf32>
  %waves = arith.constant dense<[[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.5, -0.5]]> : tensor<4x2xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x2xf32>, tensor<2x4xi64>) -> tensor<2x4x2xf32>
  // CHECK: %[[LATER:.*]] = arith.addi %[[POSITIONS]], %[[TWO]]
  // CHECK: graph.embedding %[[TABLE]], %[[LATER]]
  %1 = graph.slice %places offsets [2, 0] : tensor<32x2xf32> -> tensor<4x2xf32>
  %2 = graph.broadcast %1 dims [1, 2] : tensor<4x2xf32> -> tensor<2x4x2xf32>
  %3 = arith.addf %0, %2 : tensor<2x4x2xf32>
  // CHECK: graph.embedding %[[WAVES]], %[[POSITIONS]]
  %4 = graph.broadcast %waves dims [1, 2] : tensor<4x2xf32> -> tensor<2x4x2xf32>
  %5 = arith.addf %3, %4 : tensor<2x4x2xf32>
  // CHECK: graph.broadcast %[[BIAS]] dims [2]
  %6 = graph.broadcast %bias dims [2] : tensor<2xf32> -> tensor<2x4x2xf32>
  %7 = arith.addf %5, %6 : tensor<2x4x2xf32>
  return %7 : tensor<2x4x2xf32>
}

// -----

// Rotations of a half, and of neighbours, of which the last two elements are none.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[POSITIONS:[^:]*]]: tensor<2x4xi64>, %{{[^:]*}}: tensor<2x4xi64>)
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x2x4x6xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x12xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x12xf32>, tensor<2x4xi64>) -> tensor<2x4x12xf32>
  %1 = graph.reshape %0 : tensor<2x4x12xf32> -> tensor<2x4x2x6xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x4x2x6xf32> -> tensor<2x2x4x6xf32>
  // CHECK: graph.rope %{{.*}} half positions %[[POSITIONS]] : tensor<2x4xi64> {inverse_frequencies = array<f64: 1.000000e+00, 1.000000e-01, 1.000000e-02>, seq_dim = 2 : i64}
  %3 = graph.rope %2 half {inverse_frequencies = array<f64: 1.0, 0.1, 0.01>, seq_dim = 2 : i64} : tensor<2x2x4x6xf32> -> tensor<2x2x4x6xf32>
  // CHECK: graph.rope %{{.*}} interleaved positions %[[POSITIONS]] : tensor<2x4xi64> {{.*}}scaling = 2.000000e+00
  %4 = graph.rope %3 interleaved {inverse_frequencies = array<f64: 1.0, 0.1>, scaling = 2.0 : f64, seq_dim = 2 : i64} : tensor<2x2x4x6xf32> -> tensor<2x2x4x6xf32>
  return %4 : tensor<2x2x4x6xf32>
}

// -----

// Causal attention with a window stays so; what ALiBi adds to a key is read at its position.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[POSITIONS:[^:]*]]: tensor<2x4xi64>, %[[DOCUMENTS:[^:]*]]: tensor<2x4xi64>)
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x2x4x8xf32> {
  %tokens = graph.parameter ["wte"] : tensor<16x16xf32>
  %slopes = arith.constant dense<[0.5, 0.25]> : tensor<2xf32>
  // CHECK-DAG: %[[HIDDEN:.*]] = arith.constant dense<0xFF800000> : tensor<2x1x4x4xf32>
  // CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<2x1x4x4xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x16xf32>, tensor<2x4xi64>) -> tensor<2x4x16xf32>
  %1 = graph.reshape %0 : tensor<2x4x16xf32> -> tensor<2x4x2x8xf32>
  %2 = graph.transpose %1 [0, 2, 1, 3] : tensor<2x4x2x8xf32> -> tensor<2x2x4x8xf32>
  // CHECK-DAG: %[[QUERY:.*]] = graph.broadcast %[[DOCUMENTS]] dims [0, 1] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  // CHECK-DAG: %[[KEY:.*]] = graph.broadcast %[[DOCUMENTS]] dims [0, 2] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  // CHECK: %[[SAME:.*]] = arith.cmpi eq, %[[QUERY]], %[[KEY]]
  // CHECK: %[[VISIBLE:.*]] = graph.broadcast %[[SAME]] dims [0, 2, 3]
  // CHECK: %[[MASK:.*]] = arith.select %[[VISIBLE]], %[[ZERO]], %[[HIDDEN]]
  // CHECK: graph.attention %{{.*}} bias %[[MASK]] {causal, given_documents, scale = 1.000000e+00 : f64, window = 2 : i64}
  %3, %lse3 = graph.attention %2, %2, %2 {causal, scale = 1.0 : f64, window = 2 : i64} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>) -> (tensor<2x2x4x8xf32>, tensor<2x2x4xf32>)
  %4 = graph.iota {dim = 0 : i64} : tensor<4xi64>
  %5 = arith.sitofp %4 : tensor<4xi64> to tensor<4xf32>
  %6 = graph.broadcast %5 dims [1] : tensor<4xf32> -> tensor<2x4xf32>
  %7 = graph.broadcast %slopes dims [0] : tensor<2xf32> -> tensor<2x4xf32>
  %8 = arith.mulf %6, %7 : tensor<2x4xf32>
  %9 = graph.reshape %8 : tensor<2x4xf32> -> tensor<1x2x1x4xf32>
  // CHECK: %[[ALIBI:.*]] = graph.embedding %{{.*}}, %[[POSITIONS]] : (tensor<4x2xf32>, tensor<2x4xi64>) -> tensor<2x4x2xf32>
  // CHECK: graph.reshape %[[ALIBI]]
  // CHECK: arith.select %{{.*}}, %{{.*}}, %{{.*}} : tensor<2x2x4x4xi1>, tensor<2x2x4x4xf32>
  %10, %lse10 = graph.attention %3, %3, %3 bias %9 {causal, scale = 1.0 : f64} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>, tensor<1x2x1x4xf32>) -> (tensor<2x2x4x8xf32>, tensor<2x2x4xf32>)
  return %10 : tensor<2x2x4x8xf32>
}

// -----

// A bias of distances stays; labels and losses keep to their position, and a mean over all of them is none of a row's.
// CHECK-LABEL: func.func @step
func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<f32> {
  %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
  %head = graph.parameter ["head"] : tensor<16x8xf32>
  // CHECK-DAG: %[[DISTANCE:.*]] = arith.constant dense<{{\[\[}}0.0{{.*}}> : tensor<4x4xf32>
  %distance = arith.constant dense<[[0.0, 1.0, 2.0, 3.0], [9.0, 0.0, 1.0, 2.0], [8.0, 9.0, 0.0, 1.0], [7.0, 8.0, 9.0, 0.0]]> : tensor<4x4xf32>
  %bias = graph.reshape %distance : tensor<4x4xf32> -> tensor<1x1x4x4xf32>
  %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %1 = graph.reshape %0 : tensor<2x4x8xf32> -> tensor<2x1x4x8xf32>
  // CHECK: %[[ONE:.*]] = graph.reshape %[[DISTANCE]]
  // CHECK: %[[OWN:.*]] = graph.broadcast %[[ONE]] dims [1, 2, 3]
  // CHECK: %[[MASK:.*]] = arith.select %{{.*}}, %[[OWN]]
  // CHECK: graph.attention %{{.*}} bias %[[MASK]] {given_documents, scale
  %2, %lse = graph.attention %1, %1, %1 bias %bias {scale = 1.0 : f64} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<1x1x4x4xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  %3 = graph.reshape %2 : tensor<2x1x4x8xf32> -> tensor<8x8xf32>
  %4 = graph.einsum %3, %head "ab,cb->ac" : (tensor<8x8xf32>, tensor<16x8xf32>) -> tensor<8x16xf32>
  %5 = graph.reshape %4 : tensor<8x16xf32> -> tensor<2x4x16xf32>
  %6 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
  %7 = graph.cross_entropy %5, %6 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
  return %7 : tensor<f32>
}
