//===- ProfileReason.h - How far a plan's price was measured ----*- C++ -*-===//
#ifndef GALVATRON_SEARCH_SOLVER_PROFILEREASON_H
#define GALVATRON_SEARCH_SOLVER_PROFILEREASON_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"

#include <functional>
#include <memory>
#include <string>

namespace galvatron::search {

using MakeCosts = std::function<std::shared_ptr<const CostSource>(const Cluster &)>;

/// Fills `plan.reasons.profile`, or where the cluster has no profile adds a note that says by what prices are. The
/// share that was measured: what the step would lose if measured bodies and messages, or such as lie between measured
/// ones, took no time. Kernels' tables are not the layers' bodies, so they count as estimated. Nothing where costs and
/// links are the reference's.
/// `makeCosts`: the problem's costs by the prices of another cluster; null where they know no bodies.
void addProfileReason(const Problem &problem, Plan &plan, const MakeCosts &makeCosts = nullptr);

/// Lines for people; empty without a profile.
std::string explainProfile(const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_PROFILEREASON_H
