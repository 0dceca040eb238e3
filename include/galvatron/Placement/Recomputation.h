// What backward keeps of forward. Afterwards the forward values that the `graph.backward` region reads (arguments of
// the layer excepted) are exactly what is saved.
//
// Without recomputation every value that backward reads is kept, except where it costs next to nothing to recompute it:
// views, pieces, constants, and elementwise results of what is kept or given anyway. With recomputation nothing is
// kept: the forward ops that backward needs, collectives included, are recomputed from the layer's arguments.
#ifndef GALVATRON_PLACEMENT_RECOMPUTATION_H
#define GALVATRON_PLACEMENT_RECOMPUTATION_H

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/SetVector.h"

namespace galvatron {

/// Clones into backward what is cheaper recomputed than kept, each op just before its first use there. Bytes are those
/// of one device: types carry placements.
void recomputeSelectively(graph::LayerOp layer, graph::BackwardOp backward);

/// Clones into backward all of forward that it reads.
void recomputeFully(graph::LayerOp layer, graph::BackwardOp backward);

/// The forward values that backward reads, in forward order.
llvm::SetVector<mlir::Value> getSavedValues(graph::LayerOp layer, graph::BackwardOp backward);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_RECOMPUTATION_H
