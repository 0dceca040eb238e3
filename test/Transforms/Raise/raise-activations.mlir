// RUN: galvatron-opt %s --galvatron-raise-activations | FileCheck %s

func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.negf %x : tensor<8xf32>
  %1 = math.exp %0 : tensor<8xf32>
  %2 = arith.addf %1, %one : tensor<8xf32>
  %3 = arith.divf %x, %2 : tensor<8xf32>
  return %3 : tensor<8xf32>
}

// CHECK-LABEL: @step
// CHECK-NEXT: graph.activation silu
// CHECK-NEXT: return

// CHECK-LABEL: @gelu_by_tanh
func.func @gelu_by_tanh(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.activation gelu_tanh
  // CHECK-NEXT: return
  %half = arith.constant dense<0.5> : tensor<8xf32>
  %cubic = arith.constant dense<0.044715> : tensor<8xf32>
  %root = arith.constant dense<0.79788456080286535> : tensor<8xf32>
  %three = arith.constant dense<3.0> : tensor<8xf32>
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.mulf %x, %half : tensor<8xf32>
  %1 = math.powf %x, %three : tensor<8xf32>
  %2 = arith.mulf %1, %cubic : tensor<8xf32>
  %3 = arith.addf %x, %2 : tensor<8xf32>
  %4 = arith.mulf %3, %root : tensor<8xf32>
  %5 = math.tanh %4 : tensor<8xf32>
  %6 = arith.addf %5, %one : tensor<8xf32>
  %7 = arith.mulf %0, %6 : tensor<8xf32>
  return %7 : tensor<8xf32>
}

// The same function, factored as Bloom does.
// CHECK-LABEL: @gelu_by_tanh_factored
func.func @gelu_by_tanh_factored(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.activation gelu_tanh
  // CHECK-NEXT: return
  %half = arith.constant dense<0.5> : tensor<8xf32>
  %cubic = arith.constant dense<0.044715> : tensor<8xf32>
  %root = arith.constant dense<0.79788456> : tensor<8xf32>
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.mulf %cubic, %x : tensor<8xf32>
  %1 = arith.mulf %0, %x : tensor<8xf32>
  %2 = arith.addf %one, %1 : tensor<8xf32>
  %3 = arith.mulf %x, %root : tensor<8xf32>
  %4 = arith.mulf %3, %2 : tensor<8xf32>
  %5 = math.tanh %4 : tensor<8xf32>
  %6 = arith.addf %one, %5 : tensor<8xf32>
  %7 = arith.mulf %x, %half : tensor<8xf32>
  %8 = arith.mulf %7, %6 : tensor<8xf32>
  return %8 : tensor<8xf32>
}

// CHECK-LABEL: @gelu_by_erf
func.func @gelu_by_erf(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.activation gelu %
  // CHECK-NEXT: return
  %half = arith.constant dense<0.5> : tensor<8xf32>
  %root = arith.constant dense<1.41421356> : tensor<8xf32>
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.divf %x, %root : tensor<8xf32>
  %1 = math.erf %0 : tensor<8xf32>
  %2 = arith.addf %1, %one : tensor<8xf32>
  %3 = arith.mulf %x, %2 : tensor<8xf32>
  %4 = arith.mulf %3, %half : tensor<8xf32>
  return %4 : tensor<8xf32>
}

// CHECK-LABEL: @silu_by_division
func.func @silu_by_division(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.activation silu
  // CHECK-NEXT: return
  %one = arith.constant dense<1.0> : tensor<8xf32>
  %0 = arith.negf %x : tensor<8xf32>
  %1 = math.exp %0 : tensor<8xf32>
  %2 = arith.addf %1, %one : tensor<8xf32>
  %3 = arith.divf %x, %2 : tensor<8xf32>
  return %3 : tensor<8xf32>
}

// CHECK-LABEL: @squared_relu
func.func @squared_relu(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NEXT: graph.activation relu2
  // CHECK-NEXT: return
  %zero = arith.constant dense<0.0> : tensor<8xf32>
  %0 = arith.maximumf %x, %zero : tensor<8xf32>
  %1 = arith.mulf %0, %0 : tensor<8xf32>
  return %1 : tensor<8xf32>
}

// 1 % off GELU: not the same function.
// CHECK-LABEL: @quick_gelu_stays_arithmetic
func.func @quick_gelu_stays_arithmetic(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: graph.activation sigmoid
  // CHECK: arith.mulf
  %factor = arith.constant dense<1.702> : tensor<8xf32>
  %0 = arith.mulf %x, %factor : tensor<8xf32>
  %1 = graph.activation sigmoid %0 : tensor<8xf32> -> tensor<8xf32>
  %2 = arith.mulf %x, %1 : tensor<8xf32>
  return %2 : tensor<8xf32>
}

// At 0 the gradient of this one is 1, that of relu 0.
// CHECK-LABEL: @clamped_is_not_relu
func.func @clamped_is_not_relu(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: arith.select
  // CHECK-NOT: graph.activation
  %zero = arith.constant dense<0.0> : tensor<8xf32>
  %below = arith.cmpf olt, %x, %zero : tensor<8xf32>
  %0 = arith.select %below, %zero, %x : tensor<8xi1>, tensor<8xf32>
  return %0 : tensor<8xf32>
}

// CHECK-LABEL: @hinge_by_comparison
func.func @hinge_by_comparison(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: graph.activation relu
  %zero = arith.constant dense<0.0> : tensor<8xf32>
  %above = arith.cmpf olt, %zero, %x : tensor<8xf32>
  %0 = arith.select %above, %x, %zero : tensor<8xi1>, tensor<8xf32>
  return %0 : tensor<8xf32>
}

// relu, but for its bound at 20.
// CHECK-LABEL: @bounded_is_not_relu
func.func @bounded_is_not_relu(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK: %[[R:.*]] = graph.activation relu
  // CHECK: %[[Y:.*]] = arith.select %{{.*}}, %{{.*}}, %[[R]]
  // CHECK: return %[[Y]]
  %zero = arith.constant dense<0.0> : tensor<8xf32>
  %bound = arith.constant dense<20.0> : tensor<8xf32>
  %above = arith.cmpf olt, %zero, %x : tensor<8xf32>
  %0 = arith.select %above, %x, %zero : tensor<8xi1>, tensor<8xf32>
  %beyond = arith.cmpf olt, %bound, %x : tensor<8xf32>
  %1 = arith.select %beyond, %bound, %0 : tensor<8xi1>, tensor<8xf32>
  return %1 : tensor<8xf32>
}

// A divisor's guard is not relu, however small.
// CHECK-LABEL: @guarded_is_not_relu
func.func @guarded_is_not_relu(%x: tensor<8xf32>) -> tensor<8xf32> {
  // CHECK-NOT: graph.activation
  %least = arith.constant dense<1.0e-12> : tensor<8xf32>
  %0 = arith.maximumf %x, %least : tensor<8xf32>
  return %0 : tensor<8xf32>
}
