// Host memory that the ranks of a program take for checkpoints.
#ifndef GALVATRON_TARGET_HOSTBYTES_H
#define GALVATRON_TARGET_HOSTBYTES_H

#include "galvatron/Schedule/Timetable.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

/// By rank, the bytes of the copy from which a checkpoint is written beside the steps: of the pieces that the rank
/// writes (runtime/optim/Update.h, `answersFor`), weight and AdamW's moments, in f32.
std::vector<int64_t> countHostBytes(mlir::ModuleOp lowered, llvm::ArrayRef<Timetable> timetables);

} // namespace galvatron

#endif // GALVATRON_TARGET_HOSTBYTES_H
