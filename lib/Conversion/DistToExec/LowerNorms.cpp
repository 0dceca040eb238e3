// Norms and the gradients of their inputs as generated loops with sums along rows, gradients of weights and biases as
// sums over rows, so that all of them and residuals beside them become part of one kernel (LoopFusion.cpp).
#include "BodyLowering.h"

#include "LoopsBuilder.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphReductions.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace galvatron;

/// The longest row that the threads of one block of a GPU hold: 32 elements each.
static constexpr int64_t kLongestRow = 32 * 1024;

bool galvatron::isGeneratedNorm(Operation *op) {
  if (!isa<graph::NormOp, graph::NormBackwardOp>(op))
    return false;
  int64_t columns = shapeOf(op->getResult(0)).back();
  return columns > 1 && columns <= kLongestRow;
}

namespace {

/// Scalars of one row of a norm.
class NormBuilder {
public:
  NormBuilder(BodyLowering &lowering, Operation *op)
      : lowering(lowering), loc(op->getLoc()), extents(shapeOf(op->getResult(0))), loops(lowering, loc, extents) {}

  LogicalResult forward(graph::NormOp op);
  LogicalResult backward(graph::NormBackwardOp op);

private:
  /// The scalar of a tensor that has the loops' dimensions, all but the last, or only the last.
  Value whole(Value tensor) { return scalar(tensor, 0, extents.size()); }
  Value ofRow(Value tensor) { return scalar(tensor, 0, extents.size() - 1); }
  Value ofColumn(Value tensor) { return scalar(tensor, extents.size() - 1, extents.size()); }
  Value scalar(Value tensor, int64_t first, int64_t end) {
    FailureOr<Value> value = loops.scalarOf(tensor, llvm::to_vector(llvm::seq(first, end)));
    failed |= mlir::failed(value);
    return succeeded(value) ? *value : Value();
  }
  Value number(double value) {
    return arith::ConstantOp::create(builder(), loc, builder().getF32FloatAttr(static_cast<float>(value)));
  }
  Value add(Value a, Value b) { return arith::AddFOp::create(builder(), loc, a, b); }
  Value sub(Value a, Value b) { return arith::SubFOp::create(builder(), loc, a, b); }
  Value mul(Value a, Value b) { return arith::MulFOp::create(builder(), loc, a, b); }
  Value sum(Value x) { return exec::RowSumOp::create(builder(), loc, x); }
  Value mean(Value sum) { return mul(sum, number(1.0 / static_cast<double>(extents.back()))); }
  /// weight + offset, or null.
  Value factor(Value weight, const APFloat &offset) {
    Value w = weight ? ofColumn(weight) : Value();
    return !w || offset.isZero() ? w : add(w, number(offset.convertToDouble()));
  }
  OpBuilder &builder() { return loops.getBuilder(); }

  BodyLowering &lowering;
  Location loc;
  SmallVector<int64_t> extents;
  LoopsBuilder loops;
  bool failed = false;
};

} // namespace

LogicalResult NormBuilder::forward(graph::NormOp op) {
  Value x = whole(op.getX()), w = factor(op.getWeight(), op.getOffset());
  Value b = op.getBias() ? ofColumn(op.getBias()) : Value();
  if (failed)
    return failure();
  Value average = number(0), centred = x;
  if (op.getKind() == graph::NormKind::Layer) {
    average = mean(sum(x));
    centred = sub(x, average);
  }
  Value variance = mean(sum(mul(centred, centred)));
  Value rstd = math::RsqrtOp::create(builder(), loc, add(variance, number(op.getEpsilon().convertToDouble())));
  Value y = mul(centred, rstd);
  if (w)
    y = mul(y, w);
  if (b)
    y = add(y, b);
  SmallVector<Value> outputs;
  for (Value result : op.getResults())
    outputs.push_back(lowering.createResult(result));
  return loops.finish({y, average, rstd}, outputs);
}

/// With g = dy·(weight + offset) and n = (x - mean)·rstd: dx = (g - mean(g) - n·mean(g·n))·rstd; rms lacks mean(g).
LogicalResult NormBuilder::backward(graph::NormBackwardOp op) {
  Value g = whole(op.getDy()), n = whole(op.getX()), w = factor(op.getWeight(), op.getOffset());
  Value rstd = ofRow(op.getRstd()), average;
  bool isLayer = op.getKind() == graph::NormKind::Layer;
  if (isLayer)
    average = ofRow(op.getMean());
  if (failed)
    return failure();
  if (isLayer)
    n = sub(n, average);
  n = mul(n, rstd);
  if (w)
    g = mul(g, w);
  // Sums that stand together are made together.
  Value product = mul(g, n), sumG = isLayer ? sum(g) : Value(), sumProduct = sum(product);
  Value dx = g;
  if (isLayer)
    dx = sub(dx, mean(sumG));
  dx = mul(sub(dx, mul(n, mean(sumProduct))), rstd);
  return loops.finish(dx, lowering.createResult(op.getDx()));
}

