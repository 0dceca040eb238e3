// Norms and the gradients of their inputs as generated loops with sums over rows, so that residuals and conversions
// beside them become part of the same kernel (LoopFusion.cpp).
#include "BodyLowering.h"
#include "LoopsBuilder.h"

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

LogicalResult galvatron::lowerGeneratedNorm(BodyLowering &lowering, Operation *op) {
  NormBuilder norm(lowering, op);
  if (auto forward = dyn_cast<graph::NormOp>(op))
    return norm.forward(forward);
  return norm.backward(cast<graph::NormBackwardOp>(op));
}
