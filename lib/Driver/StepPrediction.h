// A lowered step, simulated: what plan.json predicts, timetable.json and the predicted trace.
#ifndef GALVATRON_DRIVER_STEPPREDICTION_H
#define GALVATRON_DRIVER_STEPPREDICTION_H

#include "JobPlan.h"
#include "MainJobOptions.h"

#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Search/Check/StepSimulator.h"

namespace galvatron {

struct StepPrediction {
  search::StepTimetable step; ///< with what is predicted of its entries
  search::SimulatedStep simulated;
};

/// Of a module after phase `lower` with the timetables of its stages, by the prices of the job's cluster. Fails with a
/// message.
mlir::FailureOr<StepPrediction> predictStep(mlir::ModuleOp lowered, llvm::ArrayRef<Timetable> timetables,
                                            const JobPlan &job, const MainJobOptions &options);

/// The predicted trace, to the file that the options name; nothing where they name none.
mlir::LogicalResult writePredictedTrace(const StepPrediction &prediction, const MainJobOptions &options);

} // namespace galvatron

#endif // GALVATRON_DRIVER_STEPPREDICTION_H
