// Tries numbers of devices from a certain bound on: in growing steps until a plan fits, then every number left below.
#include "EnoughRanks.h"

#include "OneBudgetSearch.h"

#include <limits>

using namespace galvatron;

/// How many times the nodes of a cluster are tried at most.
static constexpr int64_t kMostTimes = 32;
/// Devices that one node may have.
static constexpr int64_t kWholeNode = 8;

/// The cluster with more devices in its one node, or with more nodes, rising: a node is filled before there is a
/// second.
static std::vector<search::Cluster> listLarger(const search::Cluster &cluster) {
  std::vector<search::Cluster> larger;
  search::Cluster grown = cluster;
  if (cluster.nodes == 1)
    while (grown.devicesPerNode < kWholeNode) {
      ++grown.devicesPerNode;
      larger.push_back(grown);
    }
  while (grown.nodes < kMostTimes * cluster.nodes) {
    ++grown.nodes;
    if (!grown.interOfNode.empty())
      grown.interOfNode.resize(grown.nodes, grown.inter);
    larger.push_back(grown);
  }
  return larger;
}

/// Bytes that all devices together need under any plan: what of one device's is certain where layers keep their inputs
/// alone. More ranks share it or have it again. Of several micro-batches one is kept at least, and gradients are.
static double getCertainBytes(const search::Problem &problem) {
  double least = std::numeric_limits<double>::infinity();
  int asked = problem.space.microBatches;
  for (int64_t microBatches : {int64_t(1), problem.globalBatch}) {
    if (asked)
      microBatches = asked;
    double bytes = 0;
    for (const search::Layer &layer : problem.layers) {
      search::Strategy strategy;
      strategy.recompute = layer.role == search::LayerRole::Block;
      search::Result<search::LayerCost> cost =
          problem.costs->cost({&layer, strategy, /*dp=*/1, problem.globalBatch / microBatches, int(microBatches)});
      bytes += cost ? double(std::max<int64_t>(cost->certainBytes - cost->tiedStateBytes, 0)) : 0;
    }
    least = std::min(least, bytes);
  }
  return least;
}

namespace {
/// Clusters by index, each tried once.
class Trials {
public:
  Trials(const search::Problem &problem, const search::SolveOptions &options, LoweredPlans &lowered)
      : clusters(listLarger(problem.cluster)), larger(problem), options(options), lowered(lowered),
        known(clusters.size()) {}

  size_t count() const { return clusters.size(); }
  const search::Cluster &at(size_t index) const { return clusters[index]; }
  bool isTried(size_t index) const { return known[index].has_value(); }
  bool fits(size_t index) {
    if (!known[index])
      known[index] = tryOne(index);
    return *known[index];
  }

private:
  bool tryOne(size_t index) {
    larger.cluster = clusters[index];
    search::PricedSettings settings;
    search::SolveOptions own = options;
    own.settings = &settings;
    search::Result<bool> found = OneBudgetSearch(larger, own, lowered, larger.cluster.memoryBytesPerDevice).hasPlan();
    return found && *found; // an error of a cluster that nobody asked for is none of theirs
  }

  std::vector<search::Cluster> clusters;
  search::Problem larger;
  const search::SolveOptions &options;
  LoweredPlans &lowered;
  std::vector<std::optional<bool>> known;
};
} // namespace

std::optional<search::Cluster> galvatron::findEnoughRanks(const search::Problem &problem,
                                                          const search::SolveOptions &options, LoweredPlans &lowered) {
  Trials trials(problem, options, lowered);
  double certain = getCertainBytes(problem), memory = double(problem.cluster.memoryBytesPerDevice);
  size_t first = 0;
  while (first < trials.count() && double(trials.at(first).ranks()) * memory < certain)
    ++first;
  // Steps grow until some number is enough.
  size_t enough = first;
  for (size_t step = 1; enough < trials.count() && !trials.fits(enough); step *= 2) {
    bool isLast = enough + 1 == trials.count();
    enough = isLast ? trials.count() : std::min(enough + step, trials.count() - 1);
  }
  if (enough == trials.count())
    return std::nullopt;
  // Some number may do where others above it do not: all that are left are tried.
  for (size_t index = first; index < enough; ++index)
    if (trials.fits(index))
      return trials.at(index);
  return trials.at(enough);
}
