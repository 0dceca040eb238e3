// RUN: galvatron-opt %s --galvatron-raise-rope --galvatron-raise-shapes | FileCheck %s

func.func @step(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %cos = arith.constant dense<[[1.0, 1.0], [0.0, 0.0]]> : tensor<2x2xf32>
  %sin = arith.constant dense<[[0.0, 0.0], [1.0, 1.0]]> : tensor<2x2xf32>
  %0 = graph.slice %x offsets [0, 0] : tensor<2x2xf32> -> tensor<2x1xf32>
  %1 = graph.slice %x offsets [0, 1] : tensor<2x2xf32> -> tensor<2x1xf32>
  %2 = arith.negf %1 : tensor<2x1xf32>
  %3 = graph.concat %2, %0 {dim = 1 : i64} : (tensor<2x1xf32>, tensor<2x1xf32>) -> tensor<2x2xf32>
  %4 = arith.mulf %x, %cos : tensor<2x2xf32>
  %5 = arith.mulf %3, %sin : tensor<2x2xf32>
  %6 = arith.addf %4, %5 : tensor<2x2xf32>
  return %6 : tensor<2x2xf32>
}

// CHECK-LABEL: @step
// CHECK-NEXT: graph.rope %{{.*}} half {inverse_frequencies = array<f64: 1.57
// CHECK-NEXT: return

// x · cos + rotate_half(x) · sin, tables from f32 frequencies, as Llama has it.
// CHECK-LABEL: @half
// CHECK-SAME: (%[[X:.*]]: tensor<2x3x6x4xf32>)
func.func @half(%x: tensor<2x3x6x4xf32>) -> tensor<2x3x6x4xf32> {
  // CHECK-NEXT: graph.rope %[[X]] half
  // CHECK-SAME: inverse_frequencies = array<f64: 1.000000e+00, 0.0099999997764825821>
  // CHECK-SAME: seq_dim = 2 : i64
  // CHECK-NEXT: return
  %frequencies = arith.constant dense<[1.0, 0.01, 1.0, 0.01]> : tensor<4xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  %1 = arith.sitofp %0 : tensor<6xi64> to tensor<6xf32>
  %2 = graph.einsum %1, %frequencies "s,d->sd" : (tensor<6xf32>, tensor<4xf32>) -> tensor<6x4xf32>
  %3 = math.cos %2 : tensor<6x4xf32>
  %4 = math.sin %2 : tensor<6x4xf32>
  %5 = graph.broadcast %3 dims [2, 3] : tensor<6x4xf32> -> tensor<2x3x6x4xf32>
  %6 = graph.broadcast %4 dims [2, 3] : tensor<6x4xf32> -> tensor<2x3x6x4xf32>
  %7 = graph.slice %x offsets [0, 0, 0, 0] : tensor<2x3x6x4xf32> -> tensor<2x3x6x2xf32>
  %8 = graph.slice %x offsets [0, 0, 0, 2] : tensor<2x3x6x4xf32> -> tensor<2x3x6x2xf32>
  %9 = arith.negf %8 : tensor<2x3x6x2xf32>
  %10 = graph.concat %9, %7 {dim = 3 : i64} : (tensor<2x3x6x2xf32>, tensor<2x3x6x2xf32>) -> tensor<2x3x6x4xf32>
  %11 = arith.mulf %x, %5 : tensor<2x3x6x4xf32>
  %12 = arith.mulf %10, %6 : tensor<2x3x6x4xf32>
  %13 = arith.addf %11, %12 : tensor<2x3x6x4xf32>
  return %13 : tensor<2x3x6x4xf32>
}

