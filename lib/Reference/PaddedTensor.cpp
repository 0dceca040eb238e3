#include "galvatron/Reference/PaddedTensor.h"

#include "mlir/IR/Diagnostics.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

Tensor galvatron::reference::addPadding(Tensor tensor, graph::PaddingAttr padding) {
  if (!padding)
    return tensor;
  Tensor padded(padding.getPaddedShape());
  for (auto [value, own] : llvm::zip_equal(padded.data, padding.getOwnElements()))
    value = own < 0 ? 0 : tensor[own];
  return padded;
}

FailureOr<Tensor> galvatron::reference::removePadding(Location loc, Tensor tensor, graph::PaddingAttr padding,
                                                      StringRef what) {
  if (!padding)
    return tensor;
  Tensor result(padding.getOwnShape());
  for (auto [value, own] : llvm::zip_equal(tensor.data, padding.getOwnElements())) {
    if (own >= 0)
      result[own] = value;
    else if (value != 0)
      return emitError(loc) << "expects the padding of " << what << " to be 0, but got " << value;
  }
  return result;
}
