// The kernels that a layer's ops become, and what each of them computes and moves.
//
// As lowering makes them, without its offsets: a product takes along a bias and one tensor that are added to it; ops
// over the same elements become one kernel where that saves an eighth of the bytes (lib/Conversion/DistToExec/LoopFusion.cpp);
// views, pieces of parameters' gradients and their sums are no kernel at all.
#ifndef GALVATRON_COSTS_KERNELWORK_H
#define GALVATRON_COSTS_KERNELWORK_H

#include "galvatron/Costs/ProgramCosts.h"

#include "llvm/ADT/STLFunctionalExtras.h"

namespace galvatron {

/// Bytes of all elements, 0 of what is no tensor.
double getBytes(mlir::Value value);

/// Rearranges or repeats an operand, or is given: nothing is computed.
bool isView(mlir::Operation *op);

/// What `value` is a view of.
mlir::Value getRoot(mlir::Value value);

/// Kernels of `ops`, which are in an order that computes operands first. `isRead`: whether others read a value, which
/// must then be stored.
std::vector<OpWork> readKernels(llvm::ArrayRef<mlir::Operation *> ops, llvm::function_ref<bool(mlir::Value)> isRead,
                                const Axes &axes);

} // namespace galvatron

#endif // GALVATRON_COSTS_KERNELWORK_H
