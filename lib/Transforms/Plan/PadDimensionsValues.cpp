// What each op makes of padding. See PadDimensions.h.
#include "PadDimensions.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

bool galvatron::hasAxis(const Axes &axes, Value value, AxisId axis) {
  return isa<RankedTensorType>(value.getType()) &&
         llvm::any_of(axes.getAxes(value), [&](const auto &dim) { return llvm::is_contained(dim, axis); });
}

bool PaddedOp::isContracted() const {
  return llvm::none_of(op->getResults(), [&](Value result) { return has(result); });
}

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

static std::optional<Mask> unlessZero(const PaddedOp &padded, unsigned operand) {
  if (padded.operands[operand] == 0.0)
    return std::nullopt;
  return Mask{operand, Mask::Zero};
}

/// Of a product one factor has to be 0; the smaller one is masked.
static std::optional<Mask> getFactorMask(const PaddedOp &padded, EinsumOp op) {
  std::optional<Mask> mask;
  int64_t least = 0;
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    if (!padded.has(operand))
      continue;
    if (padded.operands[index] == 0.0)
      return std::nullopt;
    int64_t elements = cast<RankedTensorType>(operand.getType()).getNumElements();
    if (!mask || elements < least) {
      mask = Mask{unsigned(index), Mask::Zero};
      least = elements;
    }
  }
  return mask;
}

/// The gradient dy that an op adds up along the axis, its first operand.
static std::optional<Mask> getGradientMask(const PaddedOp &padded) {
  return padded.has(padded.op->getOperand(0)) ? unlessZero(padded, 0) : std::nullopt;
}

