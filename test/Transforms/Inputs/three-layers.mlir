module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64} {
  graph.layer @embedding(%ids: tensor<8x16xi64>, %table: tensor<256x64xf32> {graph.parameter = "weight"}) -> tensor<8x16x64xf32> {
    %0 = graph.embedding %table, %ids : (tensor<256x64xf32>, tensor<8x16xi64>) -> tensor<8x16x64xf32>
    graph.return %0 : tensor<8x16x64xf32>
  }
  graph.layer @decoder(%x: tensor<8x16x64xf32>, %w: tensor<64x64xf32> {graph.parameter = "proj.weight"}) -> tensor<8x16x64xf32> {
    %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<64x64xf32>) -> tensor<8x16x64xf32>
    graph.return %0 : tensor<8x16x64xf32>
  }
  graph.layer @head(%x: tensor<8x16x64xf32>, %labels: tensor<8x16xi64>, %w: tensor<256x64xf32> {graph.parameter = "weight"}) -> tensor<f32> {
    %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<256x64xf32>) -> tensor<8x16x256xf32>
    %1 = graph.cross_entropy %0, %labels : (tensor<8x16x256xf32>, tensor<8x16xi64>) -> tensor<f32>
    graph.return %1 : tensor<f32>
  }
  func.func @step(%input_ids: tensor<8x16xi64>, %labels: tensor<8x16xi64>) -> tensor<f32> {
    %0 = graph.call @embedding(%input_ids) parameters ["embed.weight"] path "embed" : (tensor<8x16xi64>) -> tensor<8x16x64xf32>
    %1 = graph.call @decoder(%0) parameters ["h.0.proj.weight"] path "h.0" : (tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    %2 = graph.call @decoder(%1) parameters ["h.1.proj.weight"] path "h.1" : (tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    %3 = graph.call @decoder(%2) parameters ["h.2.proj.weight"] path "h.2" : (tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    %4 = graph.call @head(%3, %labels) parameters ["head.weight"] path "head" : (tensor<8x16x64xf32>, tensor<8x16xi64>) -> tensor<f32>
    return %4 : tensor<f32>
  }
}
