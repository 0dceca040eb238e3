// Ops of the graph dialect (placeholder).
#ifndef GALVATRON_DIALECTS_GRAPH_OPS_TD
#define GALVATRON_DIALECTS_GRAPH_OPS_TD

include "dialects/Graph/GraphDialect.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Graph_NothingOp : Graph_Op<"nothing", [Pure]> {
  let summary = "Does nothing";
  let assemblyFormat = "attr-dict";
}

#endif // GALVATRON_DIALECTS_GRAPH_OPS_TD
