//===- DistOps.td - collectives, bodies, layers ---------------------------===//
#ifndef GALVATRON_DIALECTS_DIST_OPS
#define GALVATRON_DIALECTS_DIST_OPS

include "DistDialect.td"
include "DistAttributes.td"
include "dialects/Graph/GraphAttributes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Dist_Op<string mnemonic, list<Trait> traits = []> : Op<Dist_Dialect, mnemonic, traits>;

def Dist_RedistributeOp : Dist_Op<"redistribute", [Pure]> {
  let summary = "same global tensor, other placement";
  let description = [{
    Operand and result have the same global shape and element type, and a `#dist.placement` encoding
    each. Expanded by `insert-collectives` into collectives along mesh axes.
  }];
  let arguments = (ins AnyRankedTensor:$x);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Dist_MultiplierOp : Dist_Op<"multiplier", [Pure]> {
  let summary = "a factor that a partial sum is multiplied by, under the partial sum's type";
  let description = [{
    Upstream arithmetic wants one type for all operands. Where a partial sum is scaled by a value that
    is not partial, this gives the factor the partial's placement as its type; what each device holds
    does not change. Gone after `split-tensors`.

    Example:
    ```mlir
    %f = dist.multiplier %c : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@g0]>>
    %y = arith.mulf %x, %f : tensor<f32, #dist.placement<[] partial [sum@g0]>>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$x);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Dist_ShareOp : Dist_Op<"share", [Pure]> {
  let summary = "one of `parts` equal shares of a value: what is replicated becomes a partial sum";
  let description = [{
    A term of a sum that does not depend on the batch is known to every micro-batch and device, and counts once: each
    adds a share of it. `parts` is the product of the extents of the mesh axes on which the result is partial and the
    operand is not. `split-tensors` makes it a product with 1 / parts.

    Example, with 4 micro-batches:
    ```mlir
    %s = dist.share %x of 4 : tensor<f32, #dist.placement<[]>> -> tensor<f32, #dist.placement<[] partial [sum@t]>>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$x, I64Attr:$parts);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x `of` $parts attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

/// A collective over the devices that differ only in `axes` (mesh axes, major to minor; position in
/// the group is the mixed radix of their coordinates). `dim` is cut at [outer][group][inner], `outer`
/// being the product of the local sub-axes more major than the exchanged one: for contiguous shards 1. `mirrored`: at odd
/// outer indices (`outer` is even) the group's pieces lie in the opposite order.
class Dist_CollectiveOp<string mnemonic, dag more> : Dist_Op<mnemonic, [Pure]> {
  let arguments = !con((ins AnyRankedTensor:$x, DenseI64ArrayAttr:$axes), more);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x `axes` $axes attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

/// One that adds values of the group up, or takes the largest.
class Dist_ReducingOp<string mnemonic, dag more>
    : Dist_CollectiveOp<mnemonic, !con(more, (ins Graph_ReduceKindAttr:$kind))> {
  let assemblyFormat = "$kind $x `axes` $axes attr-dict `:` type($x) `->` type($result)";
}

def Dist_AllReduceOp : Dist_ReducingOp<"all_reduce", (ins)> {
  let summary = "every device gets the reduction over the group";
  let description = [{
    Ranks before [a] [b], after [a+b] [a+b].

    Example:
    ```mlir
    %1 = dist.all_reduce sum %0 axes [0] : tensor<8xf32> -> tensor<8xf32>
    ```
  }];
}
def Dist_AllGatherOp : Dist_CollectiveOp<"all_gather", (ins I64Attr:$dim, I64Attr:$outer, UnitAttr:$mirrored)> {
  let summary = "every device gets all pieces of the group along `dim`";
  let description = [{ Ranks before [a] [b], after [a b] [a b]; mirrored with outer 2, before [a d] [b c], after [a b c d] on both. }];
}
def Dist_ReduceScatterOp : Dist_ReducingOp<"reduce_scatter", (ins I64Attr:$dim, I64Attr:$outer, UnitAttr:$mirrored)> {
  let summary = "every device gets its piece, along `dim`, of the reduction";
  let description = [{ Ranks before [a b] [c d], after [a+c] [b+d]. }];
}
def Dist_AllToAllOp : Dist_CollectiveOp<"all_to_all",
    (ins I64Attr:$split_dim, I64Attr:$split_outer, I64Attr:$concat_dim, I64Attr:$concat_outer)> {
  let summary = "cuts `split_dim` among the group and joins along `concat_dim`";
  let description = [{ Ranks before [a b] [c d], after [a c] [b d]. }];
  let extraClassDeclaration = [{
    AllToAllCut getCut() {
      return {int64_t(getSplitDim()), int64_t(getSplitOuter()), int64_t(getConcatDim()), int64_t(getConcatOuter())};
    }
  }];
}
def Dist_CoalescedAllToAllOp : Dist_Op<"coalesced_all_to_all", [Pure]> {
  let summary = "several all-to-alls over one group, as one message to each of its devices";
  let description = [{
    Value number i is cut and joined as `dist.all_to_all` does with `split_dims[i]`, `split_outers[i]`,
    `concat_dims[i]` and `concat_outers[i]`. Made by `fuse-exchanges`.

    Ranks before [a b] [c d] and [e f] [g h], after [a c] [b d] and [e g] [f h].

    Example, keys and values from positions to heads:
    ```mlir
    %1:2 = dist.coalesced_all_to_all %k, %v axes [0] {split_dims = array<i64: 1, 1>, split_outers = array<i64: 1, 1>, concat_dims = array<i64: 2, 2>, concat_outers = array<i64: 1, 1>} : (tensor<1x2x8x4xf32>, tensor<1x2x8x4xf32>) -> (tensor<1x1x16x4xf32>, tensor<1x1x16x4xf32>)
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$xs, DenseI64ArrayAttr:$axes,
                       DenseI64ArrayAttr:$split_dims, DenseI64ArrayAttr:$split_outers,
                       DenseI64ArrayAttr:$concat_dims, DenseI64ArrayAttr:$concat_outers);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = "$xs `axes` $axes attr-dict `:` functional-type($xs, $results)";
  let builders = [OpBuilder<(ins "::llvm::ArrayRef<AllToAllOp>":$exchanges)>];
  let extraClassDeclaration = [{
    /// Of value number `index`.
    AllToAllCut getCut(unsigned index) {
      return {getSplitDims()[index], getSplitOuters()[index], getConcatDims()[index], getConcatOuters()[index]};
    }
    /// Into how many pieces value number `index` is cut: the devices of the group.
    int64_t getGroupSize(unsigned index = 0);
  }];
  let hasVerifier = 1;
}
def Dist_PermuteOp : Dist_CollectiveOp<"permute", (ins DenseI64ArrayAttr:$sources)> {
  let summary = "the device at position p of the group gets the value of the one at position sources[p]";
  let description = [{
    `sources` is a permutation of the group's positions. Ranks before [a] [b] [c] [d], sources 0, 2, 1, 3, after
    [a] [c] [b] [d].

    Example, a swap of what two mesh axes hold:
    ```mlir
    %1 = dist.permute %0 axes [0, 1] {sources = array<i64: 0, 2, 1, 3>} : tensor<8xf32> -> tensor<8xf32>
    ```
  }];
}
def Dist_ShardOp : Dist_CollectiveOp<"shard", (ins I64Attr:$dim, I64Attr:$outer, UnitAttr:$mirrored,
                                               OptionalAttr<DenseI64ArrayAttr>:$sources)> {
  let summary = "this device's piece of a replicated value along `dim`; moves nothing";
  let description = [{
    Ranks before [a b] [a b], after [a] [b]. With `sources`, a permutation of the group's positions, the device at
    position p has the piece of that at sources[p]: with sources 1, 0 after [b] [a].
  }];
}

def Dist_BodyOp : Dist_Op<"body", [FunctionOpInterface, IsolatedFromAbove, Symbol]> {
  let summary = "what every device of a stage executes for one layer type, strategy and direction";
  let description = [{
    Local shapes, no encodings. Three forms, tied together by `dist.layer`:

    forward: (inputs…, parameters…) → (outputs…, saved…)
    backward: (output gradients…, inputs…, parameters…, saved…) → (input gradients…, kept…, parameter gradients…)
    weights: (output gradients…, inputs…, parameters…, saved…, kept…) → (parameter gradients…)

    A layer has the third, and its backward keeps values for it, where `split-backward` has put off gradients of parameters.

    Only what has a gradient has one here, in order (`dist.layer` says which). Parameters of the forward body keep
    `graph.parameter`, `graph.init` and `graph.frozen`. Ops that read their global index
    (`AxisOpInterface::getPositionTensor`) carry the attribute `dist.position = #dist.placement<...>`,
    the placement of the tensor whose index they read (see docs/IR.md); without it local and global
    index are the same.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<FunctionType>:$function_type,
                       OptionalAttr<StrAttr>:$sym_visibility,
                       OptionalAttr<DictArrayAttr>:$arg_attrs, OptionalAttr<DictArrayAttr>:$res_attrs);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    ::llvm::ArrayRef<::mlir::Type> getArgumentTypes() { return getFunctionType().getInputs(); }
    ::llvm::ArrayRef<::mlir::Type> getResultTypes() { return getFunctionType().getResults(); }
    ::mlir::Region *getCallableRegion() { return &getBody(); }
  }];
}

def Dist_ReturnOp : Dist_Op<"return", [Pure, Terminator, ReturnLike, HasParent<"BodyOp">]> {
  let summary = "ends a body";
  let arguments = (ins Variadic<AnyRankedTensor>:$operands);
  let assemblyFormat = "attr-dict ($operands^ `:` type($operands))?";
  let builders = [OpBuilder<(ins), [{ build($_builder, $_state, ::mlir::ValueRange()); }]>];
  let hasVerifier = 1;
}

def Dist_LayerOp : Dist_Op<"layer", [Symbol, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the bodies of a layer type under one strategy, and where its values live";
  let description = [{
    Callee of `graph.call` after `split-tensors`. Placements are of global tensors: `inputs`,
    `outputs` and `homes` (each parameter's home). `input_gradients`, `output_gradients` and `gradients` have
    an entry for each input, output and parameter: the placement of its gradient, a parameter's as the
    backward body leaves it, possibly partial; or `unit` where it has none (token ids, what is frozen). A
    redistribution between two layers is a `dist.layer` without parameters. `backward` is absent where no
    gradient flows; the three lists are then empty. `weights`, where there is one, is the body that leaves the gradients of
    the parameters `put_off`, in their order, which `backward` then does not; it reads `num_kept` values of that.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$forward,
                       OptionalAttr<FlatSymbolRefAttr>:$backward,
                       ArrayAttr:$inputs, ArrayAttr:$outputs, ArrayAttr:$input_gradients,
                       ArrayAttr:$output_gradients, ArrayAttr:$homes, ArrayAttr:$gradients,
                       I64Attr:$num_saved,
                       OptionalAttr<FlatSymbolRefAttr>:$weights, OptionalAttr<DenseI64ArrayAttr>:$put_off,
                       DefaultValuedAttr<I64Attr, "0">:$num_kept);
  let assemblyFormat = "$sym_name attr-dict";
  let extraClassDeclaration = [{
    /// The placement of a gradient, or null where there is none.
    PlacementAttr getInputGradient(unsigned input) { return getGradientIn(getInputGradients(), input); }
    PlacementAttr getOutputGradient(unsigned output) { return getGradientIn(getOutputGradients(), output); }
    PlacementAttr getGradient(unsigned parameter) { return getGradientIn(getGradients(), parameter); }
    /// Parameters that have a gradient here, in the order of the backward body's results.
    ::llvm::SmallVector<unsigned> getTrained();
    /// Those of them whose gradients the weights body leaves, or else the backward body.
    ::llvm::SmallVector<unsigned> getTrainedBy(bool inWeights);
    bool isPutOff(unsigned parameter) {
      return getPutOff() && ::llvm::is_contained(*getPutOff(), int64_t(parameter));
    }
    static PlacementAttr getGradientIn(::mlir::ArrayAttr gradients, unsigned index) {
      return index < gradients.size() ? ::llvm::dyn_cast<PlacementAttr>(gradients[index]) : PlacementAttr();
    }
  }];
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

def Dist_StageOp : Dist_Op<"stage", [Symbol, IsolatedFromAbove, NoTerminator, SingleBlock]> {
  let summary = "one pipeline stage: its layers, what it receives and sends, and its order";
  let description = [{
    The body is one micro-batch's forward as a straight list of `dist.input`, `dist.receive`,
    `graph.call`, `dist.send` and `dist.loss`; the backward is the same list in reverse (a send
    receives a gradient, a receive sends one). `order` names the forwards and backwards of
    micro-batches, such as <F0, F1, B0, B1>, and where layers have a weights body its runs, such as W0; set by `schedule-microbatches`. Types are global,
    with their placement.

    1F1B, 2 stages, 4 micro-batches (time to the right):
    ```
    stage 0  F0 F1 B0 F2 B1 F3 B2    B3
    stage 1     F0 B0 F1 B1 F2 B2 F3 B3
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$index, OptionalAttr<Dist_OrderAttr>:$order);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `index` $index (`order` $order^)? attr-dict-with-keyword $body";
}

def Dist_InputOp : Dist_Op<"input", [HasParent<"StageOp">]> {
  let summary = "a micro-batch of the data: input_ids or labels";
  let arguments = (ins StrAttr:$name);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name attr-dict `:` type($result)";
}

def Dist_ReceiveOp : Dist_Op<"receive", [HasParent<"StageOp">]> {
  let summary = "an activation from an earlier stage; in backward its gradient goes back";
  let description = [{
    Every rank receives from the rank of the same device index. `tag` names the value. No gradient goes back
    for integers and for what is `frozen`.
  }];
  let arguments = (ins I64Attr:$stage, I64Attr:$tag, UnitAttr:$frozen);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "`from` $stage `tag` $tag (`frozen` $frozen^)? attr-dict `:` type($result)";
  let extraClassDeclaration = [{ bool hasGradient(); }];
}

def Dist_SendOp : Dist_Op<"send", [HasParent<"StageOp">]> {
  let summary = "an activation to a later stage; in backward its gradient comes back";
  let arguments = (ins AnyRankedTensor:$x, I64Attr:$stage, I64Attr:$tag, UnitAttr:$frozen);
  let assemblyFormat = "$x `to` $stage `tag` $tag (`frozen` $frozen^)? attr-dict `:` type($x)";
  let extraClassDeclaration = [{ bool hasGradient(); }];
}

def Dist_LossOp : Dist_Op<"loss", [HasParent<"StageOp">]> {
  let summary = "the step's result: summed over micro-batches; backward starts here";
  let arguments = (ins AnyRankedTensor:$x);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

#endif
