// Classes of the ops in GraphIndexing.td: what is read by index: tables, moved labels, positions.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHINDEXING_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHINDEXING_H

#include "dialects/Graph/GraphDialect.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphIndexing.h.inc"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHINDEXING_H
