// RUN: galvatron-opt %s -split-input-file -verify-diagnostics

// expected-error@+1 {{expects each mesh axis at most once, but got @g0 twice}}
func.func private @twice(tensor<8x8xf32, #dist.placement<[2@g0 * 4, 2@g0 * 4]>>)

// -----

// expected-error@+1 {{expects each mesh axis at most once, but got @t twice}}
func.func private @time_twice(tensor<8xf32, #dist.placement<[2@t * 4] partial [sum@t]>>)

// -----

// expected-error@+1 {{expects a mirrored sub-axis after a local one of even extent, but got 3 before @g0}}
func.func private @odd(tensor<24xf32, #dist.placement<[3 * 2@mg0 * 4]>>)

// -----

// expected-error@+1 {{expects a mirrored sub-axis after a local one of even extent, but got 1 before @g0}}
func.func private @first(tensor<8xf32, #dist.placement<[2@mg0 * 4]>>)

// -----

// expected-error@+1 {{expects a mirrored sub-axis after a local one of even extent, but got 1 before @g0}}
func.func private @after_a_mesh_axis(tensor<16xf32, #dist.placement<[2@g1 * 2@mg0 * 4]>>)

// -----

// expected-error@+1 {{expects mesh axis @t or @g<axis>, but got @mt}}
func.func private @mirrored_time(tensor<8xf32, #dist.placement<[2 * 2@mt * 2]>>)

// -----

// expected-error@+1 {{expects sub-axes of extent at least 1, but got 0}}
func.func private @empty(tensor<8xf32, #dist.placement<[0@g0 * 4]>>)

// -----

// expected-error@+1 {{expects mesh axis @t or @g<axis>, but got @x}}
func.func private @mesh_axis(tensor<8xf32, #dist.placement<[2@x * 4]>>)

// -----

// expected-error@+1 {{expects reduction sum or max, but got min}}
func.func private @reduction(tensor<8xf32, #dist.placement<[8] partial [min@g0]>>)

// -----

// expected-error@+1 {{expects placement of a tensor of shape [8], but got one of [4]}}
func.func private @shape(tensor<8xf32, #dist.placement<[4]>>)

// -----

func.func @other_tensor(%x: tensor<8xf32, #dist.placement<[8]>>) {
  // expected-error@+1 {{expects operand and result of one global type, but got 'tensor<8xf32>' and 'tensor<4xf32>'}}
  %0 = dist.redistribute %x : tensor<8xf32, #dist.placement<[8]>> -> tensor<4xf32, #dist.placement<[4]>>
  return
}

// -----

func.func @unplaced(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects operand and result with placements, but got 'tensor<8xf32>' and 'tensor<8xf32>'}}
  %0 = dist.redistribute %x : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @factor(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) {
  // expected-error@+1 {{expects a result that differs from the operand by being partial, but got}}
  %0 = dist.multiplier %x : tensor<8xf32, #dist.placement<[2@g0 * 4]>> -> tensor<8xf32, #dist.placement<[8]>>
  return
}

// -----

func.func @share(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) {
  // expected-error@+1 {{expects a result that differs from the operand by being partial on more mesh axes, but got}}
  %0 = dist.share %x of 2 : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[8]>>
  return
}

// -----

func.func @share_of_nothing(%x: tensor<8xf32, #dist.placement<[8]>>) {
  // expected-error@+1 {{expects at least one part, but got 0}}
  %0 = dist.share %x of 0 : tensor<8xf32, #dist.placement<[8]>> -> tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>
  return
}

// -----

func.func @element_type(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects operand and result of one element type and rank, but got 'tensor<8xf32>' and 'tensor<8xf64>'}}
  %0 = dist.all_reduce sum %x axes [0] : tensor<8xf32> -> tensor<8xf64>
  return
}

// -----

func.func @no_axes(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects at least one mesh axis, but got none}}
  %0 = dist.all_reduce sum %x axes [] : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @axes_order(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects mesh axes ascending, but got [1, 0]}}
  %0 = dist.all_reduce sum %x axes [1, 0] : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @kind(%x: tensor<8xf32>) {
  // expected-error@+2 {{to be one of: sum, max}}
  // expected-error@+1 {{failed to parse Graph_ReduceKindAttr parameter 'value'}}
  %0 = dist.all_reduce mean %x axes [0] : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @all_reduce_shape(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects operand and result of one local shape, but got 'tensor<8xf32>' and 'tensor<4xf32>'}}
  %0 = dist.all_reduce sum %x axes [0] : tensor<8xf32> -> tensor<4xf32>
  return
}

// -----

func.func @dim(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects dimension from 0 to 0, but got 1}}
  %0 = dist.shard %x axes [0] {dim = 1 : i64, outer = 1 : i64} : tensor<8xf32> -> tensor<4xf32>
  return
}

// -----

func.func @other_dim(%x: tensor<8x8xf32>) {
  // expected-error@+1 {{expects local shapes that differ by the group's size in dimension 0 only, but got 'tensor<8x8xf32>' and 'tensor<4x4xf32>'}}
  %0 = dist.shard %x axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8x8xf32> -> tensor<4x4xf32>
  return
}

// -----

func.func @mirrored(%x: tensor<6xf32>) {
  // expected-error@+1 {{expects an even outer extent where pieces are mirrored, but got 3}}
  %0 = dist.all_gather %x axes [0] {dim = 0 : i64, outer = 3 : i64, mirrored} : tensor<6xf32> -> tensor<12xf32>
  return
}

// -----

func.func @outer(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects outer extent to divide local dimension of size 8, but got 3}}
  %0 = dist.all_gather %x axes [0] {dim = 0 : i64, outer = 3 : i64} : tensor<8xf32> -> tensor<16xf32>
  return
}

