// Folding: ops that change nothing, chains of one op, and shape ops on splat constants.
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron::graph;

/// The operand's splat in the result's type: what moves or repeats equal elements yields them again.
static OpFoldResult foldSplat(Attribute operand, Type type) {
  auto splat = dyn_cast_if_present<SplatElementsAttr>(operand);
  if (!splat)
    return {};
  return DenseElementsAttr::get(cast<RankedTensorType>(type), splat.getSplatValue<Attribute>());
}

/// A placement is a decision: chains are merged only before placements are assigned.
static bool hasEncoding(Value value) { return cast<RankedTensorType>(value.getType()).getEncoding() != nullptr; }

OpFoldResult SumOp::fold(FoldAdaptor) {
  if (getInputs().size() == 1 && getInputs()[0].getType() == getType())
    return getInputs()[0];
  return {};
}

OpFoldResult BroadcastOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  return foldSplat(adaptor.getX(), getType());
}

OpFoldResult ReduceOp::fold(FoldAdaptor) {
  if (getDims().empty() && getX().getType() == getType())
    return getX();
  return {};
}

OpFoldResult ReshapeOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  if (OpFoldResult splat = foldSplat(adaptor.getX(), getType()))
    return splat;
  auto inner = getX().getDefiningOp<ReshapeOp>();
  if (!inner || hasEncoding(getX()))
    return {};
  if (inner.getX().getType() == getType())
    return inner.getX();
  getXMutable().assign(inner.getX());
  return getResult();
}

OpFoldResult TransposeOp::fold(FoldAdaptor adaptor) {
  if (llvm::is_sorted(getPermutation()) && getX().getType() == getType())
    return getX();
  if (OpFoldResult splat = foldSplat(adaptor.getX(), getType()))
    return splat;
  auto inner = getX().getDefiningOp<TransposeOp>();
  if (!inner || hasEncoding(getX()))
    return {};
  SmallVector<int64_t> permutation;
  for (int64_t dim : getPermutation())
    permutation.push_back(inner.getPermutation()[dim]);
  setPermutation(permutation);
  getXMutable().assign(inner.getX());
  return getResult();
}

OpFoldResult SliceOp::fold(FoldAdaptor adaptor) {
  if (getX().getType() == getType())
    return getX();
  return foldSplat(adaptor.getX(), getType());
}

OpFoldResult PadOp::fold(FoldAdaptor) { return getX().getType() == getType() ? getX() : OpFoldResult(); }

OpFoldResult ConcatOp::fold(FoldAdaptor) {
  if (getInputs().size() == 1 && getInputs()[0].getType() == getType())
    return getInputs()[0];
  return {};
}
