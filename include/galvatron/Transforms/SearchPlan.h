// The search as a pass whose question somebody else may answer: whoever knows more of a plan than its estimates.
#ifndef GALVATRON_TRANSFORMS_SEARCHPLAN_H
#define GALVATRON_TRANSFORMS_SEARCHPLAN_H

#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"

#include <functional>
#include <memory>

namespace galvatron {

/// Chooses the plan of a differentiated module, or says in the solution why there is none. Fails with a message.
using PlanSolver =
    std::function<mlir::FailureOr<search::Solution>(mlir::ModuleOp module, const search::Problem &problem)>;

/// A null `solver` is search::solve, which goes by estimates.
std::unique_ptr<mlir::Pass> createSearchPlanPass(const SearchPlanPassOptions &options, PlanSolver solver);

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_SEARCHPLAN_H
