// Classes of the ops in GraphProducts.td: matrix products.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHPRODUCTS_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHPRODUCTS_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphProducts.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHPRODUCTS_H
