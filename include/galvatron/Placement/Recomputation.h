// What backward keeps of forward. Afterwards the forward values that the `graph.backward` region reads (arguments of
// the layer excepted) are exactly what is saved.
//
// Without recomputation every value that backward reads is kept, except where it costs next to nothing to recompute it:
// views, pieces, constants, arithmetic on integers (masks, angles of positions), and elementwise results of what is
// kept or given anyway. With recomputation nothing is kept: the forward ops that backward needs, collectives included,
// are recomputed from the layer's arguments. Between the two a plan names values: each is recomputed from what is kept
// and from arguments, just before its first use.
//
// A value's name is that of the op that computes it, found before placement: the module of the parameters that it reads
// ("mlp.gate_proj", "input_layernorm"), or else what is common to the modules that its operands come from and what it
// does ("self_attn.attention"); `.2`, `.3` where one is taken. It stands for all results of the op, and for what views
// and collectives make of them. Tags on ops carry it through placement, so that it is the same under any strategy.
#ifndef GALVATRON_PLACEMENT_RECOMPUTATION_H
#define GALVATRON_PLACEMENT_RECOMPUTATION_H

#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"

#include "llvm/ADT/SetVector.h"

#include <string>
#include <vector>

namespace galvatron {

/// Clones into backward what is cheaper recomputed than kept, and of what that keeps also the tagged values whose bits
/// are set, each op just before its first use there. Bytes are those of one device: types carry placements.
void recomputeValues(graph::LayerOp layer, graph::BackwardOp backward, uint64_t values);

/// What the strategy says; null: no tagged values.
void recomputeAsPlanned(graph::LayerOp layer, graph::BackwardOp backward, plan::StrategyAttr strategy);

/// Clones into backward all of forward that it reads.
void recomputeFully(graph::LayerOp layer, graph::BackwardOp backward);

/// The forward values that `recomputeValues` would keep where no bit is set, in no order.
llvm::SetVector<mlir::Value> getKeptValues(graph::LayerOp layer, graph::BackwardOp backward);

/// What views and collectives make a value of: a result of another op, or an argument.
mlir::Value getViewedValue(mlir::Value value);

/// Names of a differentiated layer's values that a plan may have recomputed; bit k of `recompute_values` is the k-th.
/// At most 32: of more, those of most bytes.
std::vector<std::string> getRecomputableValues(graph::LayerOp layer);

/// Writes the names on the layer and the bits on its ops, and takes them off.
void tagRecomputableValues(graph::LayerOp layer);
void untagRecomputableValues(graph::LayerOp layer);

/// The forward values that backward reads, in forward order.
llvm::SetVector<mlir::Value> getSavedValues(graph::LayerOp layer, graph::BackwardOp backward);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_RECOMPUTATION_H
