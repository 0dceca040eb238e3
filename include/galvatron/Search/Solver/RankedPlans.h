//===- RankedPlans.h - All plans below a limit, fastest first ---*- C++ -*-===//
//
// For a caller that knows more of a plan than the search estimates, such as its
// exact memory once it is lowered: `solve` gives the one plan that is best by
// estimate, this every plan that might be better.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_RANKEDPLANS_H
#define GALVATRON_SEARCH_SOLVER_RANKEDPLANS_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"
#include "galvatron/Search/Solver/PricedSettings.h"

#include <cstdint>
#include <limits>
#include <vector>

namespace galvatron::search {

struct RankOptions {
  /// Plans that take as long or longer are left out.
  double limitSeconds = std::numeric_limits<double>::infinity();
  /// Memory per device within which plans are wanted, rising. The list is the one
  /// of the last budget for which it is whole.
  std::vector<std::int64_t> budgets;
  std::size_t mostPlans = 16384;
  /// Placements of one layer that the list of one budget may take.
  std::int64_t mostWork = 2000000;
  /// As SolveOptions have them.
  PricedSettings *settings = nullptr;
};

struct RankedPlans {
  /// Without reasons, by rising time, then memory.
  std::vector<Plan> plans;
  /// What the list is whole for; 0: for none of them.
  std::int64_t budget = 0;
};

/// GPipe and 1F1B plans of the space. Of plans that differ only in the order of
/// equal layers within a stage, the one whose first layers keep least for backward
/// stands for all: they run backwards last, when the others have let go of theirs,
/// and have the most room to recompute values. Error: an inconsistent problem.
Result<RankedPlans> rankPlans(const Problem &problem, const RankOptions &options);

/// Of every pipeline degree, number of micro-batches and GPipe or 1F1B, the plan
/// that needs the least memory, whatever the budget, by rising memory.
Result<std::vector<Plan>> listSmallestPlans(const Problem &problem, PricedSettings *settings = nullptr);

/// Plans of one stage in which all layers take the same degrees and the same level of ZeRO, all blocks recompute
/// everything or none does, and the ends do not: those within `limitSeconds`, by rising time, then memory, but for those
/// that surely need more than the memory of a device (`LayerCost::certainBytes`). Whatever is made of finer plans, none
/// of these may beat it. `budgets` do not count.
Result<std::vector<Plan>> listUniformPlans(const Problem &problem, const RankOptions &options);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_RANKEDPLANS_H
