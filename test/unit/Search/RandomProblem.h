//===- RandomProblem.h - Small random problems for the search ---*- C++ -*-===//
//
// Costs drawn at random per (layer type, strategy), with the trade-offs that
// make planning hard: recomputation and sharding save memory and cost time, and
// nothing is proportional to anything else. Deterministic in the seed.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_TEST_UNIT_SEARCH_RANDOMPROBLEM_H
#define GALVATRON_TEST_UNIT_SEARCH_RANDOMPROBLEM_H

#include "galvatron/Search/Model/Problem.h"

#include <functional>
#include <random>

namespace galvatron::search::testing {

class RandomCosts : public CostSource {
public:
  /// `keepsForWeights`: gradients of weights that are put off keep something, more than forward where it recomputes.
  explicit RandomCosts(unsigned seed, bool keepsForWeights = false) : seed(seed), keepsForWeights(keepsForWeights) {}

  Result<LayerCost> cost(const CostQuery &query) const override {
    const Strategy &s = query.strategy;
    std::string key = query.layer->layerType + describe(s, query.dp);
    std::mt19937 random(seed ^ unsigned(std::hash<std::string>()(key)));
    std::uniform_real_distribution<double> uniform(0.5, 1.5);
    auto draw = [&] { return uniform(random); };
    double share = double(query.microBatchSamples) / query.dp / s.modelRanks();
    LayerCost cost;
    cost.forwardSeconds = 1e-3 * share * draw() * (1 + 0.05 * s.tp);
    cost.backwardSeconds = 2e-3 * share * draw();
    cost.recomputeSeconds = s.recompute ? 1e-3 * share * draw() : 0;
    if (s.tp > 1)
      cost.forwardCollectives.push_back({CollectiveKind::AllReduce, Group::Tensor, 40000, 2});
    if (query.dp > 1)
      cost.stepCollectives.push_back({CollectiveKind::AllReduce, Group::Shard, 400000 / s.tp, 1, true});
    if (s.ulysses > 1)
      cost.forwardCollectives.push_back({CollectiveKind::AllToAll, Group::Ulysses, 20000, 2});
    if (s.cp > 1)
      cost.backwardCollectives.push_back({CollectiveKind::AllGather, Group::Context, 20000, 1, true});
    if (s.ep > 1)
      cost.backwardCollectives.push_back({CollectiveKind::AllToAll, Group::Expert, 20000, 1});
    if (s.values)
      cost.recomputeSeconds = 4e-4 * share * draw();
    cost.updateSeconds = 2e-4 * draw() / s.tp;
    cost.stateBytes = std::int64_t(1e6 * draw() / s.tp / (s.zero ? std::min(4, s.shardRanks(query.dp)) : 1));
    cost.savedBytes = std::int64_t((s.recompute ? 5e4 : s.values ? 2e5 : 4e5) * share * draw());
    cost.scratchBytes = std::int64_t(2e5 * draw());
    cost.weightSeconds = 0.4 * draw() * cost.backwardSeconds;
    cost.boundaryBytes = 8000 * query.microBatchSamples;
    if (keepsForWeights)
      cost.weightSavedBytes = std::int64_t(4e5 * share * draw());
    return cost;
  }
  /// One: with more, the search tries only some of the sets.
  std::vector<std::string> recomputableValues(const Layer &layer) const override {
    return layer.role == LayerRole::Block ? std::vector<std::string>{"inner"} : std::vector<std::string>{};
  }

private:
  unsigned seed;
  bool keepsForWeights;
};

/// `units`: embedding, layers of one or two types, head.
inline Problem randomProblem(const CostSource &costs, int ranks, int layers, std::int64_t batch, std::int64_t memory,
                             int types = 1) {
  Problem problem;
  problem.cluster = *hostCluster(ranks, memory);
  problem.globalBatch = batch;
  problem.costs = &costs;
  problem.space = SearchSpace::supported();
  // What `forEachPlan` goes through.
  for (bool SearchSpace::*offer : {&SearchSpace::sequenceParallel, &SearchSpace::ulysses, &SearchSpace::context,
                                   &SearchSpace::strided, &SearchSpace::recomputeValues})
    problem.space.*offer = false;
  problem.space.zeroLevels = 1;
  problem.space.schedules = {Schedule::OneFOneB, Schedule::GPipe};
  for (int layer = 0; layer < layers; ++layer) {
    bool first = layer == 0, last = layer == layers - 1;
    std::string type = first ? "embedding" : last ? "head" : "layer" + std::to_string(types > 1 ? layer % types : 0);
    problem.layers.push_back({"layer." + std::to_string(layer), type,
                              first  ? LayerRole::Embedding
                              : last ? LayerRole::Head
                                     : LayerRole::Block});
  }
  return problem;
}

} // namespace galvatron::search::testing

#endif // GALVATRON_TEST_UNIT_SEARCH_RANDOMPROBLEM_H
