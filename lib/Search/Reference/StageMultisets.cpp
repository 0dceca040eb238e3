//===- StageMultisets.cpp - Equal layers shared out to strategies ---------===//

#include "StageMultisets.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace galvatron::search {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Slack for comparing sums of doubles; never decides between real choices.
constexpr double kRounding = 1e-13;
} // namespace

StageMultisets::StageMultisets(std::vector<LayerOption> all, int layers) : layers(layers) {
  std::sort(all.begin(), all.end(), [](const LayerOption &a, const LayerOption &b) {
    return std::tie(a.compute, a.sync, a.megabytes, a.index) < std::tie(b.compute, b.sync, b.megabytes, b.index);
  });
  for (const LayerOption &option : all) {
    bool beaten = std::any_of(options.begin(), options.end(), [&](const LayerOption &other) {
      return other.sync <= option.sync && other.megabytes <= option.megabytes;
    });
    if (!beaten)
      options.push_back(option);
  }
  bounds = suffixBounds(1, 0);
  leastSync.assign(options.size() + 1, kInfinity);
  for (std::size_t i = options.size(); i-- > 0;)
    leastSync[i] = std::min(leastSync[i + 1], options[i].sync);
}

std::vector<KnapsackBound> StageMultisets::suffixBounds(double slope, double weight) const {
  std::vector<KnapsackBound> result;
  for (std::size_t first = 0; first < options.size(); ++first) {
    std::vector<std::pair<double, double>> points;
    for (std::size_t i = first; i < options.size(); ++i)
      points.emplace_back(options[i].megabytes, slope * options[i].compute + weight * options[i].sync);
    result.push_back(KnapsackBound::add({}, std::move(points)));
  }
  return result;
}

double StageMultisets::computeBound(int budget) const {
  if (layers == 0)
    return budget >= 0 ? 0 : kInfinity;
  return options.empty() ? kInfinity : layers * bounds[0].at(double(budget) / layers);
}

long StageMultisets::smallestMegabytes() const {
  if (layers == 0)
    return 0;
  long least = std::numeric_limits<int>::max();
  for (const LayerOption &option : options)
    least = std::min<long>(least, option.megabytes);
  return options.empty() ? std::numeric_limits<long>::max() : least * layers;
}

struct StageMultisets::Walk {
  Limits limits;
  std::vector<KnapsackBound> sums; ///< of slope · compute + sync
  std::size_t &nodes;
  std::vector<StagePoint> points;
  std::vector<int> counts;

  bool dominated(double compute, double sync) const {
    return std::any_of(points.begin(), points.end(), [&](const StagePoint &point) {
      return point.compute <= compute * (1 + kRounding) && point.sync <= sync + kRounding;
    });
  }
};

void StageMultisets::visit(Walk &walk, std::size_t option, int left, int budget, double compute, double sync) const {
  ++walk.nodes;
  if (left == 0) {
    if (walk.dominated(compute, sync))
      return;
    std::erase_if(walk.points, [&](const StagePoint &point) { return compute <= point.compute && sync <= point.sync; });
    StagePoint point{compute, sync, {}};
    for (std::size_t i = 0; i < walk.counts.size(); ++i)
      if (walk.counts[i])
        point.counts.emplace_back(options[i].index, walk.counts[i]);
    walk.points.push_back(std::move(point));
    return;
  }
  double computeLeast = compute + left * bounds[option].at(double(budget) / left);
  double syncLeast = sync + left * leastSync[option];
  if (!(computeLeast <= walk.limits.compute) || walk.dominated(computeLeast, syncLeast))
    return;
  double sumLeast = walk.limits.slope * compute + sync + left * walk.sums[option].at(double(budget) / left);
  if (!(sumLeast <= walk.limits.sum))
    return;
  const LayerOption &taken = options[option];
  int most = taken.megabytes ? std::min(left, budget / taken.megabytes) : left;
  int least = option + 1 == options.size() ? left : 0; // the last takes the rest
  for (int count = most; count >= least; --count) {
    walk.counts[option] = count;
    if (count == left || option + 1 < options.size())
      visit(walk, option + 1, left - count, budget - count * taken.megabytes, compute + count * taken.compute,
            sync + count * taken.sync);
  }
  walk.counts[option] = 0;
}

std::vector<StagePoint> StageMultisets::frontier(int budget, const Limits &limits, std::size_t &nodes) const {
  Walk walk{limits, suffixBounds(limits.slope, 1), nodes, {}, std::vector<int>(options.size(), 0)};
  if (budget >= 0)
    visit(walk, 0, layers, budget, 0, 0);
  std::sort(walk.points.begin(), walk.points.end(),
            [](const StagePoint &a, const StagePoint &b) { return a.compute < b.compute; });
  return std::move(walk.points);
}

} // namespace galvatron::search
