// RUN: galvatron-opt %s -split-input-file -verify-diagnostics

func.func @parameter_needs_a_name() {
  // expected-error@+1 {{expects at least one name}}
  %w = graph.parameter [] : tensor<4xf32>
  return
}

// -----

func.func @parameter_init_is_a_distribution() {
  // expected-error@+1 {{expects init to be {normal = [mean, std]}, {uniform = [low, high]} or {constant = value}, but got {gamma}}
  %w = graph.parameter ["w"] init {gamma = [0.0, 1.0]} : tensor<4xf32>
  return
}

// -----

// expected-error@+1 {{expects init to be {normal = [mean, std]}, {uniform = [low, high]} or {constant = value}, but got 1.0}}
graph.layer @layer_init_is_a_distribution(%w: tensor<4xf32> {graph.parameter = "w", graph.init = 1.0}) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects graph.parameter to be a name, but got 1 : i64}}
graph.layer @layer_parameter_is_a_name(%w: tensor<4xf32> {graph.parameter = 1}) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects inputs before parameters, but argument 1 has no graph.parameter and follows one that has}}
graph.layer @layer_inputs_come_first(%w: tensor<4xf32> {graph.parameter = "w"}, %x: tensor<4xf32>) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects parameter w to be a float tensor, but got 'tensor<4xi64>'}}
graph.layer @layer_parameters_are_float(%w: tensor<4xi64> {graph.parameter = "w"}) -> tensor<4xi64> {
  graph.return %w : tensor<4xi64>
}

// -----

graph.layer @layer_returns_its_results(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  // expected-error@+1 {{expects 2 results, but got 1}}
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @layer_result_types(%x: tensor<4xf32>) -> tensor<5xf32> {
  // expected-error@+1 {{expects results 0 to be 'tensor<5xf32>', but got 'tensor<4xf32>'}}
  graph.return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects to end in graph.return, but got llvm.unreachable}}
"graph.layer"() <{sym_name = "layer_ends_in_return", function_type = (tensor<4xf32>) -> tensor<4xf32>}> ({
^bb0(%x: tensor<4xf32>):
  "llvm.unreachable"() : () -> ()
}) : () -> ()

// -----

// expected-error@+1 {{expects no backward, one, or the pair of input and weight, but got 2}}
graph.layer @layer_has_one_backward(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @backward_stands_last(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects to stand directly before the layer's graph.return}}
  graph.backward(%dy: tensor<4xf32>) {
    graph.return %dy : tensor<4xf32>
  }
  %y = graph.sum %x : (tensor<4xf32>) -> tensor<4xf32>
  graph.return %y : tensor<4xf32>
}

// -----

graph.layer @backward_takes_the_results_gradients(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects 1 arguments, but got 0}}
  graph.backward() {
    graph.return %x : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @backward_yields_a_gradient_per_argument(%x: tensor<4xf32>, %ids: tensor<2xi64>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  graph.backward(%dy: tensor<4xf32>) {
    // expected-error@+1 {{expects 2 gradients, but got 1}}
    graph.return %dy : tensor<4xf32>
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @backward_input_yields_input_gradients(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects at least 1 input gradients, but got 0}}
  graph.backward input(%dy: tensor<4xf32>) {
    graph.return
  }
  graph.backward weight(%dy: tensor<4xf32>) {
    graph.return
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @backward_weight_takes_kept_values(%x: tensor<4xf32>) -> tensor<4xf32> {
  graph.backward input(%dy: tensor<4xf32>) {
    graph.return %dy, %dy : tensor<4xf32>, tensor<4xf32>
  }
  // expected-error@+1 {{expects 2 arguments, but got 1}}
  graph.backward weight(%dy: tensor<4xf32>) {
    graph.return
  }
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @backward_ends_in_return(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects to end in graph.return, but got llvm.unreachable}}
  graph.backward(%dy: tensor<4xf32>) {
    "llvm.unreachable"() : () -> ()
  }
  graph.return %x : tensor<4xf32>
}

// -----

func.func @call_names_a_layer(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects a layer named @nowhere in the module}}
  %0 = graph.call @nowhere(%x) parameters [] path "p" : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

graph.layer @block(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}
func.func @call_passes_the_inputs(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects 1 inputs, but got 2}}
  %0 = graph.call @block(%x, %x) parameters ["w"] path "p" : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

