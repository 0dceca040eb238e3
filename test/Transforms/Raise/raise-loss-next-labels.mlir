// RUN: galvatron-opt %s --split-input-file --galvatron-raise-loss | FileCheck %s

// Labels come as each position is to predict them, where the reader may shift them.
// CHECK: module attributes {graph.ignored_label = -1 : i64, graph.next_labels}
// CHECK: func.func @step(%{{.*}}: tensor<2x4xi64>, %[[LABELS:.*]]: tensor<2x4xi64>, %[[LOGITS:.*]]: tensor<2x4x16xf32>)
// CHECK-NEXT: graph.cross_entropy %[[LOGITS]], %[[LABELS]]
module attributes {graph.next_labels} {
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = -1 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 {ignore_index = -1 : i64} : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

// In packed rows a document's last token has no label anyway.
// CHECK: module attributes {graph.ignored_label = -100 : i64, graph.packed}
// CHECK-NOT: graph.shift
module attributes {graph.packed} {
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

// Elsewhere the number of labels that count is known.
// CHECK: func.func @not_asked_for
// CHECK: graph.shift
module {
  func.func @not_asked_for(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

// CHECK-NOT: graph.ignored_label
// CHECK: graph.shift
module attributes {graph.next_labels} {
  // Moved by two.
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 2 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}

// -----

// CHECK-NOT: graph.ignored_label
// CHECK: graph.shift
module attributes {graph.next_labels} {
  // Something else reads the labels in their places.
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    %2 = graph.cross_entropy %logits, %labels : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    %3 = arith.addf %1, %2 : tensor<f32>
    return %3 : tensor<f32>
  }
}

// -----

// CHECK-NOT: graph.ignored_label
// CHECK: graph.shift
module attributes {graph.next_labels} {
  // The loss counts the label that the last position gets.
  func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %logits: tensor<2x4x16xf32>) -> tensor<f32> {
    %0 = graph.shift %labels {dim = 1 : i64, fill = 0 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
    %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
    return %1 : tensor<f32>
  }
}
