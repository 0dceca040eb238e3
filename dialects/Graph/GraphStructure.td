//===- GraphStructure.td - layers, their backward and calls, parameters ---===//
#ifndef GALVATRON_DIALECTS_GRAPH_STRUCTURE
#define GALVATRON_DIALECTS_GRAPH_STRUCTURE

include "GraphOpBase.td"

def Graph_ParameterOp : Graph_Op<"parameter"> {
  let summary = "a tensor that is trained, or frozen, by the exported module's own name";
  let description = [{
    Written by the importer in `@step`; `form-layers` turns each into an argument of its layers, and what
    no layer reads into an entry of the module attribute `graph.carried`: a checkpoint holds it all the
    same, so it is not dropped as dead.
    `names` has several entries when parameters are tied: one tensor, first name canonical.
    `frozen`: no gradient is computed and no optimizer changes it (`requires_grad` is false).
    `init` is one of `{normal = [mean, std]}`, `{uniform = [low, high]}`, `{constant = value}`.

    Example:
    ```mlir
    %w = graph.parameter ["lm_head.weight"] init {normal = [0.0, 0.02]} : tensor<256x64xf32>
    ```
  }];
  let arguments = (ins StrArrayAttr:$names, OptionalAttr<DictionaryAttr>:$init, UnitAttr:$frozen);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$names (`frozen` $frozen^)? (`init` $init^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Graph_LayerOp : Graph_Op<"layer", [FunctionOpInterface, IsolatedFromAbove, Symbol]> {
  let summary = "one layer type: the body that equal layers of a model share";
  let description = [{
    Arguments are the layer's inputs, then its parameters: argument `i` is a parameter iff it has the
    argument attribute `graph.parameter = "<name below the layer's path>"` (with `graph.init`).
    Every float argument and result has a gradient, unless it has the attribute `graph.frozen`: a parameter
    that is not trained here, an input that depends on no trained parameter, a result that depends on none or
    whose gradient nobody computes. A layer none of whose arguments has a gradient needs no backward.
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
    /// Whether an argument, a result has a gradient: of float type, and not `graph.frozen`.
    bool hasGradient(unsigned argument);
    bool hasResultGradient(unsigned result);
    /// Inputs that have one.
    unsigned getNumInputGradients();
    /// Arguments that have one, in order: their gradients are what a merged backward yields.
    ::llvm::SmallVector<::mlir::BlockArgument> getDifferentiated();
    /// Types of the gradients that a merged backward yields: the arguments' own, but f32 for every parameter,
    /// since gradients add up over micro-batches.
    ::llvm::SmallVector<::mlir::Type> getGradientTypes();
    /// Types of the gradients that it takes.
    ::llvm::SmallVector<::mlir::Type> getResultGradientTypes();
  }];
}

def Graph_BackwardOp : Graph_Op<"backward", [HasParent<"LayerOp">, SingleBlock]> {
  let summary = "a layer's backward: from its results' gradients to its arguments' gradients";
  let description = [{
    Block arguments: the gradients of the layer's results that have one, in order. Its `graph.return` yields
    the gradient of each layer argument that has one, in order (inputs, then parameters); those of
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
    plans. Forward and backward both: the backward runs over calls in reverse. `graph.block` is the path of
    the layer of which the call is a half (`form-sublayers`).

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
  let extraClassDeclaration = [{
    /// The path of the whole layer, which halves share: it keys their random bits.
    ::llvm::StringRef getBlockPath();
  }];
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
  let arguments = (ins FlatSymbolRefAttr:$callee, Variadic<AnyGraphTensor>:$inputs);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$callee `(` $inputs `)` attr-dict `:` functional-type($inputs, $result)";
}

#endif