graph.layer @block(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}
func.func @call_results_are_the_layers(%x: tensor<4xf32>) -> tensor<5xf32> {
  // expected-error@+1 {{expects results 0 to be 'tensor<4xf32>', but got 'tensor<5xf32>'}}
  %0 = graph.call @block(%x) parameters ["w"] path "p" : (tensor<4xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

graph.layer @block(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
  graph.return %w : tensor<4xf32>
}
func.func @call_names_each_parameter(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error@+1 {{expects 1 parameter names, but got 0}}
  %0 = graph.call @block(%x) parameters [] path "p" : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @einsum_equation(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects an equation such as "bsi,oi->bso", but got "ij->ij"}}
  %0 = graph.einsum %a, %b "ij->ij" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @einsum_operand_rank(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects lhs of 3 dimensions, but got 2}}
  %0 = graph.einsum %a, %b "ijk,jk->ik" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @einsum_subscripts(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects subscripts in the equation, but got '1'}}
  %0 = graph.einsum %a, %b "i1,1k->ik" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @einsum_subscript_once_per_operand(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects each subscript once in lhs, but got 'i' twice}}
  %0 = graph.einsum %a, %b "ii,ij->ij" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @einsum_result_subscripts_occur(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects subscript 'z' of the result to occur in an operand}}
  %0 = graph.einsum %a, %b "ij,jk->iz" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @einsum_extents_agree(%a: tensor<4x8xf32>, %b: tensor<8x6xf32>) {
  // expected-error@+1 {{expects extent 4 for subscript 'i' in rhs, but got 8}}
  %0 = graph.einsum %a, %b "ij,ik->jk" : (tensor<4x8xf32>, tensor<8x6xf32>) -> tensor<4x6xf32>
  return
}

// -----

func.func @attention_rank(%q: tensor<2x4x6xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects q of 4 dimensions, but got 3}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_head_size(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x9xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects k of shape 2x2x6x8, but got 2x2x6x9}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x9xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_keys_match_values(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x7x8xf32>) {
  // expected-error@+1 {{expects v of shape 2x2x6x8, but got 2x2x7x8}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x7x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_heads_divide(%q: tensor<2x4x6x8xf32>, %k: tensor<2x3x6x8xf32>, %v: tensor<2x3x6x8xf32>) {
  // expected-error@+1 {{expects 4 query heads to be divisible by the 3 key/value heads}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x3x6x8xf32>, tensor<2x3x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_result(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects result of shape 2x4x6x8, but got 2x4x6x7}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x7xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_lse(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects lse of shape 2x4x6, but got 2x4x5}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x5xf32>)
  return
}

// -----

