// How each op is differentiated, on global shapes.
//
// Backward ops have one result where they can, so that partial sums pass through them one by one.
// A gradient that an op cannot build is an error, never a zero.
#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace galvatron::graph;

static RankedTensorType tensorType(Value value) { return cast<RankedTensorType>(value.getType()); }

/// The statistics that an op yields for its backward are not values of the model.
static LogicalResult expectNoGradient(Operation *op, ValueRange resultGradients, StringRef statistic, unsigned result) {
  if (!resultGradients[result])
    return success();
  return op->emitOpError("expects no gradient of its ") << statistic << ", but a differentiated op uses it";
}

//===----------------------------------------------------------------------===//
// Products and attention
//===----------------------------------------------------------------------===//

/// d lhs of "lhs,rhs->out" is "out,rhs->lhs"; subscripts of lhs alone were summed over: repeat.
static Value einsumGradient(OpBuilder &builder, EinsumOp op, Value dy, StringRef out, Value other,
                            StringRef otherSubscripts, Value self, StringRef selfSubscripts) {
  std::string present;
  SmallVector<int64_t> shape, dims;
  for (auto [dim, subscript] : llvm::enumerate(selfSubscripts))
    if (out.contains(subscript) || otherSubscripts.contains(subscript)) {
      present += subscript;
      shape.push_back(tensorType(self).getDimSize(dim));
      dims.push_back(dim);
    }
  auto type = RankedTensorType::get(shape, tensorType(self).getElementType());
  Value gradient = EinsumOp::create(builder, op.getLoc(), type, dy, other,
                                    builder.getStringAttr(out + "," + otherSubscripts + "->" + present));
  if (present.size() == selfSubscripts.size())
    return gradient;
  return BroadcastOp::create(builder, op.getLoc(), self.getType(), gradient, dims);
}

LogicalResult EinsumOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                      MutableArrayRef<Value> operandGradients) {
  auto [lhs, rhs, out] = getSubscripts();
  Value dy = resultGradients[0];
  operandGradients[0] = einsumGradient(builder, *this, dy, out, getRhs(), rhs, getLhs(), lhs);
  operandGradients[1] = einsumGradient(builder, *this, dy, out, getLhs(), lhs, getRhs(), rhs);
  return success();
}

LogicalResult AttentionOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                         MutableArrayRef<Value> operandGradients) {
  if (failed(expectNoGradient(*this, resultGradients, "lse", 1)))
    return failure();
  auto backward = AttentionBackwardOp::create(
      builder, getLoc(), TypeRange{getQ().getType(), getK().getType(), getV().getType()}, resultGradients[0], getQ(),
      getK(), getV(), getResult(), getLse(), getBias(), getScaleAttr(), getCausalAttr(), getWindowAttr(),
      getSoftcapAttr(), getDropoutAttr(), getIdAttr(), getGivenDocumentsAttr());
  operandGradients[0] = backward.getDq();
  operandGradients[1] = backward.getDk();
  operandGradients[2] = backward.getDv();
  return success();
}

LogicalResult RopeOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                    MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = RopeOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getPositions(),
                                       getInverseFrequenciesAttr(), getSeqDimAttr(), getStyleAttr(), getScalingAttr(),
                                       getInverse() ? UnitAttr() : builder.getUnitAttr(), getRowDimAttr());
  return success();
}

//===----------------------------------------------------------------------===//
// Norms, softmax, nonlinearities
//===----------------------------------------------------------------------===//

LogicalResult NormOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                    MutableArrayRef<Value> operandGradients) {
  if (failed(expectNoGradient(*this, resultGradients, "mean", 1)) ||
      failed(expectNoGradient(*this, resultGradients, "rstd", 2)))
    return failure();
  Value dy = resultGradients[0];
  operandGradients[0] = NormBackwardOp::create(builder, getLoc(), getX().getType(), dy, getX(), getWeight(), getMean(),
                                               getRstd(), getKindAttr(), getOffsetAttr());
  unsigned next = 1;
  if (getWeight())
    operandGradients[next++] =
        NormWeightBackwardOp::create(builder, getLoc(), getWeight().getType(), dy, getX(), getMean(), getRstd());
  if (getBias())
    operandGradients[next] = ReduceOp::create(builder, getLoc(), getBias().getType(), dy, ReduceKind::Sum,
                                              llvm::to_vector(llvm::seq<int64_t>(0, tensorType(dy).getRank() - 1)));
  return success();
}

