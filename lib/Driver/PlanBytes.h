// What the ranks of a plan take once it is lowered: exact, where the search only estimates.
#ifndef GALVATRON_DRIVER_PLANBYTES_H
#define GALVATRON_DRIVER_PLANBYTES_H

#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/Cluster.h"

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace galvatron {

/// Bytes of the device of one rank. All ranks of a stage take the same.
struct RankBytes {
  int64_t arena = 0;    ///< what the rank plans itself
  int64_t overhead = 0; ///< what its device has in use beside that
  int64_t total() const { return arena + overhead; }
};

/// Of a rank of each stage of a module after phase `lower`, on `ranks` ranks in all.
mlir::FailureOr<std::vector<RankBytes>> measureStages(mlir::ModuleOp lowered, int64_t ranks,
                                                      const search::OverheadBytes &overhead);

/// Notes in `plan` what a rank of each stage takes.
void setBytes(search::Plan &plan, llvm::ArrayRef<RankBytes> ofStages);

/// What was noted of a rank of `stage`.
RankBytes getBytes(const search::Plan &plan, int stage);

/// The first of the stages whose ranks take the most.
int getFullestStage(const search::Plan &plan);

/// What a rank of the fullest stage takes; 0 where nothing was noted.
int64_t getMostBytes(const search::Plan &plan);

/// What the search says that a rank of the fullest stage takes.
int64_t getMostEstimated(const search::Plan &plan);

} // namespace galvatron

#endif // GALVATRON_DRIVER_PLANBYTES_H