func.func @attention_window(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects a window of at least 0, but got -1}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64, window = -1 : i64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_dropout(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>) {
  // expected-error@+1 {{expects a dropout probability in [0, 1), but got 1.0}}
  %y, %l = graph.attention %q, %k, %v {scale = 1.0 : f64, dropout = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_bias(%q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>, %bias: tensor<3x6x6xf32>) {
  // expected-error@+1 {{expects bias to broadcast to 2x4x6x6, but got 3x6x6}}
  %y, %l = graph.attention %q, %k, %v bias %bias {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<3x6x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
  return
}

// -----

func.func @attention_backward_dy(%dy: tensor<2x4x6x7xf32>, %q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>, %y: tensor<2x4x6x8xf32>, %l: tensor<2x4x6xf32>) {
  // expected-error@+1 {{expects dy of shape 2x4x6x8, but got 2x4x6x7}}
  %dq, %dk, %dv = graph.attention_backward %dy, %q, %k, %v, %y, %l {scale = 1.0 : f64} : (tensor<2x4x6x7xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>)
  return
}

// -----

func.func @attention_backward_dq(%dy: tensor<2x4x6x8xf32>, %q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>, %y: tensor<2x4x6x8xf32>, %l: tensor<2x4x6xf32>) {
  // expected-error@+1 {{expects dq of shape 2x4x6x8, but got 2x4x6x7}}
  %dq, %dk, %dv = graph.attention_backward %dy, %q, %k, %v, %y, %l {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6xf32>) -> (tensor<2x4x6x7xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>)
  return
}

// -----

func.func @attention_backward_dk(%dy: tensor<2x4x6x8xf32>, %q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>, %y: tensor<2x4x6x8xf32>, %l: tensor<2x4x6xf32>) {
  // expected-error@+1 {{expects dk of shape 2x2x6x8, but got 2x4x6x8}}
  %dq, %dk, %dv = graph.attention_backward %dy, %q, %k, %v, %y, %l {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>)
  return
}

// -----

func.func @attention_backward_dv(%dy: tensor<2x4x6x8xf32>, %q: tensor<2x4x6x8xf32>, %k: tensor<2x2x6x8xf32>, %v: tensor<2x2x6x8xf32>, %y: tensor<2x4x6x8xf32>, %l: tensor<2x4x6xf32>) {
  // expected-error@+1 {{expects dv of shape 2x2x6x8, but got 2x4x6x8}}
  %dq, %dk, %dv = graph.attention_backward %dy, %q, %k, %v, %y, %l {scale = 1.0 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x2x6x8xf32>, tensor<2x4x6x8xf32>)
  return
}

// -----

func.func @rope_rank(%x: tensor<8xf32>) {
  // expected-error@+1 {{expects x of 2 to 4 dimensions, but got 1}}
  %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.0>, seq_dim = 0 : i64} : tensor<8xf32> -> tensor<8xf32>
  return
}

// -----

func.func @rope_rank_of_kernels(%x: tensor<2x2x2x2x4xf32>) {
  // expected-error@+1 {{expects x of 2 to 4 dimensions, but got 5}}
  %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.0, 0.5>, seq_dim = 3 : i64} : tensor<2x2x2x2x4xf32> -> tensor<2x2x2x2x4xf32>
  return
}

// -----

func.func @rope_seq_dim(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{expects a dimension below 1, but got 1}}
  %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.0>, seq_dim = 1 : i64} : tensor<4x8xf32> -> tensor<4x8xf32>
  return
}

// -----

func.func @rope_row_dim(%x: tensor<2x4x8xf32>, %p: tensor<4x4xi64>) {
  // expected-error@+1 {{'graph.rope' op expects rows along another dimension than positions, but both are 1}}
  %0 = graph.rope %x half positions %p : tensor<4x4xi64> {inverse_frequencies = array<f64: 1.0>, seq_dim = 1 : i64, row_dim = 1 : i64} : tensor<2x4x8xf32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @rope_positions(%x: tensor<2x4x8xf32>, %p: tensor<4x2xi64>) {
  // expected-error@+1 {{'graph.rope' op expects positions of type 'tensor<2x4xi64>', but got 'tensor<4x2xi64>'}}
  %0 = graph.rope %x half positions %p : tensor<4x2xi64> {inverse_frequencies = array<f64: 1.0>, seq_dim = 1 : i64} : tensor<2x4x8xf32> -> tensor<2x4x8xf32>
  return
}

// -----

func.func @rope_rotated(%x: tensor<4x2xf32>) {
  // expected-error@+1 {{expects at most 2 rotated elements, but got 4}}
  %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.0, 0.5>, seq_dim = 0 : i64} : tensor<4x2xf32> -> tensor<4x2xf32>
  return
}