// Two halves computed apart, before the heads are moved, with a factor on both tables.
// CHECK-LABEL: @halves_by_themselves_with_scaling
func.func @halves_by_themselves_with_scaling(%x: tensor<2x6x3x4xf32>) -> tensor<2x6x3x4xf32> {
  // CHECK-NEXT: graph.rope %{{.*}} half {inverse_frequencies = array<f64: 1.000000e+00, 1.250000e-01>, scaling = 5.000000e-01 : f64, seq_dim = 1 : i64}
  // CHECK-NEXT: return
  %frequencies = arith.constant dense<[1.0, 0.125]> : tensor<2xf32>
  %factor = arith.constant dense<0.5> : tensor<6x2xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  %1 = arith.sitofp %0 : tensor<6xi64> to tensor<6xf32>
  %2 = graph.einsum %1, %frequencies "s,d->sd" : (tensor<6xf32>, tensor<2xf32>) -> tensor<6x2xf32>
  %3 = math.cos %2 : tensor<6x2xf32>
  %4 = math.sin %2 : tensor<6x2xf32>
  %5 = arith.mulf %3, %factor : tensor<6x2xf32>
  %6 = arith.mulf %factor, %4 : tensor<6x2xf32>
  %cos = graph.broadcast %5 dims [1, 3] : tensor<6x2xf32> -> tensor<2x6x3x2xf32>
  %sin = graph.broadcast %6 dims [1, 3] : tensor<6x2xf32> -> tensor<2x6x3x2xf32>
  %a = graph.slice %x offsets [0, 0, 0, 0] : tensor<2x6x3x4xf32> -> tensor<2x6x3x2xf32>
  %b = graph.slice %x offsets [0, 0, 0, 2] : tensor<2x6x3x4xf32> -> tensor<2x6x3x2xf32>
  %7 = arith.mulf %a, %cos : tensor<2x6x3x2xf32>
  %8 = arith.mulf %b, %sin : tensor<2x6x3x2xf32>
  %9 = arith.subf %7, %8 : tensor<2x6x3x2xf32>
  %10 = arith.mulf %b, %cos : tensor<2x6x3x2xf32>
  %11 = arith.mulf %a, %sin : tensor<2x6x3x2xf32>
  %12 = arith.addf %11, %10 : tensor<2x6x3x2xf32>
  %13 = graph.concat %9, %12 {dim = 3 : i64} : (tensor<2x6x3x2xf32>, tensor<2x6x3x2xf32>) -> tensor<2x6x3x4xf32>
  return %13 : tensor<2x6x3x4xf32>
}

// Pairs of neighbours, split and joined by reshapes.
// CHECK-LABEL: @interleaved
func.func @interleaved(%x: tensor<6x4xf32>) -> tensor<6x4xf32> {
  // CHECK-NEXT: graph.rope %{{.*}} interleaved {inverse_frequencies = array<f64: 1.000000e+00, 1.250000e-01>, seq_dim = 0 : i64}
  // CHECK-NEXT: return
  %frequencies = arith.constant dense<[1.0, 0.125]> : tensor<2xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  %1 = arith.sitofp %0 : tensor<6xi64> to tensor<6xf32>
  %2 = graph.einsum %1, %frequencies "s,d->sd" : (tensor<6xf32>, tensor<2xf32>) -> tensor<6x2xf32>
  %cos = math.cos %2 : tensor<6x2xf32>
  %sin = math.sin %2 : tensor<6x2xf32>
  %3 = graph.reshape %x : tensor<6x4xf32> -> tensor<6x2x2xf32>
  %4 = graph.slice %3 offsets [0, 0, 0] : tensor<6x2x2xf32> -> tensor<6x2x1xf32>
  %5 = graph.slice %3 offsets [0, 0, 1] : tensor<6x2x2xf32> -> tensor<6x2x1xf32>
  %a = graph.reshape %4 : tensor<6x2x1xf32> -> tensor<6x2xf32>
  %b = graph.reshape %5 : tensor<6x2x1xf32> -> tensor<6x2xf32>
  %6 = arith.mulf %a, %cos : tensor<6x2xf32>
  %7 = arith.mulf %b, %sin : tensor<6x2xf32>
  %8 = arith.subf %6, %7 : tensor<6x2xf32>
  %9 = arith.mulf %a, %sin : tensor<6x2xf32>
  %10 = arith.mulf %b, %cos : tensor<6x2xf32>
  %11 = arith.addf %9, %10 : tensor<6x2xf32>
  %12 = graph.reshape %8 : tensor<6x2xf32> -> tensor<6x2x1xf32>
  %13 = graph.reshape %11 : tensor<6x2xf32> -> tensor<6x2x1xf32>
  %14 = graph.concat %12, %13 {dim = 2 : i64} : (tensor<6x2x1xf32>, tensor<6x2x1xf32>) -> tensor<6x2x2xf32>
  %15 = graph.reshape %14 : tensor<6x2x2xf32> -> tensor<6x4xf32>
  return %15 : tensor<6x4xf32>
}

