// Reshapes, transposes, slices, concatenations: views where strides can say it, else copies.
#include "BodyLowering.h"

#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;

static void lowerReshape(BodyLowering &lowering, graph::ReshapeOp op) {
  Value from = lowering.bufferOf(op.getX());
  std::optional<Strides> strides = reshapedStrides(shapeOf(from), stridesOf(from), shapeOf(op.getResult()));
  if (!strides) {
    from = lowering.rowMajorBufferOf(op.getX());
    strides = rowMajorStrides(shapeOf(op.getResult()));
  }
  lowering.setBuffer(op.getResult(), lowering.view(op.getLoc(), from, 0, shapeOf(op.getResult()), *strides));
}

static void lowerTranspose(BodyLowering &lowering, graph::TransposeOp op) {
  Value from = lowering.bufferOf(op.getX());
  Strides strides, old = stridesOf(from);
  for (int64_t dim : op.getPermutation())
    strides.push_back(old[dim]);
  lowering.setBuffer(op.getResult(), lowering.view(op.getLoc(), from, 0, shapeOf(op.getResult()), strides));
}

/// The piece of `whole` of the shape of `piece` at `offsets`.
static Value pieceOf(BodyLowering &lowering, Location loc, Value whole, ArrayRef<int64_t> shape,
                     ArrayRef<int64_t> offsets) {
  Strides strides = stridesOf(whole);
  int64_t offset = 0;
  for (auto [stride, position] : llvm::zip_equal(strides, offsets))
    offset += stride * position;
  return lowering.view(loc, whole, offset, shape, strides);
}

static void lowerConcat(BodyLowering &lowering, graph::ConcatOp op) {
  if (op->hasAttr(dist::kAdjacentAttrName)) {
    // Parameters that the timetable lays out one after another.
    Value first = lowering.bufferOf(op.getInputs().front());
    ArrayRef<int64_t> shape = shapeOf(op.getResult());
    lowering.setBuffer(op.getResult(), lowering.view(op.getLoc(), first, 0, shape, rowMajorStrides(shape)));
    return;
  }
  Value to = lowering.getPlaces().getConcatenation(op);
  if (to)
    lowering.setBuffer(op.getResult(), to);
  else
    to = lowering.createResult(op.getResult());
  SmallVector<int64_t> offsets(shapeOf(to).size(), 0);
  for (auto [index, input] : llvm::enumerate(op.getInputs())) {
    if (!lowering.getPlaces().isInPlace(op, index)) {
      Value piece = pieceOf(lowering, op.getLoc(), to, shapeOf(input), offsets);
      lowering.copy(op.getLoc(), lowering.bufferOf(input), piece);
    }
    offsets[op.getDim()] += shapeOf(input)[op.getDim()];
  }
}

static void lowerPad(BodyLowering &lowering, graph::PadOp op) {
  Value to = lowering.createResult(op.getResult());
  auto type = cast<MemRefType>(to.getType());
  int64_t bytes = type.getNumElements() * elementBytes(type);
  lowering.call(op.getLoc(), "fill_zero", {to}, {{"bytes", bytes}});
  Value piece = pieceOf(lowering, op.getLoc(), to, shapeOf(op.getX()), op.getOffsets());
  lowering.copy(op.getLoc(), lowering.bufferOf(op.getX()), piece);
}

LogicalResult galvatron::lowerView(BodyLowering &lowering, Operation *op, bool &handled) {
  handled = true;
  if (auto reshape = dyn_cast<graph::ReshapeOp>(op))
    lowerReshape(lowering, reshape);
  else if (auto transpose = dyn_cast<graph::TransposeOp>(op))
    lowerTranspose(lowering, transpose);
  else if (auto slice = dyn_cast<graph::SliceOp>(op))
    lowering.setBuffer(slice.getResult(), pieceOf(lowering, op->getLoc(), lowering.bufferOf(slice.getX()),
                                                  shapeOf(slice.getResult()), slice.getOffsets()));
  else if (auto concat = dyn_cast<graph::ConcatOp>(op))
    lowerConcat(lowering, concat);
  else if (auto pad = dyn_cast<graph::PadOp>(op))
    lowerPad(lowering, pad);
  else if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto value = cast<DenseElementsAttr>(constant.getValue());
    auto type = MemRefType::get(value.getType().getShape(), value.getType().getElementType());
    lowering.setBuffer(constant, exec::ConstantOp::create(lowering.getBuilder(), op->getLoc(), type, value));
  } else
    handled = false;
  return success();
}