// -----

func.func @norm_of_a_scalar(%x: tensor<f32>, %w: tensor<8xf32>, %b: tensor<8xf32>) {
  // expected-error@+1 {{expects x to have a last dimension, but got a scalar}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<f32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<f32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @norm_weight(%x: tensor<4x8xf32>, %w: tensor<4xf32>, %b: tensor<8xf32>) {
  // expected-error@+1 {{expects weight of shape 8, but got 4}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<4xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @norm_bias(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %b: tensor<4xf32>) {
  // expected-error@+1 {{expects bias of shape 8, but got 4}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>, tensor<4xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @norm_result(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) {
  // expected-error@+1 {{expects result of shape 4x8, but got 8x4}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<8x4xf32>, tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

func.func @norm_mean(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) {
  // expected-error@+1 {{expects mean of shape 4, but got []}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<f32>, tensor<4xf32>)
  return
}

// -----

func.func @norm_rstd(%x: tensor<4x8xf32>, %w: tensor<8xf32>, %b: tensor<8xf32>) {
  // expected-error@+1 {{expects rstd of shape 4, but got 4x8}}
  %y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 1.0e-5} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4xf32>, tensor<4x8xf32>)
  return
}

// -----

func.func @norm_backward_dy(%dy: tensor<4x7xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>, %m: tensor<4xf32>, %r: tensor<4xf32>) {
  // expected-error@+1 {{expects dy of shape 4x8, but got 4x7}}
  %dx = graph.norm_backward rms %dy, %x, %m, %r weight %w : (tensor<4x7xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @norm_backward_dx(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>, %m: tensor<4xf32>, %r: tensor<4xf32>) {
  // expected-error@+1 {{expects dx of shape 4x8, but got 4x7}}
  %dx = graph.norm_backward rms %dy, %x, %m, %r weight %w : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x7xf32>
  return
}

// -----

func.func @norm_backward_weight(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<7xf32>, %m: tensor<4xf32>, %r: tensor<4xf32>) {
  // expected-error@+1 {{expects weight of shape 8, but got 7}}
  %dx = graph.norm_backward rms %dy, %x, %m, %r weight %w : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<7xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @norm_backward_mean(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>, %m: tensor<5xf32>, %r: tensor<4xf32>) {
  // expected-error@+1 {{expects mean of shape 4, but got 5}}
  %dx = graph.norm_backward rms %dy, %x, %m, %r weight %w : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<5xf32>, tensor<4xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @norm_backward_rstd(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8xf32>, %m: tensor<4xf32>, %r: tensor<5xf32>) {
  // expected-error@+1 {{expects rstd of shape 4, but got 5}}
  %dx = graph.norm_backward rms %dy, %x, %m, %r weight %w : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<8xf32>, tensor<4xf32>, tensor<5xf32>) -> tensor<4x8xf32>
  return
}

// -----

func.func @norm_weight_backward_dw(%dy: tensor<4x8xf32>, %r: tensor<4xf32>) {
  // expected-error@+1 {{expects dw of shape 8, but got 4}}
  %dw = graph.norm_weight_backward %dy, %dy, %r, %r : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @softmax_keeps_the_shape(%x: tensor<4x8xf32>) {
  // expected-error@+1 {{requires the same shape for all operands and results}}
  %0 = graph.softmax %x : tensor<4x8xf32> -> tensor<8x4xf32>
  return
}

// -----

func.func @dropout_probability(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects a dropout probability in [0, 1), but got -5.000000e-01}}
  %0 = graph.dropout %x {p = -0.5 : f64, id = 0 : i64} : tensor<4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @sum_of_nothing() {
  // expected-error@+1 {{expected 1 or more operands, but found 0}}
  %0 = graph.sum : () -> tensor<4xf32>
  return
}

// -----

func.func @embedding_table(%t: tensor<16xf32>, %ids: tensor<3xi64>) {
  // expected-error@+1 {{expects table of 2 dimensions, but got 1}}
  %0 = graph.embedding %t, %ids : (tensor<16xf32>, tensor<3xi64>) -> tensor<3xf32>
  return
}

// -----

func.func @embedding_result(%t: tensor<16x8xf32>, %ids: tensor<3xi64>) {
  // expected-error@+1 {{expects result of shape 3x8, but got 3x16}}
  %0 = graph.embedding %t, %ids : (tensor<16x8xf32>, tensor<3xi64>) -> tensor<3x16xf32>
  return
}

// -----

func.func @embedding_backward_table(%dy: tensor<3x8xf32>, %ids: tensor<3xi64>) {
  // expected-error@+1 {{expects dtable of 2 dimensions, but got 1}}
  %0 = graph.embedding_backward %dy, %ids : (tensor<3x8xf32>, tensor<3xi64>) -> tensor<8xf32>
  return
}

// -----

func.func @embedding_backward_dy(%dy: tensor<3x8xf32>, %ids: tensor<3xi64>) {
  // expected-error@+1 {{expects dy of shape 3x4, but got 3x8}}
  %0 = graph.embedding_backward %dy, %ids : (tensor<3x8xf32>, tensor<3xi64>) -> tensor<16x4xf32>
  return
}

// -----

func.func @shift_dimension(%x: tensor<2x3xi64>) {
  // expected-error@+1 {{expects a dimension below 2, but got 2}}
  %0 = graph.shift %x {dim = 2 : i64, offset = 1 : i64, fill = 0 : i64} : tensor<2x3xi64> -> tensor<2x3xi64>
  return
}

// -----

func.func @cross_entropy_labels(%x: tensor<2x16xf32>, %l: tensor<3xi64>) {
  // expected-error@+1 {{expects labels of shape 2, but got 3}}
  %0 = graph.cross_entropy %x, %l : (tensor<2x16xf32>, tensor<3xi64>) -> tensor<f32>
  return
}

// -----

func.func @cross_entropy_of_a_scalar(%x: tensor<f32>, %l: tensor<i64>) {
  // expected-error@+1 {{expects logits to have a last dimension, but got a scalar}}
  %0 = graph.cross_entropy %x, %l : (tensor<f32>, tensor<i64>) -> tensor<f32>
  return
}

// -----

func.func @cross_entropy_loss(%x: tensor<2x16xf32>, %l: tensor<2xi64>) {
  // expected-error@+1 {{expects loss of shape 2, but got 3}}
  %0 = graph.cross_entropy %x, %l : (tensor<2x16xf32>, tensor<2xi64>) -> tensor<3xf32>
  return
}

// -----

func.func @cross_entropy_count_of_each(%x: tensor<2x16xf32>, %l: tensor<2xi64>, %n: tensor<f32>) {
  // expected-error@+1 {{expects no count where each label has its own loss, but got one}}
  %0 = graph.cross_entropy %x, %l count %n : (tensor<2x16xf32>, tensor<2xi64>, tensor<f32>) -> tensor<2xf32>
  return
}

// -----

func.func @cross_entropy_count(%x: tensor<2x16xf32>, %l: tensor<2xi64>, %n: tensor<2xf32>) {
  // expected-error@+1 {{expects count of 0 dimensions, but got 1}}
  %0 = graph.cross_entropy %x, %l count %n : (tensor<2x16xf32>, tensor<2xi64>, tensor<2xf32>) -> tensor<f32>
  return
}

// -----

func.func @logsumexp_result(%x: tensor<2x16xf32>) {
  // expected-error@+1 {{expects result of shape 2, but got 16}}
  %0 = graph.logsumexp %x : tensor<2x16xf32> -> tensor<16xf32>
  return
}

// -----

func.func @logsumexp_of_a_scalar(%x: tensor<f32>) {
  // expected-error@+1 {{expects x to have a last dimension, but got a scalar}}
  %0 = graph.logsumexp %x : tensor<f32> -> tensor<f32>
  return
}

// -----

func.func @total_of_nothing(%labels: tensor<2x4xi64>) {
  // expected-error@+1 {{expects a layer named @count in the module}}
  %0 = graph.total @count(%labels) : (tensor<2x4xi64>) -> tensor<f32>
  return
}

// -----

graph.layer @trained(%labels: tensor<2x4xi64>, %w: tensor<f32> {graph.parameter = "w"}) -> tensor<f32> {
  graph.return %w : tensor<f32>
}
func.func @total_with_parameters(%labels: tensor<2x4xi64>) {
  // expected-error@+1 {{expects a layer without parameters, but @trained has 1}}
  %0 = graph.total @trained(%labels) : (tensor<2x4xi64>) -> tensor<f32>
  return
}

// -----

graph.layer @count(%labels: tensor<2x4xi64>) -> tensor<f32> {
  %0 = arith.constant dense<8.0> : tensor<f32>
  graph.return %0 : tensor<f32>
}
func.func @total_of_other_inputs(%labels: tensor<2x5xi64>) {
  // expected-error@+1 {{expects inputs 0 to be 'tensor<2x4xi64>', but got 'tensor<2x5xi64>'}}
  %0 = graph.total @count(%labels) : (tensor<2x5xi64>) -> tensor<f32>
  return
}

// -----

func.func @cross_entropy_counts_labels(%x: tensor<1x16xf32>, %l: tensor<1xi64>) {
  %s = graph.shift %l {dim = 0 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<1xi64> -> tensor<1xi64>
  // expected-error@+1 {{expects at least one label that counts, but got none}}
  %0 = graph.cross_entropy %x, %s : (tensor<1x16xf32>, tensor<1xi64>) -> tensor<f32>
  return
}

// -----

func.func @sum_exp_max(%x: tensor<2x16xf32>, %m: tensor<16xf32>) {
  // expected-error@+1 {{expects max of shape 2, but got 16}}
  %0 = graph.sum_exp %x, %m : (tensor<2x16xf32>, tensor<16xf32>) -> tensor<2xf32>
  return
}

// -----

func.func @target_logit_labels(%x: tensor<2x16xf32>, %l: tensor<16xi64>) {
  // expected-error@+1 {{expects labels of shape 2, but got 16}}
  %0 = graph.target_logit %x, %l {ignore_index = 0 : i64} : (tensor<2x16xf32>, tensor<16xi64>) -> tensor<2xf32>
  return
}

// -----

func.func @cross_entropy_backward_dy(%x: tensor<2x16xf32>, %dy: tensor<3xf32>, %s: tensor<2xf32>, %m: tensor<2xf32>, %l: tensor<2xi64>) {
  // expected-error@+1 {{expects dy of shape 2, but got 3}}
  %0 = graph.cross_entropy_backward %dy, %x, %s, %m, %l {ignore_index = 0 : i64} : (tensor<3xf32>, tensor<2x16xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xi64>) -> tensor<2x16xf32>
  return
}

// -----

func.func @cross_entropy_backward_sum_exp(%x: tensor<2x16xf32>, %dy: tensor<2xf32>, %s: tensor<3xf32>, %m: tensor<2xf32>, %l: tensor<2xi64>) {
  // expected-error@+1 {{expects sum_exp of shape 2, but got 3}}
  %0 = graph.cross_entropy_backward %dy, %x, %s, %m, %l {ignore_index = 0 : i64} : (tensor<2xf32>, tensor<2x16xf32>, tensor<3xf32>, tensor<2xf32>, tensor<2xi64>) -> tensor<2x16xf32>
  return
}

// -----

func.func @cross_entropy_backward_dlogits(%x: tensor<2x16xf32>, %dy: tensor<2xf32>, %s: tensor<2xf32>, %m: tensor<2xf32>, %l: tensor<2xi64>) {
  // expected-error@+1 {{expects dlogits of shape 2x16, but got 2x17}}
  %0 = graph.cross_entropy_backward %dy, %x, %s, %m, %l {ignore_index = 0 : i64} : (tensor<2xf32>, tensor<2x16xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xi64>) -> tensor<2x17xf32>
  return
}

// -----

func.func @reduce_dimension(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects a dimension below 3, but got 3}}
  %0 = graph.reduce sum %x dims [3] : tensor<2x6x4xf32> -> tensor<2x6xf32>
  return
}

// -----

func.func @reduce_increasing(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects increasing dimensions, but got 0 after 1}}
  %0 = graph.reduce sum %x dims [1, 0] : tensor<2x6x4xf32> -> tensor<4xf32>
  return
}

