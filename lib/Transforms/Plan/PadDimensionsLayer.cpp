// A layer with some of its axes padded: other types, masks where padding would count. See PadDimensions.h.
#include "PadDimensions.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

namespace {
class LayerPadder {
public:
  LayerPadder(LayerOp layer, const Axes &axes, const PaddedExtents &extents, const llvm::BitVector &data)
      : layer(layer), axes(axes), extents(extents), data(data), builder(layer.getContext()) {}

  FailureOr<LayerOp> run();
  unsigned getNumMasks() const { return numMasks; }

private:
  RankedTensorType getType(Value original) const { return getPaddedType(axes, extents, original); }
  int64_t getExtent(AxisId axis) const;
  PaddingAttr getPadding(Value original) const;
  void padParameters(LayerOp padded);
  void readArguments();
  void padAttributes(Operation *original, Operation *padded);
  LogicalResult visit(Operation *original);
  LogicalResult visit(Operation *original, AxisId axis);
  void maskKeys(const PaddedOp &op, Operation *padded);
  Value padTable(const PaddedOp &op, Operation *padded);
  void keepNumbers(const PaddedOp &op, Value result);
  void maskGradients(BackwardOp backward);
  Value buildOwn(Location loc, ArrayRef<AxisId> dim, AxisId axis);
  Value buildOwn(Location loc, RankedTensorType type, int64_t dim, ArrayRef<AxisId> list, AxisId axis);
  Value buildMasked(Value value, Value original, AxisId axis, double number);
  void mask(OpOperand &padded, Value original, AxisId axis, double number);

  LayerOp layer;
  const Axes &axes;
  const PaddedExtents &extents;
  const llvm::BitVector &data;
  OpBuilder builder;
  IRMapping mapping;
  DenseMap<std::pair<Value, AxisId>, PaddingValue> paddings;                        // of original values
  DenseMap<std::pair<Value, AxisId>, SmallVector<std::pair<double, Value>>> masked; // of padded values
  unsigned numMasks = 0;
};
} // namespace

static int64_t getPaddedExtent(const Axes &axes, const PaddedExtents &extents, AxisId axis) {
  auto found = extents.find(axis);
  return found == extents.end() ? axes.getAxis(axis).extent : found->second;
}

RankedTensorType galvatron::getPaddedType(const Axes &axes, const PaddedExtents &extents, Value original) {
  auto type = cast<RankedTensorType>(original.getType());
  SmallVector<int64_t> shape(type.getShape());
  for (auto [dim, list] : llvm::enumerate(axes.getAxes(original)))
    for (AxisId axis : list)
      shape[dim] = shape[dim] / axes.getAxis(axis).extent * getPaddedExtent(axes, extents, axis);
  return type.clone(shape);
}

int64_t LayerPadder::getExtent(AxisId axis) const { return getPaddedExtent(axes, extents, axis); }

PaddingAttr LayerPadder::getPadding(Value original) const {
  SmallVector<PaddingAttr::Dim> dims;
  for (const auto &list : axes.getAxes(original)) {
    PaddingAttr::Dim &dim = dims.emplace_back();
    for (AxisId axis : list)
      dim.push_back({axes.getAxis(axis).extent, getExtent(axis) - axes.getAxis(axis).extent});
    if (list.empty()) // an extent of 1 has no axis
      dim.push_back({1});
  }
  return PaddingAttr::getCanonical(builder.getContext(), dims);
}

/// Parameters say which of their elements are the model's own.
void LayerPadder::padParameters(LayerOp padded) {
  for (BlockArgument argument : layer.getBody().getArguments().drop_front(layer.getNumInputs())) {
    if (llvm::none_of(extents, [&](auto extent) { return hasAxis(axes, argument, extent.first); }))
      continue;
    padded.setArgAttr(argument.getArgNumber(), kPaddingAttr, getPadding(argument));
  }
}

/// An index of the original's dimensions, all of it inside of padded ones' own part, in theirs.
static SmallVector<int64_t> moveOffsets(const Axes &axes, const ValueAxes &dims, ArrayRef<int64_t> offsets,
                                        llvm::function_ref<int64_t(AxisId)> getExtent) {
  SmallVector<int64_t> moved;
  for (auto [list, offset] : llvm::zip_equal(dims, offsets)) {
    int64_t result = 0, rest = offset, stride = 1;
    for (AxisId axis : llvm::reverse(list)) { // minor first
      int64_t extent = axes.getAxis(axis).extent;
      result += rest % extent * stride;
      rest /= extent;
      stride *= getExtent(axis);
    }
    moved.push_back(result);
  }
  return moved;
}

