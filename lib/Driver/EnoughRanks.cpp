// Doubles the cluster until a plan fits, then halves the interval.
#include "EnoughRanks.h"

#include "OneBudgetSearch.h"

using namespace galvatron;

static constexpr int kMostDoublings = 5;
/// Devices that one node may have.
static constexpr int64_t kWholeNode = 8;

namespace {
/// A number of devices, or of nodes, of a cluster.
class Growth {
public:
  explicit Growth(const search::Cluster &cluster)
      : cluster(cluster), byNode(cluster.nodes > 1 || cluster.devicesPerNode >= kWholeNode) {}

  bool isByNode() const { return byNode; }
  int64_t first() const { return byNode ? cluster.nodes : cluster.devicesPerNode; }
  /// A node is filled before there is a second.
  int64_t most() const { return byNode ? first() << kMostDoublings : kWholeNode; }
  search::Cluster at(int64_t number) const {
    search::Cluster grown = cluster;
    (byNode ? grown.nodes : grown.devicesPerNode) = number;
    if (!grown.interOfNode.empty())
      grown.interOfNode.resize(grown.nodes, grown.inter);
    return grown;
  }

private:
  const search::Cluster &cluster;
  bool byNode;
};
} // namespace

std::optional<search::Cluster> galvatron::findEnoughRanks(const search::Problem &problem,
                                                          const search::SolveOptions &options, LoweredPlans &lowered) {
  Growth growth(problem.cluster);
  search::Problem larger = problem;
  auto fits = [&](int64_t number) {
    larger.cluster = growth.at(number);
    search::PricedSettings settings;
    search::SolveOptions own = options;
    own.settings = &settings;
    search::Result<bool> found = OneBudgetSearch(larger, own, lowered, larger.cluster.memoryBytesPerDevice).hasPlan();
    return found && *found; // an error of a cluster that nobody asked for is none of theirs
  };
  int64_t tooFew = growth.first(), enough = 0;
  while (!enough && tooFew < growth.most()) {
    int64_t number = std::min(2 * tooFew, growth.most());
    (fits(number) ? enough : tooFew) = number;
  }
  if (!enough) {
    larger.cluster = growth.at(growth.most());
    return growth.isByNode() ? std::nullopt : findEnoughRanks(larger, options, lowered);
  }
  while (enough - tooFew > 1) {
    int64_t middle = tooFew + (enough - tooFew) / 2;
    (fits(middle) ? enough : tooFew) = middle;
  }
  return growth.at(enough);
}
