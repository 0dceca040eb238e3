// Properties of ops that sound alike: each is asked by passes and by the cost model that foretells what they do.
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

/// Whether the result is the first operand rearranged, cut or repeated: nothing is computed, and lowering gives the
/// operand's buffer other strides where these can say it.
bool isView(mlir::Operation *op);

} // namespace galvatron

#endif // GALVATRON_KERNELS_ELEMENTWISEOPS_H
