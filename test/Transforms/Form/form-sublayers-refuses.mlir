// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn" 2>&1 | FileCheck %s --check-prefix=ALONE
// ALONE: error: layer 'h.0' is listed by its submodule 'self_attn' alone; list the other half too: its submodules with products are self_attn, mlp, cross
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,h.0.mlp,h.0" 2>&1 | FileCheck %s --check-prefix=BOTH
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,layers.0,h.0.mlp" 2>&1 | FileCheck %s --check-prefix=BOTH
// BOTH: error: layer 'h.0' is listed as '{{h.0|layers.0}}' and by its submodule 'self_attn'; list the layer, or its attention and its feed-forward
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,h.0.feed" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: layer 'h.0' has no submodule 'feed' to plan by itself; those with products are self_attn, mlp, cross
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,h.0.mlp,h.0.cross" 2>&1 | FileCheck %s --check-prefix=THREE
// THREE: error: layer 'h.0' is listed by 3 submodules, self_attn, mlp, cross; list two, its attention and its feed-forward
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,h.0.mlp" 2>&1 | FileCheck %s --check-prefix=NEITHER
// NEITHER: error: layer 'h.0' cannot be cut into 'mlp' and 'self_attn', so list it whole: its weight 'cross.w' is in neither
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.norm,h.0.mlp" 2>&1 | FileCheck %s --check-prefix=UNREAD
// UNREAD: cannot be cut into 'mlp' and 'norm', so list it whole: its attention reads weights of neither
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.0.self_attn,h.0.norm" 2>&1 | FileCheck %s --check-prefix=NORM
// NORM: cannot be cut into 'norm' and 'self_attn', so list it whole: its weight 'mlp.w' is in neither
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.1.one,h.1.mlp" 2>&1 | FileCheck %s --check-prefix=ROUND
// ROUND: error: layer 'h.1' cannot be cut into 'mlp' and 'one', so list it whole: 'one' reads what 'mlp' computes
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.1.one,h.1.two" 2>&1 | FileCheck %s --check-prefix=SHARED
// SHARED: error: layer 'h.1' cannot be cut into 'one' and 'two', so list it whole: its attention reads weights of both
// RUN: not galvatron-opt %s --galvatron-form-sublayers="units=h.2.one,h.2.one.deep" 2>&1 | FileCheck %s --check-prefix=OWN
// OWN: error: layer 'h.2' cannot be cut into 'one' and 'one.deep', so list it whole: 'one.deep' has no weights of its own

// What is no half of a layer is left for whoever reads the plan.
// RUN: galvatron-opt %s --galvatron-form-sublayers="units=h.7.mlp,layers.9.mlp,layers.x.mlp,head" | FileCheck %s --check-prefix=SAME
// SAME-NOT: graph.block

module attributes {graph.batch = 4 : i64} {
  graph.layer @cross(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "self_attn.w"}, %b: tensor<4x4xf32> {graph.parameter = "mlp.w"}, %c: tensor<4x4xf32> {graph.parameter = "cross.w"}, %n: tensor<4xf32> {graph.parameter = "norm.w"}) -> tensor<4x4xf32> {
    %0 = graph.einsum %x, %a "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.softmax %0 : tensor<4x4xf32> -> tensor<4x4xf32>
    %m, %mean, %rstd = graph.norm rms %1 weight %n {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %2 = graph.einsum %m, %b "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %3 = graph.einsum %2, %c "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    graph.return %3 : tensor<4x4xf32>
  }
  graph.layer @round(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "one.w"}, %b: tensor<4x4xf32> {graph.parameter = "two.w"}, %c: tensor<4x4xf32> {graph.parameter = "one.o"}) -> tensor<4x4xf32> {
    %0 = graph.einsum %x, %a "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.einsum %0, %b "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.softmax %1 : tensor<4x4xf32> -> tensor<4x4xf32>
    %3 = graph.einsum %2, %c "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    graph.return %3 : tensor<4x4xf32>
  }
  graph.layer @nested(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "one.w"}, %b: tensor<4x4xf32> {graph.parameter = "one.deep.w"}) -> tensor<4x4xf32> {
    %0 = graph.einsum %x, %a "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.softmax %0 : tensor<4x4xf32> -> tensor<4x4xf32>
    %2 = graph.einsum %1, %b "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    graph.return %2 : tensor<4x4xf32>
  }
  graph.layer @out(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = arith.negf %x : tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @cross(%x) parameters ["h.0.self_attn.w", "h.0.mlp.w", "h.0.cross.w", "h.0.norm.w"] path "h.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.call @round(%0) parameters ["h.1.one.w", "h.1.two.w", "h.1.one.o"] path "h.1" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.call @nested(%1) parameters ["h.2.one.w", "h.2.one.deep.w"] path "h.2" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %3 = graph.call @out(%2) parameters [] path "out" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %3 : tensor<4x4xf32>
  }
}