// -----

func.func @reduce_result(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects result of shape 2x4, but got 2x6}}
  %0 = graph.reduce sum %x dims [1] : tensor<2x6x4xf32> -> tensor<2x6xf32>
  return
}

// -----

func.func @broadcast_dims(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects a dimension of the result for each of x's 3, but got 1}}
  %0 = graph.broadcast %x dims [0] : tensor<2x6x4xf32> -> tensor<2x6x4xf32>
  return
}

// -----

func.func @broadcast_extent(%x: tensor<4xf32>) {
  // expected-error@+1 {{expects dimension 0 of the result to have x's extent 4, but got 6}}
  %0 = graph.broadcast %x dims [0] : tensor<4xf32> -> tensor<6x4xf32>
  return
}

// -----

func.func @reshape_elements(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects a result of 48 elements, but got 36}}
  %0 = graph.reshape %x : tensor<2x6x4xf32> -> tensor<6x6xf32>
  return
}

// -----

func.func @reshape_element_type(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{requires the same element type for all operands and results}}
  %0 = graph.reshape %x : tensor<2x6x4xf32> -> tensor<48xbf16>
  return
}

// -----

func.func @transpose_permutation(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects a permutation of 3 dimensions, but got [0, 0, 1]}}
  %0 = graph.transpose %x [0, 0, 1] : tensor<2x6x4xf32> -> tensor<2x2x6xf32>
  return
}

