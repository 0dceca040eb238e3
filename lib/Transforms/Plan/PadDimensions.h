//===- PadDimensions.h - what lies in the padding of values ---------------===//
//
// Padding is exact if nothing that counts ever reads it: before values are added up, or compared, along a padded axis,
// what lies there must be neutral. Most of it is: parameters are 0 there, and 0 goes through products, activations and
// gradients. Where that cannot be seen, it is masked.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H
#define GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H

#include "galvatron/Axes/Axes.h"
#include "galvatron/Placement/PaddedExtents.h"

#include "mlir/IR/IRMapping.h"

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
  /// Whether results are sums (or maxima) over the axis.
  bool isContracted() const;
};

/// What an operand's padding must be replaced with.
struct Mask {
  unsigned operand;
  /// 0, or the lowest number of its type, which no maximum is and whose exponential is 0.
  enum Fill { Zero, Lowest } fill;
};

/// The operand that must be masked, if any; fails where it is not known what the op makes of padding.
mlir::FailureOr<std::optional<Mask>> getMask(const PaddedOp &padded);

/// What the op leaves in the padding of a result that has the axis.
PaddingValue getResultPadding(const PaddedOp &padded, unsigned result);

/// Whether the op may leave infinities or NaN in padding (1 / 0, log 0), which times 0 are not 0.
bool mayLeaveNoNumber(const PaddedOp &padded);

/// Why the op would compute something else with the axis padded: it reads the index of elements, or takes the axis
/// whole; empty: it would not.
std::string whyUnpaddable(const PaddedOp &padded, const PaddedExtents &extents);

/// The layer with these axes padded, under its own name, behind the original.
mlir::FailureOr<graph::LayerOp> padLayer(graph::LayerOp layer, const Axes &axes, const PaddedExtents &extents,
                                         unsigned &numMasks);

} // namespace galvatron

#endif // GALVATRON_LIB_TRANSFORMS_PLAN_PADDIMENSIONS_H