// -----

func.func @split_dim(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects split dimension from 0 to 1, but got 2}}
  %0 = dist.all_to_all %x axes [0] {split_dim = 2 : i64, split_outer = 1 : i64, concat_dim = 0 : i64, concat_outer = 1 : i64} : tensor<8x4xf32> -> tensor<16x2xf32>
  return
}

// -----

func.func @concat_dim(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects concat dimension from 0 to 1, but got -1}}
  %0 = dist.all_to_all %x axes [0] {split_dim = 1 : i64, split_outer = 1 : i64, concat_dim = -1 : i64, concat_outer = 1 : i64} : tensor<8x4xf32> -> tensor<16x2xf32>
  return
}

// -----

func.func @exchange_size(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects operand and result of equal local size, but got 'tensor<8x4xf32>' and 'tensor<8x2xf32>'}}
  %0 = dist.all_to_all %x axes [0] {split_dim = 1 : i64, split_outer = 1 : i64, concat_dim = 0 : i64, concat_outer = 1 : i64} : tensor<8x4xf32> -> tensor<8x2xf32>
  return
}

// -----

func.func @exchange_outer(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects dimension 1 to be cut evenly and outer extents to divide, but got 'tensor<8x4xf32>' and 'tensor<16x2xf32>'}}
  %0 = dist.all_to_all %x axes [0] {split_dim = 1 : i64, split_outer = 3 : i64, concat_dim = 0 : i64, concat_outer = 1 : i64} : tensor<8x4xf32> -> tensor<16x2xf32>
  return
}

// -----

func.func @exchanges_alone(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects two operands or more and as many results, but got 1 and 1}}
  %0 = dist.coalesced_all_to_all %x axes [0] {split_dims = array<i64: 1>, split_outers = array<i64: 1>, concat_dims = array<i64: 0>, concat_outers = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<16x2xf32>
  return
}

// -----

func.func @exchanges_lists(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects a dimension and an outer extent for each of 2 operands, but got 1}}
  %0:2 = dist.coalesced_all_to_all %x, %x axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 0>, concat_outers = array<i64: 1, 1>} : (tensor<8x4xf32>, tensor<8x4xf32>) -> (tensor<16x2xf32>, tensor<16x2xf32>)
  return
}

// -----

func.func @exchanges_types(%x: tensor<8x4xf32>, %n: tensor<8x4xi64>) {
  // expected-error@+1 {{expects operands of one element type, but got 'tensor<8x4xf32>' and 'tensor<8x4xi64>'}}
  %0:2 = dist.coalesced_all_to_all %x, %n axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 0, 0>, concat_outers = array<i64: 1, 1>} : (tensor<8x4xf32>, tensor<8x4xi64>) -> (tensor<16x2xf32>, tensor<16x2xi64>)
  return
}

// -----

func.func @exchanges_one_dimension(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects to split and to join along two dimensions, but got 1 for both}}
  %0:2 = dist.coalesced_all_to_all %x, %x axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 1, 0>, concat_outers = array<i64: 1, 1>} : (tensor<8x4xf32>, tensor<8x4xf32>) -> (tensor<8x4xf32>, tensor<16x2xf32>)
  return
}

// -----

func.func @exchanges_groups(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects values cut in pieces for one group, but got 2 and 4 pieces}}
  %0:2 = dist.coalesced_all_to_all %x, %x axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 0, 0>, concat_outers = array<i64: 1, 1>} : (tensor<8x4xf32>, tensor<8x4xf32>) -> (tensor<16x2xf32>, tensor<32x1xf32>)
  return
}

// -----

dist.body @results(%x: tensor<8xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects the body's result types ('tensor<4xf32>'), but got ('tensor<8xf32>')}}
  dist.return %x : tensor<8xf32>
}

