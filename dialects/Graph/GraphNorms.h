// Classes of the ops in GraphNorms.td: RMS and layer norms.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHNORMS_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHNORMS_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphNorms.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHNORMS_H
