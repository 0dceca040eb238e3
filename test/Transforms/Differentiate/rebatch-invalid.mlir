// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-rebatch=batch=32
// RUN: not galvatron-opt %s -split-input-file --galvatron-rebatch=batch=-4 2>&1 | FileCheck %s

// CHECK: expects a positive global batch, but got -4
module attributes {graph.batch = 2 : i64} {
  func.func @step(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
    // expected-error@+1 {{expects a constant along the batch to have equal elements, but got 'tensor<2x4xf32>'}}
    %c = arith.constant dense<[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]> : tensor<2x4xf32>
    %y = arith.mulf %x, %c : tensor<2x4xf32>
    return %y : tensor<2x4xf32>
  }
}

// -----

// expected-error@+1 {{expects a model imported with a batch of more than one to change it to 32, but got 1; import with --batch 32}}
module attributes {graph.batch = 1 : i64} {
  func.func @step(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
    return %x : tensor<1x4xf32>
  }
}

// -----

// Two samples of four numbers, or four of two: whichever, an op makes one dimension of both.
// expected-error@+1 {{expects samples that no op splits or joins with others, to change their number from 4 to 32; import with --batch 32}}
module attributes {graph.batch = 4 : i64} {
  func.func @step(%x: tensor<4x4xf32>) -> tensor<2x8xf32> {
    %y = graph.reshape %x : tensor<4x4xf32> -> tensor<2x8xf32>
    return %y : tensor<2x8xf32>
  }
}

// -----

// expected-error@+1 {{expects its own batch, 2, but got 32: blocks.0 (train.py:12) computes in Python with it; import again with --batch 32}}
module attributes {graph.batch = 2 : i64, graph.batch_held_by = "blocks.0 (train.py:12) computes in Python with it"} {
  func.func @step(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
    return %x : tensor<2x4xf32>
  }
}
