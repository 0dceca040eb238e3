//===- PadDimensions.h - what lies in the padding of values ---------------===//
//
// Padding is exact if nothing that counts ever reads it: before values are added up, or compared, along a padded axis,
// what lies there must be neutral. Most of it is: parameters are 0 there, and 0 goes through products, activations and
// gradients. Where that cannot be seen, it is masked.
//
// Positions lie in tokens and activations too, and there padding is what the layer makes of token 0. It counts for
// nothing as no loss counts it (its labels are ignored), so its gradients are 0, and as no position of the row's own
// sees it (attention is causal, or a bias masks its keys). Between layers its gradients are 0.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H
#define GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H

#include "galvatron/Axes/Axes.h"
#include "galvatron/Placement/PaddedExtents.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/BitVector.h"

namespace galvatron {

/// The number in all of a value's padding along an axis; none where it differs or is not known, but finite.
using PaddingValue = std::optional<double>;

/// Whether some dimension of the value has the axis.
bool hasAxis(const Axes &axes, mlir::Value value, AxisId axis);

/// One op and one padded axis that it has.
struct PaddedOp {
  mlir::Operation *op;
  const Axes &axes;
  AxisId axis;
  /// Of each operand, as the op reads it; none also where the operand does not have the axis.
  llvm::SmallVector<PaddingValue> operands;

  bool has(mlir::Value value) const { return hasAxis(axes, value, axis); }
  bool isPositions() const { return axes.getAxis(axis).role == AxisRole::Seq; }
  /// Whether results are sums (or maxima) over the axis.
  bool isContracted() const;
  /// The op's loops along the axis.
  llvm::SmallVector<unsigned> getLoops() const;
};

/// What an operand's padding must be replaced with: 0, the lowest number of its type, which no maximum is and whose
/// exponential is 0, or a label that does not count.
struct Mask {
  unsigned operand;
  double value;
};
using Masks = llvm::SmallVector<Mask, 2>;

/// The lowest finite number of a float tensor's elements.
double getLowest(mlir::Type type);

/// The operands that must be masked; fails where it is not known what the op makes of padding.
mlir::FailureOr<Masks> getMasks(const PaddedOp &padded);

/// What the op leaves in the padding of a result that has the axis.
PaddingValue getResultPadding(const PaddedOp &padded, unsigned result);

/// Whether the op may leave infinities or NaN in padding (1 / 0, log 0), which times 0 are not 0.
bool mayLeaveNoNumber(const PaddedOp &padded);

/// Why the op would compute something else with the axis padded: it reads the index of elements, or takes the axis
/// whole; empty: it would not.
std::string whyUnpaddable(const PaddedOp &padded, const PaddedExtents &extents);

/// Whether the op is attention between all positions, whose padded keys have to be masked in its bias.
bool needsKeyMask(const PaddedOp &padded);

/// Rows of a table for each position, as a slice of it; or, in backward, the pad that puts their gradients into the
/// table's. Either is of the model's own positions, whatever they are padded to.
bool isTableOfPositions(const PaddedOp &padded);

/// The type of a value of a layer with these axes padded.
mlir::RankedTensorType getPaddedType(const Axes &axes, const PaddedExtents &extents, mlir::Value original);

/// The layer with these axes padded, under its own name, after the original. `data`: which of its inputs are the
/// step's own, whose padding is 0.
mlir::FailureOr<graph::LayerOp> padLayer(graph::LayerOp layer, const Axes &axes, const PaddedExtents &extents,
                                         const llvm::BitVector &data, unsigned &numMasks);

} // namespace galvatron

#endif // GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H
