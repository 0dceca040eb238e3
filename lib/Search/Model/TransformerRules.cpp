//===- TransformerRules.cpp - What a strategy adds to a layer --------------===//

#include "TransformerRules.h"

#include "galvatron/Search/Model/ShardedStates.h"

#include <algorithm>
#include <cmath>

namespace galvatron::search {

std::int64_t wholeBytes(double bytes) { return std::int64_t(std::min(std::ceil(bytes), 1e15)); }

namespace {
using Kind = CollectiveKind;

void add(std::vector<Collective> &list, Kind kind, Group group, double bytes, int count, bool overlappable = false) {
  if (bytes >= 1 && count > 0)
    list.push_back({kind, group, std::int64_t(std::min(bytes, 1e15)), count, overlappable});
}
} // namespace

void addTensor(LayerCost &cost, const Strategy &s, const Body &body, double local) {
  if (s.tp == 1)
    return;
  if (!s.sequenceParallel) {
    add(cost.forwardCollectives, Kind::AllReduce, Group::Tensor, local, body.tensorForward);
    add(cost.backwardCollectives, Kind::AllReduce, Group::Tensor, local, body.tensorBackward);
    return;
  }
  add(cost.forwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorForward);
  add(cost.forwardCollectives, Kind::ReduceScatter, Group::Tensor, local, body.tensorForward);
  add(cost.backwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorBackward);
  add(cost.backwardCollectives, Kind::ReduceScatter, Group::Tensor, local, body.tensorBackward);
  // The input is gathered again for the weight's gradient, overlapped with compute.
  if (!s.keepGathered)
    add(cost.backwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorBackward, true);
}

void addSequence(LayerCost &cost, const Strategy &s, const Body &body, double local) {
  if (!body.attention)
    return;
  double keysValues = body.keysValues / (double(s.ulysses) * s.cp * s.tp);
  if (s.ulysses > 1) {
    // q and out as wide as the boundary; k and v as wide as they are, and with q as one.
    for (auto *list : {&cost.forwardCollectives, &cost.backwardCollectives}) {
      add(*list, Kind::AllToAll, Group::Ulysses, local / s.tp / s.ulysses + keysValues, 1);
      add(*list, Kind::AllToAll, Group::Ulysses, local / s.tp / s.ulysses, 1);
    }
  }
  if (s.cp > 1) {
    double gathered = keysValues * s.cp / 2;
    add(cost.forwardCollectives, Kind::AllGather, Group::Context, gathered, 2, true);
    if (!s.keepGathered)
      add(cost.backwardCollectives, Kind::AllGather, Group::Context, gathered, 2, true);
    add(cost.backwardCollectives, Kind::ReduceScatter, Group::Context, gathered, 2);
  }
}

void addExperts(LayerCost &cost, const Strategy &s, const Body &body) {
  if (s.ep > 1)
    for (auto *list : {&cost.forwardCollectives, &cost.backwardCollectives})
      add(*list, Kind::AllToAll, Group::Expert, body.routed, 2);
}

namespace {
/// Gradients and sharded states of `own` parameters of a rank, summed over the
/// ranks of `group`: collectives, bytes, and the optimizer's time.
void addStatesOf(LayerCost &cost, const Strategy &s, const Body &body, double own, Group group, double shards,
                 double memoryBytesPerSecond) {
  double e = body.bytesPerElement;
  // AdamW: two fp32 moments, and an fp32 master copy beside 16-bit parameters.
  double weights = own * e, gradients = own * e, optimizer = own * (e < 4 ? 12 : 8);
  if (shards > 1) {
    addStateCollectives(cost, s, {{.group = group}, wholeBytes(gradients), wholeBytes(weights)});
    if (s.zero == 3)
      cost.scratchBytes += wholeBytes(weights + gradients);
  }
  double gatheredGradients = s.zero >= 2 ? gradients / shards : gradients;
  if (s.zero == 2)
    cost.scratchBytes += wholeBytes(gradients);
  double shardedOptimizer = s.zero >= 1 ? optimizer / shards : optimizer;
  double keptWeights = s.zero == 3 ? weights / shards : weights;
  cost.stateBytes += wholeBytes(keptWeights + gatheredGradients + shardedOptimizer);
  // Norm: reads the gradients once. Update: reads gradient, reads and writes
  // the optimizer's state, writes the parameters.
  double updated = s.zero >= 1 ? 1 / shards : 1;
  cost.updateSeconds += updated * (2 * gradients + 2 * optimizer + weights) / memoryBytesPerSecond;
}
} // namespace

void addStates(LayerCost &cost, const CostQuery &query, const Body &body, double memoryBytesPerSecond) {
  const Strategy &s = query.strategy;
  double shards = s.shardRanks(query.dp), dense = body.parameters - body.expertParameters;
  addStatesOf(cost, s, body, dense / s.tp, Group::Shard, shards, memoryBytesPerSecond);
  if (body.expertParameters > 0)
    addStatesOf(cost, s, body, body.expertParameters / s.tp / s.ep, Group::ExpertShard, shards / s.ep,
                memoryBytesPerSecond);
}

void repeatForward(LayerCost &cost) {
  cost.recomputeSeconds = cost.forwardSeconds;
  for (const Collective &collective : cost.forwardCollectives)
    if (collective.group != Group::Shard && collective.group != Group::ExpertShard) // gathered once for both
      cost.backwardCollectives.push_back(collective);
}

} // namespace galvatron::search
