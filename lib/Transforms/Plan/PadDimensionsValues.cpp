// What each op makes of padding. See PadDimensions.h.
#include "PadDimensions.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/SetVector.h"
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

SmallVector<unsigned> PaddedOp::getLoops() const {
  SmallVector<unsigned> found;
  for (auto [index, loop] : llvm::enumerate(axes.getFactors(op).loops))
    if (loop.axis == axis)
      found.push_back(index);
  return found;
}

static bool contains(const DimensionLoops &dims, unsigned loop) {
  return llvm::any_of(dims, [&](const auto &dim) { return llvm::is_contained(dim, loop); });
}

bool galvatron::isTableOfPositions(const PaddedOp &padded) {
  if (!padded.isPositions() || !isa<SliceOp, PadOp>(padded.op))
    return false;
  Value rows = padded.op->getResult(0), table = padded.op->getOperand(0);
  if (isa<PadOp>(padded.op))
    std::swap(rows, table);
  return padded.has(rows) && !padded.has(table);
}

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

double galvatron::getLowest(Type type) {
  auto element = cast<FloatType>(getElementTypeOrSelf(type));
  return APFloat::getLargest(element.getFloatSemantics(), /*Negative=*/true).convertToDouble();
}

static Masks unless(const PaddedOp &padded, unsigned operand, double value) {
  if (padded.operands[operand] == value)
    return {};
  return {{operand, value}};
}

static Mask lowest(const PaddedOp &padded, unsigned operand) {
  return {operand, getLowest(padded.op->getOperand(operand).getType())};
}

/// Of a product one factor has to be 0; the smaller one is masked.
static Masks getFactorMask(const PaddedOp &padded, EinsumOp op) {
  Masks masks;
  int64_t least = 0;
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    if (!padded.has(operand))
      continue;
    if (padded.operands[index] == 0.0)
      return {};
    int64_t elements = cast<RankedTensorType>(operand.getType()).getNumElements();
    if (masks.empty() || elements < least) {
      masks = {{unsigned(index), 0.0}};
      least = elements;
    }
  }
  return masks;
}

/// The gradient dy that an op adds up along the axis, its first operand.
static Masks getGradientMask(const PaddedOp &padded) {
  return padded.has(padded.op->getOperand(0)) ? unless(padded, 0, 0) : Masks();
}

/// Labels of positions in padding: ones that do not count; where all do, some class, as no gradient is read there.
static Masks getLabelMask(const PaddedOp &padded, unsigned labels, int64_t ignored) {
  return unless(padded, labels, ignored == CrossEntropyOp::kIgnoresNothing ? 0 : double(ignored));
}

/// Ids of positions in padding are to be some row of the table.
static Masks getIndexMask(const PaddedOp &padded, unsigned ids) {
  return padded.has(padded.op->getOperand(ids)) ? unless(padded, ids, 0) : Masks();
}

/// Through what repeats a value's elements.
static Value withoutRepetition(Value value) {
  while (Operation *op = value.getDefiningOp<BroadcastOp>() ? value.getDefiningOp() : value.getDefiningOp<ReshapeOp>())
    value = op->getOperand(0);
  return value;
}

/// Whether a query and a key are compared by the same numbers, such as their documents: each position then sees itself.
static bool seesItself(arith::SelectOp op) {
  auto equal = withoutRepetition(op.getCondition()).getDefiningOp<arith::CmpIOp>();
  return equal && equal.getPredicate() == arith::CmpIPredicate::eq &&
         withoutRepetition(equal.getLhs()) == withoutRepetition(equal.getRhs());
}

/// Whether the layer chooses among numbers to make the value, so that there may be -inf: in a row of all its keys, it
/// would leave no number.
static bool isChosen(Value value) {
  llvm::SetVector<Value> values;
  values.insert(value);
  for (size_t i = 0; i < values.size(); ++i) {
    Operation *op = values[i].getDefiningOp();
    auto select = dyn_cast_or_null<arith::SelectOp>(op);
    if (select && !seesItself(select))
      return true;
    if (select)
      values.insert(select.getTrueValue());
    else if (op)
      values.insert(op->operand_begin(), op->operand_end());
  }
  return false;
}

/// Attention between positions, of which those of the row's own see no padding.
static Masks getBiasMask(const PaddedOp &padded, Value bias) {
  if (!bias || !padded.has(bias) || !isChosen(bias))
    return {};
  return unless(padded, llvm::find(padded.op->getOperands(), bias) - padded.op->operand_begin(), 0);
}

