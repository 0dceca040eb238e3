// What of a layer's backward gradients of weights alone need, and may run later.
#ifndef GALVATRON_PLACEMENT_WEIGHTGRADIENTS_H
#define GALVATRON_PLACEMENT_WEIGHTGRADIENTS_H

#include "mlir/IR/Block.h"
#include "llvm/ADT/DenseSet.h"

namespace galvatron {

/// Whether the op moves a value between devices.
bool movesBetweenDevices(mlir::Operation *op);

/// Of a backward body, products that are gradients of weights, what depends on them, and the collectives that nothing
/// else needs. The body's first `numOutputGradients` arguments are gradients of the layer's outputs; it returns
/// `numInputGradients` gradients of inputs, then those of parameters. Empty where no input has a gradient: nothing
/// waits for such a backward.
llvm::DenseSet<mlir::Operation *> findWeightGradients(mlir::Block &backward, unsigned numOutputGradients,
                                                      unsigned numInputGradients);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_WEIGHTGRADIENTS_H
