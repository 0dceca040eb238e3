//===- RandomPlan.h - Models, clusters and plans drawn at random -*- C++ -*-===//
//
// Transformers and clusters of awkward sizes (degrees that do not divide, three
// devices a node, batches that are no powers of two), and valid plans that no
// search would choose. Deterministic in the seed.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_TEST_UNIT_SEARCH_RANDOMPLAN_H
#define GALVATRON_TEST_UNIT_SEARCH_RANDOMPLAN_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/TransformerModel.h"
#include "lib/Search/Solver/StageCosts.h"

#include <algorithm>
#include <memory>
#include <random>

namespace galvatron::search::testing {

/// A problem with its own costs.
struct RandomCase {
  std::unique_ptr<ShapeCosts> costs;
  Problem problem;
};

class Draw {
public:
  explicit Draw(unsigned seed) : random(seed) {}
  template <typename T> T of(std::initializer_list<T> list) { return *(list.begin() + below(int(list.size()))); }
  int below(int count) { return int(random() % unsigned(count)); }

private:
  std::mt19937 random;
};

inline RandomCase randomCase(unsigned seed) {
  Draw draw(seed);
  TransformerShape shape;
  shape.layers = draw.of({2, 3, 5, 6});
  shape.heads = draw.of({4, 6, 8});
  shape.kvHeads = shape.heads / draw.of({1, 2});
  shape.hidden = 128 * shape.heads;
  shape.ffn = 3 * shape.hidden;
  shape.vocab = draw.of({12000, 32000});
  shape.sequence = draw.of({1024, 3072});
  shape.bytesPerElement = 2;
  shape.tiedEmbedding = draw.below(3) == 0;
  if (draw.below(3) == 0) {
    shape.experts = 4;
    shape.expertsPerToken = 2;
  }
  RandomCase made;
  Cluster cluster;
  cluster.device = *findDeviceKind(draw.of({"a100", "h100", "cpu"}));
  cluster.device.overheadBytes = 1 << 20;
  cluster.nodes = draw.of({1, 2, 3});
  cluster.devicesPerNode = draw.of({1, 2, 3, 4});
  cluster.intra = cluster.device.intra;
  cluster.inter = cluster.device.inter;
  if (cluster.nodes > 1 && draw.below(3) == 0)
    for (int node = 0; node < cluster.nodes; ++node) {
      cluster.interOfNode.push_back(cluster.inter);
      cluster.interOfNode.back().bytesPerSecond *= draw.of({0.2, 0.7, 1.0});
    }
  cluster.memoryBytesPerDevice = 1ll << 50;
  made.problem.cluster = cluster;
  made.problem.globalBatch = draw.of({6, 8, 12, 15});
  made.problem.layers = transformerLayers(shape.layers);
  if (shape.tiedEmbedding)
    made.problem.ties = {{0, int(shape.layers) + 1, shape.vocab * shape.hidden * 2}};
  made.costs = std::make_unique<ShapeCosts>(shape, cluster.device);
  made.problem.costs = made.costs.get();
  return made;
}

/// A valid plan: any schedule, uneven stages, a strategy a layer.
inline std::optional<Plan> randomPlan(const Problem &problem, Draw &draw) {
  Plan plan;
  plan.ranks = problem.ranks();
  plan.globalBatch = problem.globalBatch;
  auto divisor = [&](std::int64_t n) {
    std::vector<int> list;
    for (int d = 1; d <= n; ++d)
      if (n % d == 0)
        list.push_back(d);
    return list[draw.below(int(list.size()))];
  };
  plan.pipeline = divisor(plan.ranks);
  plan.microBatches = divisor(plan.globalBatch);
  plan.schedule = draw.of(
      {Schedule::GPipe, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZeroBubble, Schedule::ZeroBubbleV});
  plan.virtualStages = plan.schedule == Schedule::Interleaved   ? draw.of({2, 3})
                       : plan.schedule == Schedule::ZeroBubbleV ? 2
                                                                : 1;
  int layers = int(problem.layers.size()), parts = plan.shape().parts();
  if (whyImpossible(plan.shape()) || parts > layers)
    return std::nullopt;
  std::vector<int> partOf(layers);
  for (int layer = 0; layer < layers; ++layer)
    partOf[layer] = layer < parts ? layer : draw.below(parts);
  std::sort(partOf.begin(), partOf.end());
  auto offered =
      offeredStrategies(problem.space, plan.ranksPerStage(), problem.globalBatch / std::int64_t(plan.microBatches));
  std::optional<Strategy> tied;
  for (int layer = 0; layer < layers; ++layer) {
    bool isBlock = problem.layers[layer].role == LayerRole::Block;
    PlannedLayer planned{
        problem.layers[layer].path,         problem.layers[layer].layerType, problem.layers[layer].role, {}, 1,
        plan.shape().stageOf(partOf[layer])};
    if (plan.schedule == Schedule::ZeroBubbleV)
      planned.chunk = plan.shape().chunkOf(partOf[layer]);
    for (int attempt = 0; attempt < 200; ++attempt) {
      if (offered.empty())
        return std::nullopt;
      auto [strategy, dp] = offered[draw.below(int(offered.size()))];
      strategy.strided = strategy.tp > 1 && dp * strategy.cp > 1 && draw.below(4) == 0;
      bool isUnlike =
          tied && !problem.ties.empty() &&
          std::tie(strategy.tp, strategy.zero, strategy.strided) != std::tie(tied->tp, tied->zero, tied->strided);
      if (!isBlock && (strategy.recompute || strategy.ep > 1 || isUnlike))
        continue;
      CostQuery query{&problem.layers[layer], strategy, dp, problem.globalBatch / plan.microBatches, plan.microBatches};
      if (!problem.costs->cost(query))
        continue;
      planned.strategy = strategy;
      planned.dp = dp;
      if (isBlock && !strategy.recompute && draw.below(3) == 0)
        planned.recomputeValues = {draw.of({"norms", "attention", "mlp_activation"})};
      plan.layers.push_back(planned);
      break;
    }
    if (int(plan.layers.size()) != layer + 1)
      return std::nullopt;
    if (!layer)
      tied = plan.layers.back().strategy;
  }
  return plan;
}

} // namespace galvatron::search::testing

#endif // GALVATRON_TEST_UNIT_SEARCH_RANDOMPLAN_H
