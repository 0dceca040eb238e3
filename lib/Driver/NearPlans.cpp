// Lists by estimate, lowered for their bytes, ordered by simulation.
#include "NearPlans.h"

#include "ListedPlans.h"

#include "galvatron/Search/Check/CheckPlan.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>
#include <set>

using namespace galvatron;

/// The share of a step by which plans of other kinds may be slower by estimate to be simulated, too: what simulation
/// and estimate differ by where both have the same prices.
static constexpr double kNear = 0.02;
/// Plans of other kinds that are simulated at most, and lowered to find them: bounds what every search takes longer.
static constexpr size_t kMostKinds = 3, kMostKindsLowered = 6;
/// Placements of a layer that listing them may take, and that listing plans for a user may.
static constexpr int64_t kKindsWork = 200000, kListWork = 2000000;
/// Halvings of the time over which plans are listed where they are too many.
static constexpr int kMostHalvings = 5;
/// By what share of the step plans are listed first, and by what it grows while there are too few; beyond the last all.
static constexpr double kFirstShare = 0.01, kGrowth = 4, kLastShare = 10;
/// Plans lowered for each that is wanted, and beyond that.
static constexpr size_t kLoweredEach = 4, kLoweredMore = 48;
/// How far over the budget estimates are tried, in hundredths of it.
static constexpr int kOverHundredths[] = {0, 5, 30};

/// A layer's strategy in words. Of one micro-batch, levels 1 and 2 of ZeRO are lowered to the same.
static std::string describeLayer(const search::PlannedLayer &layer, int microBatches) {
  search::Strategy strategy = layer.strategy;
  if (microBatches == 1 && strategy.zero == 2)
    strategy.zero = 1;
  std::string text = layer.layerType + " " + search::describe(strategy, layer.dp);
  for (const std::string &name : layer.recomputeValues)
    text += " " + name;
  if (layer.splitBackward)
    text += *layer.splitBackward ? " split" : " whole";
  return text;
}

static std::string describeShape(const search::Plan &plan) {
  std::string text = std::to_string(plan.pipeline) + " " + std::to_string(plan.virtualStages) + " " +
                     std::to_string(plan.microBatches) + " " + std::string(search::scheduleName(plan.schedule));
  for (int64_t axis : plan.rankMesh())
    text += " " + std::to_string(axis);
  return text;
}

std::string galvatron::describeUnordered(const search::Plan &plan) {
  std::vector<int> parts = plan.partOfLayers();
  std::vector<std::string> layers;
  for (auto [layer, part] : llvm::zip(plan.layers, parts))
    layers.push_back(std::to_string(part) + " " + describeLayer(layer, plan.microBatches));
  llvm::sort(layers);
  std::string text = describeShape(plan);
  for (const std::string &layer : layers)
    text += "; " + layer;
  return text;
}

/// What plans have in common that are lowered to much the same program: shape and strategies, whatever recomputes.
static std::string describeKind(const search::Plan &plan) {
  std::set<std::string> strategies;
  for (const search::PlannedLayer &layer : plan.layers) {
    search::Strategy strategy = layer.strategy;
    strategy.recompute = false, strategy.values = 0;
    strategies.insert(search::describe(strategy, layer.dp));
  }
  std::string text = describeShape(plan);
  for (const std::string &strategy : strategies)
    text += "; " + strategy;
  return text;
}

search::Result<search::RankedPlans> NearPlans::rank(double limitSeconds, int64_t mostWork) const {
  search::RankOptions options;
  options.settings = settings;
  options.limitSeconds = limitSeconds;
  options.mostWork = mostWork;
  int64_t estimated = std::max<int64_t>(memory - problem.cluster.device.overheadBytes, 0);
  for (int over : kOverHundredths)
    options.budgets.push_back(memory + estimated / 100 * over);
  return search::rankPlans(problem, options);
}

/// Whether two plans are lowered to what takes the same time and the same bytes, as do two levels of ZeRO of one
/// micro-batch.
static bool isSame(const search::Plan &a, const search::Plan &b) {
  return a.shape() == b.shape() && a.simulatedStepSeconds == b.simulatedStepSeconds &&
         a.peakBytesPerRank == b.peakBytesPerRank;
}

/// Notes what a simulation says of it; false: nothing.
bool NearPlans::simulate(search::Plan &plan) const {
  if (plan.simulatedStepSeconds > 0)
    return true;
  std::optional<double> seconds = options.simulate(plan);
  plan.simulatedStepSeconds = seconds.value_or(0);
  return seconds.has_value();
}

/// Lowers a plan and keeps it if it fits, its price holds and none of the others is the same.
std::optional<search::Error> NearPlans::take(search::Plan plan) {
  if (std::optional<search::Error> error = search::checkGivenPlan(problem, plan).error())
    return error;
  seen.push_back(describeUnordered(plan));
  if (!lowered.lower(plan) || getMostBytes(plan) > memory || !simulate(plan) || !simulate(plans.front()))
    return std::nullopt;
  if (llvm::none_of(plans, [&](const search::Plan &other) { return isSame(plan, other); }))
    plans.push_back(std::move(plan));
  return std::nullopt;
}

