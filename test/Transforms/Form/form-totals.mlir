// RUN: galvatron-opt --galvatron-form-totals -split-input-file %s | FileCheck %s

// CHECK: graph.layer @total0(%[[L:.*]]: tensor<2x4xi64>) -> tensor<f32>
// CHECK-NEXT: %[[F:.*]] = arith.sitofp %[[L]]
// CHECK-NEXT: %[[SUM:.*]] = graph.reduce sum %[[F]] dims [0, 1]
// CHECK-NEXT: graph.return %[[SUM]]
// CHECK: func.func @step(%[[LABELS:.*]]: tensor<2x4xi64>)
// CHECK-NEXT: %[[TOTAL:.*]] = graph.total @total0(%[[LABELS]])
// CHECK-NEXT: %[[N:.*]] = graph.detach %[[TOTAL]]
// CHECK-NEXT: return %[[N]]
func.func @step(%labels: tensor<2x4xi64>) -> tensor<f32> {
  %0 = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
  %1 = graph.reduce sum %0 dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  return %1 : tensor<f32>
}

// -----

// A mean over labels that are ignored by value is given its count.
// CHECK: graph.layer @total0(%[[L:.*]]: tensor<2x4xi64>) -> tensor<f32> {
// CHECK: %[[THREE:.*]] = arith.constant dense<3> : tensor<2x4xi64>
// CHECK: %[[COUNTS:.*]] = arith.cmpi ne, %[[L]], %[[THREE]]
// CHECK: %[[ONES:.*]] = arith.uitofp %[[COUNTS]]
// CHECK: %[[SUM:.*]] = graph.reduce sum %[[ONES]] dims [0, 1]
// CHECK: graph.return %[[SUM]]
// CHECK: func.func @step(%[[IDS:.*]]: tensor<2x4xi64>, %[[LABELS:.*]]: tensor<2x4xi64>)
// CHECK-NEXT: %[[TOTAL:.*]] = graph.total @total0(%[[LABELS]])
// CHECK-NEXT: %[[N:.*]] = graph.detach %[[TOTAL]]
// CHECK: graph.cross_entropy %{{.*}}, %[[LABELS]] count %[[N]] {ignore_index = 3 : i64}
func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %w = graph.parameter ["w"] : tensor<8x8xf32>
  %z = graph.embedding %w, %x : (tensor<8x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %loss = graph.cross_entropy %z, %labels {ignore_index = 3 : i64} : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

// What is ignored by position is counted by position.
// CHECK: func.func @step
// CHECK-NOT: graph.total
// CHECK: graph.cross_entropy %{{.*}}, %{{.*}} : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %w = graph.parameter ["w"] : tensor<8x8xf32>
  %z = graph.embedding %w, %x : (tensor<8x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
  %loss = graph.cross_entropy %z, %next : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

// A mean written out: the weights' sum is a total, the losses' is not; where it is zero, one divides.
// CHECK-COUNT-1: graph.layer @total
// CHECK-NOT: graph.layer @total
// CHECK: func.func @step
// CHECK: %[[TOTAL:.*]] = graph.total @total0(%arg1)
// CHECK: %[[N:.*]] = graph.detach %[[TOTAL]]
// CHECK: %[[SUM:.*]] = graph.reduce sum
// CHECK: %[[NONE:.*]] = arith.cmpf oeq, %[[N]]
// CHECK: %[[SAFE:.*]] = arith.select %[[NONE]], %{{.*}}, %[[N]]
// CHECK: arith.divf %[[SUM]], %[[SAFE]]
func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %w = graph.parameter ["w"] : tensor<8x8xf32>
  %z = graph.embedding %w, %x : (tensor<8x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %rows = graph.cross_entropy %z, %labels : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<2x4xf32>
  %weights = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
  %weighted = arith.mulf %rows, %weights : tensor<2x4xf32>
  %sum = graph.reduce sum %weighted dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %n = graph.reduce sum %weights dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %loss = arith.divf %sum, %n : tensor<f32>
  return %loss : tensor<f32>
}

// -----

// Two losses that count alike share a total; one that counts otherwise has its own.
// CHECK: graph.layer @total0
// CHECK: graph.layer @total1
// CHECK-NOT: graph.layer @total2
// CHECK: func.func @step
// CHECK-DAG: graph.total @total0
// CHECK-DAG: graph.total @total0
// CHECK-DAG: graph.total @total1
func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %w = graph.parameter ["w"] : tensor<8x8xf32>
  %z = graph.embedding %w, %x : (tensor<8x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
  %0 = graph.cross_entropy %z, %labels {ignore_index = 3 : i64} : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  %zz = arith.mulf %z, %z : tensor<2x4x8xf32>
  %1 = graph.cross_entropy %zz, %labels {ignore_index = 3 : i64} : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  %2 = graph.cross_entropy %zz, %labels {ignore_index = 4 : i64} : (tensor<2x4x8xf32>, tensor<2x4xi64>) -> tensor<f32>
  %3 = arith.addf %0, %1 : tensor<f32>
  %4 = arith.addf %3, %2 : tensor<f32>
  return %4 : tensor<f32>
}

// -----

// A deviation from the batch's mean: its sum needs the mean first, so it stays where it is.
// CHECK: graph.layer @total0
// CHECK-NOT: graph.layer @total1
// CHECK: func.func @step
// CHECK: %[[N:.*]] = graph.detach
// CHECK: %[[EACH:.*]] = graph.broadcast %[[N]]
// CHECK: arith.subf %{{.*}}, %[[EACH]]
// CHECK: graph.reduce sum
func.func @step(%x: tensor<2x4xi64>, %labels: tensor<2x4xi64>) -> tensor<f32> {
  %weights = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
  %n = graph.reduce sum %weights dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  %each = graph.broadcast %n dims [] : tensor<f32> -> tensor<2x4xf32>
  %centred = arith.subf %weights, %each : tensor<2x4xf32>
  %square = arith.mulf %centred, %centred : tensor<2x4xf32>
  %sum = graph.reduce sum %square dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
  return %sum : tensor<f32>
}