// Two of four elements rotate.
// CHECK-LABEL: @partial
// CHECK-SAME: (%[[X:.*]]: tensor<6x4xf32>)
func.func @partial(%x: tensor<6x4xf32>) -> tensor<6x4xf32> {
  // CHECK-NEXT: graph.rope %[[X]] half {inverse_frequencies = array<f64: 2.500000e-01>, seq_dim = 0 : i64}
  // CHECK-NEXT: return
  %frequencies = arith.constant dense<0.25> : tensor<6x2xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6x2xi64>
  %1 = arith.sitofp %0 : tensor<6x2xi64> to tensor<6x2xf32>
  %2 = arith.mulf %1, %frequencies : tensor<6x2xf32>
  %cos = math.cos %2 : tensor<6x2xf32>
  %sin = math.sin %2 : tensor<6x2xf32>
  %turning = graph.slice %x offsets [0, 0] : tensor<6x4xf32> -> tensor<6x2xf32>
  %passing = graph.slice %x offsets [0, 2] : tensor<6x4xf32> -> tensor<6x2xf32>
  %a = graph.slice %turning offsets [0, 0] : tensor<6x2xf32> -> tensor<6x1xf32>
  %b = graph.slice %turning offsets [0, 1] : tensor<6x2xf32> -> tensor<6x1xf32>
  %3 = arith.negf %b : tensor<6x1xf32>
  %4 = graph.concat %3, %a {dim = 1 : i64} : (tensor<6x1xf32>, tensor<6x1xf32>) -> tensor<6x2xf32>
  %5 = arith.mulf %turning, %cos : tensor<6x2xf32>
  %6 = arith.mulf %4, %sin : tensor<6x2xf32>
  %7 = arith.addf %5, %6 : tensor<6x2xf32>
  %8 = graph.concat %7, %passing {dim = 1 : i64} : (tensor<6x2xf32>, tensor<6x2xf32>) -> tensor<6x4xf32>
  return %8 : tensor<6x4xf32>
}

// A rotation by position² is none that the op can say.
// CHECK-LABEL: @angle_that_is_not_linear_stays
func.func @angle_that_is_not_linear_stays(%x: tensor<6x2xf32>) -> tensor<6x2xf32> {
  // CHECK-NOT: graph.rope
  // CHECK: return
  %0 = graph.iota {dim = 0 : i64} : tensor<6x2xi64>
  %1 = arith.muli %0, %0 : tensor<6x2xi64>
  %2 = arith.sitofp %1 : tensor<6x2xi64> to tensor<6x2xf32>
  %cos = math.cos %2 : tensor<6x2xf32>
  %sin = math.sin %2 : tensor<6x2xf32>
  %a = graph.slice %x offsets [0, 0] : tensor<6x2xf32> -> tensor<6x1xf32>
  %b = graph.slice %x offsets [0, 1] : tensor<6x2xf32> -> tensor<6x1xf32>
  %3 = arith.negf %b : tensor<6x1xf32>
  %4 = graph.concat %3, %a {dim = 1 : i64} : (tensor<6x1xf32>, tensor<6x1xf32>) -> tensor<6x2xf32>
  %5 = arith.mulf %x, %cos : tensor<6x2xf32>
  %6 = arith.mulf %4, %sin : tensor<6x2xf32>
  %7 = arith.addf %5, %6 : tensor<6x2xf32>
  return %7 : tensor<6x2xf32>
}

// The reshape to heads is one with the reshape to pairs, so x is read as if it had y's shape.
// CHECK-LABEL: @pairs_of_heads
// CHECK-SAME: (%[[X:.*]]: tensor<2x6x12xf32>)
func.func @pairs_of_heads(%x: tensor<2x6x12xf32>) -> tensor<2x6x3x4xf32> {
  // CHECK-NEXT: %[[HEADS:.*]] = graph.reshape %{{.*}} -> tensor<2x6x3x4xf32>
  // CHECK-NEXT: graph.rope %[[HEADS]] interleaved {inverse_frequencies = array<f64: 1.000000e+00, 1.250000e-01>, seq_dim = 1 : i64}
  // CHECK-NEXT: return
  %frequencies = arith.constant dense<[1.0, 0.125]> : tensor<2xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  %1 = arith.sitofp %0 : tensor<6xi64> to tensor<6xf32>
  %2 = graph.einsum %1, %frequencies "s,d->sd" : (tensor<6xf32>, tensor<2xf32>) -> tensor<6x2xf32>
  %3 = math.cos %2 : tensor<6x2xf32>
  %4 = math.sin %2 : tensor<6x2xf32>
  %cos = graph.broadcast %3 dims [1, 3] : tensor<6x2xf32> -> tensor<2x6x3x2xf32>
  %sin = graph.broadcast %4 dims [1, 3] : tensor<6x2xf32> -> tensor<2x6x3x2xf32>
  %pairs = graph.reshape %x : tensor<2x6x12xf32> -> tensor<2x6x3x2x2xf32>
  %5 = graph.slice %pairs offsets [0, 0, 0, 0, 0] : tensor<2x6x3x2x2xf32> -> tensor<2x6x3x2x1xf32>
  %6 = graph.slice %pairs offsets [0, 0, 0, 0, 1] : tensor<2x6x3x2x2xf32> -> tensor<2x6x3x2x1xf32>
  %a = graph.reshape %5 : tensor<2x6x3x2x1xf32> -> tensor<2x6x3x2xf32>
  %b = graph.reshape %6 : tensor<2x6x3x2x1xf32> -> tensor<2x6x3x2xf32>
  %7 = arith.mulf %a, %cos : tensor<2x6x3x2xf32>
  %8 = arith.mulf %b, %sin : tensor<2x6x3x2xf32>
  %9 = arith.subf %7, %8 : tensor<2x6x3x2xf32>
  %10 = arith.mulf %a, %sin : tensor<2x6x3x2xf32>
  %11 = arith.mulf %b, %cos : tensor<2x6x3x2xf32>
  %12 = arith.addf %10, %11 : tensor<2x6x3x2xf32>
  %13 = graph.reshape %9 : tensor<2x6x3x2xf32> -> tensor<2x6x3x2x1xf32>
  %14 = graph.reshape %12 : tensor<2x6x3x2xf32> -> tensor<2x6x3x2x1xf32>
  %15 = graph.concat %13, %14 {dim = 4 : i64} : (tensor<2x6x3x2x1xf32>, tensor<2x6x3x2x1xf32>) -> tensor<2x6x3x2x2xf32>
  %16 = graph.reshape %15 : tensor<2x6x3x2x2xf32> -> tensor<2x6x3x4xf32>
  return %16 : tensor<2x6x3x4xf32>
}

