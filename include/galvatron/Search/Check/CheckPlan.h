//===- CheckPlan.h - An independent judge of plans --------------*- C++ -*-===//
//
// Recomputes from the cost source and first principles what a plan takes, and
// compares with what the plan claims. It shares no arithmetic with the solver:
// memory is replayed micro-batch by micro-batch over the schedule's timetable
// instead of with an in-flight formula, and time is the longest path through
// the timetable.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_CHECK_CHECKPLAN_H
#define GALVATRON_SEARCH_CHECK_CHECKPLAN_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"

#include <string>
#include <vector>

namespace galvatron::search {

struct CheckReport {
  std::vector<std::string> complaints; ///< empty: the plan holds
  double timetableSeconds = 0;         ///< longest path, tails included
  std::vector<std::int64_t> peakBytesPerStage;
  bool ok() const { return complaints.empty(); }
};

/// Judges structure (units, divisibility, contiguous stages), space, memory
/// against the budget and against the claim, and the predicted time.
CheckReport checkPlan(const Problem &problem, const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_CHECK_CHECKPLAN_H