// -----

func.func @transpose_result(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects result of shape 2x4x6, but got 2x6x4}}
  %0 = graph.transpose %x [0, 2, 1] : tensor<2x6x4xf32> -> tensor<2x6x4xf32>
  return
}

// -----

func.func @slice_rank(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects the piece of 3 dimensions, but got 2}}
  %0 = graph.slice %x offsets [0, 0, 0] : tensor<2x6x4xf32> -> tensor<2x6xf32>
  return
}

// -----

func.func @slice_offsets(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects 3 offsets, but got 2}}
  %0 = graph.slice %x offsets [0, 0] : tensor<2x6x4xf32> -> tensor<2x3x4xf32>
  return
}

// -----

func.func @slice_inside(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects the piece to lie inside dimension 1 of extent 6, but got 4 to 7}}
  %0 = graph.slice %x offsets [0, 4, 0] : tensor<2x6x4xf32> -> tensor<2x3x4xf32>
  return
}

// -----

func.func @pad_inside(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects the piece to lie inside dimension 1 of extent 6, but got 1 to 7}}
  %0 = graph.pad %x offsets [0, 1, 0] : tensor<2x6x4xf32> -> tensor<2x6x4xf32>
  return
}

// -----

func.func @concat_of_nothing() {
  // expected-error@+1 {{expected 1 or more operands, but found 0}}
  %0 = graph.concat {dim = 0 : i64} : () -> tensor<4xf32>
  return
}

