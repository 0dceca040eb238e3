// RUN: galvatron-opt %s -split-input-file -verify-diagnostics -galvatron-convert-dist-to-exec
// RUN: not galvatron-opt %s -split-input-file -galvatron-convert-dist-to-exec=device=abacus 2>&1 | FileCheck %s
// CHECK: expects a device named cpu or cuda, but got abacus
// RUN: not galvatron-opt %s -split-input-file '-galvatron-convert-dist-to-exec=device=cuda lacking=matmul,softmax' 2>&1 | FileCheck %s --check-prefix=LACKING
// LACKING: error: 'graph.softmax' op needs the runtime's function gvrt_softmax, which the cuda device lacks: define it there, or choose another --target

#x = #dist.placement<[4]>

dist.body @unknown(%x: tensor<4xf32>) -> tensor<2x2xf32> {
  // expected-error @below {{has no runtime function on this device}}
  %y = tensor.expand_shape %x [[0, 1]] output_shape [2, 2] : tensor<4xf32> into tensor<2x2xf32>
  dist.return %y : tensor<2x2xf32>
}
dist.layer @layer {forward = @unknown, inputs = [#x], outputs = [#dist.placement<[2, 2]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// Has a function on every device; the third line above takes it for missing.
#x = #dist.placement<[2, 4]>

dist.body @softmax(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {
  %y = graph.softmax %x : tensor<2x4xf32> -> tensor<2x4xf32>
  dist.return %y : tensor<2x4xf32>
}
dist.layer @layer {forward = @softmax, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// The function would read doubles as floats.
#x = #dist.placement<[2, 4]>
#y = #dist.placement<[2]>

dist.body @sum(%x: tensor<2x4xf64>) -> tensor<2xf64> {
  // expected-error @below {{is of 'f64', which gvrt_reduce does not compute with; convert it to float32 or int64 in the model}}
  %y = graph.reduce sum %x dims [1] : tensor<2x4xf64> -> tensor<2xf64>
  dist.return %y : tensor<2xf64>
}
dist.layer @layer {forward = @sum, inputs = [#x], outputs = [#y], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// The first layer's body is gone when the second one's turn comes.
#x = #dist.placement<[4]>

dist.body @both(%x: tensor<4xf32>) -> tensor<4xf32> {
  dist.return %x : tensor<4xf32>
}
dist.layer @first {forward = @both, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
// expected-error @below {{expects a dist.body named both}}
dist.layer @second {forward = @both, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

#x = #dist.placement<[4]>

dist.body @first.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  dist.return %x : tensor<4xf32>
}
dist.body @second.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  dist.return %x : tensor<4xf32>
}
dist.body @backward(%dy: tensor<4xf32>, %x: tensor<4xf32>) -> tensor<4xf32> {
  dist.return %dy : tensor<4xf32>
}
dist.layer @first {forward = @first.forward, backward = @backward, inputs = [#x], outputs = [#x], input_gradients = [#x], output_gradients = [#x], homes = [], gradients = [], num_saved = 0 : i64}
// expected-error @below {{expects a dist.body named backward}}
dist.layer @second {forward = @second.forward, backward = @backward, inputs = [#x], outputs = [#x], input_gradients = [#x], output_gradients = [#x], homes = [], gradients = [], num_saved = 0 : i64}

// -----

#x = #dist.placement<[4]>
#y = #dist.placement<[2@g0 * 2]>

dist.body @redistributed(%x: tensor<4xf32, #x>) -> tensor<4xf32, #y> {
  // expected-error @below {{is not a collective that a device executes; run galvatron-insert-collectives first}}
  %y = dist.redistribute %x : tensor<4xf32, #x> -> tensor<4xf32, #y>
  dist.return %y : tensor<4xf32, #y>
}
dist.layer @layer {forward = @redistributed, inputs = [#x], outputs = [#y], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

#x = #dist.placement<[4, 4]>
#y = #dist.placement<[4]>

dist.body @letters(%x: tensor<4x4xf32>, %w: tensor<4x4xf32>) -> tensor<4xf32> {
  // expected-error @below {{expects subscript a in two tensors; sum it away first}}
  %y = graph.einsum %x, %w "ab,bc->c" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4xf32>
  dist.return %y : tensor<4xf32>
}
dist.layer @layer {forward = @letters, inputs = [#x, #x], outputs = [#y], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}

// -----

// Integers of other widths are exchanged nowhere.
#cut = #dist.placement<[2@g0 * 2, 3]>
#all = #dist.placement<[4, 3]>

module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
  dist.body @bytes(%x: tensor<2x3xi8>) -> tensor<4x3xi8> {
    // expected-error @below {{expects to exchange f32, bf16, f16, i64 or booleans, but got 'tensor<2x3xi8>'; give the layer no sequence_parallel, ulysses or cp}}
    %y = dist.all_gather %x axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<2x3xi8> -> tensor<4x3xi8>
    dist.return %y : tensor<4x3xi8>
  }
  dist.layer @layer {forward = @bytes, inputs = [#cut], outputs = [#all], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
}
