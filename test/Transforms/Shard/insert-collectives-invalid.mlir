// RUN: galvatron-opt %s -split-input-file -verify-diagnostics --galvatron-insert-collectives

// expected-error@+1 {{expects 'plan.pipeline', but got none}}
module {
}

// -----

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  graph.layer @time(%x: tensor<8xf32, #dist.placement<[2@t * 4]>>) -> tensor<8xf32, #dist.placement<[8]>> {
    // expected-error@+1 {{expects a target that collectives can reach, but got #dist.placement<[2@t * 4]> to #dist.placement<[8]>}}
    %y = dist.redistribute %x : tensor<8xf32, #dist.placement<[2@t * 4]>> -> tensor<8xf32, #dist.placement<[8]>>
    graph.return %y : tensor<8xf32, #dist.placement<[8]>>
  }
}
