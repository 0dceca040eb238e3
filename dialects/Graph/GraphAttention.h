// Classes of the ops in GraphAttention.td: attention and rotary positions.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHATTENTION_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHATTENTION_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphAttention.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHATTENTION_H
