// Classes of the ops in GraphStructure.td: layers, their backward and calls, parameters.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphStructure.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H
