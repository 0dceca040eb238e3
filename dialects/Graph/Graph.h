// All of the graph dialect, for what treats every op: a file that names a few families includes theirs.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPH_H
#define GALVATRON_DIALECTS_GRAPH_GRAPH_H

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#endif // GALVATRON_DIALECTS_GRAPH_GRAPH_H
