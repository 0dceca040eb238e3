//===- CheckPlan.h - An independent judge of plans --------------*- C++ -*-===//
//
// Recomputes from the cost source and first principles what a plan takes, and
// compares with what the plan claims. What it shares with the solver is what a
// plan means, not what it takes: the rules of a valid plan (`validatePlan`), the
// order of a schedule (`stageTimetable`), the cost source's numbers, the times of
// single collectives (`LinkModel`). Whatever is added up from these is added up
// here: overlap, redistribution, memory entry by entry (no in-flight formula),
// and the longest path, from the arrival of every value (not `Timetable`).
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_CHECK_CHECKPLAN_H
#define GALVATRON_SEARCH_CHECK_CHECKPLAN_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

struct CheckReport {
  std::vector<std::string> complaints; ///< empty: the plan holds
  double timetableSeconds = 0;         ///< longest path, tails included
  std::vector<std::int64_t> peakBytesPerStage;
  bool ok() const { return complaints.empty(); }
  /// The complaints in one message; nothing when the plan holds.
  std::optional<Error> error() const;
};

/// Judges structure (layers, divisibility, contiguous stages), space, memory
/// against the budget and against the claim, and the predicted time.
CheckReport checkPlan(const Problem &problem, const Plan &plan);

/// The same of a plan that is not the search's to answer for, by hand or beyond the
/// budget by estimate: neither space nor budget is held against it.
CheckReport checkGivenPlan(Problem problem, const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_CHECK_CHECKPLAN_H
