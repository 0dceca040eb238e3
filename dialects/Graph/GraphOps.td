//===- GraphOps.td - the ops of a training step on global shapes ----------===//
//
// Shapes in comments: B batch, S positions (Sq queries, Sk keys), H hidden, N heads, K key/value
// heads, D head size, V vocabulary. Float tensors are f32 unless `assign-precision` said otherwise:
// then activations and what products read are bf16, statistics, losses and gradients of parameters f32. Whatever the
// types, an op computes in f32 or better and rounds its results once.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_OPS
#define GALVATRON_DIALECTS_GRAPH_OPS

include "GraphDialect.td"
include "GraphAttributes.td"
include "GraphInterfaces.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/CallInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"

class Graph_Op<string mnemonic, list<Trait> traits = []> : Op<Graph_Dialect, mnemonic, traits>;

/// Loops alone, or loops and in which operands the op is linear.
def HasAxes : DeclareOpInterfaceMethods<AxisOpInterface>;
def Linear : DeclareOpInterfaceMethods<AxisOpInterface, ["isLinear"]>;
/// Linear in all operands together, in none alone: partial values stay partial if all of them are.
def JointlyLinear : DeclareOpInterfaceMethods<AxisOpInterface, ["isJointlyLinear"]>;

/// Those that read their global index: `dist.position` tells it after sharding.
def Positioned : DeclareOpInterfaceMethods<AxisOpInterface, ["getPositionTensor"]>;
def LinearPositioned : DeclareOpInterfaceMethods<AxisOpInterface, ["isLinear", "getPositionTensor"]>;

/// An op of pure mathematics: sharded by its loops, costed by its shapes.
class Graph_MathOp<string mnemonic, list<Trait> traits = [], Trait axes = HasAxes>
    : Graph_Op<mnemonic, !listconcat([Pure, axes, DeclareOpInterfaceMethods<CostOpInterface>], traits)>;

/// One whose gradient is built op by op; the others are born in `differentiate`.
class Graph_ForwardOp<string mnemonic, list<Trait> traits = [], Trait axes = HasAxes>
    : Graph_MathOp<mnemonic, !listconcat([DeclareOpInterfaceMethods<DifferentiableOpInterface>], traits), axes>;

def AnyGraphTensor : AnyTypeOf<[StaticShapeTensorOf<[AnyFloat, AnySignlessInteger]>]>;
def FloatTensor : StaticShapeTensorOf<[AnyFloat]>;
def IntTensor : StaticShapeTensorOf<[AnySignlessInteger]>;

//===----------------------------------------------------------------------===//
// Structure
//===----------------------------------------------------------------------===//

