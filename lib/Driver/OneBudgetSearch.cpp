// Makes search and lowered program agree about memory: the search knows estimates, a lowered plan its bytes.
#include "OneBudgetSearch.h"

#include "ListedPlans.h"

#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Solver/RankedPlans.h"

#include "llvm/ADT/STLExtras.h"

#include <limits>
#include <set>
#include <tuple>

using namespace galvatron;

/// Each round leaves free what the last one took beyond its estimate, so two are usual; a bound, since an
/// estimate may be wrong in other ways.
static constexpr int kMaxRounds = 8;
/// Searches between the last round and the one before, and the share of the budget below which none is worth it.
static constexpr int kMostHalved = 6;
static constexpr double kLeastFreed = 2e-3;
/// By what part of it a budget that nothing fits is raised for another look.
static constexpr int64_t kShareAbove = 1024;
/// How far estimates are tried over the budget, in hundredths of it. The list for the last one may be long: then the
/// one before it counts.
static constexpr int kOverHundredths[] = {1, 2, 5, 10, 20, 30};
/// Plans of the lists that are lowered at most: bounds how long the driver takes.
static constexpr int kMostLowered = 48;
/// Plans whose layers are all alike that are lowered before others are listed: a fast one makes lists short.
static constexpr int kMostUniform = 16;
/// Halvings of the time over which plans are listed where they are too many.
static constexpr int kMostLimits = 5;
/// Searches of a shape where plans are too many for a list, and the share of a step that is worth another.
static constexpr int kMostNarrowed = 8;
static constexpr double kLeastGain = 1e-4;
/// The share of a step by which plans that were not listed may be faster, above which a smaller space is searched, too.
static constexpr double kWorthUnsettled = 0.05;

/// Lowers `plan` and keeps what it says of others.
bool OneBudgetSearch::lower(search::Plan &plan) {
  if (!lowered.lower(plan))
    return false;
  for (int stage = 0; stage < plan.pipeline; ++stage)
    bytesOfStages[describeStage(plan, stage)] = getBytes(plan, stage).total();
  std::vector<int64_t> &extra = extraBytesOfShapes[{plan.pipeline, plan.microBatches}];
  extra.clear();
  // Lists know more of overhead than searches, which will be told.
  for (auto [stage, estimate] : llvm::enumerate(plan.stageMemory))
    extra.push_back(getBytes(plan, int(stage)).total() - (estimate.total() - estimate.overheadBytes) -
                    problem.cluster.device.overheadBytes);
  return true;
}

bool OneBudgetSearch::isKnownTooLarge(const search::Plan &plan) const {
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    auto known = bytesOfStages.find(describeStage(plan, stage));
    if (known != bytesOfStages.end() && known->second > memory)
      return true;
  }
  return false;
}

void OneBudgetSearch::takeIfFits(search::Plan plan) {
  if (getMostBytes(plan) <= memory)
    found.plan = std::move(plan);
}

/// Searches the best by estimate in `within` bytes less `overhead`, and lowers it.
search::Result<FoundPlan> OneBudgetSearch::searchOnce(int64_t within, int64_t overhead) {
  search::Problem asked = problem;
  asked.cluster.memoryBytesPerDevice = within;
  asked.cluster.device.overheadBytes += overhead;
  search::Result<search::Solution> solution = search::solve(asked, options);
  if (!solution)
    return solution.error();
  candidates += solution->candidates;
  candidatesOpened += solution->candidatesOpened;
  FoundPlan best;
  if (!solution->plan) {
    best.smallestEstimate = std::max<int64_t>(solution->infeasible.smallestBudgetBytes - overhead, 0);
    best.message = solution->infeasible.message;
    return best;
  }
  search::Plan &plan = *solution->plan;
  if (std::optional<search::Error> error = search::checkPlan(asked, plan).error())
    return *error;
  for (search::StageMemory &estimate : plan.stageMemory)
    estimate.overheadBytes -= overhead;
  bool isLowered = lower(plan);
  (isLowered ? best.plan : best.refused) = std::move(plan);
  return best;
}

/// The best plan by estimate that takes at most `memory` bytes; without one, that of the least estimate, if there is
/// any plan.
search::Result<FoundPlan> OneBudgetSearch::searchByEstimate() {
  int64_t overhead = 0;
  for (int round = 0;; ++round) {
    // In the last round nothing is left, so that the search says what it needs.
    search::Result<FoundPlan> best = searchOnce(memory, round < kMaxRounds ? overhead : memory);
    freeEnough = overhead;
    if (!best || best->refused || best->fits(memory))
      return best;
    if (!best->plan) {
      if (!best->smallestEstimate)
        return best;
      std::string message = best->message;
      best = searchOnce(best->smallestEstimate, /*overhead=*/0);
      if (best && !best->plan)
        best->message = message;
      return best;
    }
    freeTooLittle = overhead;
    int64_t missing = 0;
    for (auto [stage, estimate] : llvm::enumerate(best->plan->stageMemory)) {
      int64_t bytes = getBytes(*best->plan, int(stage)).total();
      if (bytes > memory)
        missing = std::max(missing, bytes - std::min(estimate.total() + overhead, memory));
    }
    overhead += std::max<int64_t>(missing, 1);
  }
}

