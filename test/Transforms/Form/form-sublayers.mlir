// RUN: galvatron-opt --galvatron-form-sublayers="units=h.0.a,h.0.b,g.0.self_attn,g.0.mlp,layers.1.mlp,layers.1.self_attn,g.2,p.0.mlp,p.0.attn,f.0.self_attn,f.0.mlp,w.0.self_attn,w.0.mlp,w.1.self_attn,w.1.mlp,out" -split-input-file %s | FileCheck %s

module attributes {graph.batch = 1 : i64} {
  graph.layer @layer(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "a.w"}, %b: tensor<4x4xf32> {graph.parameter = "b.w"}) -> tensor<4x4xf32> {
    %0 = graph.einsum %x, %a "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.softmax %0 : tensor<4x4xf32> -> tensor<4x4xf32>
    %2 = graph.einsum %1, %b "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    graph.return %2 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @layer(%x) parameters ["h.0.a.w", "h.0.b.w"] path "h.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %0 : tensor<4x4xf32>
  } }

// CHECK: graph.layer @layer.a(%{{.*}}: tensor<4x4xf32>, %{{.*}}: tensor<4x4xf32> {graph.parameter = "a.w"})
// CHECK: graph.layer @layer.b(%{{.*}}: tensor<4x4xf32>, %{{.*}}: tensor<4x4xf32> {graph.parameter = "b.w"})
// CHECK: %[[A:.*]] = graph.call @layer.a(%{{.*}}) parameters ["h.0.a.w"] path "h.0.a" {graph.block = "h.0"}
// CHECK: graph.call @layer.b(%[[A]]) parameters ["h.0.b.w"] path "h.0.b" {graph.block = "h.0"}

// -----

