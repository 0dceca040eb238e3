// Where the main job's plan comes from: a file, the search, or the program itself, which may have one.
#ifndef GALVATRON_DRIVER_JOBPLAN_H
#define GALVATRON_DRIVER_JOBPLAN_H

#include "MainJobOptions.h"
#include "PhaseRunner.h"

#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/Cluster.h"

#include "llvm/ADT/StringMap.h"

namespace galvatron {

/// A plan and what its devices have room for.
struct JobPlan {
  search::Plan plan;       ///< no layers: there is none
  search::Cluster cluster; ///< that it runs on
  /// Of a search that was asked for several: the best plans, by rising simulated seconds, `plan` first; and whether no
  /// other one fits; `areAlike`: of the slower ones only those of one stage with layers alike were looked at.
  std::vector<search::Plan> listed = {};
  bool hasListedAll = false;
  llvm::StringMap<std::string> layerHashes = {}; ///< by layer type, as a profile knows bodies
  bool areAlike = false;                         ///< `listed`
};

/// The cluster that the options mean, which has to fit the target. Fails with a message.
mlir::FailureOr<search::Cluster> readJobCluster(const MainJobOptions &options, const ClusterInput &input);

/// Names of layers in the plan file, of which phase import sees whether they are halves. None where it cannot be read:
/// who needs the plan will say so.
std::vector<std::string> readUnits(const MainJobOptions &options);

/// Whether some of these names are of parts of the module's layers.
mlir::FailureOr<bool> namesHalves(mlir::ModuleOp module, llvm::ArrayRef<std::string> units);

/// Samples of a step: those asked for, else the plan file's, which the model follows, else 0: the model's.
mlir::FailureOr<int64_t> readGlobalBatch(mlir::ModuleOp module, const MainJobOptions &options,
                                         const search::Cluster &cluster);

/// Takes `module` through the phase plan and returns the plan with its reasons. A search goes by exact bytes
/// (BudgetSearch.h) of plans that `phases` lowers.
mlir::FailureOr<JobPlan> makeJobPlan(mlir::ModuleOp module, const MainJobOptions &options,
                                     const search::Cluster &cluster, PhaseRunner &phases);

/// The plan that is on the program, priced, so that plan.json has a prediction for a plan by hand too.
mlir::FailureOr<JobPlan> readJobPlan(mlir::ModuleOp module, const MainJobOptions &options);

} // namespace galvatron

#endif // GALVATRON_DRIVER_JOBPLAN_H
