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

Tensor galvatron::reference::padData(Tensor tensor, ArrayRef<int64_t> shape) {
  if (ArrayRef(tensor.shape) == shape)
    return tensor;
  Tensor padded(shape);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    int64_t place = 0, stride = 1, rest = i;
    for (size_t dim = shape.size(); dim-- > 0; stride *= shape[dim]) {
      place += rest % tensor.shape[dim] * stride;
      rest /= tensor.shape[dim];
    }
    padded[place] = tensor[i];
  }
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
