// The order of a stage's ranks follows from the strategies on it: dp slowest, tp fastest, whatever the primes. Axis 0 of
// the mesh is the slowest.
// RUN: echo '{"ranks":12,"units":[{"path":"a","strategy":{"tp":4}},{"path":"b","strategy":{"tp":4}},{"path":"c","strategy":{"tp":4}}]}' > %t.json
// RUN: galvatron-opt %s --galvatron-annotate-plan=plan=%t.json --galvatron-assign-placements --galvatron-insert-collectives | FileCheck %s --check-prefix=TWELVE
// RUN: echo '{"ranks":6,"units":[{"path":"a","strategy":{"tp":2}},{"path":"b","strategy":{"tp":3}},{"path":"c","strategy":{"tp":6}}]}' > %t.json
// RUN: galvatron-opt %s --galvatron-annotate-plan=plan=%t.json --galvatron-assign-placements --galvatron-insert-collectives | FileCheck %s --check-prefix=LESS
// RUN: echo '{"ranks":6,"mesh":[3,2],"units":[{"path":"a","strategy":{"tp":2}},{"path":"b","strategy":{"tp":3}},{"path":"c","strategy":{"tp":6}}]}' > %t.json
// RUN: galvatron-opt %s --galvatron-annotate-plan=plan=%t.json --galvatron-assign-placements --galvatron-insert-collectives | FileCheck %s --check-prefix=SAID
// RUN: echo '{"ranks":24,"units":[{"path":"a","strategy":{"tp":8}},{"path":"b","strategy":{"tp":4}},{"path":"c","strategy":{"tp":2}}]}' > %t.json
// RUN: galvatron-opt %s --galvatron-annotate-plan=plan=%t.json | FileCheck %s --check-prefix=ALL
// RUN: echo '{"ranks":6,"mesh":[2,2],"units":[{"path":"a"},{"path":"b"},{"path":"c"}]}' > %t.json
// RUN: not galvatron-opt %s --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=PRIMES
// RUN: echo '{"ranks":6,"mesh":"3x2","units":[{"path":"a"},{"path":"b"},{"path":"c"}]}' > %t.json
// RUN: not galvatron-opt %s --galvatron-annotate-plan=plan=%t.json 2>&1 | FileCheck %s --check-prefix=LIST

module attributes {graph.batch = 24 : i64} {
  graph.layer @mlp(%x: tensor<24x8xf32>, %up: tensor<24x8xf32> {graph.parameter = "up"}, %down: tensor<8x24xf32> {graph.parameter = "down"}) -> tensor<24x8xf32> {
    %0 = graph.einsum %x, %up "bi,oi->bo" : (tensor<24x8xf32>, tensor<24x8xf32>) -> tensor<24x24xf32>
    %1 = graph.einsum %0, %down "bi,oi->bo" : (tensor<24x24xf32>, tensor<8x24xf32>) -> tensor<24x8xf32>
    graph.return %1 : tensor<24x8xf32>
  }
  func.func @step(%x: tensor<24x8xf32>) -> tensor<24x8xf32> {
    %0 = graph.call @mlp(%x) parameters ["a.up", "a.down"] path "a" : (tensor<24x8xf32>) -> tensor<24x8xf32>
    %1 = graph.call @mlp(%0) parameters ["b.up", "b.down"] path "b" : (tensor<24x8xf32>) -> tensor<24x8xf32>
    %2 = graph.call @mlp(%1) parameters ["c.up", "c.down"] path "c" : (tensor<24x8xf32>) -> tensor<24x8xf32>
    return %2 : tensor<24x8xf32>
  }
}

// Tensor groups are 0 1 2 3, 4 5 6 7 and 8 9 10 11.
// TWELVE: plan.pipeline = #plan.pipeline<stages = 1, devices = 12, {{.*}}, mesh = [3, 2, 2]>
// TWELVE: graph.layer @mlp.dp3tp4
// TWELVE: dist.all_reduce sum %{{.*}} axes [1, 2]

// tp 3 moves twice what tp 2 does and is of neighbours, 0 1 2 and 3 4 5; tp 2 has the groups 0 3, 1 4 and 2 5. Ascending
// sizes go without saying.
// LESS: plan.pipeline = #plan.pipeline<stages = 1, devices = 6, micro_batches = 1, schedule = "1f1b">
// LESS: graph.layer @mlp.dp3tp2
// LESS: dist.all_reduce sum %{{.*}} axes [0]
// LESS: graph.layer @mlp.dp2tp3
// LESS: dist.all_reduce sum %{{.*}} axes [1]

// The plan has the last word: tp 2 has its neighbours.
// SAID: devices = 6, {{.*}}, mesh = [3, 2]>
// SAID: graph.layer @mlp.dp3tp2
// SAID: dist.all_reduce sum %{{.*}} axes [1]
// SAID: graph.layer @mlp.dp2tp3
// SAID: dist.all_reduce sum %{{.*}} axes [0]

// One order may serve all: dp 3 x tp 8, dp 6 x tp 4, dp 12 x tp 2.
// ALL: devices = 24, {{.*}}, mesh = [3, 2, 2, 2]>

// PRIMES: error: plan key 'mesh' expects the prime factors of a stage's 6 ranks, slowest first; drop it to have them in the order that the strategies ask for
// LIST: error: plan key 'mesh' expects a list of integers, but got the string "3x2"
