// A layer that centres its input over the batch, which no micro-batch alone can.
module attributes {graph.batch = 4 : i64} {
  graph.layer @centre(%x: tensor<4x64xf32>) -> tensor<4x64xf32> {
    %quarter = arith.constant dense<2.5e-01> : tensor<64xf32>
    %0 = graph.reduce sum %x dims [0] : tensor<4x64xf32> -> tensor<64xf32>
    %1 = arith.mulf %0, %quarter : tensor<64xf32>
    %2 = graph.broadcast %1 dims [1] : tensor<64xf32> -> tensor<4x64xf32>
    %3 = arith.subf %x, %2 : tensor<4x64xf32>
    graph.backward(%dy: tensor<4x64xf32>) {
      %4 = graph.reduce sum %dy dims [0] : tensor<4x64xf32> -> tensor<64xf32>
      %5 = arith.mulf %4, %quarter : tensor<64xf32>
      %6 = graph.broadcast %5 dims [1] : tensor<64xf32> -> tensor<4x64xf32>
      %7 = arith.subf %dy, %6 : tensor<4x64xf32>
      graph.return %7 : tensor<4x64xf32>
    }
    graph.return %3 : tensor<4x64xf32>
  }
  func.func @step(%x: tensor<4x64xf32>) -> tensor<4x64xf32> {
    %0 = graph.call @centre(%x) parameters [] path "centre" : (tensor<4x64xf32>) -> tensor<4x64xf32>
    return %0 : tensor<4x64xf32>
  }
}
