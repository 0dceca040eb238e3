//===- ShardedStates.cpp - Collectives of gradients and ZeRO --------------===//

#include "galvatron/Search/Model/ShardedStates.h"

namespace galvatron::search {

void addStateCollectives(LayerCost &cost, const Strategy &strategy, const SharedGradients &shared) {
  auto add = [&](std::vector<Collective> &list, CollectiveKind kind, std::int64_t bytes) {
    Collective collective = shared.ranks;
    collective.kind = kind;
    collective.bytes = bytes;
    collective.overlappable = true;
    if (bytes > 0)
      list.push_back(std::move(collective));
  };
  bool isReducedEach = plan::reducesEveryMicroBatch(valuesOf(strategy, 1));
  std::vector<Collective> &sums = isReducedEach ? cost.backwardCollectives : cost.stepCollectives;
  if (strategy.zero == 0) {
    add(sums, CollectiveKind::AllReduce, shared.gradientBytes);
    return;
  }
  if (strategy.zero < 3) {
    add(cost.stepCollectives, CollectiveKind::AllGather, shared.weightBytes);
  } else {
    add(cost.forwardCollectives, CollectiveKind::AllGather, shared.weightBytes);
    add(cost.backwardCollectives, CollectiveKind::AllGather, shared.weightBytes);
  }
  add(sums, CollectiveKind::ReduceScatter, shared.gradientBytes);
}

} // namespace galvatron::search