static Masks getAttentionBackwardMasks(const PaddedOp &padded, AttentionBackwardOp op) {
  Masks masks = getGradientMask(padded);
  if (padded.isPositions())
    masks.append(getBiasMask(padded, op.getBias()));
  return masks;
}

static Masks getCrossEntropyBackwardMasks(const PaddedOp &padded, CrossEntropyBackwardOp op) {
  if (!padded.has(op.getLabels()))
    return {lowest(padded, 1)};
  if (!padded.isPositions())
    return {};
  Masks masks = getLabelMask(padded, 4, op.getIgnoreIndex());
  if (int64_t(op.getIgnoreIndex()) == CrossEntropyOp::kIgnoresNothing)
    masks.append(unless(padded, 0, 0));
  return masks;
}

/// Whether the op shifts along the axis, not beside it.
static bool isShifted(const PaddedOp &padded, ShiftOp op) {
  return llvm::is_contained(padded.axes.getAxes(op.getX())[op.getDim()], padded.axis);
}

FailureOr<Masks> galvatron::getMasks(const PaddedOp &padded) {
  bool isContracted = padded.isContracted();
  return TypeSwitch<Operation *, FailureOr<Masks>>(padded.op)
      .Case([&](EinsumOp op) { return isContracted ? getFactorMask(padded, op) : Masks(); })
      .Case([&](ReduceOp op) {
        if (!isContracted)
          return Masks();
        return op.getKind() == ReduceKind::Sum ? unless(padded, 0, 0) : Masks{lowest(padded, 0)};
      })
      .Case<SumExpOp, LogSumExpOp>([&](auto) { return isContracted ? Masks{lowest(padded, 0)} : Masks(); })
      .Case([&](CrossEntropyOp op) -> FailureOr<Masks> {
        if (padded.has(op.getLabels()))
          return failure();
        return Masks{lowest(padded, 0)};
      })
      .Case([&](CrossEntropyBackwardOp op) { return getCrossEntropyBackwardMasks(padded, op); })
      .Case([&](EmbeddingOp) { return getIndexMask(padded, 1); }) // of the table none lies in padding
      .Case([&](TargetLogitOp op) {                               // nor here, but the masked logits are there
        if (!padded.has(op.getLabels()))
          return Masks{lowest(padded, 0)};
        return padded.isPositions() ? getLabelMask(padded, 1, op.getIgnoreIndex()) : Masks();
      })
      .Case([&](ShiftOp op) {
        return isShifted(padded, op) && int64_t(op.getOffset()) > 0 ? unless(padded, 0, double(int64_t(op.getFill())))
                                                                    : Masks();
      })
      .Case([&](EmbeddingBackwardOp) {
        Masks masks = getGradientMask(padded);
        masks.append(getIndexMask(padded, 1));
        return masks;
      })
      .Case([&](AttentionOp op) { return padded.isPositions() ? getBiasMask(padded, op.getBias()) : Masks(); })
      .Case([&](AttentionBackwardOp op) { return getAttentionBackwardMasks(padded, op); })
      .Case([&](NormWeightBackwardOp) { return getGradientMask(padded); })
      .Default([&](Operation *op) {
        bool isLost = isContracted && llvm::any_of(op->getOperands(), [&](Value value) { return padded.has(value); });
        return isLost && !isTableOfPositions(padded) ? FailureOr<Masks>(failure()) : FailureOr<Masks>(Masks());
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
      .Case([&](arith::CmpIOp op) -> PaddingValue {
        if (op.getPredicate() != arith::CmpIPredicate::eq && op.getPredicate() != arith::CmpIPredicate::ne)
          return std::nullopt;
        return double((*in[0] == *in[1]) == (op.getPredicate() == arith::CmpIPredicate::eq));
      })
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

/// Of two loops along positions, such as those of queries and keys, an operand may have one: its padding is then not
/// all that the results have.
static bool hasOneOfSeveral(const PaddedOp &padded) {
  SmallVector<unsigned> loops = padded.getLoops();
  if (!padded.isPositions() || loops.size() < 2 || isa<AttentionOp, AttentionBackwardOp>(padded.op))
    return false;
  return llvm::any_of(padded.axes.getFactors(padded.op).operands, [&](const DimensionLoops &dims) {
    return !llvm::all_of(loops, [&](unsigned loop) { return contains(dims, loop); });
  });
}

PaddingValue galvatron::getResultPadding(const PaddedOp &padded, unsigned result) {
  if (hasOneOfSeveral(padded))
    return std::nullopt;
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
      .Case([&](ShiftOp op) -> PaddingValue {
        if (!isShifted(padded, op))
          return in[0];
        return int64_t(op.getOffset()) > 0 && in[0] == double(int64_t(op.getFill())) ? in[0] : std::nullopt;
      })
      .Case([&](TargetLogitOp op) {
        return zeroIf(padded.has(op.getLabels()) && in[1] == double(int64_t(op.getIgnoreIndex())));
      })
      .Case([&](EmbeddingBackwardOp op) { // no index lies in padding
        return padded.has(op.getDy()) ? zeroWithGradient(padded) : PaddingValue(0.0);
      })
      .Case([&](CrossEntropyBackwardOp op) {
        if (padded.has(op.getLabels()) && in[4] == double(int64_t(op.getIgnoreIndex())))
          return PaddingValue(0.0);
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

/// Where the op finds positions in the index of a dimension.
static bool readsOtherPositions(const PaddedOp &padded, const PaddedExtents &extents) {
  const Axes &axes = padded.axes;
  return TypeSwitch<Operation *, bool>(padded.op)
      .Case([&](RopeOp op) { return !op.getPositions() && !keepsIndices(axes, op.getX(), op.getSeqDim(), extents); })
      .Case([&](ShiftOp op) { return !keepsIndices(axes, op.getX(), op.getDim(), extents); })
      .Case<AttentionOp, AttentionBackwardOp>([&](auto op) {
        return !keepsIndices(axes, op.getQ(), 2, extents) || !keepsIndices(axes, op.getK(), 2, extents);
      })
      .Default(false);
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

bool galvatron::needsKeyMask(const PaddedOp &padded) {
  return padded.isPositions() &&
         TypeSwitch<Operation *, bool>(padded.op)
             .Case<AttentionOp, AttentionBackwardOp>([&](auto op) { return padded.has(op.getK()) && !op.getCausal(); })
             .Default(false);
}

/// Whether positions of a row's own would see padding, which comes after them, and it cannot be masked.
static bool seesPadding(const PaddedOp &padded) {
  return TypeSwitch<Operation *, bool>(padded.op)
      .Case<AttentionOp, AttentionBackwardOp>([&](auto op) {
        if (needsKeyMask(padded)) // one of a bias that is alike for all keys would be another shape
          return op.getBias() && !llvm::is_contained(padded.axes.getAxes(op.getBias()).back(), padded.axis);
        return op.getCausal() && padded.has(op.getK()) != padded.has(op.getQ());
      })
      .Default([&](Operation *) {
        SmallVector<unsigned> loops = padded.getLoops();
        return loops.size() > 1 && llvm::any_of(loops, [&](unsigned loop) {
                 return llvm::none_of(padded.axes.getFactors(padded.op).results,
                                      [&](const DimensionLoops &dims) { return contains(dims, loop); });
               });
      });
}

/// Whether it is known what the op makes of padded positions, although it takes them whole.
static bool isKnownWhole(const PaddedOp &padded) {
  return padded.isPositions() &&
         (isa<AttentionOp, AttentionBackwardOp, ShiftOp>(padded.op) || isTableOfPositions(padded));
}

std::string galvatron::whyUnpaddable(const PaddedOp &padded, const PaddedExtents &extents) {
  if (isRandom(padded.op))
    return "draws random numbers by the index of elements, which padding would change";
  if (readsOtherIndices(padded, extents) || readsOtherPositions(padded, extents))
    return "reads the index of elements, which padding would change";
  if (padded.isPositions() && seesPadding(padded))
    return "lets positions see those after them, which would be padding";
  if (isKnownWhole(padded))
    return "";
  const OpFactors &factors = padded.axes.getFactors(padded.op);
  for (auto [value, loops] : llvm::zip(padded.op->getOperands(), factors.operands))
    if (isTakenWhole(padded, value, loops, factors))
      return "takes it whole";
  for (auto [value, loops] : llvm::zip(padded.op->getResults(), factors.results))
    if (isTakenWhole(padded, value, loops, factors))
      return "takes it whole";
  return "";
}
