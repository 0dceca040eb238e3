// The search for the fastest plan that fits a budget by the exact bytes of its lowered program.
//
// Asked: a problem (layers, costs that estimate, cluster and its memory) and a function that lowers a plan. Answered:
// the fastest plan found whose ranks all take at most the memory of a device, with the plans that were lowered to know;
// or, where none fits with one part a stage, why, and the least budget that is enough. Knows nothing of programs: MLIR
// stays with the caller.
#ifndef GALVATRON_DRIVER_BUDGETSEARCH_H
#define GALVATRON_DRIVER_BUDGETSEARCH_H

#include "NearPlans.h"
#include "OneBudgetSearch.h"
#include "PartsSearch.h"

namespace galvatron {

struct BudgetAnswer {
  /// The fastest plan found that fits, with exact bytes of every rank and its reasons, among them all that was lowered.
  /// Of plans near it by estimate the best by simulation (NearPlans.h).
  std::optional<search::Plan> plan;
  /// With it the next best that were asked for, by rising simulated seconds, with their bytes and reasons.
  std::vector<search::Plan> listed;
  bool hasListedAll = false; ///< no other plan of the space fits
  bool areAlike = false;     ///< so many fit that of the slower ones only those with layers alike were looked at
  /// Without a plan: why, with remedy. Empty if there is a plan that the lowering refuses, which knows why.
  std::string message;
  std::optional<search::Plan> refused;
  /// Without a plan: a budget with which the search succeeds, though not with a byte less; 0: none is known.
  int64_t smallestBudget = 0;
  /// Without a plan: ranks of such devices, in whole nodes where one is full, that a plan fits; 0: none is known.
  int64_t enoughRanks = 0;
  /// Pipelines and micro-batch counts in the space, and of these, searched to the end; over all searches.
  int64_t candidates = 0, candidatesOpened = 0;
};

class BudgetSearch {
public:
  /// Both outlive the search.
  BudgetSearch(const search::Problem &problem, LowerFunction lower, const search::SolveOptions &options = {},
               NearPlansOptions near = {})
      : problem(problem), onePart(withPlainSchedules(problem)), options(options), near(std::move(near)),
        lowered(std::move(lower)), budget(problem.cluster.memoryBytesPerDevice) {
    this->options.settings = &settings;
  }

  /// Error: an inconsistent problem.
  search::Result<BudgetAnswer> run();

private:
  search::Result<FoundPlan> searchFor(int64_t memory);
  search::Result<BudgetAnswer> accept(search::Plan plan);
  std::optional<search::Error> list(const search::Plan &found);
  search::Result<BudgetAnswer> refuse(search::Plan smallest, int64_t bytes);
  BudgetAnswer giveUp(FoundPlan nothing);
  search::Result<FoundPlan> findSmallest();
  std::optional<search::Error> addReasons(search::Plan &plan) const;

  const search::Problem &problem;
  search::Problem onePart; ///< what is searched first
  search::PricedSettings settings;
  search::SolveOptions options;
  NearPlansOptions near;
  LoweredPlans lowered;
  int64_t budget; ///< bytes of a device that a rank may take
  BudgetAnswer answer;
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_BUDGETSEARCH_H
