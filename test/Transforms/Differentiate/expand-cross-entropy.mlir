// RUN: galvatron-opt %s --galvatron-expand-cross-entropy | FileCheck %s
// RUN: galvatron-opt %s --galvatron-differentiate --galvatron-expand-cross-entropy --cse | FileCheck %s --check-prefix=SHARED

// CHECK-LABEL: func.func @example
// CHECK-SAME: %[[X:.*]]: tensor<8x16xf32>, %[[LABELS:.*]]: tensor<8xi64>
func.func @example(%logits: tensor<8x16xf32>, %labels: tensor<8xi64>) -> tensor<f32> {
  // CHECK-NEXT: %[[MAX:.*]] = graph.reduce max %[[X]] dims [1]
  // CHECK-NEXT: %[[SUM:.*]] = graph.sum_exp %[[X]], %[[MAX]]
  // CHECK-NEXT: %[[LOG:.*]] = math.log %[[SUM]]
  // CHECK-NEXT: %[[LSE:.*]] = arith.addf %[[LOG]], %[[MAX]]
  // CHECK-NEXT: %[[IGNORED:.*]] = arith.constant dense<-100>
  // CHECK-NEXT: %[[COUNTS:.*]] = arith.cmpi ne, %[[LABELS]], %[[IGNORED]]
  // CHECK-NEXT: %[[ZERO:.*]] = arith.constant dense<0.000000e+00>
  // CHECK-NEXT: %[[MASKED:.*]] = arith.select %[[COUNTS]], %[[LSE]], %[[ZERO]]
  // CHECK-NEXT: %[[TARGET:.*]] = graph.target_logit %[[X]], %[[LABELS]] {ignore_index = -100 : i64}
  // CHECK-NEXT: %[[ROWS:.*]] = arith.subf %[[MASKED]], %[[TARGET]]
  // CHECK-NEXT: %[[TOTAL:.*]] = graph.reduce sum %[[ROWS]] dims [0]
  // CHECK-NEXT: %[[SHARE:.*]] = arith.constant dense<1.250000e-01>
  // CHECK-NEXT: %[[LOSS:.*]] = arith.mulf %[[TOTAL]], %[[SHARE]]
  // CHECK-NEXT: return %[[LOSS]]
  %loss = graph.cross_entropy %logits, %labels : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<f32>
  return %loss : tensor<f32>
}

// 2 rows of 5 labels, of which the last has no successor.
// CHECK-LABEL: func.func @shifted_labels_do_not_count
func.func @shifted_labels_do_not_count(%logits: tensor<2x5x16xf32>, %labels: tensor<2x5xi64>) -> tensor<f32> {
  // CHECK: graph.reduce sum %{{.*}} dims [0, 1]
  // CHECK: arith.constant dense<1.250000e-01> : tensor<f32>
  %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<2x5xi64> -> tensor<2x5xi64>
  %loss = graph.cross_entropy %logits, %next : (tensor<2x5x16xf32>, tensor<2x5xi64>) -> tensor<f32>
  return %loss : tensor<f32>
}

// SHARED-LABEL: graph.layer @forward_and_backward_share_statistics
graph.layer @forward_and_backward_share_statistics(%x: tensor<2x16xf32>, %labels: tensor<2xi64>) -> tensor<f32> {
  // SHARED-COUNT-1: graph.reduce max
  // SHARED-COUNT-1: graph.sum_exp
  // SHARED-NOT: graph.reduce max
  // SHARED-NOT: graph.sum_exp
  // SHARED: graph.cross_entropy_backward
  %loss = graph.cross_entropy %x, %labels : (tensor<2x16xf32>, tensor<2xi64>) -> tensor<f32>
  graph.return %loss : tensor<f32>
}

// Counted over the whole batch; 0 where nothing counts.
// CHECK-LABEL: func.func @counted
// CHECK-SAME: %[[N:[a-z0-9]+]]: tensor<f32>)
func.func @counted(%logits: tensor<8x16xf32>, %labels: tensor<8xi64>, %n: tensor<f32>) -> tensor<f32> {
  // CHECK: %[[TOTAL:.*]] = graph.reduce sum
  // CHECK-DAG: %[[ONE:.*]] = arith.constant dense<1.000000e+00> : tensor<f32>
  // CHECK-DAG: %[[ZERO:.*]] = arith.constant dense<0.000000e+00> : tensor<f32>
  // CHECK: %[[ANY:.*]] = arith.cmpf ogt, %[[N]], %[[ZERO]]
  // CHECK: %[[RECIPROCAL:.*]] = arith.divf %[[ONE]], %[[N]]
  // CHECK: %[[SHARE:.*]] = arith.select %[[ANY]], %[[RECIPROCAL]], %[[ZERO]]
  // CHECK: arith.mulf %[[TOTAL]], %[[SHARE]]
  %loss = graph.cross_entropy %logits, %labels count %n : (tensor<8x16xf32>, tensor<8xi64>, tensor<f32>) -> tensor<f32>
  return %loss : tensor<f32>
}

// CHECK-LABEL: func.func @of_each_label
func.func @of_each_label(%logits: tensor<8x16xf32>, %labels: tensor<8xi64>) -> tensor<8xf32> {
  // CHECK: %[[ROWS:.*]] = arith.subf
  // CHECK-NEXT: return %[[ROWS]]
  %loss = graph.cross_entropy %logits, %labels : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<8xf32>
  return %loss : tensor<8xf32>
}

// CHECK-LABEL: func.func @logsumexp
func.func @logsumexp(%x: tensor<8x16xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: %[[MAX:.*]] = graph.reduce max
  // CHECK-NEXT: %[[SUM:.*]] = graph.sum_exp %{{.*}}, %[[MAX]]
  // CHECK-NEXT: %[[LOG:.*]] = math.log %[[SUM]]
  // CHECK-NEXT: %[[LSE:.*]] = arith.addf %[[LOG]], %[[MAX]]
  // CHECK-NEXT: return %[[LSE]]
  %y = graph.logsumexp %x : tensor<8x16xf32> -> tensor<8xf32>
  return %y : tensor<8xf32>
}
