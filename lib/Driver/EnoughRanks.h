// How many ranks a model needs where those that were asked for have no memory for it.
#ifndef GALVATRON_DRIVER_ENOUGHRANKS_H
#define GALVATRON_DRIVER_ENOUGHRANKS_H

#include "LoweredPlans.h"

#include "galvatron/Search/Solver/Solver.h"

namespace galvatron {

/// Given that no plan fits `problem.cluster`: the smallest one of the same devices, more of them, that a plan fits by
/// its exact bytes. A node of fewer than eight is filled first, by the device; then nodes are added, up to 32 times as
/// many. Each number below the one that is named was tried, or has less memory than is certain to be needed. None: not
/// found.
std::optional<search::Cluster> findEnoughRanks(const search::Problem &problem, const search::SolveOptions &options,
                                               LoweredPlans &lowered);

} // namespace galvatron

#endif // GALVATRON_DRIVER_ENOUGHRANKS_H