// By path or by number; layers that are named whole stay whole. A residual and its dropout, with the number that this
// has in the whole layer, are attention's; the norm after them is its reader's.
// CHECK: graph.layer @block.self_attn(%[[X:.*]]: tensor<4x4xf32>, %{{.*}} {graph.parameter = "ln_1.w"}, %{{.*}} {graph.parameter = "self_attn.q.w"}, %{{.*}} {graph.parameter = "self_attn.o.w"}) -> tensor<4x4xf32>
// CHECK: %[[DROPPED:.*]] = graph.dropout %{{.*}} {id = 7
// CHECK: %[[SUM:.*]] = arith.addf %[[X]], %[[DROPPED]]
// CHECK: graph.return %[[SUM]] : tensor<4x4xf32>
// CHECK: graph.layer @block.mlp(%[[Y:.*]]: tensor<4x4xf32>, %{{.*}} {graph.parameter = "ln_2.w"}, %{{.*}} {graph.parameter = "mlp.up.w"}, %{{.*}} {graph.parameter = "mlp.down.w"}) -> tensor<4x4xf32>
// CHECK: graph.norm {{.*}} %[[Y]] weight
// CHECK: arith.addf %{{.*}}, %[[Y]]
// CHECK: graph.layer @block(
// CHECK: func.func @step
// CHECK: %[[A:.*]] = graph.call @block.self_attn(%{{.*}}) parameters ["g.0.ln_1.w", "g.0.self_attn.q.w", "g.0.self_attn.o.w"] path "g.0.self_attn" {graph.block = "g.0"}
// CHECK: %[[B:.*]] = graph.call @block.mlp(%[[A]]) parameters ["g.0.ln_2.w", "g.0.mlp.up.w", "g.0.mlp.down.w"] path "g.0.mlp" {graph.block = "g.0"}
// CHECK: graph.call @block.self_attn(%[[B]]){{.*}} path "g.1.self_attn" {graph.block = "g.1"}
// CHECK: graph.call @block.mlp({{.*}} path "g.1.mlp" {graph.block = "g.1"}
// CHECK: graph.call @block({{.*}} path "g.2" :
module attributes {graph.batch = 4 : i64} {
  graph.layer @block(%x: tensor<4x4xf32>, %n: tensor<4xf32> {graph.parameter = "ln_1.w"}, %q: tensor<4x4xf32> {graph.parameter = "self_attn.q.w"}, %o: tensor<4x4xf32> {graph.parameter = "self_attn.o.w"},
      %m: tensor<4xf32> {graph.parameter = "ln_2.w"}, %u: tensor<4x4xf32> {graph.parameter = "mlp.up.w"}, %d: tensor<4x4xf32> {graph.parameter = "mlp.down.w"}) -> tensor<4x4xf32> {
    %0, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %1 = graph.einsum %0, %q "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.softmax %1 : tensor<4x4xf32> -> tensor<4x4xf32>
    %3 = graph.einsum %2, %o "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %4 = graph.dropout %3 {p = 1.0e-1, id = 7 : i64} : tensor<4x4xf32> -> tensor<4x4xf32>
    %5 = arith.addf %x, %4 : tensor<4x4xf32>
    %6, %mean2, %rstd2 = graph.norm rms %5 weight %m {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %7 = graph.einsum %6, %u "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %8 = graph.einsum %7, %d "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %9 = arith.addf %8, %5 : tensor<4x4xf32>
    graph.return %9 : tensor<4x4xf32>
  }
  graph.layer @out(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = arith.negf %x : tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @block(%x) parameters ["g.0.ln_1.w", "g.0.self_attn.q.w", "g.0.self_attn.o.w", "g.0.ln_2.w", "g.0.mlp.up.w", "g.0.mlp.down.w"] path "g.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.call @block(%0) parameters ["g.1.ln_1.w", "g.1.self_attn.q.w", "g.1.self_attn.o.w", "g.1.ln_2.w", "g.1.mlp.up.w", "g.1.mlp.down.w"] path "g.1" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.call @block(%1) parameters ["g.2.ln_1.w", "g.2.self_attn.q.w", "g.2.self_attn.o.w", "g.2.ln_2.w", "g.2.mlp.up.w", "g.2.mlp.down.w"] path "g.2" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %out = graph.call @out(%2) parameters [] path "out" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %out : tensor<4x4xf32>
  }
}

// -----

// In parallel: the norm of both is attention's, the sum of all the feed-forward's.
// CHECK-LABEL: graph.layer @parallel.attn(
// CHECK: %[[NORM:.*]], %{{.*}}, %{{.*}} = graph.norm
// CHECK: graph.softmax
// CHECK-NEXT: %[[O:.*]] = graph.einsum
// CHECK-NEXT: graph.return %[[NORM]], %[[O]]
// CHECK: graph.layer @parallel.mlp(%[[X:.*]]: tensor<4x4xf32>, %[[NORM:.*]]: tensor<4x4xf32>, %[[O:.*]]: tensor<4x4xf32>, %{{.*}} {graph.parameter = "fc.w"})
// CHECK: %[[FC:.*]] = graph.einsum %[[NORM]]
// CHECK: %[[SUM:.*]] = arith.addf %[[FC]], %[[O]]
// CHECK: arith.addf %[[SUM]], %[[X]]
// CHECK: %[[A:.*]]:2 = graph.call @parallel.attn(%[[IN:.*]]) parameters
// CHECK: graph.call @parallel.mlp(%[[IN]], %[[A]]#0, %[[A]]#1) parameters ["p.0.fc.w"] path "p.0.mlp"
module attributes {graph.batch = 4 : i64} {
  graph.layer @parallel(%x: tensor<4x4xf32>, %n: tensor<4xf32> {graph.parameter = "ln.w"}, %f: tensor<4x4xf32> {graph.parameter = "fc.w"}, %q: tensor<4x4xf32> {graph.parameter = "attn.q.w"}, %p: tensor<4x4xf32> {graph.parameter = "attn.p.w"}) -> tensor<4x4xf32> {
    %0, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %1 = graph.einsum %0, %f "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.einsum %0, %q "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %3 = graph.softmax %2 : tensor<4x4xf32> -> tensor<4x4xf32>
    %4 = graph.einsum %3, %p "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %5 = arith.addf %1, %4 : tensor<4x4xf32>
    %6 = arith.addf %5, %x : tensor<4x4xf32>
    graph.return %6 : tensor<4x4xf32>
  }
  graph.layer @out(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = arith.negf %x : tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @parallel(%x) parameters ["p.0.ln.w", "p.0.fc.w", "p.0.attn.q.w", "p.0.attn.p.w"] path "p.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %out = graph.call @out(%0) parameters [] path "out" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %out : tensor<4x4xf32>
  }
}

// -----

// What trains nothing before it has no gradient between the halves either. With no module 'mlp' the products outside of
// attention are its.
// CHECK-LABEL: graph.layer @frozen.self_attn(%{{.*}}: tensor<4x4xf32> {graph.frozen},
// CHECK-SAME: -> (tensor<4x4xf32> {graph.frozen})
// CHECK: graph.layer @frozen.mlp(%{{.*}}: tensor<4x4xf32> {graph.frozen}, %{{.*}} {graph.parameter = "ln_2.w"}, %{{.*}} {graph.parameter = "fc1.w"}, %{{.*}} {graph.parameter = "fc2.w"}) -> tensor<4x4xf32> {
module attributes {graph.batch = 4 : i64} {
  graph.layer @frozen(%x: tensor<4x4xf32> {graph.frozen}, %n: tensor<4xf32> {graph.parameter = "ln_1.w", graph.frozen}, %q: tensor<4x4xf32> {graph.parameter = "self_attn.q.w", graph.frozen}, %o: tensor<4x4xf32> {graph.parameter = "self_attn.o.w", graph.frozen},
      %m: tensor<4xf32> {graph.parameter = "ln_2.w"}, %u: tensor<4x4xf32> {graph.parameter = "fc1.w"}, %d: tensor<4x4xf32> {graph.parameter = "fc2.w"}) -> tensor<4x4xf32> {
    %0, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %1 = graph.einsum %0, %q "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.softmax %1 : tensor<4x4xf32> -> tensor<4x4xf32>
    %3 = graph.einsum %2, %o "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %4 = graph.dropout %3 {p = 1.0e-1, id = 7 : i64} : tensor<4x4xf32> -> tensor<4x4xf32>
    %5 = arith.addf %x, %4 : tensor<4x4xf32>
    %6, %mean2, %rstd2 = graph.norm rms %5 weight %m {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %7 = graph.einsum %6, %u "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %8 = graph.einsum %7, %d "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %9 = arith.addf %8, %5 : tensor<4x4xf32>
    graph.return %9 : tensor<4x4xf32>
  }
  graph.layer @out(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = arith.negf %x : tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
  func.func @step(%ids: tensor<4x4xi64>) -> tensor<4x4xf32> {
    %x = graph.call @embed(%ids) parameters [] path "embed" : (tensor<4x4xi64>) -> tensor<4x4xf32>
    %0 = graph.call @frozen(%x) parameters ["f.0.ln_1.w", "f.0.self_attn.q.w", "f.0.self_attn.o.w", "f.0.ln_2.w", "f.0.fc1.w", "f.0.fc2.w"] path "f.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.call @out(%0) parameters [] path "out" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %1 : tensor<4x4xf32>
  }
  graph.layer @embed(%ids: tensor<4x4xi64>) -> (tensor<4x4xf32> {graph.frozen}) {
    %0 = arith.sitofp %ids : tensor<4x4xi64> to tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
}

// -----

// Types that differ in attention share the other half.
// CHECK-LABEL: graph.layer @a.self_attn(
// CHECK: graph.layer @a.mlp(
// CHECK: graph.layer @b.self_attn(
// CHECK-NOT: @b.mlp
// CHECK: graph.call @a.mlp({{.*}} path "w.0.mlp"
// CHECK: graph.call @a.mlp({{.*}} path "w.1.mlp"
module attributes {graph.batch = 4 : i64} {
  graph.layer @a(%x: tensor<4x4xf32>, %n: tensor<4xf32> {graph.parameter = "ln_1.w"}, %q: tensor<4x4xf32> {graph.parameter = "self_attn.q.w"}, %o: tensor<4x4xf32> {graph.parameter = "self_attn.o.w"},
      %m: tensor<4xf32> {graph.parameter = "ln_2.w"}, %u: tensor<4x4xf32> {graph.parameter = "mlp.up.w"}, %d: tensor<4x4xf32> {graph.parameter = "mlp.down.w"}) -> tensor<4x4xf32> {
    %0, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %1 = graph.einsum %0, %q "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.softmax %1 : tensor<4x4xf32> -> tensor<4x4xf32>
    %3 = graph.einsum %2, %o "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %4 = graph.dropout %3 {p = 1.0e-1, id = 7 : i64} : tensor<4x4xf32> -> tensor<4x4xf32>
    %5 = arith.addf %x, %4 : tensor<4x4xf32>
    %6, %mean2, %rstd2 = graph.norm rms %5 weight %m {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %7 = graph.einsum %6, %u "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %8 = graph.einsum %7, %d "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %9 = arith.addf %8, %5 : tensor<4x4xf32>
    graph.return %9 : tensor<4x4xf32>
  }
  graph.layer @b(%x: tensor<4x4xf32>, %n: tensor<4xf32> {graph.parameter = "ln_1.w"}, %q: tensor<4x4xf32> {graph.parameter = "self_attn.q.w"}, %o: tensor<4x4xf32> {graph.parameter = "self_attn.o.w"},
      %m: tensor<4xf32> {graph.parameter = "ln_2.w"}, %u: tensor<4x4xf32> {graph.parameter = "mlp.up.w"}, %d: tensor<4x4xf32> {graph.parameter = "mlp.down.w"}) -> tensor<4x4xf32> {
    %0, %mean, %rstd = graph.norm rms %x weight %n {epsilon = 2.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %1 = graph.einsum %0, %q "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %2 = graph.softmax %1 : tensor<4x4xf32> -> tensor<4x4xf32>
    %3 = graph.einsum %2, %o "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %4 = graph.dropout %3 {p = 1.0e-1, id = 7 : i64} : tensor<4x4xf32> -> tensor<4x4xf32>
    %5 = arith.addf %x, %4 : tensor<4x4xf32>
    %6, %mean2, %rstd2 = graph.norm rms %5 weight %m {epsilon = 1.0e-5} : (tensor<4x4xf32>, tensor<4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>, tensor<4xf32>)
    %7 = graph.einsum %6, %u "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %8 = graph.einsum %7, %d "si,oi->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
    %9 = arith.addf %8, %5 : tensor<4x4xf32>
    graph.return %9 : tensor<4x4xf32>
  }
  graph.layer @out(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = arith.negf %x : tensor<4x4xf32>
    graph.return %0 : tensor<4x4xf32>
  }
  func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
    %0 = graph.call @a(%x) parameters ["w.0.ln_1.w", "w.0.self_attn.q.w", "w.0.self_attn.o.w", "w.0.ln_2.w", "w.0.mlp.up.w", "w.0.mlp.down.w"] path "w.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %1 = graph.call @b(%0) parameters ["w.1.ln_1.w", "w.1.self_attn.q.w", "w.1.self_attn.o.w", "w.1.ln_2.w", "w.1.mlp.up.w", "w.1.mlp.down.w"] path "w.1" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    %out = graph.call @out(%1) parameters [] path "out" : (tensor<4x4xf32>) -> tensor<4x4xf32>
    return %out : tensor<4x4xf32>
  }
}