/// Whether some generated kernel reads or makes `value` with the same loops, so that a sum of it comes for free.
static bool isInGeneratedLoops(Value value, Operation *sum) {
  auto isGenerated = [&](Operation *op) {
    // A value may be the body's result too, whose reader has no result.
    return op && op != sum && (isGeneratedNorm(op) || (isComputedInLoops(op) && !isInlined(op->getResult(0)))) &&
           shapeOf(op->getResult(0)) == shapeOf(value);
  };
  return isGenerated(value.getDefiningOp()) || llvm::any_of(value.getUsers(), isGenerated);
}

bool galvatron::isGeneratedColumnSum(BodyLowering &lowering, Operation *op) {
  Value x;
  if (auto norm = dyn_cast<graph::NormWeightBackwardOp>(op))
    x = norm.getDy();
  if (auto reduce = dyn_cast<graph::ReduceOp>(op); reduce && reduce.getKind() == graph::ReduceKind::Sum) {
    size_t rank = shapeOf(reduce.getX()).size();
    if (reduce.getDims().size() + 1 == rank && !llvm::is_contained(reduce.getDims(), static_cast<int64_t>(rank) - 1))
      x = reduce.getX();
  }
  if (!x || !lowering.isAccumulated(op->getResult(0)) || shapeOf(x).size() < 2)
    return false;
  int64_t columns = shapeOf(x).back();
  return columns > 1 && columns <= kLongestRow && lowering.getDevice().rowParts(columns) > 0 &&
         isInGeneratedLoops(x, op);
}

LogicalResult galvatron::lowerGeneratedColumnSum(BodyLowering &lowering, Operation *op) {
  auto norm = dyn_cast<graph::NormWeightBackwardOp>(op);
  Value x = op->getOperand(0);
  Location loc = op->getLoc();
  SmallVector<int64_t> extents(shapeOf(x));
  auto all = llvm::to_vector(llvm::seq<int64_t>(extents.size()));
  ArrayRef<int64_t> ofRow = ArrayRef(all).drop_back();
  LoopsBuilder loops(lowering, loc, extents);
  FailureOr<Value> term = loops.scalarOf(x, all);
  if (failed(term))
    return failure();
  if (norm) {
    FailureOr<Value> input = loops.scalarOf(norm.getX(), all), mean = loops.scalarOf(norm.getMean(), ofRow),
                     rstd = loops.scalarOf(norm.getRstd(), ofRow);
    if (failed(input) || failed(mean) || failed(rstd))
      return failure();
    OpBuilder &builder = loops.getBuilder();
    Value centred = arith::SubFOp::create(builder, loc, *input, *mean);
    Value normalized = arith::MulFOp::create(builder, loc, centred, *rstd);
    term = arith::MulFOp::create(builder, loc, *term, normalized).getResult();
  }
  int64_t columns = extents.back(), rows = cast<ShapedType>(x.getType()).getNumElements() / columns;
  int64_t parts = std::min(rows, lowering.getDevice().rowParts(columns));
  Type f32 = lowering.getBuilder().getF32Type();
  Value partial = lowering.createScratch(MemRefType::get({parts, columns}, f32), loc);
  Value result = lowering.createResult(op->getResult(0));
  if (failed(loops.finish(*term, partial, /*numColumnSums=*/1)))
    return failure();
  int64_t type = elementTypeCode(f32);
  lowering.callAtEnd(loc, "reduce", {partial, result},
                     {{"type", type},
                      {"y_type", type},
                      {"kind", graph::ReduceKind::Sum},
                      {"accumulate", 1},
                      {"rank", 2},
                      {"extents", ArrayRef{parts, columns}},
                      {"x_strides", ArrayRef{columns, int64_t(1)}},
                      {"y_strides", ArrayRef{int64_t(0), stridesOf(result).front()}}},
                     lowering.accumulateByEntry(op->getResult(0)));
  return success();
}

LogicalResult galvatron::lowerGeneratedNorm(BodyLowering &lowering, Operation *op) {
  NormBuilder norm(lowering, op);
  if (auto forward = dyn_cast<graph::NormOp>(op))
    return norm.forward(forward);
  return norm.backward(cast<graph::NormBackwardOp>(op));
}
