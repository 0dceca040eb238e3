// Registration of the graph dialect.
#include "dialects/Graph/Graph.h"

#include "dialects/Graph/GraphDialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphOps.cpp.inc"

void galvatron::graph::GraphDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Graph/GraphOps.cpp.inc"
      >();
}
