// Classes of the ops in GraphShapes.td: views, pieces and repetitions.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHSHAPES_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHSHAPES_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphShapes.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHSHAPES_H