// At position 0 all angles are 0; at others they differ along two dimensions, which the op cannot say of one frequency.
// CHECK-LABEL: @frequency_along_another_dimension_stays
func.func @frequency_along_another_dimension_stays(%x: tensor<6x2x2xf32>) -> tensor<6x2x2xf32> {
  // CHECK-NOT: graph.rope
  // CHECK: return
  %frequencies = arith.constant dense<[1.0, 0.125]> : tensor<2xf32>
  %0 = graph.iota {dim = 0 : i64} : tensor<6xi64>
  %1 = arith.sitofp %0 : tensor<6xi64> to tensor<6xf32>
  %2 = graph.einsum %1, %frequencies "s,d->sd" : (tensor<6xf32>, tensor<2xf32>) -> tensor<6x2xf32>
  %3 = math.cos %2 : tensor<6x2xf32>
  %4 = math.sin %2 : tensor<6x2xf32>
  %cos = graph.broadcast %3 dims [0, 1] : tensor<6x2xf32> -> tensor<6x2x2xf32>
  %sin = graph.broadcast %4 dims [0, 1] : tensor<6x2xf32> -> tensor<6x2x2xf32>
  %a = graph.slice %x offsets [0, 0, 0] : tensor<6x2x2xf32> -> tensor<6x2x1xf32>
  %b = graph.slice %x offsets [0, 0, 1] : tensor<6x2x2xf32> -> tensor<6x2x1xf32>
  %5 = arith.negf %b : tensor<6x2x1xf32>
  %6 = graph.concat %5, %a {dim = 2 : i64} : (tensor<6x2x1xf32>, tensor<6x2x1xf32>) -> tensor<6x2x2xf32>
  %7 = arith.mulf %x, %cos : tensor<6x2x2xf32>
  %8 = arith.mulf %6, %sin : tensor<6x2x2xf32>
  %9 = arith.addf %7, %8 : tensor<6x2x2xf32>
  return %9 : tensor<6x2x2xf32>
}

// The op takes four dimensions at most, so the arithmetic stays.
// CHECK-LABEL: @five_dimensions_stay
func.func @five_dimensions_stay(%x: tensor<2x2x2x6x2xf32>) -> tensor<2x2x2x6x2xf32> {
  // CHECK-NOT: graph.rope
  // CHECK: return
  %0 = graph.iota {dim = 0 : i64} : tensor<6x2xi64>
  %1 = arith.sitofp %0 : tensor<6x2xi64> to tensor<6x2xf32>
  %2 = math.cos %1 : tensor<6x2xf32>
  %3 = math.sin %1 : tensor<6x2xf32>
  %cos = graph.broadcast %2 dims [3, 4] : tensor<6x2xf32> -> tensor<2x2x2x6x2xf32>
  %sin = graph.broadcast %3 dims [3, 4] : tensor<6x2xf32> -> tensor<2x2x2x6x2xf32>
  %a = graph.slice %x offsets [0, 0, 0, 0, 0] : tensor<2x2x2x6x2xf32> -> tensor<2x2x2x6x1xf32>
  %b = graph.slice %x offsets [0, 0, 0, 0, 1] : tensor<2x2x2x6x2xf32> -> tensor<2x2x2x6x1xf32>
  %4 = arith.negf %b : tensor<2x2x2x6x1xf32>
  %5 = graph.concat %4, %a {dim = 4 : i64} : (tensor<2x2x2x6x1xf32>, tensor<2x2x2x6x1xf32>) -> tensor<2x2x2x6x2xf32>
  %6 = arith.mulf %x, %cos : tensor<2x2x2x6x2xf32>
  %7 = arith.mulf %5, %sin : tensor<2x2x2x6x2xf32>
  %8 = arith.addf %6, %7 : tensor<2x2x2x6x2xf32>
  return %8 : tensor<2x2x2x6x2xf32>
}
