// RUN: galvatron-opt %s --galvatron-raise-attention --galvatron-raise-shapes | FileCheck %s

// CHECK-LABEL: @causal
func.func @causal(%q: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NEXT: graph.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 5.000000e-01 : f64}
  %zero = arith.constant dense<0.0> : tensor<6x6xf32>
  %minimum = arith.constant dense<-3.40282347E+38> : tensor<6x6xf32>
  %row = graph.iota {dim = 0 : i64} : tensor<6x6xi64>
  %column = graph.iota {dim = 1 : i64} : tensor<6x6xi64>
  %0 = arith.cmpi sle, %column, %row : tensor<6x6xi64>
  %1 = arith.select %0, %zero, %minimum : tensor<6x6xi1>, tensor<6x6xf32>
  %2 = graph.broadcast %1 dims [2, 3] : tensor<6x6xf32> -> tensor<2x4x6x6xf32>
  %3, %lse = graph.attention %q, %q, %q bias %2 {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %3 : tensor<2x4x6x8xf32>
}

// Longer than what is read whole, so this one is proved; the window comes as a second comparison.
// CHECK-LABEL: @sliding_window_of_a_long_sequence
func.func @sliding_window_of_a_long_sequence(%q: tensor<1x1x8192x8xf32>) -> tensor<1x1x8192x8xf32> {
  // CHECK-NEXT: graph.attention {{.*}} {causal, scale = 5.000000e-01 : f64, window = 4096 : i64}
  %zero = arith.constant dense<0.0> : tensor<1x1x8192x8192xf32>
  %minimum = arith.constant dense<-3.40282347E+38> : tensor<1x1x8192x8192xf32>
  %window = arith.constant dense<4096> : tensor<8192x8192xi64>
  %row = graph.iota {dim = 0 : i64} : tensor<8192x8192xi64>
  %column = graph.iota {dim = 1 : i64} : tensor<8192x8192xi64>
  %0 = arith.cmpi sge, %row, %column : tensor<8192x8192xi64>
  %1 = arith.subi %row, %window : tensor<8192x8192xi64>
  %2 = arith.cmpi sgt, %column, %1 : tensor<8192x8192xi64>
  %3 = arith.andi %0, %2 : tensor<8192x8192xi1>
  %4 = graph.reshape %3 : tensor<8192x8192xi1> -> tensor<1x1x8192x8192xi1>
  %5 = arith.select %4, %zero, %minimum : tensor<1x1x8192x8192xi1>, tensor<1x1x8192x8192xf32>
  %6, %lse = graph.attention %q, %q, %q bias %5 {scale = 0.5 : f64} : (tensor<1x1x8192x8xf32>, tensor<1x1x8192x8xf32>, tensor<1x1x8192x8xf32>, tensor<1x1x8192x8192xf32>) -> (tensor<1x1x8192x8xf32>, tensor<1x1x8192xf32>)
  return %6 : tensor<1x1x8192x8xf32>
}

