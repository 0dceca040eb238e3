//===- ShardedStates.cpp - Collectives of gradients and ZeRO --------------===//

#include "galvatron/Search/Model/ShardedStates.h"

namespace galvatron::search {

void addStateCollectives(LayerCost &cost, int zero, const SharedGradients &shared) {
  auto add = [&](std::vector<Collective> &list, CollectiveKind kind, std::int64_t bytes) {
    Collective collective = shared.ranks;
    collective.kind = kind;
    collective.bytes = bytes;
    collective.overlappable = true;
    if (bytes > 0)
      list.push_back(std::move(collective));
  };
  if (zero == 0) {
    add(cost.stepCollectives, CollectiveKind::AllReduce, shared.gradientBytes);
    return;
  }
  if (zero < 3) {
    add(cost.stepCollectives, CollectiveKind::AllGather, shared.weightBytes);
  } else {
    add(cost.forwardCollectives, CollectiveKind::AllGather, shared.weightBytes);
    add(cost.backwardCollectives, CollectiveKind::AllGather, shared.weightBytes);
  }
  add(zero == 1 ? cost.stepCollectives : cost.backwardCollectives, CollectiveKind::ReduceScatter, shared.gradientBytes);
}

} // namespace galvatron::search