LogicalResult SoftmaxOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                       MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = SoftmaxBackwardOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getResult());
  return success();
}

LogicalResult ActivationOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                          MutableArrayRef<Value> operandGradients) {
  operandGradients[0] =
      ActivationBackwardOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getX(), getKind());
  return success();
}

LogicalResult GatedActivationOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                               MutableArrayRef<Value> operandGradients) {
  auto backward =
      GatedActivationBackwardOp::create(builder, getLoc(), TypeRange{getGate().getType(), getUp().getType()},
                                        resultGradients[0], getGate(), getUp(), getKindAttr());
  operandGradients[0] = backward.getDgate();
  operandGradients[1] = backward.getDup();
  return success();
}

LogicalResult DropoutOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                       MutableArrayRef<Value> operandGradients) {
  operandGradients[0] =
      DropoutOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getPAttr(), getIdAttr());
  return success();
}

LogicalResult SumOp::buildBackward(OpBuilder &, ValueRange resultGradients, MutableArrayRef<Value> operandGradients) {
  llvm::fill(operandGradients, resultGradients[0]);
  return success();
}

//===----------------------------------------------------------------------===//
// Embedding and loss
//===----------------------------------------------------------------------===//

LogicalResult EmbeddingOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                         MutableArrayRef<Value> operandGradients) {
  Value dy = resultGradients[0];
  if (int64_t padding = getPaddingIndex(); padding >= 0) {
    RankedTensorType ids = tensorType(getIds()), wide = tensorType(getResult());
    Value isWord = arith::CmpIOp::create(builder, getLoc(), arith::CmpIPredicate::ne, getIds(),
                                         createSplat(builder, getLoc(), ids, double(padding)));
    auto mask = RankedTensorType::get(wide.getShape(), builder.getI1Type());
    isWord =
        BroadcastOp::create(builder, getLoc(), mask, isWord, llvm::to_vector(llvm::seq<int64_t>(0, ids.getRank())));
    Value zero = createSplat(builder, getLoc(), dy.getType(), 0);
    dy = arith::SelectOp::create(builder, getLoc(), isWord, dy, zero);
  }
  operandGradients[0] = EmbeddingBackwardOp::create(builder, getLoc(), getTable().getType(), dy, getIds());
  return success();
}

Value CrossEntropyOp::buildShare(OpBuilder &builder) {
  Type type = getLoss().getType();
  if (!getCount())
    return createSplat(builder, getLoc(), type, 1.0 / getNumValidLabels());
  Value one = createSplat(builder, getLoc(), type, 1);
  Value zero = createSplat(builder, getLoc(), type, 0);
  Value any = arith::CmpFOp::create(builder, getLoc(), arith::CmpFPredicate::OGT, getCount(), zero);
  return arith::SelectOp::create(builder, getLoc(), any, arith::DivFOp::create(builder, getLoc(), one, getCount()),
                                 zero);
}

/// Maximum and sum of exponentials of each row, in the result's type rather than the logits'. They stand in the
/// forward, where `expand-cross-entropy` will want the same.
static std::pair<Value, Value> buildStatistics(OpBuilder &builder, Operation *op, Value logits, Type element) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPoint(op);
  RankedTensorType type = tensorType(logits);
  auto rows = RankedTensorType::get(type.getShape().drop_back(), element);
  Value max =
      ReduceOp::create(builder, op->getLoc(), rows, logits, ReduceKind::Max, ArrayRef<int64_t>{type.getRank() - 1});
  return {max, SumExpOp::create(builder, op->getLoc(), rows, logits, max)};
}

LogicalResult LogSumExpOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                         MutableArrayRef<Value> operandGradients) {
  RankedTensorType rows = tensorType(getResult());
  auto [max, sumExp] = buildStatistics(builder, *this, getX(), rows.getElementType());
  // dx = exp(x - max) · dy / Σ exp(x - max), in the type of the statistics.
  Location loc = getLoc();
  RankedTensorType type = tensorType(getX());
  auto wide = type.clone(rows.getElementType());
  auto perRow = [&](Value value) {
    return BroadcastOp::create(builder, loc, wide, value, llvm::to_vector(llvm::seq<int64_t>(0, type.getRank() - 1)));
  };
  Value x = type == wide ? getX() : Value(arith::ExtFOp::create(builder, loc, wide, getX()));
  Value exponentials = math::ExpOp::create(builder, loc, arith::SubFOp::create(builder, loc, x, perRow(max)));
  Value scale = arith::DivFOp::create(builder, loc, resultGradients[0], sumExp);
  Value dx = arith::MulFOp::create(builder, loc, exponentials, perRow(scale));
  operandGradients[0] = type == wide ? dx : Value(arith::TruncFOp::create(builder, loc, type, dx));
  return success();
}