// A window wider than the sequence hides nothing.
// CHECK-LABEL: @window_wider_than_the_sequence
func.func @window_wider_than_the_sequence(%q: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
  // CHECK-NEXT: graph.attention {{.*}} {causal, scale = 5.000000e-01 : f64}
  %zero = arith.constant dense<0.0> : tensor<6x6xf32>
  %minimum = arith.constant dense<0xFF800000> : tensor<6x6xf32>
  %window = arith.constant dense<6> : tensor<6x6xi64>
  %row = graph.iota {dim = 0 : i64} : tensor<6x6xi64>
  %column = graph.iota {dim = 1 : i64} : tensor<6x6xi64>
  %back = arith.subi %row, %column : tensor<6x6xi64>
  %0 = arith.cmpi sge, %row, %column : tensor<6x6xi64>
  %1 = arith.cmpi slt, %back, %window : tensor<6x6xi64>
  %2 = arith.andi %1, %0 : tensor<6x6xi1>
  %3 = arith.select %2, %zero, %minimum : tensor<6x6xi1>, tensor<6x6xf32>
  %4, %lse = graph.attention %q, %q, %q bias %3 {scale = 0.5 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<6x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return %4 : tensor<2x4x6x8xf32>
}

// Stored numbers are read.
// CHECK-LABEL: @stored_mask
func.func @stored_mask(%q: tensor<1x1x3x8xf32>) -> tensor<1x1x3x8xf32> {
  // CHECK-NEXT: graph.attention {{.*}} {causal, scale = 5.000000e-01 : f64, window = 2 : i64}
  %mask = arith.constant dense<[[0.0, -1.0e9, -1.0e9], [0.0, 0.0, -1.0e9], [-1.0e9, 0.0, 0.0]]> : tensor<3x3xf32>
  %0, %lse = graph.attention %q, %q, %q bias %mask {scale = 0.5 : f64} : (tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<3x3xf32>) -> (tensor<1x1x3x8xf32>, tensor<1x1x3xf32>)
  return %0 : tensor<1x1x3x8xf32>
}

// CHECK-LABEL: @mask_that_hides_nothing
func.func @mask_that_hides_nothing(%q: tensor<1x1x3x8xf32>) -> tensor<1x1x3x8xf32> {
  // CHECK-NEXT: graph.attention %{{.*}}, %{{.*}}, %{{.*}} {scale = 5.000000e-01 : f64}
  %mask = arith.constant dense<0.0> : tensor<3x3xf32>
  %0, %lse = graph.attention %q, %q, %q bias %mask {scale = 0.5 : f64} : (tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<3x3xf32>) -> (tensor<1x1x3x8xf32>, tensor<1x1x3xf32>)
  return %0 : tensor<1x1x3x8xf32>
}

// Two documents in one row: no mask that attention has.
// CHECK-LABEL: @other_mask_stays_a_bias
func.func @other_mask_stays_a_bias(%q: tensor<1x1x3x8xf32>) -> tensor<1x1x3x8xf32> {
  // CHECK: graph.attention %{{.*}}, %{{.*}}, %{{.*}} bias
  // CHECK-NOT: causal
  %mask = arith.constant dense<[[0.0, -1.0e9, -1.0e9], [-1.0e9, 0.0, -1.0e9], [-1.0e9, 0.0, 0.0]]> : tensor<3x3xf32>
  %0, %lse = graph.attention %q, %q, %q bias %mask {scale = 0.5 : f64} : (tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<1x1x3x8xf32>, tensor<3x3xf32>) -> (tensor<1x1x3x8xf32>, tensor<1x1x3xf32>)
  return %0 : tensor<1x1x3x8xf32>
}

// ALiBi and a causal mask in one sum: slopes stay, at the size that they have.
// CHECK-LABEL: @slopes_and_mask
func.func @slopes_and_mask(%q: tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32> {
  // CHECK: %[[SLOPES:.*]] = arith.constant
  // CHECK: %[[BIAS:.*]] = graph.reshape %[[SLOPES]] : tensor<2x3xf32> -> tensor<1x2x1x3xf32>
  // CHECK: graph.attention %{{.*}} bias %[[BIAS]] {causal, scale = 5.000000e-01 : f64}
  %slopes = arith.constant dense<[[-2.0, -1.0, 0.0], [-1.0, -0.5, 0.0]]> : tensor<2x3xf32>
  %mask = arith.constant dense<[[0.0, -1.0e9, -1.0e9], [0.0, 0.0, -1.0e9], [0.0, 0.0, 0.0]]> : tensor<3x3xf32>
  %0 = graph.broadcast %slopes dims [1, 3] : tensor<2x3xf32> -> tensor<1x2x3x3xf32>
  %1 = graph.broadcast %mask dims [2, 3] : tensor<3x3xf32> -> tensor<1x2x3x3xf32>
  %2 = arith.addf %0, %1 : tensor<1x2x3x3xf32>
  %3, %lse = graph.attention %q, %q, %q bias %2 {scale = 0.5 : f64} : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>, tensor<1x2x3x3xf32>) -> (tensor<1x2x3x8xf32>, tensor<1x2x3xf32>)
  return %3 : tensor<1x2x3x8xf32>
}

// A hand-written decoder: masked_fill of products, mask as i1.
// CHECK-LABEL: @masked_scores
func.func @masked_scores(%q: tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32> {
  // CHECK-NEXT: graph.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 1.000000e+00 : f64}
  %mask = arith.constant dense<[[false, true, true], [false, false, true], [false, false, false]]> : tensor<3x3xi1>
  %blocked = arith.constant dense<0xFF800000> : tensor<1x2x3x3xf32>
  %0 = graph.einsum %q, %q "bnsd,bntd->bnst" : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %1 = graph.broadcast %mask dims [2, 3] : tensor<3x3xi1> -> tensor<1x2x3x3xi1>
  %2 = arith.select %1, %blocked, %0 : tensor<1x2x3x3xi1>, tensor<1x2x3x3xf32>
  %3 = graph.softmax %2 : tensor<1x2x3x3xf32> -> tensor<1x2x3x3xf32>
  %4 = graph.einsum %3, %q "bnst,bntd->bnsd" : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  return %4 : tensor<1x2x3x8xf32>
}

// As GPT has it: scores · m - 1e4 · (1 - m).
// CHECK-LABEL: @multiplied_mask
func.func @multiplied_mask(%q: tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32> {
  // CHECK-NEXT: graph.attention %{{.*}}, %{{.*}}, %{{.*}} {causal, scale = 1.000000e+00 : f64}
  %mask = arith.constant dense<[[true, false, false], [true, true, false], [true, true, true]]> : tensor<3x3xi1>
  %one = arith.constant dense<1.0> : tensor<3x3xf32>
  %zero = arith.constant dense<0.0> : tensor<3x3xf32>
  %blocked = arith.constant dense<-1.0e4> : tensor<3x3xf32>
  %0 = arith.select %mask, %one, %zero : tensor<3x3xi1>, tensor<3x3xf32>
  %1 = arith.select %mask, %zero, %blocked : tensor<3x3xi1>, tensor<3x3xf32>
  %2 = graph.broadcast %0 dims [2, 3] : tensor<3x3xf32> -> tensor<1x2x3x3xf32>
  %3 = graph.broadcast %1 dims [2, 3] : tensor<3x3xf32> -> tensor<1x2x3x3xf32>
  %4 = graph.einsum %q, %q "bnsd,bntd->bnst" : (tensor<1x2x3x8xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x3xf32>
  %5 = arith.mulf %4, %2 : tensor<1x2x3x3xf32>
  %6 = arith.addf %5, %3 : tensor<1x2x3x3xf32>
  %7 = graph.softmax %6 : tensor<1x2x3x3xf32> -> tensor<1x2x3x3xf32>
  %8 = graph.einsum %7, %q "bnst,bntd->bnsd" : (tensor<1x2x3x3xf32>, tensor<1x2x3x8xf32>) -> tensor<1x2x3x8xf32>
  return %8 : tensor<1x2x3x8xf32>
}
