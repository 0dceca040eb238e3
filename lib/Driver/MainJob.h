// The main job: from a model to stage binaries, phase by phase.
#ifndef GALVATRON_DRIVER_MAINJOB_H
#define GALVATRON_DRIVER_MAINJOB_H

#include "MainJobOptions.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/Timing.h"

namespace galvatron {

/// Takes `module` through the phases that the options ask for and writes the result. Messages about the program go to
/// the context's diagnostics, those about options and files to standard error.
mlir::LogicalResult runMainJob(mlir::ModuleOp module, const MainJobOptions &options, mlir::TimingScope &timing);

} // namespace galvatron

#endif // GALVATRON_DRIVER_MAINJOB_H
