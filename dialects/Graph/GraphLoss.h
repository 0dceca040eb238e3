// Classes of the ops in GraphLoss.td: cross-entropy and its statistics.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHLOSS_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHLOSS_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphLoss.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHLOSS_H
