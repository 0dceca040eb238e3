// Parameters as files have them, and as layers that are padded read them.
#ifndef GALVATRON_REFERENCE_PADDEDTENSOR_H
#define GALVATRON_REFERENCE_PADDEDTENSOR_H

#include "dialects/Graph/GraphDialect.h"
#include "galvatron/Reference/Tensor.h"

namespace galvatron::reference {

/// The tensor with zeros in its padding; null: as it is.
Tensor addPadding(Tensor tensor, graph::PaddingAttr padding);

/// The tensor in a shape that is larger at the end of dimensions, with zeros there: tokens of padded positions.
Tensor padData(Tensor tensor, llvm::ArrayRef<int64_t> shape);

/// The tensor without its padding. Fails, naming `what`, where that is not 0.
mlir::FailureOr<Tensor> removePadding(mlir::Location loc, Tensor tensor, graph::PaddingAttr padding,
                                      llvm::StringRef what);

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_PADDEDTENSOR_H
