// The graph dialect (placeholder).
#ifndef GALVATRON_DIALECTS_GRAPH_DIALECT_TD
#define GALVATRON_DIALECTS_GRAPH_DIALECT_TD

include "mlir/IR/OpBase.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let summary = "placeholder";
  let cppNamespace = "::galvatron::graph";
}

class Graph_Op<string mnemonic, list<Trait> traits = []> : Op<Graph_Dialect, mnemonic, traits>;

#endif // GALVATRON_DIALECTS_GRAPH_DIALECT_TD