/// Of different plans estimates are wrong by different amounts: what one took beyond its own may be more than the next
/// one needs.
std::optional<search::Error> OneBudgetSearch::halve() {
  for (int round = 0; round < kMostHalved; ++round) {
    if (double(freeEnough - freeTooLittle) < double(memory) * kLeastFreed)
      break;
    int64_t middle = freeTooLittle + (freeEnough - freeTooLittle) / 2;
    search::Result<FoundPlan> between = searchOnce(memory, middle);
    if (!between)
      return between.error();
    bool isTooLittle = between->plan && !between->fits(memory);
    (isTooLittle ? freeTooLittle : freeEnough) = middle;
    if (between->fits(memory) && between->plan->predictedStepSeconds < found.plan->predictedStepSeconds)
      found = std::move(*between);
  }
  return std::nullopt;
}

search::Result<bool> OneBudgetSearch::hasPlan() {
  search::Result<FoundPlan> best = searchByEstimate();
  if (!best)
    return best.error();
  return best->fits(memory);
}

search::Result<FoundPlan> OneBudgetSearch::run() {
  search::Result<FoundPlan> best = searchByEstimate();
  if (!best || !best->plan)
    return best;
  found = std::move(*best);
  if (found.fits(memory))
    if (std::optional<search::Error> error = halve())
      return *error;
  if (std::optional<search::Error> error = improve())
    return *error;
  for (bool byBlocks : {true, false})
    if (found.fits(memory))
      if (std::optional<search::Error> error = searchAlike(byBlocks))
        return *error;
  // Whatever was found on the way: no uniform plan that fits is faster.
  lowerUniform(int(uniform.size()), std::numeric_limits<int64_t>::max());
  if (found.fits(memory) && mayGain > kWorthUnsettled && problem.costs->settlesAny())
    if (std::optional<search::Error> error = searchUnsettled())
      return *error;
  if (!found.fits(memory) && looksAbove)
    if (std::optional<search::Error> error = searchAbove())
      return *error;
  return found;
}

/// Strategies as they are: what they leave to choose is left to the compiler's defaults.
struct OneBudgetSearch::Unsettled : search::CostSource {
  explicit Unsettled(const search::CostSource &costs) : costs(costs) {}
  search::Result<search::LayerCost> cost(const search::CostQuery &query) const override { return costs.cost(query); }
  std::vector<std::string> recomputableValues(const search::Layer &layer) const override {
    return costs.recomputableValues(layer);
  }

  const search::CostSource &costs;
};

/// Where lists are cut, more ways to run a layer leave less room for what else could be changed.
std::optional<search::Error> OneBudgetSearch::searchUnsettled() {
  Unsettled costs(*problem.costs);
  search::Problem asked = problem;
  asked.costs = &costs;
  search::PricedSettings own;
  search::SolveOptions solve = options;
  solve.settings = &own;
  OneBudgetSearch unsettled(asked, solve, lowered, memory);
  search::Result<FoundPlan> other = unsettled.run();
  if (!other)
    return other.error();
  candidates += unsettled.candidates;
  candidatesOpened += unsettled.candidatesOpened;
  if (other->fits(memory) && other->plan->predictedStepSeconds < found.plan->predictedStepSeconds)
    found = std::move(*other);
  return std::nullopt;
}

/// Where nothing fits: a somewhat larger budget may lead to a plan that does.
std::optional<search::Error> OneBudgetSearch::searchAbove() {
  OneBudgetSearch above(problem, options, lowered, memory + memory / kShareAbove);
  above.looksAbove = false;
  search::Result<FoundPlan> other = above.run();
  if (!other)
    return other.error();
  candidates += above.candidates;
  candidatesOpened += above.candidatesOpened;
  if (other->fits(memory))
    found = std::move(*other);
  return std::nullopt;
}

/// Where nothing fits by then: the plans of the least estimates.
std::optional<search::Error> OneBudgetSearch::lowerSmallest() {
  search::Result<std::vector<search::Plan>> plans = search::listSmallestPlans(problem, options.settings);
  if (!plans)
    return plans.error();
  return lowerListed(std::move(*plans));
}

