// How many ranks a model needs where those that were asked for have no memory for it.
#ifndef GALVATRON_DRIVER_ENOUGHRANKS_H
#define GALVATRON_DRIVER_ENOUGHRANKS_H

#include "LoweredPlans.h"

#include "galvatron/Search/Solver/Solver.h"

namespace galvatron {

/// Given that no plan fits `problem.cluster`: one of the same devices, more of them, that a plan fits by its exact
/// bytes; none: not with 32 times as many. Within a node of fewer than eight by the device, else by the node; of the
/// numbers between one that is too small and its double, found by halving.
search::Result<std::optional<search::Cluster>>
findEnoughRanks(const search::Problem &problem, const search::SolveOptions &options, LoweredPlans &lowered);

} // namespace galvatron

#endif // GALVATRON_DRIVER_ENOUGHRANKS_H