FailureOr<std::optional<Mask>> galvatron::getMask(const PaddedOp &padded) {
  std::optional<Mask> none;
  bool isContracted = padded.isContracted();
  return TypeSwitch<Operation *, FailureOr<std::optional<Mask>>>(padded.op)
      .Case([&](EinsumOp op) { return isContracted ? getFactorMask(padded, op) : none; })
      .Case([&](ReduceOp op) {
        if (!isContracted)
          return none;
        return op.getKind() == ReduceKind::Sum ? unlessZero(padded, 0) : std::optional(Mask{0, Mask::Lowest});
      })
      .Case([&](SumExpOp op) { return isContracted ? std::optional(Mask{0, Mask::Lowest}) : none; })
      .Case([&](LogSumExpOp op) { return isContracted ? std::optional(Mask{0, Mask::Lowest}) : none; })
      .Case([&](CrossEntropyOp op) -> FailureOr<std::optional<Mask>> {
        if (padded.has(op.getLabels()))
          return failure();
        return std::optional(Mask{0, Mask::Lowest});
      })
      .Case([&](CrossEntropyBackwardOp op) {
        return padded.has(op.getDy()) ? none : std::optional(Mask{1, Mask::Lowest});
      })
      .Case([&](EmbeddingOp) { return none; }) // no index lies in padding
      .Case([&](TargetLogitOp op) {            // nor here, but the masked logits are there
        return padded.has(op.getLabels()) ? none : std::optional(Mask{0, Mask::Lowest});
      })
      .Case<AttentionBackwardOp, EmbeddingBackwardOp, NormWeightBackwardOp>(
          [&](Operation *) { return getGradientMask(padded); })
      .Default([&](Operation *op) {
        bool isLost = isContracted && llvm::any_of(op->getOperands(), [&](Value value) { return padded.has(value); });
        return isLost ? FailureOr<std::optional<Mask>>(failure()) : FailureOr<std::optional<Mask>>(none);
      });
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

static bool isZeroAtZero(ActivationKind kind) { return kind != ActivationKind::Sigmoid; }

/// What op makes of the same number in all padding of its operands, by operator.
static PaddingValue getElementwisePadding(const PaddedOp &padded) {
  const auto &in = padded.operands;
  Operation *op = padded.op;
  bool areKnown = llvm::all_of(in, [](PaddingValue value) { return value.has_value(); });
  bool anyZero = llvm::is_contained(in, PaddingValue(0.0));
  if (isa<arith::MulFOp, arith::AndIOp>(op) && anyZero)
    return 0.0;
  if (auto select = dyn_cast<arith::SelectOp>(op)) {
    if (in[0])
      return in[0] != 0.0 ? in[1] : in[2];
    return in[1] == in[2] ? in[1] : std::nullopt;
  }
  if (!areKnown)
    return std::nullopt;
  return TypeSwitch<Operation *, PaddingValue>(op)
      .Case<arith::AddFOp, arith::AddIOp>([&](Operation *) { return *in[0] + *in[1]; })
      .Case<arith::SubFOp, arith::SubIOp>([&](Operation *) { return *in[0] - *in[1]; })
      .Case<arith::MulFOp>([&](Operation *) { return *in[0] * *in[1]; })
      .Case<arith::DivFOp>([&](Operation *) { return *in[0] == 0 && *in[1] != 0 ? PaddingValue(0.0) : std::nullopt; })
      .Case<arith::MaximumFOp>([&](Operation *) { return std::max(*in[0], *in[1]); })
      .Case<arith::MinimumFOp>([&](Operation *) { return std::min(*in[0], *in[1]); })
      .Case<arith::NegFOp>([&](Operation *) { return 0.0 - *in[0]; })
      .Case<arith::ExtFOp, arith::TruncFOp, arith::SIToFPOp, arith::UIToFPOp>([&](Operation *) -> PaddingValue {
        return *in[0] == 0 ? in[0] : std::nullopt; // others may be rounded
      })
      .Case<math::AbsFOp, math::TanhOp, math::SinOp, math::ErfOp, math::SqrtOp, math::RoundEvenOp>(
          [&](Operation *) -> PaddingValue { return *in[0] == 0 ? in[0] : std::nullopt; })
      .Default(PaddingValue());
}

/// Of results that are gradients: 0 where dy, the first operand, is.
static PaddingValue zeroWithGradient(const PaddedOp &padded) {
  return padded.operands[0] == 0.0 ? padded.operands[0] : std::nullopt;
}

/// Whether the axis is one of heads in [batch, heads, positions, size].
static bool isHead(const PaddedOp &padded, Value value) {
  return llvm::is_contained(padded.axes.getAxes(value)[1], padded.axis);
}

PaddingValue galvatron::getResultPadding(const PaddedOp &padded, unsigned result) {
  const auto &in = padded.operands;
  auto zeroIf = [](bool isZero) { return isZero ? PaddingValue(0.0) : std::nullopt; };
  return TypeSwitch<Operation *, PaddingValue>(padded.op)
      .Case([&](EinsumOp) { return zeroIf(llvm::is_contained(in, PaddingValue(0.0))); })
      .Case([&](SumOp) {
        double sum = 0;
        for (PaddingValue value : in) {
          if (!value)
            return PaddingValue();
          sum += *value;
        }
        return PaddingValue(sum);
      })
      .Case<ReshapeOp, TransposeOp, SliceOp, BroadcastOp, DetachOp>([&](Operation *) { return in[0]; })
      .Case<PadOp, RopeOp, DropoutOp>([&](Operation *) { return zeroIf(in[0] == 0.0); })
      .Case([&](ReduceOp op) { return op.getKind() == ReduceKind::Max ? in[0] : zeroIf(in[0] == 0.0); })
      .Case([&](ActivationOp op) { return zeroIf(in[0] == 0.0 && isZeroAtZero(op.getKind())); })
      .Case([&](GatedActivationOp op) { return zeroIf(in[1] == 0.0 || (in[0] == 0.0 && isZeroAtZero(op.getKind()))); })
      .Case([&](GatedActivationBackwardOp op) { return zeroIf(in[0] == 0.0 || (result == 0 && in[2] == 0.0)); })
      .Case([&](NormOp op) { return zeroIf(result == 0 && in[0] == 0.0 && !op.getBias()); })
      .Case([&](AttentionOp op) { return zeroIf(result == 0 && in[2] == 0.0 && isHead(padded, op.getV())); })
      .Case<ActivationBackwardOp, SoftmaxBackwardOp, NormBackwardOp, NormWeightBackwardOp, AttentionBackwardOp>(
          [&](Operation *) { return zeroWithGradient(padded); })
      .Case([&](EmbeddingBackwardOp op) { // no index lies in padding
        return padded.has(op.getDy()) ? zeroWithGradient(padded) : PaddingValue(0.0);
      })
      .Case([&](CrossEntropyBackwardOp op) {
        return padded.has(op.getDy()) ? zeroWithGradient(padded) : zeroIf(in[1].has_value());
      })
      .Case([&](arith::ConstantOp op) {
        auto elements = dyn_cast<DenseElementsAttr>(op.getValue());
        if (!elements || !elements.isSplat())
          return PaddingValue(0.0); // padded so
        if (isa<FloatType>(elements.getElementType()))
          return PaddingValue(elements.getSplatValue<APFloat>().convertToDouble());
        APInt value = elements.getSplatValue<APInt>();
        return PaddingValue(value.getBitWidth() == 1 ? double(value.getZExtValue()) : double(value.getSExtValue()));
      })
      .Default([&](Operation *) { return getElementwisePadding(padded); });
}

bool galvatron::mayLeaveNoNumber(const PaddedOp &padded) {
  Operation *op = padded.op;
  if (isa<arith::DivFOp>(op)) {
    PaddingValue divisor = padded.operands[1];
    return !divisor || *divisor == 0;
  }
  if (auto norm = dyn_cast<NormOp>(op))
    return norm.getEpsilon().isZero();
  bool isMath = op->getDialect() && op->getDialect()->getNamespace() == "math";
  return isMath && !isa<math::AbsFOp, math::TanhOp, math::SinOp, math::CosOp, math::ErfOp, math::RoundEvenOp,
                        math::FloorOp, math::CeilOp, math::TruncOp, math::RoundOp>(op);
}

//===----------------------------------------------------------------------===//
// What cannot be padded
//===----------------------------------------------------------------------===//

/// Whether indices along the dimension are the same with its axes padded: none is but the first.
static bool keepsIndices(ArrayRef<AxisId> dim, const PaddedExtents &extents) {
  return llvm::none_of(dim.drop_front(dim.empty() ? 0 : 1), [&](AxisId axis) { return extents.contains(axis); });
}

static bool keepsIndices(const Axes &axes, Value value, int64_t dim, const PaddedExtents &extents) {
  return keepsIndices(axes.getAxes(value)[dim], extents);
}

static bool readsOtherIndices(const PaddedOp &padded, const PaddedExtents &extents) {
  const Axes &axes = padded.axes;
  auto last = [](Value value) { return cast<RankedTensorType>(value.getType()).getRank() - 1; };
  return TypeSwitch<Operation *, bool>(padded.op)
      .Case([&](IotaOp op) { return !keepsIndices(axes, op.getResult(), op.getDim(), extents); })
      .Case([&](EmbeddingOp op) { return !keepsIndices(axes, op.getTable(), 0, extents); })
      .Case([&](EmbeddingBackwardOp op) { return !keepsIndices(axes, op.getDtable(), 0, extents); })
      .Case<TargetLogitOp, CrossEntropyBackwardOp, CrossEntropyOp>(
          [&](auto op) { return !keepsIndices(axes, op.getLogits(), last(op.getLogits()), extents); })
      .Default(false);
}

/// Random numbers are drawn by the index of elements in the whole tensor.
static bool isRandom(Operation *op) {
  return TypeSwitch<Operation *, bool>(op)
      .Case([](DropoutOp op) { return !op.getP().isZero(); })
      .Case<AttentionOp, AttentionBackwardOp>([](auto op) { return !op.getDropout().isZero(); })
      .Default(false);
}

/// Whether some dimension of the value has the axis, and the op takes it as one loop that it knows nothing of.
static bool isTakenWhole(const PaddedOp &padded, Value value, const DimensionLoops &loops, const OpFactors &factors) {
  for (auto [dim, indices] : llvm::zip(padded.axes.getAxes(value), loops)) {
    if (!llvm::is_contained(dim, padded.axis))
      continue;
    if (indices.empty())
      return true;
    for (unsigned loop : indices)
      if (factors.loops[loop].axis == padded.axis && factors.loops[loop].kind == LoopKind::Whole)
        return true;
  }
  return false;
}

std::string galvatron::whyUnpaddable(const PaddedOp &padded, const PaddedExtents &extents) {
  if (isRandom(padded.op))
    return "draws random numbers by the index of elements, which padding would change";
  if (readsOtherIndices(padded, extents))
    return "reads the index of elements, which padding would change";
  const OpFactors &factors = padded.axes.getFactors(padded.op);
  for (auto [value, loops] : llvm::zip(padded.op->getOperands(), factors.operands))
    if (isTakenWhole(padded, value, loops, factors))
      return "takes it whole";
  for (auto [value, loops] : llvm::zip(padded.op->getResults(), factors.results))
    if (isTakenWhole(padded, value, loops, factors))
      return "takes it whole";
  return "";
}
