#include "galvatron/Reference/PaddedTensor.h"

#include "mlir/IR/Diagnostics.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

/// For each element with padding the number of the one without, or -1.
static std::vector<int64_t> ownElements(graph::PaddingAttr padding) {
  std::vector<int64_t> elements = {0};
  for (auto [dim, extent] : llvm::enumerate(padding.getOwnShape())) {
    llvm::SmallVector<int64_t> indices = padding.getOwnIndices(dim);
    std::vector<int64_t> finer;
    for (int64_t element : elements)
      for (int64_t index : indices)
        finer.push_back(element < 0 || index < 0 ? -1 : element * extent + index);
    elements = std::move(finer);
  }
  return elements;
}

Tensor galvatron::reference::addPadding(Tensor tensor, graph::PaddingAttr padding) {
  if (!padding)
    return tensor;
  Tensor padded(padding.getPaddedShape());
  for (auto [value, own] : llvm::zip_equal(padded.data, ownElements(padding)))
    value = own < 0 ? 0 : tensor[own];
  return padded;
}

FailureOr<Tensor> galvatron::reference::removePadding(Location loc, Tensor tensor, graph::PaddingAttr padding,
                                                      StringRef what) {
  if (!padding)
    return tensor;
  Tensor result(padding.getOwnShape());
  for (auto [value, own] : llvm::zip_equal(tensor.data, ownElements(padding))) {
    if (own >= 0)
      result[own] = value;
    else if (value != 0)
      return emitError(loc) << "expects the padding of " << what << " to be 0, but got " << value;
  }
  return result;
}
