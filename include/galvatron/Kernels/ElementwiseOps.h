// Two properties of ops that sound alike: both are asked by a pass and by the cost model that foretells what it does.
#ifndef GALVATRON_KERNELS_ELEMENTWISEOPS_H
#define GALVATRON_KERNELS_ELEMENTWISEOPS_H

#include "mlir/IR/Operation.h"

namespace galvatron {

/// Whether lowering computes the op in loops that it generates, alone or as part of what reads it
/// (lib/Conversion/DistToExec/LowerElementwise.cpp), rather than by a call of the runtime.
bool isComputedInLoops(mlir::Operation *op);

/// Whether the loops that the op declares take one element of each operand to one of each result: recomputing a result
/// costs one read of each operand. Whatever computes it: dropout is a call.
bool mapsElements(mlir::Operation *op);

} // namespace galvatron

#endif // GALVATRON_KERNELS_ELEMENTWISEOPS_H