// -----

func.func @concat_dimension(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects a dimension below 3, but got 3}}
  %0 = graph.concat %x {dim = 3 : i64} : (tensor<2x6x4xf32>) -> tensor<2x6x4xf32>
  return
}

// -----

func.func @concat_rank(%x: tensor<2x6x4xf32>, %y: tensor<6x4xf32>) {
  // expected-error@+1 {{expects each input of 3 dimensions, but got 2}}
  %0 = graph.concat %x, %y {dim = 0 : i64} : (tensor<2x6x4xf32>, tensor<6x4xf32>) -> tensor<3x6x4xf32>
  return
}

// -----

func.func @concat_inputs(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects each input of shape 2x6x3, but got 2x6x4}}
  %0 = graph.concat %x, %x {dim = 0 : i64} : (tensor<2x6x4xf32>, tensor<2x6x4xf32>) -> tensor<4x6x3xf32>
  return
}

// -----

func.func @concat_result(%x: tensor<2x6x4xf32>) {
  // expected-error@+1 {{expects dimension 0 of the result to have extent 4, but got 5}}
  %0 = graph.concat %x, %x {dim = 0 : i64} : (tensor<2x6x4xf32>, tensor<2x6x4xf32>) -> tensor<5x6x4xf32>
  return
}