/// Elements at their places in the padded tensor, 0 elsewhere.
static DenseElementsAttr padElements(DenseElementsAttr elements, RankedTensorType type, PaddingAttr padding) {
  if (elements.isSplat())
    return DenseElementsAttr::get(type, elements.getSplatValue<Attribute>());
  SmallVector<Attribute> own(elements.getValues<Attribute>());
  Builder builder(type.getContext());
  Attribute zero = builder.getZeroAttr(type.getElementType());
  SmallVector<Attribute> padded;
  for (int64_t element : padding.getOwnElements())
    padded.push_back(element < 0 ? zero : own[element]);
  return DenseElementsAttr::get(type, padded);
}

/// What an op says of shapes beside its types.
void LayerPadder::padAttributes(Operation *original, Operation *padded) {
  auto move = [&](Value whole, ArrayRef<int64_t> offsets) {
    return moveOffsets(axes, axes.getAxes(whole), offsets, [&](AxisId axis) { return getExtent(axis); });
  };
  if (auto slice = dyn_cast<SliceOp>(original))
    cast<SliceOp>(padded).setOffsets(move(slice.getX(), slice.getOffsets()));
  else if (auto pad = dyn_cast<PadOp>(original))
    cast<PadOp>(padded).setOffsets(move(pad.getResult(), pad.getOffsets()));
  else if (auto constant = dyn_cast<arith::ConstantOp>(original);
           constant && isa<RankedTensorType>(constant.getType())) {
    cast<arith::ConstantOp>(padded).setValueAttr(padElements(
        cast<DenseElementsAttr>(constant.getValue()), getType(constant.getResult()), getPadding(constant.getResult())));
  }
}

//===----------------------------------------------------------------------===//
// Masks
//===----------------------------------------------------------------------===//

/// For each index of a dimension whether it is the model's own along the axis: of [3, 4 pad 1, 16] where the second
/// factor is below 4.
Value LayerPadder::buildOwn(Location loc, ArrayRef<AxisId> dim, AxisId axis) {
  int64_t major = 1, minor = 1;
  bool isMajor = true;
  for (AxisId factor : dim) {
    isMajor &= factor != axis;
    if (factor != axis)
      (isMajor ? major : minor) *= getExtent(factor);
  }
  int64_t own = axes.getAxis(axis).extent, extent = getExtent(axis);
  Type index = builder.getI64Type(), bit = builder.getI1Type();
  auto build = [&](ArrayRef<int64_t> shape, int64_t along, int64_t bound) -> Value {
    auto type = RankedTensorType::get(shape, index);
    Value iota = IotaOp::create(builder, loc, type, along);
    return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, iota,
                                 createSplat(builder, loc, type, double(bound)));
  };
  if (major == 1)
    return build({extent * minor}, 0, own * minor);
  Value factors = minor == 1 ? build({major, extent}, 1, own) : build({major, extent, minor}, 1, own);
  return ReshapeOp::create(builder, loc, RankedTensorType::get({major * extent * minor}, bit), factors);
}

/// The same for each element of a tensor, by its index in one dimension.
Value LayerPadder::buildOwn(Location loc, RankedTensorType type, int64_t dim, ArrayRef<AxisId> list, AxisId axis) {
  if (axes.getAxis(axis).role != AxisRole::Seq || list.size() != 1)
    return BroadcastOp::create(builder, loc, type.clone(builder.getI1Type()), buildOwn(loc, list, axis), {dim});
  // Positions are often those of keys too: what is known of them where they are needs no exchange.
  auto index = type.clone(builder.getI64Type());
  Value end = createSplat(builder, loc, index, double(axes.getAxis(axis).extent));
  Value iota = IotaOp::create(builder, loc, index, dim);
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::slt, iota, end);
}

/// The value with a number in all of its padding along the axis.
Value LayerPadder::buildMasked(Value value, Value original, AxisId axis, double number) {
  Location loc = value.getLoc();
  auto type = cast<RankedTensorType>(value.getType());
  Value filling = createSplat(builder, loc, type, number);
  for (auto [dim, list] : llvm::enumerate(axes.getAxes(original))) {
    if (!llvm::is_contained(list, axis))
      continue;
    value = arith::SelectOp::create(builder, loc, buildOwn(loc, type, dim, list, axis), value, filling);
  }
  return value;
}

