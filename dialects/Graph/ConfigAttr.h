// The attribute of a module that transformers knows.
#ifndef GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H
#define GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H

#include "llvm/ADT/StringRef.h"

namespace galvatron::graph {

/// On the module: the text of config.json, which goes into the output folder and every checkpoint.
inline constexpr llvm::StringLiteral kConfigAttr = "graph.config";

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_CONFIGATTR_H
