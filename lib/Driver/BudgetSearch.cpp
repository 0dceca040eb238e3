// One search for the budget; when nothing fits, more of them find the figure to name: the search succeeds with it, and
// fails with a byte less.
#include "BudgetSearch.h"
#include "EnoughRanks.h"

#include "llvm/ADT/STLExtras.h"

#include <limits>

using namespace galvatron;

/// Budgets tried to find the smallest that does. Two are usual: what the smallest plan takes, and a byte less.
static constexpr int kMaxProbes = 48;

search::Result<FoundPlan> BudgetSearch::searchFor(int64_t memory) {
  OneBudgetSearch search(onePart, options, lowered, memory);
  search::Result<FoundPlan> found = search.run();
  answer.candidates += search.getNumCandidates();
  answer.candidatesOpened += search.getNumOpened();
  return found;
}

/// Gives a plan of a list the search's reasons.
std::optional<search::Error> BudgetSearch::addReasons(search::Plan &plan) const {
  if (!plan.reasons.layers.empty())
    return std::nullopt;
  search::Result<search::Plan> priced = search::evaluatePlan(problem, plan);
  if (!priced)
    return priced.error();
  plan.reasons = std::move(priced->reasons);
  return std::nullopt;
}

/// The plans near `found`, each with its reasons.
std::optional<search::Error> BudgetSearch::list(const search::Plan &found) {
  NearPlans plans(problem, &settings, lowered, budget, near);
  search::Result<std::vector<search::Plan>> best = plans.find(found);
  if (!best)
    return best.error();
  answer.hasListedAll = plans.lookedAtAll();
  answer.areAlike = plans.lookedAtAlikeOnly();
  if (best->size() > size_t(near.listed))
    best->resize(near.listed);
  answer.listed = std::move(*best);
  for (search::Plan &plan : answer.listed)
    if (std::optional<search::Error> error = addReasons(plan))
      return error;
  return std::nullopt;
}

search::Result<BudgetAnswer> BudgetSearch::accept(search::Plan plan) {
  if (near.simulate)
    if (std::optional<search::Error> error = list(plan))
      return *error;
  if (!answer.listed.empty())
    plan = answer.listed.front();
  if (std::optional<search::Error> error = addReasons(plan))
    return *error;
  plan.reasons.lowered = lowered.explain(plan, budget);
  answer.plan = std::move(plan);
  return std::move(answer);
}

/// Given that the budget is too little: a plan that fits `answer.smallestBudget`, if one is found.
search::Result<FoundPlan> BudgetSearch::findSmallest() {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t tooLittle = budget, probe = lowered.findBytesAbove(budget);
  FoundPlan smallest;
  for (int round = 0; round < kMaxProbes && probe < kNone; ++round) {
    search::Result<FoundPlan> found = searchFor(probe);
    if (!found || found->refused)
      return found;
    if (found->fits(probe)) {
      int64_t taken = getMostBytes(*found->plan);
      smallest = std::move(*found);
      answer.smallestBudget = probe;
      probe = taken < probe && taken > tooLittle ? taken : probe - 1;
    } else {
      tooLittle = probe;
      probe = smallest.plan ? tooLittle + (answer.smallestBudget - tooLittle) / 2 : lowered.findBytesAbove(tooLittle);
    }
    if (smallest.plan && answer.smallestBudget - tooLittle <= 1)
      break;
  }
  return smallest;
}

/// The layer of a stage that takes the most, by the plan's reasons; null: there are none.
static const search::PlannedLayer *findLargestLayer(const search::Plan &plan, int stage) {
  const search::PlannedLayer *largest = nullptr;
  int64_t most = -1;
  for (auto [layer, why] : llvm::zip(plan.layers, plan.reasons.layers))
    if (layer.stage == stage && why.stateBytes + why.activationBytes > most) {
      most = why.stateBytes + why.activationBytes;
      largest = &layer;
    }
  return largest;
}

/// Names the plan that needs the least: its fullest stage, and on that the layer that takes the most.
search::Result<BudgetAnswer> BudgetSearch::refuse(search::Plan smallest, int64_t bytes) {
  if (std::optional<search::Error> error = addReasons(smallest))
    return *error;
  std::optional<search::Cluster> larger = findEnoughRanks(onePart, options, lowered);
  int stage = getFullestStage(smallest);
  llvm::raw_string_ostream text(answer.message);
  text << "no strategy fits " << search::formatBytes(double(budget)) << " per device; the smallest plan needs " << bytes
       << " bytes (stage " << stage << " of " << smallest.pipeline;
  if (const search::PlannedLayer *largest = findLargestLayer(smallest, stage))
    text << ", largest layer '" << largest->path << "' with " << search::describe(largest->strategy, largest->dp);
  text << ", " << smallest.microBatches
       << " micro-batches); raise the budget to --memory=" << search::formatBudget(bytes) << ", or use ";
  if (larger)
    answer.enoughRanks = larger->ranks();
  text << (larger ? std::to_string(answer.enoughRanks) + " ranks, which are enough," : "more ranks")
       << " or a smaller batch";
  return std::move(answer);
}

BudgetAnswer BudgetSearch::giveUp(FoundPlan nothing) {
  answer.message = std::move(nothing.message);
  answer.refused = std::move(nothing.refused);
  return std::move(answer);
}

search::Result<BudgetAnswer> BudgetSearch::run() {
  search::Result<FoundPlan> found = searchFor(budget);
  if (!found)
    return found.error();
  if (found->fits(budget)) {
    search::Result<std::optional<search::Plan>> faster = findFasterParts(problem, options, lowered, *found->plan);
    if (!faster)
      return faster.error();
    return accept(*faster ? std::move(**faster) : std::move(*found->plan));
  }
  if (!found->plan)
    return giveUp(std::move(*found));
  search::Result<FoundPlan> smallest = findSmallest();
  if (!smallest)
    return smallest.error();
  if (smallest->refused)
    return giveUp(std::move(*smallest));
  if (smallest->plan)
    return refuse(std::move(*smallest->plan), answer.smallestBudget);
  int64_t bytes = getMostBytes(*found->plan);
  return refuse(std::move(*found->plan), bytes);
}
