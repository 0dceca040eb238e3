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

#endif