/// The fastest of each kind. Where there are too many plans to list, of those that are nearer.
std::optional<search::Error> NearPlans::addOtherKinds() {
  search::RankedPlans ranked;
  double share = kNear;
  for (int halving = 0; halving <= kMostHalvings && !ranked.budget; ++halving, share /= 2) {
    search::Result<search::RankedPlans> some = rank(plans.front().predictedStepSeconds * (1 + share), kKindsWork);
    if (!some)
      return some.error();
    ranked = std::move(*some);
  }
  std::set<std::string> kinds = {describeKind(plans.front())};
  left = kMostKindsLowered;
  for (search::Plan &plan : ranked.plans) {
    if (plans.size() > kMostKinds || !left)
      break;
    if (lowered.isKnownTooLarge(plan, memory) || kinds.count(describeKind(plan)))
      continue;
    --left;
    std::string kind = describeKind(plan);
    size_t before = plans.size();
    if (std::optional<search::Error> error = take(std::move(plan)))
      return error;
    if (plans.size() > before)
      kinds.insert(kind);
  }
  return std::nullopt;
}

/// What one that is not listed yet has to beat to be among the first `count` by estimate.
double NearPlans::getLimit(size_t count) const {
  std::vector<double> seconds;
  for (const search::Plan &plan : plans)
    seconds.push_back(plan.predictedStepSeconds);
  llvm::sort(seconds);
  return seconds.size() < count ? std::numeric_limits<double>::infinity() : seconds[count - 1];
}

/// Of a list that is whole up to some time, the fastest that fit, until `count` plans are known.
std::optional<search::Error> NearPlans::addListed(std::vector<search::Plan> some, size_t count) {
  // The search has looked at what is faster than the one found.
  llvm::erase_if(some, [&](const search::Plan &plan) {
    return plan.predictedStepSeconds < least || llvm::is_contained(seen, describeUnordered(plan));
  });
  ListedPlans listed(std::move(some));
  for (const search::Plan &plan : plans)
    listed.learn(plan);
  auto isOver = [&](const search::Plan &plan) { return lowered.isKnownTooLarge(plan, memory); };
  while (left > 0) {
    std::optional<search::Plan> next = listed.take(getLimit(count), memory, isOver);
    if (!next)
      break;
    if (llvm::is_contained(seen, describeUnordered(*next)))
      continue;
    --left;
    size_t before = plans.size();
    if (std::optional<search::Error> error = take(std::move(*next)))
      return error;
    if (plans.size() > before)
      listed.learn(plans.back());
  }
  return std::nullopt;
}

/// Where there are too many plans to list: those of one stage whose layers are alike.
std::optional<search::Error> NearPlans::addAlike(size_t count) {
  areAlike = true;
  search::Problem asked = problem;
  asked.cluster.memoryBytesPerDevice = memory;
  search::RankOptions rank;
  rank.settings = settings;
  search::Result<std::vector<search::Plan>> uniform = search::listUniformPlans(asked, rank);
  return uniform ? addListed(std::move(*uniform), count) : uniform.error();
}

/// Lists what is slower by a growing share of the step until there are enough.
std::optional<search::Error> NearPlans::addFastest(size_t count) {
  left = kLoweredMore + kLoweredEach * count;
  double best = plans.front().predictedStepSeconds, share = kFirstShare, wholeFor = 0;
  int halvings = 0;
  while (plans.size() < count && left > 0) {
    bool isAll = share > kLastShare;
    double limit = isAll ? std::numeric_limits<double>::infinity() : best * (1 + share);
    search::Result<search::RankedPlans> ranked = rank(limit, kListWork);
    if (!ranked)
      return ranked.error();
    if (!ranked->budget) {
      if (++halvings > kMostHalvings)
        return addAlike(count);
      share = wholeFor + (std::min(share, kLastShare) - wholeFor) / 2;
      continue;
    }
    wholeFor = share;
    if (std::optional<search::Error> error = addListed(std::move(ranked->plans), count))
      return error;
    if (isAll) {
      isWhole = left > 0;
      return std::nullopt;
    }
    share *= halvings ? 1.5 : kGrowth;
  }
  return std::nullopt;
}

/// By rising simulated time; of equals, whatever the order that they came in.
static void sortPlans(std::vector<search::Plan> &plans) {
  llvm::sort(plans, [](const search::Plan &a, const search::Plan &b) {
    if (a.simulatedStepSeconds != b.simulatedStepSeconds)
      return a.simulatedStepSeconds < b.simulatedStepSeconds;
    if (a.predictedStepSeconds != b.predictedStepSeconds)
      return a.predictedStepSeconds < b.predictedStepSeconds;
    return describeUnordered(a) < describeUnordered(b);
  });
}

search::Result<std::vector<search::Plan>> NearPlans::find(search::Plan found) {
  seen = {describeUnordered(found)};
  least = found.predictedStepSeconds;
  plans.push_back(std::move(found));
  if (std::optional<search::Error> error = addOtherKinds())
    return *error;
  if (options.listed > 1)
    if (std::optional<search::Error> error = addFastest(size_t(options.listed)))
      return *error;
  // One alone needs no simulation to be the best.
  if ((plans.size() > 1 || options.listed > 1) && simulate(plans.front()))
    sortPlans(plans);
  return std::move(plans);
}
