// RUN: galvatron-opt %s --galvatron-search-plan="ranks=2 memory=64B" -split-input-file -verify-diagnostics
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --compile-to=differentiate | not galvatron-opt - --galvatron-search-plan="memory=plenty" 2>&1 | FileCheck %s --check-prefix=MEMORY
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --compile-to=differentiate | not galvatron-opt - --galvatron-search-plan="cluster=%t.none" 2>&1 | FileCheck %s --check-prefix=CLUSTER
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --compile-to=differentiate | not galvatron-opt - --galvatron-search-plan="cluster=%t.none ranks=2" 2>&1 | FileCheck %s --check-prefix=BOTH
// RUN: galvatron-opt %S/../Inputs/three-layers.mlir --compile-to=differentiate | not galvatron-opt - --galvatron-search-plan="ranks=2 device-kind=abacus" 2>&1 | FileCheck %s --check-prefix=KIND
// RUN: not galvatron-opt %S/../Inputs/whole-batch.mlir --galvatron-search-plan="ranks=1 memory=1536B" 2>&1 | FileCheck %s --check-prefix=WHOLE
// Two micro-batches would fit, but some op reads the whole batch.
// WHOLE: error: no strategy fits 1.5 KiB per device; the smallest plan needs 2.0 KiB (2048 bytes: stage 0 of 1, largest layer 'centre' with one device, 1 micro-batches)
// WHOLE: note: 'arith.subf' op needs the whole batch at once
// MEMORY: error: memory budget expects a size such as 2GiB, 512MiB, 24GB or 1048576, but got 'plenty'
// CLUSTER: error: cannot read the cluster '{{.*}}.none': No such file or directory
// KIND: error: expects a device out of cpu, a100, {{.*}}, but got 'abacus'
// BOTH: error: expects a cluster file or a number of ranks, but got both; the file says how many

// expected-error @below {{no strategy fits 64 B per device; the smallest plan needs 1.6 KiB (1664 bytes: stage 0 of 1, largest layer 'scale' with dp=2 zero1, 2 micro-batches); raise the budget}}
module attributes {graph.batch = 4 : i64} {
  graph.layer @scale(%x: tensor<4x64xf32>, %w: tensor<64xf32> {graph.parameter = "w"}) -> tensor<4x64xf32> {
    %0 = graph.broadcast %w dims [1] : tensor<64xf32> -> tensor<4x64xf32>
    %1 = arith.mulf %x, %0 : tensor<4x64xf32>
    graph.backward(%dy: tensor<4x64xf32>) {
      %2 = arith.mulf %dy, %0 : tensor<4x64xf32>
      %3 = arith.mulf %dy, %x : tensor<4x64xf32>
      %4 = graph.reduce sum %3 dims [0] : tensor<4x64xf32> -> tensor<64xf32>
      graph.return %2, %4 : tensor<4x64xf32>, tensor<64xf32>
    }
    graph.return %1 : tensor<4x64xf32>
  }
  func.func @step(%x: tensor<4x64xf32>) -> tensor<4x64xf32> {
    %0 = graph.call @scale(%x) parameters ["w"] path "scale" : (tensor<4x64xf32>) -> tensor<4x64xf32>
    return %0 : tensor<4x64xf32>
  }
}

// -----

module attributes {graph.batch = 4 : i64} {
  // expected-error @below {{expects a graph.backward to price; run the phase differentiate first}}
  graph.layer @same(%x: tensor<4xf32>) -> tensor<4xf32> {
    graph.return %x : tensor<4xf32>
  }
  func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
    %0 = graph.call @same(%x) parameters [] path "same" : (tensor<4xf32>) -> tensor<4xf32>
    return %0 : tensor<4xf32>
  }
}

// -----

module attributes {graph.batch = 4 : i64} {
  func.func private @same(tensor<4xi64>) -> tensor<4xi64>
  func.func @step(%ids: tensor<4xi64>) -> tensor<4xi64> {
    // expected-error @below {{expects a graph.layer to price, but got @same}}
    %0 = graph.call @same(%ids) parameters [] path "same" : (tensor<4xi64>) -> tensor<4xi64>
    return %0 : tensor<4xi64>
  }
}
