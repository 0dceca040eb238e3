//===- GraphAttributes.td - enumerations and distributions ----------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_ATTRIBUTES
#define GALVATRON_DIALECTS_GRAPH_ATTRIBUTES

include "dialects/Graph/GraphDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Graph_ReduceKind : I32EnumAttr<"ReduceKind", "how values along a contracted loop combine", [
    I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">]> {
  let cppNamespace = "::galvatron::graph";
  let genSpecializedAttr = 0;
}
def Graph_ReduceKindAttr : EnumAttr<Graph_Dialect, Graph_ReduceKind, "reduce_kind"> {
  let assemblyFormat = "$value";
}

def Graph_RopeStyle : I32EnumAttr<"RopeStyle", "which elements rotate together", [
    I32EnumAttrCase<"Half", 0, "half">, I32EnumAttrCase<"Interleaved", 1, "interleaved">]> {
  let cppNamespace = "::galvatron::graph";
  let genSpecializedAttr = 0;
}
def Graph_RopeStyleAttr : EnumAttr<Graph_Dialect, Graph_RopeStyle, "rope_style"> {
  let assemblyFormat = "$value";
}

def Graph_BackwardKind : I32EnumAttr<"BackwardKind", "which gradients a backward region yields", [
    I32EnumAttrCase<"Merged", 0, "merged">, I32EnumAttrCase<"Input", 1, "input">,
    I32EnumAttrCase<"Weight", 2, "weight">]> {
  let cppNamespace = "::galvatron::graph";
  let genSpecializedAttr = 0;
}
def Graph_BackwardKindAttr : EnumAttr<Graph_Dialect, Graph_BackwardKind, "backward_kind"> {
  let assemblyFormat = "$value";
}

def Graph_NormKind : I32EnumAttr<"NormKind", "which statistics a norm removes", [
    I32EnumAttrCase<"Rms", 0, "rms">, I32EnumAttrCase<"Layer", 1, "layer">]> {
  let cppNamespace = "::galvatron::graph";
  let genSpecializedAttr = 0;
}
def Graph_NormKindAttr : EnumAttr<Graph_Dialect, Graph_NormKind, "norm_kind"> {
  let assemblyFormat = "$value";
}

def Graph_PaddingAttr : AttrDef<Graph_Dialect, "Padding"> {
  let mnemonic = "padding";
  let summary = "which elements of a padded parameter are the model's own";
  let description = [{
    For each dimension a list of factors, major first, as of an index in mixed radix: so many values of its own, then,
    after `pad`, so many that are padding. An element is the model's own where no factor's value is padding; the others
    are 0, and stay so. Without them, in the same order, the tensor is what files hold.

    Example: `#graph.padding<[64, 3 * 4 pad 1 * 16]>`: [64, 240] here, [64, 192] in files; of each of the 3 times 80
    columns the last 16 are padding.
  }];
  let parameters = (ins
    ArrayRefParameter<"int64_t", "own values of all factors, dimension after dimension">:$own,
    ArrayRefParameter<"int64_t", "padding of each factor">:$padding,
    ArrayRefParameter<"int64_t", "number of factors of each dimension">:$factorsPerDim);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Extents of a factor: its own values, then padding.
    struct Factor {
      int64_t own, padding = 0;
      int64_t extent() const { return own + padding; }
    };
    using Dim = ::llvm::SmallVector<Factor, 3>;
    /// One form for each padding: neighbouring factors without any are one.
    static PaddingAttr getCanonical(::mlir::MLIRContext *context, ::llvm::ArrayRef<Dim> dims);
    ::llvm::SmallVector<Dim> getDims() const;
    /// The shape in files, and the one here.
    ::llvm::SmallVector<int64_t> getOwnShape() const;
    ::llvm::SmallVector<int64_t> getPaddedShape() const;
    /// For each element, row-major, its number in files, or -1 where it is padding.
    ::llvm::SmallVector<int64_t> getOwnElements() const;
  }];
}

#endif
