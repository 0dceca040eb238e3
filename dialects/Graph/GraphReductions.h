// Classes of the ops in GraphReductions.td: sums, maxima and softmax along dimensions.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHREDUCTIONS_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHREDUCTIONS_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphReductions.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHREDUCTIONS_H
