// The search as a pass whose answer the caller also gets whole: attributes hold the plan, not its reasons. And its
// space, for whoever searches on.
#ifndef GALVATRON_TRANSFORMS_SEARCHPLAN_H
#define GALVATRON_TRANSFORMS_SEARCHPLAN_H

#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/IR/Diagnostics.h"

#include <memory>
#include <optional>

namespace galvatron {

/// Why a differentiated step cannot be cut into micro-batches, as the phase shard would say it; nothing where it can.
std::optional<mlir::Diagnostic> findWholeBatchOp(mlir::ModuleOp module);

/// What may be chosen for a differentiated program: what the lowering supports, of `microBatches` micro-batches; 0: of
/// all counts that the program can be cut into.
search::SearchSpace getSearchSpace(mlir::ModuleOp module, int64_t microBatches);

/// `searched` receives the plan with reasons and predicted memory, or why there is none: the pass then fails and leaves
/// the message to the caller.
std::unique_ptr<mlir::Pass> createSearchPlanPass(const SearchPlanPassOptions &options,
                                                 std::shared_ptr<search::Solution> searched);

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_SEARCHPLAN_H
