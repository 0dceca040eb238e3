// What the main job writes: the program as text, or a folder of stage binaries; and the plan in words.
#ifndef GALVATRON_DRIVER_JOBOUTPUT_H
#define GALVATRON_DRIVER_JOBOUTPUT_H

#include "JobPlan.h"

#include "galvatron/Schedule/VerifyTimetable.h"
#include "galvatron/Search/Formats/PlanFile.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

/// Fails with a message unless the files that a folder takes along, weights and buffers next to the model, are there.
mlir::LogicalResult checkFilesBeside(mlir::ModuleOp module, const MainJobOptions &options);

/// The program, to a file or standard output; with `explain` the plan, if it has one, to standard error.
mlir::LogicalResult printProgram(mlir::ModuleOp module, const search::Plan &plan, const MainJobOptions &options);

/// What the stages of a module after phase `lower` do in a step, or what is proved of that, or both, to a file or
/// standard output.
mlir::LogicalResult printTimetable(mlir::ModuleOp lowered, llvm::ArrayRef<Timetable> timetables,
                                   const TimetableProof &proof, const MainJobOptions &options);

/// The folder of a module after phase `lower` with its stages' timetables, as binaries and as `timetable`, the text of
/// timetable.json, with those that were listed, and the plan to standard output. No folder is left where it fails.
mlir::LogicalResult writeStageFolder(mlir::ModuleOp lowered, llvm::ArrayRef<Timetable> timetables, const JobPlan &job,
                                     llvm::StringRef timetable, const MainJobOptions &options);

/// The plans that were listed, into the folder `plans` of the output's, and what they are to standard output.
mlir::LogicalResult writeListedPlans(const JobPlan &job, const MainJobOptions &options);

} // namespace galvatron

#endif // GALVATRON_DRIVER_JOBOUTPUT_H
