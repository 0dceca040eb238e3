// RUN: galvatron-opt %s --galvatron-raise-shapes --galvatron-raise-loss | FileCheck %s

func.func @step(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x3x16xf32>
  %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x3xi64>
  %2 = graph.cross_entropy %0, %1 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<f32>
  return %2 : tensor<f32>
}

// CHECK-LABEL: @step
// CHECK-SAME: (%[[LOGITS:.*]]: tensor<2x4x16xf32>, %[[LABELS:.*]]: tensor<2x4xi64>)
// CHECK-NEXT: %[[SHIFTED:.*]] = graph.shift %[[LABELS]]
// CHECK-NEXT: graph.cross_entropy %[[LOGITS]], %[[SHIFTED]]

// As transformers writes it: labels padded by one, cut at the front, everything flattened.
// CHECK-LABEL: @padded_labels
// CHECK-SAME: (%[[LOGITS:.*]]: tensor<2x4x16xf32>, %[[LABELS:.*]]: tensor<2x4xi64>)
func.func @padded_labels(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  // CHECK-NEXT: %[[SHIFTED:.*]] = graph.shift %[[LABELS]] {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64}
  // CHECK-NEXT: graph.cross_entropy %[[LOGITS]], %[[SHIFTED]]
  // CHECK-NEXT: return
  %ignored = arith.constant dense<-100> : tensor<2x1xi64>
  %0 = graph.concat %labels, %ignored {dim = 1 : i64} : (tensor<2x4xi64>, tensor<2x1xi64>) -> tensor<2x5xi64>
  %1 = graph.slice %0 offsets [0, 1] : tensor<2x5xi64> -> tensor<2x4xi64>
  %2 = graph.reshape %1 : tensor<2x4xi64> -> tensor<8xi64>
  %3 = graph.reshape %logits : tensor<2x4x16xf32> -> tensor<8x16xf32>
  %4 = graph.cross_entropy %3, %2 : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<f32>
  return %4 : tensor<f32>
}

// logits[:, :-1] against labels[:, 1:].
// CHECK-LABEL: @cut_logits_and_labels
// CHECK-SAME: (%[[LOGITS:.*]]: tensor<2x4x16xf32>, %[[LABELS:.*]]: tensor<2x4xi64>)
func.func @cut_logits_and_labels(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  // CHECK-NEXT: %[[SHIFTED:.*]] = graph.shift %[[LABELS]] {dim = 1 : i64, fill = -1 : i64, offset = 1 : i64}
  // CHECK-NEXT: graph.cross_entropy %[[LOGITS]], %[[SHIFTED]] {ignore_index = -1 : i64}
  %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x3x16xf32>
  %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x3xi64>
  %2 = graph.reshape %0 : tensor<2x3x16xf32> -> tensor<6x16xf32>
  %3 = graph.reshape %1 : tensor<2x3xi64> -> tensor<6xi64>
  %4 = graph.cross_entropy %2, %3 {ignore_index = -1 : i64} : (tensor<6x16xf32>, tensor<6xi64>) -> tensor<f32>
  return %4 : tensor<f32>
}

// Positions beyond the shift are cut off too: they do not count, so nothing can be widened.
// CHECK-LABEL: @labels_cut_by_more_than_the_shift
func.func @labels_cut_by_more_than_the_shift(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  // CHECK: graph.slice
  // CHECK: graph.slice
  // CHECK-NOT: graph.shift
  %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x2x16xf32>
  %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x2xi64>
  %2 = graph.cross_entropy %0, %1 : (tensor<2x2x16xf32>, tensor<2x2xi64>) -> tensor<f32>
  return %2 : tensor<f32>
}

// Each label's loss: those of the positions that were cut off are cut off again.
// CHECK-LABEL: @loss_of_each_label
func.func @loss_of_each_label(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<2x3xf32> {
  // CHECK-NEXT: %[[SHIFTED:.*]] = graph.shift %{{.*}} {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64}
  // CHECK-NEXT: %[[ROWS:.*]] = graph.cross_entropy %{{.*}}, %[[SHIFTED]] : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<2x4xf32>
  // CHECK-NEXT: graph.slice %[[ROWS]] offsets [0, 0] : tensor<2x4xf32> -> tensor<2x3xf32>
  %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x3x16xf32>
  %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x3xi64>
  %2 = graph.cross_entropy %0, %1 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
  return %2 : tensor<2x3xf32>
}
