// RUN: galvatron-opt %s -galvatron-convert-dist-to-exec | FileCheck %s
// RUN: galvatron-opt %s -galvatron-convert-dist-to-exec=device=cuda | FileCheck %s --check-prefix=CUDA
// RUN: galvatron-opt %s -galvatron-convert-dist-to-exec=lacking=document_attention | FileCheck %s --check-prefix=CUDA

// Of a mask of documents a kernel reads the documents, and nothing else of it is computed. A device without such a kernel
// is given the mask.
// CHECK-LABEL: exec.function @masked
// CHECK-SAME: %[[X:[^:]*]]: memref<2x1x4x8xf32>, %[[Q:[^:]*]]: memref<2x4xi64>, %[[K:[^:]*]]: memref<2x4xi64>
// CHECK-NOT: exec.loops
// CHECK: exec.call "document_attention"(%[[X]], %[[X]], %[[X]], %[[Q]], %[[K]],
// CHECK-SAME: bias_strides = [0, 0, 0, 0]
// CUDA-LABEL: exec.function @masked
// CUDA: exec.loops
// CUDA: exec.call "attention"
dist.body @masked(%x: tensor<2x1x4x8xf32>, %queries: tensor<2x4xi64>, %keys: tensor<2x4xi64>) -> tensor<2x1x4x8xf32> {
  %zero = arith.constant dense<0.0> : tensor<2x4x4xf32>
  %hidden = arith.constant dense<0xFF800000> : tensor<2x4x4xf32>
  %q = graph.broadcast %queries dims [0, 1] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %k = graph.broadcast %keys dims [0, 2] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %same = arith.cmpi eq, %k, %q : tensor<2x4x4xi64>
  %small = arith.select %same, %zero, %hidden : tensor<2x4x4xi1>, tensor<2x4x4xf32>
  %mask = graph.broadcast %small dims [0, 2, 3] : tensor<2x4x4xf32> -> tensor<2x1x4x4xf32>
  %y, %lse = graph.attention %x, %x, %x bias %mask {scale = 1.0, causal} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x4xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  dist.return %y : tensor<2x1x4x8xf32>
}
dist.layer @masked.layer {forward = @masked, inputs = [#dist.placement<[2, 1, 4, 8]>, #dist.placement<[2, 4]>, #dist.placement<[2, 4]>], outputs = [#dist.placement<[2, 1, 4, 8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// What is added to a key within its document is read as it is, by strides.
// CHECK-LABEL: exec.function @alibi
// CHECK: exec.call "document_attention"
// CHECK-SAME: bias_strides = [8, 4, 0, 1]
dist.body @alibi(%x: tensor<2x2x4x8xf32>, %documents: tensor<2x4xi64>, %slopes: tensor<2x2x4xf32>) -> tensor<2x2x4x8xf32> {
  %hidden = arith.constant dense<0xFF800000> : tensor<2x2x4x4xf32>
  %q = graph.broadcast %documents dims [0, 1] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %k = graph.broadcast %documents dims [0, 2] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %same = arith.cmpi eq, %q, %k : tensor<2x4x4xi64>
  %visible = graph.broadcast %same dims [0, 2, 3] : tensor<2x4x4xi1> -> tensor<2x2x4x4xi1>
  %own = graph.broadcast %slopes dims [0, 1, 3] : tensor<2x2x4xf32> -> tensor<2x2x4x4xf32>
  %mask = arith.select %visible, %own, %hidden : tensor<2x2x4x4xi1>, tensor<2x2x4x4xf32>
  %y, %lse = graph.attention %x, %x, %x bias %mask {scale = 1.0, causal} : (tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>, tensor<2x2x4x8xf32>, tensor<2x2x4x4xf32>) -> (tensor<2x2x4x8xf32>, tensor<2x2x4xf32>)
  dist.return %y : tensor<2x2x4x8xf32>
}
dist.layer @alibi.layer {forward = @alibi, inputs = [#dist.placement<[2, 2, 4, 8]>, #dist.placement<[2, 4]>, #dist.placement<[2, 2, 4]>], outputs = [#dist.placement<[2, 2, 4, 8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// The same numbers the other way round are none, and neither are those of one side alone.
// CHECK-LABEL: exec.function @others
// CHECK: exec.call "attention"
dist.body @others(%x: tensor<2x1x4x8xf32>, %documents: tensor<2x4xi64>) -> tensor<2x1x4x8xf32> {
  %zero = arith.constant dense<0.0> : tensor<2x4x4xf32>
  %hidden = arith.constant dense<0xFF800000> : tensor<2x4x4xf32>
  %q = graph.broadcast %documents dims [0, 1] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %k = graph.broadcast %documents dims [0, 2] : tensor<2x4xi64> -> tensor<2x4x4xi64>
  %same = arith.cmpi eq, %q, %k : tensor<2x4x4xi64>
  %small = arith.select %same, %hidden, %zero : tensor<2x4x4xi1>, tensor<2x4x4xf32>
  %mask = graph.broadcast %small dims [0, 2, 3] : tensor<2x4x4xf32> -> tensor<2x1x4x4xf32>
  %y, %lse = graph.attention %x, %x, %x bias %mask {scale = 1.0, causal} : (tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x8xf32>, tensor<2x1x4x4xf32>) -> (tensor<2x1x4x8xf32>, tensor<2x1x4xf32>)
  dist.return %y : tensor<2x1x4x8xf32>
}
dist.layer @others.layer {forward = @others, inputs = [#dist.placement<[2, 1, 4, 8]>, #dist.placement<[2, 4]>], outputs = [#dist.placement<[2, 1, 4, 8]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
