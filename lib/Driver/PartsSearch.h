// A faster plan whose stages have several parts or a split backward (interleaved, zb-h1, zb-v), by the exact bytes of
// its lowered program.
//
// Plans of gpipe and 1f1b are searched and listed first (OneBudgetSearch). Of the others, what estimates
// are wrong by is learnt from what was lowered: first leaving as much free as the last took too much, then shape by
// shape with what each stage took beyond its estimate.
#ifndef GALVATRON_DRIVER_PARTSSEARCH_H
#define GALVATRON_DRIVER_PARTSSEARCH_H

#include "LoweredPlans.h"

#include "galvatron/Search/Solver/Solver.h"

namespace galvatron {

/// `problem` without the schedules whose stages have several parts or a split backward; as it is if it has no others.
search::Problem withPlainSchedules(const search::Problem &problem);

/// The fastest plan found of those schedules that takes at most the cluster's memory on every rank and less time
/// than `best`, with exact bytes; nothing if there is none. Error: of the search.
search::Result<std::optional<search::Plan>> findFasterParts(const search::Problem &problem,
                                                            const search::SolveOptions &options, LoweredPlans &lowered,
                                                            const search::Plan &best);

} // namespace galvatron

#endif // GALVATRON_DRIVER_PARTSSEARCH_H