/// Has an op read the masked value, which is made where it is first needed.
void LayerPadder::mask(OpOperand &padded, Value original, AxisId axis, double number) {
  SmallVector<std::pair<double, Value>> &known = masked[{padded.get(), axis}];
  Region *reader = padded.getOwner()->getParentRegion();
  for (auto [other, value] : known)
    if (other == number && value.getParentRegion()->isAncestor(reader))
      return padded.set(value);
  builder.setInsertionPoint(padded.getOwner());
  Value value = buildMasked(padded.get(), original, axis, number);
  known.push_back({number, value});
  ++numMasks;
  padded.set(value);
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

/// Adds the lowest number to scores of padded keys.
void LayerPadder::maskKeys(const PaddedOp &op, Operation *padded) {
  auto mask = [&](auto original, auto attention) {
    Location loc = attention.getLoc();
    Value bias = attention.getBias();
    SmallVector<int64_t> shape = {1, 1, 1, getType(original.getK()).getDimSize(2)};
    auto type = bias ? cast<RankedTensorType>(bias.getType()) : getType(original.getQ()).clone(shape);
    builder.setInsertionPoint(attention);
    Value own = buildOwn(loc, type, type.getRank() - 1, axes.getAxes(original.getK())[2], op.axis);
    Value visible = bias ? bias : createSplat(builder, loc, type, 0);
    Value hidden = createSplat(builder, loc, type, getLowest(type));
    attention.getBiasMutable().assign(arith::SelectOp::create(builder, loc, own, visible, hidden));
    ++numMasks;
  };
  if (auto attention = dyn_cast<AttentionOp>(op.op))
    mask(attention, cast<AttentionOp>(padded));
  else
    mask(cast<AttentionBackwardOp>(op.op), cast<AttentionBackwardOp>(padded));
}

/// Rows of a table for the model's own positions, and zeros for the others. The value that stands for the op's result.
Value LayerPadder::padTable(const PaddedOp &op, Operation *padded) {
  PaddedExtents others = extents;
  others.erase(op.axis);
  Value rows = isa<SliceOp>(op.op) ? op.op->getResult(0) : op.op->getOperand(0);
  RankedTensorType own = getPaddedType(axes, others, rows), whole = getType(rows);
  SmallVector<int64_t> offsets(own.getRank(), 0);
  if (auto pad = dyn_cast<PadOp>(padded)) {
    builder.setInsertionPoint(pad);
    pad->setOperand(0, SliceOp::create(builder, pad.getLoc(), own, pad.getX(), offsets));
    return pad.getResult();
  }
  padded->getResult(0).setType(own);
  builder.setInsertionPointAfter(padded);
  return PadOp::create(builder, padded->getLoc(), whole, padded->getResult(0), offsets);
}

/// Whoever reads the result from here on is to find numbers in its padding.
void LayerPadder::keepNumbers(const PaddedOp &op, Value result) {
  Value value = mapping.lookup(result); // of another axis' padding, maybe
  builder.setInsertionPointAfter(value.getDefiningOp());
  Value number = buildMasked(value, result, op.axis, 0);
  Operation *last = number.getDefiningOp();
  value.replaceUsesWithIf(number, [&](OpOperand &use) {
    Operation *reader = use.getOwner();
    return reader != last && (reader->getBlock() != last->getBlock() || last->isBeforeInBlock(reader));
  });
  mapping.map(result, number);
}

LogicalResult LayerPadder::visit(Operation *original, AxisId axis) {
  PaddedOp op{original, axes, axis, {}};
  for (Value operand : original->getOperands())
    op.operands.push_back(op.has(operand) ? paddings.lookup({operand, axis}) : PaddingValue());
  std::string reason = whyUnpaddable(op, extents);
  FailureOr<Masks> needed = getMasks(op);
  if (failed(needed) && reason.empty())
    reason = "takes it whole";
  if (!reason.empty())
    return original->emitError() << "layer '" << layer.getSymName() << "': cannot pad " << axes.getAxis(axis).extent
                                 << " to " << getExtent(axis) << ": '" << original->getName() << "' " << reason
                                 << "; use a degree that divides it";
  Operation *padded = mapping.lookup(original);
  for (auto [operand, number] : *needed) {
    if (op.operands[operand] != number)
      mask(padded->getOpOperand(operand), original->getOperand(operand), axis, number);
    op.operands[operand] = number;
  }
  if (needsKeyMask(op))
    maskKeys(op, padded);
  if (isTableOfPositions(op)) {
    Value result = original->getResult(0), value = padTable(op, padded);
    if (value == padded->getResult(0))
      return success();
    padded->getResult(0).replaceAllUsesExcept(value, value.getDefiningOp());
    mapping.map(result, value);
    paddings[{result, axis}] = 0.0;
    return success();
  }
  for (auto [index, result] : llvm::enumerate(original->getResults())) {
    if (!op.has(result))
      continue;
    PaddingValue &padding = paddings[{result, axis}] = getResultPadding(op, index);
    if (padding || !mayLeaveNoNumber(op))
      continue;
    keepNumbers(op, result);
    padding = 0.0;
  }
  return success();
}

LogicalResult LayerPadder::visit(Operation *original) {
  Operation *padded = mapping.lookup(original);
  for (Value result : original->getResults())
    mapping.lookup(result).setType(getType(result));
  padAttributes(original, padded);
  for (auto [axis, extent] : extents) {
    auto hasIt = [&, axis = axis](Value value) { return hasAxis(axes, value, axis); };
    if ((llvm::any_of(original->getOperands(), hasIt) || llvm::any_of(original->getResults(), hasIt)) &&
        failed(visit(original, axis)))
      return failure();
  }
  return success();
}

/// Parameters are 0 in their padding, and so are gradients of results and the step's own inputs; of other inputs
/// padding is whatever another layer made of it.
void LayerPadder::readArguments() {
  auto read = [&](BlockArgument argument, bool isZero) {
    mapping.lookup(argument).setType(getType(argument));
    for (auto [axis, extent] : extents)
      if (hasAxis(axes, argument, axis))
        paddings[{argument, axis}] = isZero ? PaddingValue(0.0) : std::nullopt;
  };
  for (BlockArgument argument : layer.getBody().getArguments())
    read(argument, argument.getArgNumber() >= layer.getNumInputs() || data.test(argument.getArgNumber()));
  for (auto backward : layer.getBody().getOps<BackwardOp>())
    for (BlockArgument argument : backward.getBody().getArguments())
      read(argument, true);
}

/// What a parameter's padding would learn is masked, so it stays 0; so are gradients that other layers read.
void LayerPadder::maskGradients(BackwardOp backward) {
  Operation *original = backward.getBody().front().getTerminator();
  Operation *padded = mapping.lookup(original);
  for (OpOperand &operand : original->getOpOperands())
    for (auto [axis, extent] : extents)
      if (hasAxis(axes, operand.get(), axis) && paddings.lookup({operand.get(), axis}) != 0.0)
        mask(padded->getOpOperand(operand.getOperandNumber()), operand.get(), axis, 0);
}

FailureOr<LayerOp> LayerPadder::run() {
  builder.setInsertionPointAfter(layer);
  auto padded = cast<LayerOp>(builder.clone(*layer, mapping));
  padParameters(padded);
  readArguments();
  WalkResult result = layer.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<LayerOp, BackwardOp, graph::ReturnOp>(op))
      return WalkResult::advance();
    return failed(visit(op)) ? WalkResult::interrupt() : WalkResult::advance();
  });
  if (result.wasInterrupted()) {
    padded.erase();
    return failure();
  }
  for (auto backward : layer.getBody().getOps<BackwardOp>())
    maskGradients(backward);
  Block &block = padded.getBody().front();
  padded.setFunctionType(builder.getFunctionType(SmallVector<Type>(block.getArgumentTypes()),
                                                 SmallVector<Type>(block.getTerminator()->getOperandTypes())));
  return padded;
}

FailureOr<LayerOp> galvatron::padLayer(LayerOp layer, const Axes &axes, const PaddedExtents &extents,
                                       const llvm::BitVector &data, unsigned &numMasks) {
  LayerPadder padder(layer, axes, extents, data);
  FailureOr<LayerOp> padded = padder.run();
  numMasks += padder.getNumMasks();
  return padded;
}
