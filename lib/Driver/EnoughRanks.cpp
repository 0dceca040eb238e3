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

search::Result<std::optional<search::Cluster>>
galvatron::findEnoughRanks(const search::Problem &problem, const search::SolveOptions &options, LoweredPlans &lowered) {
  auto fits = [&](search::Cluster cluster) -> search::Result<bool> {
    search::Problem larger = problem;
    larger.cluster = std::move(cluster);
    search::PricedSettings settings;
    search::SolveOptions own = options;
    own.settings = &settings;
    return OneBudgetSearch(larger, own, lowered, larger.cluster.memoryBytesPerDevice).hasPlan();
  };
  Growth growth(problem.cluster);
  int64_t tooFew = growth.first();
  for (int64_t number = 2 * tooFew; tooFew < growth.most(); number *= 2) {
    number = std::min(number, growth.most());
    search::Result<bool> enough = fits(growth.at(number));
    if (!enough)
      return enough.error();
    if (!*enough) {
      tooFew = number;
      continue;
    }
    while (number - tooFew > 1) {
      int64_t middle = tooFew + (number - tooFew) / 2;
      search::Result<bool> fewer = fits(growth.at(middle));
      if (!fewer)
        return fewer.error();
      (*fewer ? number : tooFew) = middle;
    }
    return std::optional(growth.at(number));
  }
  search::Problem full = problem;
  full.cluster = growth.at(growth.most());
  if (full.cluster.nodes == 1 && problem.cluster.devicesPerNode < kWholeNode)
    return findEnoughRanks(full, options, lowered); // by the node from there on
  return std::optional<search::Cluster>();
}
