// Bodies in bf16: kernels of the processor are converted around, those of the GPU are not.
// RUN: galvatron-opt %s --galvatron-convert-dist-to-exec | FileCheck %s --check-prefixes=CHECK,CPU
// RUN: galvatron-opt %s --galvatron-convert-dist-to-exec=device=cuda | FileCheck %s --check-prefixes=CHECK,CUDA
// CPU-NOT: exec.device
// CUDA: exec.device = "cuda"
// CUDA-SAME: exec.workspace_bytes = 33554432

// A chain computes in f32, is not rounded between its links, and is rounded where it is written.
// CHECK-LABEL: exec.function @chain.forward
dist.body @chain.forward(%x: tensor<8xbf16>, %y: tensor<8xbf16>) -> tensor<8xbf16> {
  // CHECK: ^bb0(%[[A:.*]]: bf16, %[[B:.*]]: bf16):
  // CHECK-NEXT: %[[X:.*]] = arith.extf %[[A]] : bf16 to f32
  // CHECK-NEXT: %[[Y:.*]] = arith.extf %[[B]] : bf16 to f32
  // CHECK-NEXT: %[[S:.*]] = arith.addf %[[X]], %[[Y]] : f32
  // CHECK-NEXT: %[[P:.*]] = arith.mulf %[[S]], %[[Y]] : f32
  // CHECK-NEXT: %[[R:.*]] = arith.truncf %[[P]] : f32 to bf16
  // CHECK-NEXT: exec.yield %[[R]] : bf16
  %s = graph.sum %x, %y : (tensor<8xbf16>, tensor<8xbf16>) -> tensor<8xbf16>
  %p = arith.mulf %s, %y : tensor<8xbf16>
  dist.return %p : tensor<8xbf16>
}
dist.layer @chain {forward = @chain.forward, inputs = [#dist.placement<[8]>, #dist.placement<[8]>], outputs = [#dist.placement<[8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @product.forward
// CHECK-SAME: %[[A:.*]]: memref<8x4xbf16>, %[[B:[a-z0-9]+]]: memref<6x4xbf16>, %{{.*}}: memref<8x6xbf16>
dist.body @product.forward(%x: tensor<8x4xbf16>, %w: tensor<6x4xbf16>) -> tensor<8x6xbf16> {
  // CUDA: exec.call "matmul"(%[[A]], %[[B]], %{{.*}}) {type = 2, c_type = 2, M = 8, N = 6, K = 4,
  // CPU: exec.loops [8, 4] inputs(%[[A]] : memref<8x4xbf16>) outputs(%[[WIDE_A:.*]] : memref<8x4xf32>)
  // CPU: exec.loops [6, 4] inputs(%[[B]] : memref<6x4xbf16>) outputs(%[[WIDE_B:.*]] : memref<6x4xf32>)
  // CPU: exec.call "matmul"(%[[WIDE_A]], %[[WIDE_B]], %[[WIDE_C:.*]]) {type = 0, c_type = 0, M = 8, N = 6, K = 4,
  // CPU: exec.loops [8, 6] inputs(%[[WIDE_C]] : memref<8x6xf32>) outputs(%{{.*}} : memref<8x6xbf16>)
  %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xbf16>, tensor<6x4xbf16>) -> tensor<8x6xbf16>
  dist.return %y : tensor<8x6xbf16>
}
dist.layer @product {forward = @product.forward, inputs = [#dist.placement<[8, 4]>, #dist.placement<[6, 4]>], outputs = [#dist.placement<[8, 6]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// A gradient of a parameter is f32.
// CHECK-LABEL: exec.function @gradient.forward
dist.body @gradient.forward(%dy: tensor<8x6xbf16>, %x: tensor<8x4xbf16>) -> tensor<6x4xf32> {
  // CUDA: exec.call "matmul"({{.*}}) {type = 2, c_type = 0, M = 6, N = 4, K = 8,
  // CPU: exec.call "matmul"({{.*}}) {type = 0, c_type = 0, M = 6, N = 4, K = 8,
  // CHECK-NOT: exec.loops
  // CHECK: exec.return
  %dw = graph.einsum %dy, %x "bo,bi->oi" : (tensor<8x6xbf16>, tensor<8x4xbf16>) -> tensor<6x4xf32>
  dist.return %dw : tensor<6x4xf32>
}
dist.layer @gradient {forward = @gradient.forward, inputs = [#dist.placement<[8, 6]>, #dist.placement<[8, 4]>], outputs = [#dist.placement<[6, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// The GPU's attention gets a planned piece of scratch; the processor's none.
// CHECK-LABEL: exec.function @attention.forward
dist.body @attention.forward(%q: tensor<1x2x4x8xbf16>) -> (tensor<1x2x4x8xbf16>, tensor<1x2x4xf32>) {
  // CUDA: exec.call "attention"({{.*}}) {type = 2, workspace_bytes = [[BYTES:[0-9]+]], B = 1, N = 2, K = 2, Sq = 4, Sk = 4, D = 8, Dv = 8,
  // CUDA-SAME: present [1, 1, 1, 0, 1, 1, 1] {{.*}}memref<[[BYTES]]xi8>
  // CPU: exec.call "attention"({{.*}}) {type = 0, workspace_bytes = 0, B = 1, N = 2, K = 2, Sq = 4, Sk = 4, D = 8, Dv = 8,
  // CPU-SAME: present [1, 1, 1, 0, 1, 1, 0]
  %y, %lse = graph.attention %q, %q, %q {scale = 1.0, causal} : (tensor<1x2x4x8xbf16>, tensor<1x2x4x8xbf16>, tensor<1x2x4x8xbf16>) -> (tensor<1x2x4x8xbf16>, tensor<1x2x4xf32>)
  dist.return %y, %lse : tensor<1x2x4x8xbf16>, tensor<1x2x4xf32>
}
dist.layer @attention {forward = @attention.forward, inputs = [#dist.placement<[1, 2, 4, 8]>], outputs = [#dist.placement<[1, 2, 4, 8]>, #dist.placement<[1, 2, 4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// CHECK-LABEL: exec.function @reduced.forward
dist.body @reduced.forward(%x: tensor<8xbf16>) -> tensor<8xbf16> {
  // CHECK: exec.call "all_reduce"({{.*}}) {group = 0, type = 2, kind = 0, count = 8, handle = -1} : memref<8xbf16>, memref<8xbf16>
  %y = dist.all_reduce sum %x axes [0] : tensor<8xbf16> -> tensor<8xbf16>
  dist.return %y : tensor<8xbf16>
}
dist.layer @reduced {forward = @reduced.forward, inputs = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// A function of the GPU's runtime cannot read a constant: a generated kernel writes it to memory first.
// CHECK-LABEL: exec.function @sharded.forward
dist.body @sharded.forward(%x: tensor<2xf32>) -> tensor<2xf32> {
  // CHECK: %[[C:.*]] = exec.constant
  // CUDA: exec.loops {{.*}}%[[C]]
  // CUDA: exec.call "shard"
  // CUDA-NOT: %[[C]]
  // CPU-NOT: exec.loops
  // CPU: exec.call "shard"(%[[C]],
  %c = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %y = dist.shard %c axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<4xf32> -> tensor<2xf32>
  dist.return %y : tensor<2xf32>
}
dist.layer @sharded {forward = @sharded.forward, inputs = [#dist.placement<[2]>], outputs = [#dist.placement<[2]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
