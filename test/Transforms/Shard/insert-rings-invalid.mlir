// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-insert-rings

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @l.forward(%q: tensor<1x1x4x8xf32>, %k: tensor<1x1x8x8xf32>) -> tensor<1x1x4xf32> {
    // expected-error@+1 {{cannot be computed in a ring: expects keys and values that are gathered along their positions; use cp_kind "gathered"}}
    %y, %lse = graph.attention %q, %k, %k {scale = 1.0 : f64} : (tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>) -> (tensor<1x1x4x8xf32>, tensor<1x1x4xf32>)
    dist.return %lse : tensor<1x1x4xf32>
  }
  dist.layer @l {forward = @l.forward, plan.strategy = #plan.strategy<cp = 2, cp_kind = ring>, inputs = [], outputs = [#dist.placement<[1, 1, 4]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>, #dist.placement<[1, 1, 4, 8]>], gradients = [], num_saved = 0 : i64}
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @l.forward(%q: tensor<1x1x4x8xf32>, %k: tensor<1x1x4x8xf32>) -> tensor<1x1x8x8xf32> {
    %lse = arith.constant dense<0.0> : tensor<1x1x4xf32>
    %all = dist.all_gather %k axes [0] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
    // expected-error@+1 {{cannot be computed in a ring: expects the gradients of keys and values to be reduced along their positions, and nothing else to read them}}
    %dq, %dk, %dv = graph.attention_backward %q, %q, %all, %all, %q, %lse {scale = 1.0 : f64} : (tensor<1x1x4x8xf32>, tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x4x8xf32>, tensor<1x1x4xf32>) -> (tensor<1x1x4x8xf32>, tensor<1x1x8x8xf32>, tensor<1x1x8x8xf32>)
    dist.return %dk : tensor<1x1x8x8xf32>
  }
  dist.layer @l {forward = @l.forward, plan.strategy = #plan.strategy<cp = 2, cp_kind = ring>, inputs = [], outputs = [#dist.placement<[1, 1, 8, 8]>], input_gradients = [], output_gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>, #dist.placement<[1, 1, 4, 8]>], gradients = [], num_saved = 0 : i64}
}