def Graph_ParameterOp : Graph_Op<"parameter", [Pure]> {
  let summary = "a trained tensor, by the exported module's own name";
  let description = [{
    Written by the importer in `@step`; `form-layers` turns each into an argument of its layer.
    `names` has several entries when parameters are tied: one tensor, first name canonical.
    `init` is one of `{normal = [mean, std]}`, `{uniform = [low, high]}`, `{constant = value}`.

    Example:
    ```mlir
    %w = graph.parameter ["lm_head.weight"] init {normal = [0.0, 0.02]} : tensor<256x64xf32>
    ```
  }];
  let arguments = (ins StrArrayAttr:$names, OptionalAttr<DictionaryAttr>:$init);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$names (`init` $init^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Graph_LayerOp : Graph_Op<"layer", [FunctionOpInterface, IsolatedFromAbove, Symbol]> {
  let summary = "one layer type: the body that equal layers of a model share";
  let description = [{
    Arguments are the layer's inputs, then its parameters: argument `i` is a parameter iff it has the
    argument attribute `graph.parameter = "<name below the layer's path>"` (with `graph.init`).
    After `differentiate` the block ends in one `graph.backward`, whose region may read any forward
    value, before the `graph.return`; or in two, `input` and `weight`, where a schedule runs them apart.

    Example:
    ```mlir
    graph.layer @block(%x: tensor<8x16x64xf32>,
                       %w: tensor<64x64xf32> {graph.parameter = "proj.weight"}) -> tensor<8x16x64xf32> {
      %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<64x64xf32>) -> tensor<8x16x64xf32>
      graph.return %y : tensor<8x16x64xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type,
                       OptionalAttr<StrAttr>:$sym_visibility,
                       OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
    /// Arguments below this number are inputs, the rest parameters.
    unsigned getNumInputs();
    /// A parameter argument's name below the layer's path, or empty.
    ::llvm::StringRef getParameterName(unsigned argument);
    /// The `graph.backward` of this kind, or null.
    ::galvatron::graph::BackwardOp getBackward(
        ::galvatron::graph::BackwardKind kind = ::galvatron::graph::BackwardKind::Merged);
    /// Types of the gradients that a merged backward yields: those of the arguments of float type, but f32
    /// for every parameter, since gradients add up over micro-batches.
    ::llvm::SmallVector<::mlir::Type> getGradientTypes();
  }];
}

def Graph_BackwardOp : Graph_Op<"backward", [HasParent<"LayerOp">, SingleBlock]> {
  let summary = "a layer's backward: from its results' gradients to its arguments' gradients";
  let description = [{
    Block arguments: the gradients of the layer's results, in order. Its `graph.return` yields one
    gradient for each layer argument of float type, in order (inputs, then parameters); those of
    parameters are f32, whatever the type in which the layer reads them. The region
    may use every value of the forward block; what is really saved is decided by
    `plan-recomputation`, after collectives are placed.

    Schedules that delay weight gradients (zero-bubble) need the pair instead. `input` yields the
    gradients of the inputs, then any number of *kept* values; `weight` takes the same result
    gradients, then the kept values, and yields the gradients of the parameters.

    Example:
    ```mlir
    graph.layer @double(%x: tensor<4xf32>) -> tensor<4xf32> {
      %y = graph.sum %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      graph.backward(%dy: tensor<4xf32>) {
        %dx = graph.sum %dy, %dy : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        graph.return %dx : tensor<4xf32>
      }
      graph.return %y : tensor<4xf32>
    }
    ```
  }];
  let arguments = (ins DefaultValuedAttr<Graph_BackwardKindAttr, "BackwardKind::Merged">:$kind);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasRegionVerifier = 1;
}

def Graph_ReturnOp : Graph_Op<"return", [Pure, Terminator, ReturnLike, ParentOneOf<["LayerOp", "BackwardOp"]>]> {
  let summary = "ends a layer's forward or backward";
  let arguments = (ins Variadic<AnyGraphTensor>:$operands);
  let assemblyFormat = "attr-dict ($operands^ `:` type($operands))?";
  let builders = [OpBuilder<(ins), [{ build($_builder, $_state, ::mlir::ValueRange()); }]>];
}

def Graph_CallOp : Graph_Op<"call", [DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one layer of the model: a layer type, its parameters and its place";
  let description = [{
    `parameters` are full names, one for each parameter argument of the callee, in order; a tied
    parameter is the same name in several calls. `path` is the module path and the unit's name in
    plans. Forward and backward both: the backward runs over calls in reverse.

    Example:
    ```mlir
    %1 = graph.call @block(%0) parameters ["h.0.proj.weight"] path "h.0"
        : (tensor<8x16x64xf32>) -> tensor<8x16x64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<AnyGraphTensor>:$inputs,
                       StrArrayAttr:$parameters, StrAttr:$path);
  let results = (outs Variadic<AnyGraphTensor>:$outputs);
  let assemblyFormat = [{$callee `(` $inputs `)` `parameters` $parameters `path` $path attr-dict
                         `:` functional-type($inputs, $outputs)}];
}

def Graph_TotalOp : Graph_Op<"total", [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a sum over the whole global batch, known before its first micro-batch";
  let description = [{
    Stands in `@step`. The callee is a layer that reads inputs of the step and has no parameters; its one
    result is a sum over samples, such as the number of labels that count. All calls see the same value, whatever
    micro-batch and device they belong to: means over data are exact under every plan. It has no gradient.

    Example:
    ```mlir
    %n = graph.total @labels(%labels) : (tensor<8x16xi64>) -> tensor<f32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<IntTensor>:$inputs);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$callee `(` $inputs `)` attr-dict `:` functional-type($inputs, $result)";
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

def Graph_EinsumOp : Graph_ForwardOp<"einsum", [], Linear> {
  let summary = "matrix product of two tensors, by named dimensions";
  let description = [{
    A letter is a loop. A letter absent from the result is summed over. No letter occurs twice in one
    operand; every letter of the result occurs in an operand; letters are a-z, A-Z. Operands are of
    one element type; the result is of the same or a wider one (gradients of parameters are f32).

    Example: a torch Linear and its weight's gradient.
    ```mlir
    %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
    %dw = graph.einsum %dy, %x "bso,bsi->oi" : (tensor<8x16x32xf32>, tensor<8x16x64xf32>) -> tensor<32x64xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$lhs, FloatTensor:$rhs, StrAttr:$equation);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs $equation attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Letters of the left operand, the right one and the result.
    std::array<llvm::StringRef, 3> getLetters();
  }];
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

def Graph_AttentionOp : Graph_ForwardOp<"attention", [], Positioned> {
  let summary = "softmax(scale · q kᵀ + mask) v, with grouped key/value heads";
  let description = [{
    q [B,N,Sq,D], k [B,K,Sk,D], v [B,K,Sk,Dv], N = K·G (head n reads key/value head n / G); result
    [B,N,Sq,Dv] and `lse` [B,N,Sq], the log of each row's sum of exponentials (for backward).
    Query i sits at position i + Sk - Sq. `causal`: keys at or before the query; `window` w > 0: and
    fewer than w positions back. `softcap` c > 0: scaled scores become
    c·tanh(scores / c). `bias`, optional, broadcastable to [B,N,Sq,Sk], is then added. `dropout` p on
    probabilities, bits by counter from (seed, step, layer, `id`, row-major global index in
    [B,N,Sq,Sk]); kept ones are scaled by 1/(1-p).
    Dao et al., FlashAttention (2022): probabilities are recomputed in backward, never stored.
  }];
  let arguments = (ins FloatTensor:$q, FloatTensor:$k, FloatTensor:$v, Optional<FloatTensor>:$bias,
                       F64Attr:$scale, UnitAttr:$causal, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, DefaultValuedAttr<I64Attr, "0">:$id);
  let results = (outs FloatTensor:$result, FloatTensor:$lse);
  let assemblyFormat = [{$q `,` $k `,` $v (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_AttentionBackwardOp : Graph_MathOp<"attention_backward", [], Positioned> {
  let summary = "gradients of attention's q, k and v";
  let description = [{
    Operands as `graph.attention` plus its results and the result's gradient `dy` [B,N,Sq,Dv].
    With P the probabilities and M what dropout multiplies them by: dP = M ∘ dy vᵀ;
    dS = P ∘ (dP - rowsum(dy ∘ y)), times 1 - tanh² of the capped scores; dq = scale·dS k;
    dk = scale·dSᵀ q; dv = (M ∘ P)ᵀ dy.
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$q, FloatTensor:$k, FloatTensor:$v,
                       FloatTensor:$y, FloatTensor:$lse, Optional<FloatTensor>:$bias,
                       F64Attr:$scale, UnitAttr:$causal, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, DefaultValuedAttr<I64Attr, "0">:$id);
  let results = (outs FloatTensor:$dq, FloatTensor:$dk, FloatTensor:$dv);
  let assemblyFormat = [{$dy `,` $q `,` $k `,` $v `,` $y `,` $lse (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_RopeOp : Graph_ForwardOp<"rope", [SameOperandsAndResultElementType, SameOperandsAndResultShape], LinearPositioned> {
  let summary = "rotary position embedding over the last dimension";
  let description = [{
    x [..., S, D] with positions along dimension `seq_dim` (default: the one before last) at global
    index p. The first 2·len(inverse_frequencies) elements of the last dimension rotate, the rest
    pass. Angle = p·inverse_frequency[i]; `half`: pairs (i, i + r/2) of the r rotated elements,
    `interleaved`: pairs (2i, 2i+1); (a, b) → scaling·(a cos - b sin, b cos + a sin). `inverse`
    rotates by -angle (the transpose, hence the gradient). Su et al., RoFormer (2021).
  }];
  let arguments = (ins FloatTensor:$x, DenseF64ArrayAttr:$inverse_frequencies, I64Attr:$seq_dim,
                       Graph_RopeStyleAttr:$style, DefaultValuedAttr<F64Attr, "1.0">:$scaling,
                       UnitAttr:$inverse);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x $style attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Norms, softmax
//===----------------------------------------------------------------------===//

def Graph_NormOp : Graph_ForwardOp<"norm", [AttrSizedOperandSegments]> {
  let summary = "RMS or layer norm over the last dimension, with scale and bias";
  let description = [{
    x [..., H], weight and bias [H] where present. `rms`: y = x·rstd·(offset + w), rstd =
    1/sqrt(mean(x²) + eps). `layer`: y = (x - mean)·rstd·(offset + w) + b. `offset` is 0 except for
    models whose weight is a deviation from one. `mean` (zeros for rms) and `rstd` have x's shape
    less the last dimension. Zhang & Sennrich (2019); Ba et al. (2016).
  }];
  let arguments = (ins FloatTensor:$x, Optional<FloatTensor>:$weight, Optional<FloatTensor>:$bias,
                       Graph_NormKindAttr:$kind, F64Attr:$epsilon,
                       DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs FloatTensor:$result, FloatTensor:$mean, FloatTensor:$rstd);
  let assemblyFormat = [{$kind $x (`weight` $weight^)? (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_NormBackwardOp : Graph_MathOp<"norm_backward"> {
  let summary = "gradient of a norm's input";
  let description = [{
    x̂ = (x - mean)·rstd, g = dy·(offset + w): dx = rstd·(g - [layer: mean(g)] - x̂·mean(g·x̂)).
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, Optional<FloatTensor>:$weight,
                       FloatTensor:$mean, FloatTensor:$rstd, Graph_NormKindAttr:$kind,
                       DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = [{$kind $dy `,` $x `,` $mean `,` $rstd (`weight` $weight^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_NormWeightBackwardOp : Graph_MathOp<"norm_weight_backward", [], Linear> {
  let summary = "gradient of a norm's weight: Σ over rows of dy·x̂";
  let description = [{ (The bias' gradient is a `graph.reduce sum` of dy.) Result [H]. }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, FloatTensor:$mean, FloatTensor:$rstd);
  let results = (outs FloatTensor:$dw);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_SoftmaxOp : Graph_ForwardOp<"softmax", [SameOperandsAndResultElementType, SameOperandsAndResultShape]> {
  let summary = "softmax over the last dimension, for attention that could not be raised";
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
}

def Graph_SoftmaxBackwardOp : Graph_MathOp<"softmax_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape], Linear> {
  let summary = "dx = y·(dy - Σ dy·y) over the last dimension";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$y);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

//===----------------------------------------------------------------------===//
// Nonlinearities, dropout, sums
//===----------------------------------------------------------------------===//

def Graph_ActivationOp : Graph_ForwardOp<"activation", [SameOperandsAndResultElementType, SameOperandsAndResultShape]> {
  let summary = "a pointwise nonlinearity";
  let arguments = (ins FloatTensor:$x, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $x attr-dict `:` type($x) `->` type($result)";
}

def Graph_ActivationBackwardOp : Graph_MathOp<"activation_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape], Linear> {
  let summary = "dx = dy·f'(x)";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = "$kind operands attr-dict `:` functional-type(operands, results)";
}

def Graph_GatedActivationOp : Graph_ForwardOp<"gated_activation", [SameOperandsAndResultElementType, SameOperandsAndResultShape]> {
  let summary = "f(gate)·up, the middle of a gated MLP (SwiGLU, GeGLU)";
  let arguments = (ins FloatTensor:$gate, FloatTensor:$up, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $gate `,` $up attr-dict `:` functional-type(operands, results)";
}

def Graph_GatedActivationBackwardOp : Graph_MathOp<"gated_activation_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape]> {
  let summary = "dgate = dy·up·f'(gate), dup = dy·f(gate)";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$gate, FloatTensor:$up, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$dgate, FloatTensor:$dup);
  let assemblyFormat = "$kind operands attr-dict `:` functional-type(operands, results)";
}

def Graph_DropoutOp : Graph_ForwardOp<"dropout", [SameOperandsAndResultElementType, SameOperandsAndResultShape], LinearPositioned> {
  let summary = "zeroes elements with probability p and scales the rest by 1/(1-p)";
  let description = [{
    Bits by counter: element e of op `id` in layer l at step t is kept iff
    hash(seed, t, l, id, e) ≥ p·2³², e being the row-major index in the *global* tensor, so that every
    plan and every recomputation draws the same. The gradient is the same op, same id, on dy.
  }];
  let arguments = (ins FloatTensor:$x, F64Attr:$p, I64Attr:$id);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_SumOp : Graph_ForwardOp<"sum", [SameOperandsAndResultElementType, SameOperandsAndResultShape], JointlyLinear> {
  let summary = "elementwise sum of n tensors of one type; partial sums wait in it";
  let arguments = (ins Variadic<FloatTensor>:$inputs);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$inputs attr-dict `:` functional-type(operands, results)";
  let hasFolder = 1;
}

def Graph_DetachOp : Graph_MathOp<"detach", [SameOperandsAndResultType], Linear> {
  let summary = "its operand, through which no gradient flows";
  let description = [{
    torch's `detach`: stopped gradients and straight-through estimators. `differentiate` reads it and
    drops it: behind that phase a value and its detached copy are one.

    Example: `round` with the gradient of the identity.
    ```mlir
    %r = math.roundeven %x : tensor<8x16x64xf32>
    %d = arith.subf %r, %x : tensor<8x16x64xf32>
    %s = graph.detach %d : tensor<8x16x64xf32>
    %y = arith.addf %x, %s : tensor<8x16x64xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

//===----------------------------------------------------------------------===//
// Embedding and loss
//===----------------------------------------------------------------------===//

def Graph_EmbeddingOp : Graph_ForwardOp<"embedding", [], LinearPositioned> {
  let summary = "rows of a table by index";
  let description = [{
    table [V,H], ids [...] integer, result [...,H]. The V loop is routed: cut, each device adds the
    rows it has and the result is a partial sum. The row `padding_index`, where not negative, is read
    like any other but gets no gradient (torch's `padding_idx`).
  }];
  let arguments = (ins FloatTensor:$table, IntTensor:$ids, DefaultValuedAttr<I64Attr, "-1">:$padding_index);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$table `,` $ids attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_EmbeddingBackwardOp : Graph_MathOp<"embedding_backward", [], LinearPositioned> {
  let summary = "gradient of an embedding's table: rows of dy summed by index";
  let arguments = (ins FloatTensor:$dy, IntTensor:$ids);
  let results = (outs FloatTensor:$dtable);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_ShiftOp : Graph_MathOp<"shift", [SameOperandsAndResultElementType, SameOperandsAndResultShape], Positioned> {
  let summary = "moves integers along a dimension, filling with `fill`";
  let description = [{
    result[..., i, ...] = x[..., i + offset, ...] where that exists, else `fill`. Turns a shifted loss
    (`logits[:, :-1]` against `labels[:, 1:]`) into one over all positions with the last ignored.
  }];
  let arguments = (ins IntTensor:$x, I64Attr:$dim, I64Attr:$offset, I64Attr:$fill);
  let results = (outs IntTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_CrossEntropyOp : Graph_ForwardOp<"cross_entropy"> {
  let summary = "logsumexp(logits) - logits[label], each or their mean over valid labels";
  let description = [{
    logits [...,V], labels [...] integer; labels equal to `ignore_index` do not count. A result [...] has each
    label's own loss, 0 where it does not count; a scalar is their sum over the number of those that do, 0 if
    there are none. `count`, a scalar, is that number over the whole global batch; without it the number is
    static: all, less those that a `graph.shift` filled with `ignore_index` (`form-totals` gives a count to every other
    mean). The backward is `graph.cross_entropy_backward` on statistics (reduce max, sum_exp) built beside the
    op; then `expand-cross-entropy` rewrites the forward into the same statistics, target_logit and
    arithmetic, and CSE shares them: a sharded vocabulary is no special case.

    Example:
    ```mlir
    %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %loss = graph.cross_entropy %logits, %next : (tensor<8x16x256xf32>, tensor<8x16xi64>) -> tensor<f32>
    ```
  }];
  let arguments = (ins FloatTensor:$logits, IntTensor:$labels, Optional<FloatTensor>:$count,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs FloatTensor:$loss);
  let assemblyFormat = [{$logits `,` $labels (`count` $count^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Whether the result is a mean over the labels that count, not each label's loss.
    bool isMean();
    /// Labels of the global batch that count, by their positions alone.
    int64_t getNumValidLabels();
    /// Whether that is all there is to know: what is ignored is ignored by its position, never by its value. The
    /// tokens of a step lie in the vocabulary, so a negative index is none of them.
    bool hasStaticCount();
    /// What a mean multiplies the sum of its labels' losses by: 1 / count, 0 where nothing counts.
    ::mlir::Value buildShare(::mlir::OpBuilder &builder);
  }];
}

def Graph_LogSumExpOp : Graph_ForwardOp<"logsumexp"> {
  let summary = "log Σ exp over the last dimension";
  let description = [{
    x [...,V]; result [...]. `expand-cross-entropy` rewrites it into the statistics of a cross entropy, so that a loss
    and what regularizes its logits share them.
  }];
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_SumExpOp : Graph_MathOp<"sum_exp"> {
  let summary = "Σ over the last dimension of exp(x - max)";
  let description = [{ x [...,V], max [...]; result [...]. V cut: a partial sum. }];
  let arguments = (ins FloatTensor:$x, FloatTensor:$max);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_TargetLogitOp : Graph_MathOp<"target_logit", [], Positioned> {
  let summary = "the logit at each label; 0 where the label is ignored";
  let description = [{ logits [...,V], labels [...]; result [...]. The V loop is routed: partial sum. }];
  let arguments = (ins FloatTensor:$logits, IntTensor:$labels, I64Attr:$ignore_index);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_CrossEntropyBackwardOp : Graph_MathOp<"cross_entropy_backward", [], LinearPositioned> {
  let summary = "dlogits = dy·(exp(logits - max)/sum_exp - onehot(label)), 0 where ignored";
  let description = [{
    logits [...,V]; dy, sum_exp, max and labels [...]: `dy` is the gradient of each row's loss, which
    for a mean is that of the loss divided by the number of valid labels. The V loop is routed.
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$logits, FloatTensor:$sum_exp, FloatTensor:$max,
                       IntTensor:$labels, I64Attr:$ignore_index);
  let results = (outs FloatTensor:$dlogits);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

def Graph_ReduceOp : Graph_ForwardOp<"reduce", [], Linear> {
  let summary = "sum or maximum over dimensions, which disappear";
  let description = [{
    `dims` is increasing. The result is of x's element type or wider. The gradient of a maximum is
    shared equally among the elements that reach it.

    Example:
    ```mlir
    %max = graph.reduce max %logits dims [2] : tensor<8x16x256xf32> -> tensor<8x16xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$x, Graph_ReduceKindAttr:$kind, DenseI64ArrayAttr:$dims);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $x `dims` $dims attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_BroadcastOp : Graph_ForwardOp<"broadcast", [SameOperandsAndResultElementType], Linear> {
  let summary = "repeats a tensor along new dimensions";
  let description = [{
    `dims[i]` is the dimension of the result that dimension i of x becomes, increasing; the extents are
    equal there (a dimension of extent 1 to be stretched is reshaped away first).
    Example: a bias [H] to [B,S,H] has `dims [2]`; a scalar has `dims []`.
  }];
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$dims);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `dims` $dims attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_ReshapeOp : Graph_ForwardOp<"reshape", [SameOperandsAndResultElementType], Linear> {
  let summary = "same elements in row-major order, other shape";
  let arguments = (ins AnyGraphTensor:$x);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_TransposeOp : Graph_ForwardOp<"transpose", [SameOperandsAndResultElementType], Linear> {
  let summary = "result dimension i is operand dimension permutation[i]";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$permutation);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x $permutation attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_SliceOp : Graph_ForwardOp<"slice", [SameOperandsAndResultElementType], Linear> {
  let summary = "a rectangular piece: offsets, with the result's shape, stride 1";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$offsets);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `offsets` $offsets attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_PadOp : Graph_ForwardOp<"pad", [SameOperandsAndResultElementType], Linear> {
  let summary = "a piece placed at `offsets` in zeros: the transpose of slice";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$offsets);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `offsets` $offsets attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_ConcatOp : Graph_ForwardOp<"concat", [SameOperandsAndResultElementType], JointlyLinear> {
  let summary = "tensors joined along a dimension";
  let arguments = (ins Variadic<AnyGraphTensor>:$inputs, I64Attr:$dim);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$inputs attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_IotaOp : Graph_MathOp<"iota", [], Positioned> {
  let summary = "the index along a dimension, by global position";
  let arguments = (ins I64Attr:$dim);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
  let hasVerifier = 1;
}

#endif