/// Looks for a plan that fits and is faster than the one found, if that fits.
std::optional<search::Error> OneBudgetSearch::improve() {
  left = kMostLowered;
  if (!found.fits(memory))
    if (std::optional<search::Error> error = lowerSmallest())
      return error;
  search::RankOptions rank;
  rank.settings = options.settings;
  // The overhead of any plan is no estimate.
  int64_t estimated = std::max<int64_t>(memory - problem.cluster.device.overheadBytes, 0);
  for (int over : kOverHundredths)
    rank.budgets.push_back(memory + estimated / 100 * over);
  if (std::optional<search::Error> error = listUniform(rank))
    return error;
  lowerUniform(kMostUniform, rank.budgets.back());
  if (std::optional<search::Error> error = searchOneStage())
    return error;
  int64_t wholeFor = 0;
  while (left > 0) {
    bool isFirst = !found.fits(memory);
    if (!isFirst)
      rank.limitSeconds = found.plan->predictedStepSeconds;
    search::Result<search::RankedPlans> ranked = search::rankPlans(problem, rank);
    if (!ranked)
      return ranked.error();
    wholeFor = ranked->budget;
    if (std::optional<search::Error> error = lowerListed(std::move(ranked->plans)))
      return error;
    // Below a faster plan the list may be whole further up.
    bool isFaster = found.fits(memory) && (isFirst || found.plan->predictedStepSeconds < rank.limitSeconds);
    if (wholeFor == rank.budgets.back() || !isFaster)
      break;
  }
  if (wholeFor)
    return std::nullopt;
  if (std::optional<search::Error> error = narrow())
    return error;
  return found.fits(memory) ? listFastest(rank) : std::nullopt;
}

/// Pipelines of a large cluster are so many that their search may run out of labels: those without are searched alone.
std::optional<search::Error> OneBudgetSearch::searchOneStage() {
  if (found.plan->pipeline == 1 || problem.space.stages)
    return std::nullopt;
  search::SolveOptions quickly = options;
  quickly.explain = false;
  search::Problem asked = problem;
  asked.cluster.memoryBytesPerDevice = memory;
  asked.space.stages = 1;
  search::Result<search::Solution> solution = search::solve(asked, quickly);
  if (!solution || !solution->plan)
    return std::nullopt;
  search::Plan plan = std::move(*solution->plan);
  bool isWorth = !found.fits(memory) || plan.predictedStepSeconds < found.plan->predictedStepSeconds * (1 - kLeastGain);
  if (!isWorth || !lower(plan))
    return std::nullopt;
  int microBatches = plan.microBatches;
  takeIfFits(std::move(plan));
  return narrowShape(1, microBatches);
}

/// What the plan found is measured by.
std::optional<search::Error> OneBudgetSearch::listUniform(search::RankOptions rank) {
  if (found.fits(memory))
    rank.limitSeconds = found.plan->predictedStepSeconds;
  search::Problem asked = problem;
  asked.cluster.memoryBytesPerDevice = memory;
  search::Result<std::vector<search::Plan>> plans = search::listUniformPlans(asked, rank);
  if (!plans)
    return plans.error();
  uniform = std::move(*plans);
  return std::nullopt;
}

/// Lowers up to `most` of the uniform plans that are faster than what fits and take at most `within` bytes by their
/// estimate, until one fits.
void OneBudgetSearch::lowerUniform(int most, int64_t within) {
  auto isDue = [&](const search::Plan &plan) {
    bool isFaster = !found.fits(memory) || plan.predictedStepSeconds < found.plan->predictedStepSeconds;
    return isFaster && getMostEstimated(plan) <= within;
  };
  std::vector<search::Plan> left;
  for (search::Plan &plan : uniform) {
    if (most == 0 || !isDue(plan)) {
      left.push_back(std::move(plan));
      continue;
    }
    if (isKnownTooLarge(plan) || !lower(plan))
      continue;
    --most;
    takeIfFits(std::move(plan));
  }
  uniform = std::move(left);
}

/// Where faster plans are too many to list: the fastest of them, as many as can be listed.
std::optional<search::Error> OneBudgetSearch::listFastest(search::RankOptions rank) {
  search::Problem roomy = problem;
  roomy.cluster.memoryBytesPerDevice = rank.budgets.back();
  search::SolveOptions quickly = options;
  quickly.explain = false;
  search::Result<search::Solution> fastest = search::solve(roomy, quickly);
  if (!fastest)
    return fastest.error();
  if (!fastest->plan)
    return std::nullopt;
  double least = fastest->plan->predictedStepSeconds;
  mayGain = 1 - least / found.plan->predictedStepSeconds;
  rank.limitSeconds = found.plan->predictedStepSeconds;
  for (int round = 0; round < kMostLimits && left > 0; ++round) {
    rank.limitSeconds = least + (rank.limitSeconds - least) / 2;
    search::Result<search::RankedPlans> ranked = search::rankPlans(problem, rank);
    if (!ranked)
      return ranked.error();
    if (ranked->budget)
      return lowerListed(std::move(ranked->plans));
  }
  return std::nullopt;
}

