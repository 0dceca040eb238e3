//===- GraphOps.td - the ops of a training step on global shapes ---------===//
//
// One file for each family of ops, each with its own generated header, so that a new op recompiles what uses its
// family. This one is for what needs them all: the reference and the attributes' parser.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_OPS
#define GALVATRON_DIALECTS_GRAPH_OPS

include "GraphStructure.td"
include "GraphProducts.td"
include "GraphAttention.td"
include "GraphNorms.td"
include "GraphReductions.td"
include "GraphElementwise.td"
include "GraphIndexing.td"
include "GraphLoss.td"
include "GraphShapes.td"

#endif
