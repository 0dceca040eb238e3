//===- ShardedStates.h - Collectives of gradients and ZeRO ------*- C++ -*-===//
//
// What the ranks that share the gradients of some parameters exchange, whoever
// prices them. As lib/Schedule/TimetableShards.cpp emits it:
//
//   ZeRO 0   gradients are summed once a step
//   ZeRO 1   gradients are scattered once a step; parameters gathered once a step
//   ZeRO 2   gradients are scattered every micro-batch; parameters as under 1
//   ZeRO 3   gradients as under 2; parameters are gathered in forward and in backward
//
// unless a strategy says otherwise of gradients (`reduceEveryMicroBatch`).
//
// What belongs to a micro-batch runs next to the layers around it: gathers one
// layer ahead, a scatter while the next layer's backward computes. What belongs to
// a step: the first forward may hide gathers, the last backward the rest.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_SHARDEDSTATES_H
#define GALVATRON_SEARCH_MODEL_SHARDEDSTATES_H

#include "galvatron/Search/Model/Problem.h"

namespace galvatron::search {

/// Parameters whose gradients are summed over the same ranks, as bytes of one rank before ZeRO shares them.
struct SharedGradients {
  Collective ranks;               ///< says which take part; its kind and bytes do not count
  std::int64_t gradientBytes = 0; ///< in the type in which they are summed
  std::int64_t weightBytes = 0;   ///< of the parameters, in the type that layers read
};

/// Adds their collectives under a strategy's level of ZeRO, with gradients reduced when it says.
void addStateCollectives(LayerCost &cost, const Strategy &strategy, const SharedGradients &shared);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_SHARDEDSTATES_H
