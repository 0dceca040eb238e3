// The attributes of a module that transformers or peft knows.
#ifndef GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H
#define GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H

#include "llvm/ADT/StringRef.h"

namespace galvatron::graph {

/// On the module: the text of config.json, which goes into the output folder and every checkpoint.
inline constexpr llvm::StringLiteral kConfigAttr = "graph.config";

/// On the module: what checkpoints have beside, of a module that peft adapted, as the text of adapter.json (runtime/checkpoint/Adapter.h).
inline constexpr llvm::StringLiteral kAdapterAttr = "graph.adapter";

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H
