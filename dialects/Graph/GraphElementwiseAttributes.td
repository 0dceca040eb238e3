//===- GraphElementwiseAttributes.td - kinds of elementwise ops ----------===//
#ifndef GALVATRON_DIALECTS_GRAPH_ELEMENTWISE_ATTRIBUTES
#define GALVATRON_DIALECTS_GRAPH_ELEMENTWISE_ATTRIBUTES

include "GraphDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Graph_ActivationKind : I32EnumAttr<"ActivationKind", "a pointwise nonlinearity", [
    I32EnumAttrCase<"Relu", 0, "relu">, I32EnumAttrCase<"Gelu", 1, "gelu">,
    I32EnumAttrCase<"GeluTanh", 2, "gelu_tanh">, I32EnumAttrCase<"Silu", 3, "silu">,
    I32EnumAttrCase<"Relu2", 4, "relu2">, I32EnumAttrCase<"Sigmoid", 5, "sigmoid">,
    I32EnumAttrCase<"Tanh", 6, "tanh">]> {
  let cppNamespace = "::galvatron::graph";
  let genSpecializedAttr = 0;
}
def Graph_ActivationKindAttr : EnumAttr<Graph_Dialect, Graph_ActivationKind, "activation_kind"> {
  let assemblyFormat = "$value";
}

#endif