// -----

func.func @iota_dimension() {
  // expected-error@+1 {{expects a dimension below 1, but got 1}}
  %0 = graph.iota {dim = 1 : i64} : tensor<4xi64>
  return
}

// -----

func.func @einsum_operand_types(%x: tensor<8x4xbf16>, %w: tensor<6x4xf32>) {
  // expected-error@+1 {{expects rhs of 'bf16' elements, but got 'f32'}}
  %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xbf16>, tensor<6x4xf32>) -> tensor<8x6xbf16>
  return
}

// -----

func.func @reduce_narrows(%x: tensor<8x4xf32>) {
  // expected-error@+1 {{expects result of 'f32' elements, but got 'bf16'}}
  %0 = graph.reduce sum %x dims [0] : tensor<8x4xf32> -> tensor<4xbf16>
  return
}

// -----

func.func @detach_changes_nothing(%x: tensor<4xf32>) {
  // expected-error@+1 {{requires the same type for all operands and results}}
  %0 = "graph.detach"(%x) : (tensor<4xf32>) -> tensor<2x2xf32>
  return
}

// -----

func.func @detach_is_of_floats(%x: tensor<4xi64>) {
  // expected-error@+1 {{operand #0 must be statically shaped tensor of floating-point values, but got 'tensor<4xi64>'}}
  %0 = "graph.detach"(%x) : (tensor<4xi64>) -> tensor<4xi64>
  return
}

// -----

// expected-error@+1 {{expects graph.frozen to have no value, but got "yes"}}
graph.layer @frozen_has_no_value(%x: tensor<4xf32> {graph.frozen = "yes"}) -> tensor<4xf32> {
  graph.return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects graph.padding to be a #graph.padding, but got 4 : i64}}
graph.layer @padding_has_factors(%x: tensor<4xf32> {graph.padding = 4}) -> tensor<4xf32> {
  graph.return %x : tensor<4xf32>
}

// -----

// expected-error@+1 {{expects factors of at least one element of their own and none or more of padding, but got 0 pad 4}}
graph.layer @padding_is_not_all(%x: tensor<4xf32> {graph.padding = #graph.padding<[0 pad 4]>}) -> tensor<4xf32> {
  graph.return %x : tensor<4xf32>
}

// -----

graph.layer @frozen_has_no_gradient(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.frozen, graph.parameter = "w"}) -> tensor<4xf32> {
  %y = arith.mulf %x, %w : tensor<4xf32>
  graph.backward(%dy: tensor<4xf32>) {
    %dx = arith.mulf %dy, %w : tensor<4xf32>
    %dw = arith.mulf %dy, %x : tensor<4xf32>
    // expected-error@+1 {{expects 1 gradients, but got 2}}
    graph.return %dx, %dw : tensor<4xf32>, tensor<4xf32>
  }
  graph.return %y : tensor<4xf32>
}