LogicalResult CrossEntropyOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                            MutableArrayRef<Value> operandGradients) {
  RankedTensorType logits = tensorType(getLogits());
  auto rows = RankedTensorType::get(logits.getShape().drop_back(), tensorType(getLoss()).getElementType());
  auto [max, sumExp] = buildStatistics(builder, *this, getLogits(), rows.getElementType());
  Value drows = resultGradients[0];
  if (isMean()) {
    Value share;
    {
      OpBuilder::InsertionGuard guard(builder);
      if (getCount()) // the forward will want the same
        builder.setInsertionPoint(*this);
      share = buildShare(builder);
    }
    Value dloss = arith::MulFOp::create(builder, getLoc(), drows, share);
    drows = BroadcastOp::create(builder, getLoc(), rows, dloss, ArrayRef<int64_t>{});
  }
  operandGradients[0] = CrossEntropyBackwardOp::create(builder, getLoc(), logits, drows, getLogits(), sumExp, max,
                                                       getLabels(), getIgnoreIndexAttr());
  if (getCount()) // of labels alone
    operandGradients[2] = createSplat(builder, getLoc(), getCount().getType(), 0);
  return success();
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

/// Dimensions of a tensor of `rank` that are not in `dims`.
static SmallVector<int64_t> otherDims(ArrayRef<int64_t> dims, int64_t rank) {
  SmallVector<int64_t> others;
  for (int64_t dim = 0; dim < rank; ++dim)
    if (!llvm::is_contained(dims, dim))
      others.push_back(dim);
  return others;
}

LogicalResult ReduceOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                      MutableArrayRef<Value> operandGradients) {
  Location loc = getLoc();
  RankedTensorType type = tensorType(getX());
  SmallVector<int64_t> kept = otherDims(getDims(), type.getRank());
  auto repeat = [&](Value value) { return BroadcastOp::create(builder, loc, type, value, kept); };
  Value dy = resultGradients[0];
  if (getKind() == ReduceKind::Sum) {
    operandGradients[0] = repeat(dy);
    return success();
  }
  // dx = dy / (number of elements that reach the maximum) where x does.
  Value reaches = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, getX(), repeat(getResult()));
  Value zero = createSplat(builder, loc, type, 0), one = createSplat(builder, loc, type, 1);
  Value mask = arith::SelectOp::create(builder, loc, reaches, one, zero);
  Value count = ReduceOp::create(builder, loc, getType(), mask, ReduceKind::Sum, getDims());
  Value share = repeat(arith::DivFOp::create(builder, loc, dy, count));
  operandGradients[0] = arith::SelectOp::create(builder, loc, reaches, share, zero);
  return success();
}

LogicalResult BroadcastOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                         MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = ReduceOp::create(builder, getLoc(), getX().getType(), resultGradients[0], ReduceKind::Sum,
                                         otherDims(getDims(), tensorType(getResult()).getRank()));
  return success();
}

LogicalResult ReshapeOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                       MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = ReshapeOp::create(builder, getLoc(), getX().getType(), resultGradients[0]);
  return success();
}

LogicalResult TransposeOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                         MutableArrayRef<Value> operandGradients) {
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [to, from] : llvm::enumerate(getPermutation()))
    inverse[from] = to;
  operandGradients[0] = TransposeOp::create(builder, getLoc(), getX().getType(), resultGradients[0], inverse);
  return success();
}

LogicalResult SliceOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                     MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = PadOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getOffsets());
  return success();
}

LogicalResult PadOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                   MutableArrayRef<Value> operandGradients) {
  operandGradients[0] = SliceOp::create(builder, getLoc(), getX().getType(), resultGradients[0], getOffsets());
  return success();
}

LogicalResult ConcatOp::buildBackward(OpBuilder &builder, ValueRange resultGradients,
                                      MutableArrayRef<Value> operandGradients) {
  SmallVector<int64_t> offsets(tensorType(getResult()).getRank(), 0);
  for (auto [index, input] : llvm::enumerate(getInputs())) {
    operandGradients[index] = SliceOp::create(builder, getLoc(), input.getType(), resultGradients[0], offsets);
    offsets[getDim()] += tensorType(input).getDimSize(getDim());
  }
  return success();
}