/// Lowers plans of the list while any may be lowered, and takes the fastest that fits.
std::optional<search::Error> OneBudgetSearch::lowerListed(std::vector<search::Plan> plans) {
  ListedPlans listed(std::move(plans));
  listed.learn(*found.plan);
  auto isOver = [&](const search::Plan &plan) { return isKnownTooLarge(plan); };
  for (; left > 0; --left) {
    double limit = found.fits(memory) ? found.plan->predictedStepSeconds : std::numeric_limits<double>::infinity();
    std::optional<search::Plan> next = listed.take(limit, memory, isOver);
    if (!next)
      break;
    if (std::optional<search::Error> error = search::checkGivenPlan(problem, *next).error())
      return error;
    // The search's space may hold a plan that a later phase refuses.
    if (!lower(*next))
      continue;
    listed.learn(*next);
    takeIfFits(std::move(*next));
  }
  return std::nullopt;
}

/// Where faster plans are too many to list: searches each shape that was lowered again, with what the stages of its
/// last plan took beyond their estimates, or less. Within a shape estimates are wrong by about the same.
std::optional<search::Error> OneBudgetSearch::narrow() {
  for (const auto &[shape, extraBytes] : std::map(extraBytesOfShapes))
    if (std::optional<search::Error> error = narrowShape(shape.first, shape.second))
      return error;
  return std::nullopt;
}

std::optional<search::Error> OneBudgetSearch::narrowShape(int stages, int microBatches) {
  search::Problem asked = problem;
  asked.space.stages = stages;
  asked.space.microBatches = microBatches;
  return searchShape(std::move(asked), options);
}

/// Searches `asked`, of one shape.
std::optional<search::Error> OneBudgetSearch::searchShape(search::Problem asked, search::SolveOptions solve) {
  solve.explain = false;
  asked.cluster.memoryBytesPerDevice = memory;
  auto isWorth = [&](const search::Plan &plan) {
    return !found.fits(memory) || plan.predictedStepSeconds < found.plan->predictedStepSeconds * (1 - kLeastGain);
  };
  for (int round = 0; round < kMostNarrowed; ++round) {
    asked.extraBytesOfStage = extraBytesOfShapes[{asked.space.stages, asked.space.microBatches}];
    search::Result<search::Solution> solution = search::solve(asked, solve);
    if (!solution || !solution->plan || !isWorth(*solution->plan))
      break;
    if (std::optional<search::Error> error = search::checkPlan(asked, *solution->plan).error())
      return error;
    for (auto [stage, extra] : llvm::zip(solution->plan->stageMemory, asked.extraBytesOfStage))
      stage.overheadBytes -= extra;
    if (!lower(*solution->plan))
      break;
    takeIfFits(std::move(*solution->plan));
  }
  return std::nullopt;
}

/// Who shares what with whom: all of a strategy but ZeRO and what is recomputed or kept.
static auto getDegrees(const search::Strategy &strategy, int dp) {
  return std::tuple(dp, strategy.tp, strategy.sequenceParallel, strategy.ulysses, strategy.cp, strategy.ep,
                    strategy.strided);
}

/// Plans like the one found, each type of layer by the degrees that it has there, or every type by those of the blocks:
/// they use the same groups, so that estimates are wrong by the same.
std::optional<search::Error> OneBudgetSearch::searchAlike(bool byBlocks) {
  std::map<std::string, std::set<decltype(getDegrees({}, 1))>> known;
  auto getKey = [&](const std::string &layerType) { return byBlocks ? "" : layerType; };
  for (const search::PlannedLayer &layer : found.plan->layers)
    if (!byBlocks || layer.role == search::LayerRole::Block)
      known[getKey(layer.layerType)].insert(getDegrees(layer.strategy, layer.dp));
  search::Problem asked = problem;
  asked.space.stages = found.plan->pipeline;
  asked.space.microBatches = found.plan->microBatches;
  asked.offers = [&](const search::Layer &layer, const search::Strategy &strategy, int dp) {
    auto degrees = known.find(getKey(layer.layerType));
    return degrees != known.end() && degrees->second.count(getDegrees(strategy, dp));
  };
  search::PricedSettings own;
  search::SolveOptions solve = options;
  solve.settings = &own;
  search::Plan again = *found.plan; // what it took beyond its estimate counts
  return lower(again) ? searchShape(std::move(asked), solve) : std::nullopt;
}
