// Bodies to be measured: of a model cut to one layer of each type, a library for every strategy that is asked for.
#ifndef GALVATRON_DRIVER_LAYERBODIES_H
#define GALVATRON_DRIVER_LAYERBODIES_H

#include "MainJobOptions.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/Timing.h"

namespace galvatron {

/// Of a module before phase differentiate: all but the first call of each layer leave `@step`, where its results can be
/// those of what it reads, as a block's of a residual stream.
void keepOneOfEach(mlir::ModuleOp module);

/// `--bodies`: writes bodies.json and its libraries (galvatron/Search/Formats/PreparedModel.h) into the output folder.
/// A strategy that the model does not take is noted there with the reason; anything else that is wrong fails.
mlir::LogicalResult runBodiesJob(mlir::ModuleOp module, const MainJobOptions &options, mlir::TimingScope &timing);

} // namespace galvatron

#endif // GALVATRON_DRIVER_LAYERBODIES_H
