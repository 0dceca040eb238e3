// Classes of the ops in GraphElementwise.td: nonlinearities, dropout, sums.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHELEMENTWISE_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHELEMENTWISE_H

#include "dialects/Graph/GraphDialect.h"

#include "dialects/Graph/GraphElementwiseEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Graph/GraphElementwiseAttributes.h.inc"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphElementwise.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHELEMENTWISE_H