// -----

// expected-error@+1 {{expects forward body @nowhere, but got no such body}}
dist.layer @l {forward = @nowhere, gradients = [], homes = [], input_gradients = [], inputs = [], num_saved = 0 : i64, output_gradients = [], outputs = []}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects forward body with 0 arguments and 0 results, but got 1 and 1}}
dist.layer @l {forward = @f, gradients = [], homes = [], input_gradients = [], inputs = [], num_saved = 0 : i64, output_gradients = [], outputs = []}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects backward body @nowhere, but got no such body}}
dist.layer @l {forward = @f, backward = @nowhere, gradients = [], homes = [], input_gradients = [unit], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects backward body with 2 arguments and 1 results, but got 1 and 1}}
dist.layer @l {forward = @f, backward = @f, gradients = [], homes = [], input_gradients = [#dist.placement<[8]>], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
dist.body @b(%dy: tensor<8xf32>, %x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %dy : tensor<8xf32>
}
// expected-error@+1 {{expects weights, put_off and a backward together, but got}}
dist.layer @l {forward = @f, backward = @b, put_off = array<i64: 0>, gradients = [#dist.placement<[8]>], homes = [#dist.placement<[8]>], input_gradients = [#dist.placement<[8]>], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
dist.body @b(%dy: tensor<8xf32>, %x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %dy : tensor<8xf32>
}
// expected-error@+1 {{expects weights body @nowhere, but got no such body}}
dist.layer @l {forward = @f, backward = @b, put_off = array<i64: 0>, weights = @nowhere, gradients = [#dist.placement<[8]>], homes = [#dist.placement<[8]>], input_gradients = [#dist.placement<[8]>], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
dist.body @b(%dy: tensor<8xf32>, %x: tensor<8xf32>, %w: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %dy : tensor<8xf32>
}
dist.body @c(%dy: tensor<8xf32>, %x: tensor<8xf32>, %w: tensor<8xf32>) -> (tensor<8xf32>, tensor<8xf32>) {
  dist.return %dy, %x : tensor<8xf32>, tensor<8xf32>
}
// expected-error@+1 {{expects weights body with 4 arguments and 1 results, but got 2 and 1}}
dist.layer @l {forward = @f, backward = @c, num_kept = 1 : i64, put_off = array<i64: 0>, weights = @f, gradients = [#dist.placement<[8]>], homes = [#dist.placement<[8]>], input_gradients = [#dist.placement<[8]>], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects a gradient or unit for each of 1 inputs if there is a backward, none without, but got 0}}
dist.layer @l {forward = @f, backward = @f, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

dist.body @f(%x: tensor<8xf32>) -> tensor<8xf32> {
  dist.return %x : tensor<8xf32>
}
// expected-error@+1 {{expects gradients of inputs to be placements or unit, but got 3 : i64}}
dist.layer @l {forward = @f, backward = @f, gradients = [], homes = [], input_gradients = [3], inputs = [#dist.placement<[8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[8]>], outputs = [#dist.placement<[8]>]}

// -----

// expected-error@+1 {{expects F, B or W with a micro-batch, and a part after a dot, but got X1}}
dist.stage @subscript index 0 order <F0, X1> {
}

// -----

// expected-error@+1 {{expects F, B or W with a micro-batch, and a part after a dot, but got F}}
dist.stage @number index 0 order <F> {
}

// -----

// expected-error@+1 {{expects F, B or W with a micro-batch, and a part after a dot, but got B0.x}}
dist.stage @part index 0 order <B0.x> {
}

// -----

dist.body @permute_shapes(%x: tensor<8xf32>) -> tensor<4xf32> {
  // expected-error @below {{'dist.permute' op expects operand and result of one local shape, but got 'tensor<8xf32>' and 'tensor<4xf32>'}}
  %0 = dist.permute %x axes [0] {sources = array<i64: 1, 0>} : tensor<8xf32> -> tensor<4xf32>
  dist.return %0 : tensor<4xf32>
}

// -----

dist.body @permute_twice(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error @below {{'dist.permute' op expects sources that name each position of the group once, but got [0, 0]}}
  %0 = dist.permute %x axes [0] {sources = array<i64: 0, 0>} : tensor<8xf32> -> tensor<8xf32>
  dist.return %0 : tensor<8xf32>
}

// -----

dist.body @shard_of_one_twice(%x: tensor<8xf32>) -> tensor<4xf32> {
  // expected-error @below {{'dist.shard' op expects sources that name each position of the group once, but got [1, 1]}}
  %0 = dist.shard %x axes [0] {dim = 0 : i64, outer = 1 : i64, sources = array<i64: 1, 1>} : tensor<8xf32> -> tensor<4xf32>
  dist.return %0 : tensor<4xf32>
}
