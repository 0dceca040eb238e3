// RMS and layer norms written out, and softmax.
//
// The core x · 1/sqrt(mean(x²) + eps) becomes `norm rms`; then x = z - mean(z) makes it `norm layer`
// of z, and a product or sum with a repeated vector is taken in as weight or bias. Each step is a
// pattern, so the order in which a model writes them does not matter.
#include "Raise.h"

#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphReductions.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_RAISENORMSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// x, if `value` [...] is the mean of x [..., H] over its last dimension.
static Value meanOf(Value value) {
  Operation *scale = value.getDefiningOp();
  std::optional<double> factor;
  ReduceOp reduce;
  if (isa_and_nonnull<arith::MulFOp>(scale)) {
    for (unsigned i : {0, 1})
      if (auto candidate = scale->getOperand(i).getDefiningOp<ReduceOp>())
        reduce = candidate, factor = splatOf(scale->getOperand(1 - i));
  } else if (isa_and_nonnull<arith::DivFOp>(scale)) {
    reduce = scale->getOperand(0).getDefiningOp<ReduceOp>();
    if (std::optional<double> divisor = splatOf(scale->getOperand(1)))
      factor = 1 / *divisor;
  }
  if (!reduce || !factor || reduce.getKind() != ReduceKind::Sum)
    return nullptr;
  int64_t last = typeOf(reduce.getX()).getRank() - 1;
  double extent = shapeOf(reduce.getX())[last];
  if (reduce.getDims() != ArrayRef<int64_t>{last} || std::abs(*factor * extent - 1) > 1e-6)
    return nullptr;
  return reduce.getX();
}

/// x, if `value` is x².
static Value squareOf(Value value) {
  auto multiply = value.getDefiningOp<arith::MulFOp>();
  return multiply && multiply.getLhs() == multiply.getRhs() ? multiply.getLhs() : Value();
}

/// z, if `value` is z less its mean over the last dimension.
static Value centeredOf(Value value) {
  auto subtract = value.getDefiningOp<arith::SubFOp>();
  if (!subtract)
    return nullptr;
  Value mean = columnOf(subtract.getRhs());
  return mean && meanOf(mean) == subtract.getLhs() ? subtract.getLhs() : Value();
}

namespace {
/// 1/sqrt(mean(x²) + epsilon).
struct InverseDeviation {
  Value x;
  double epsilon;
};
} // namespace

/// Of `value` = mean(x²) + epsilon, or mean(z²) - mean(z)² + epsilon with `numerator` = z - mean(z).
static std::optional<InverseDeviation> meanSquare(Value value, Value numerator) {
  double epsilon = 0;
  if (auto add = value.getDefiningOp<arith::AddFOp>())
    for (bool swap : {false, true}) {
      Value constant = swap ? add.getLhs() : add.getRhs();
      if (std::optional<double> found = splatOf(constant); found && epsilon == 0)
        epsilon = *found, value = swap ? add.getRhs() : add.getLhs();
    }
  if (Value squares = meanOf(value))
    if (Value x = squareOf(squares))
      return InverseDeviation{x, epsilon};
  auto subtract = value.getDefiningOp<arith::SubFOp>();
  if (!subtract)
    return std::nullopt;
  Value squares = meanOf(subtract.getLhs()), mean = squareOf(subtract.getRhs());
  Value z = squares ? squareOf(squares) : Value();
  if (z && mean && meanOf(mean) == z && numerator && centeredOf(numerator) == z)
    return InverseDeviation{numerator, epsilon};
  return std::nullopt;
}

/// Of a factor [..., H]: a repeated 1/sqrt(..); of a divisor: a repeated sqrt(..).
static std::optional<InverseDeviation> inverseDeviation(Value factor, bool isDivisor, Value numerator) {
  Value column = columnOf(factor);
  Operation *op = column ? column.getDefiningOp() : nullptr;
  if (!op)
    return std::nullopt;
  auto squareRootOf = [](Value value) {
    auto root = value.getDefiningOp<math::SqrtOp>();
    if (root)
      return root.getOperand();
    auto power = value.getDefiningOp<math::PowFOp>();
    return power && splatOf(power.getRhs()) == 0.5 ? power.getLhs() : Value();
  };
  Value square;
  if (isDivisor)
    square = squareRootOf(column);
  else if (isa<math::RsqrtOp>(op) || (isa<math::PowFOp>(op) && splatOf(op->getOperand(1)) == -0.5))
    square = op->getOperand(0);
  else if (isa<arith::DivFOp>(op) && splatOf(op->getOperand(0)) == 1.0)
    square = squareRootOf(op->getOperand(1));
  return square ? meanSquare(square, numerator) : std::nullopt;
}

/// The factors of a product. A factor that others read too is not taken apart: it may be a norm
/// itself, which rotary embedding goes on to multiply.
static void collectFactors(Value value, bool isRoot, SmallVectorImpl<Value> &factors) {
  auto multiply = value.getDefiningOp<arith::MulFOp>();
  if (!multiply || (!isRoot && !value.hasOneUse()))
    return factors.push_back(value);
  collectFactors(multiply.getLhs(), false, factors);
  collectFactors(multiply.getRhs(), false, factors);
}

static Value buildNorm(OpBuilder &builder, Location loc, NormKind kind, Value x, Value weight, Value bias,
                       double epsilon, double offset) {
  Type statistics = reshaped(x, shapeOf(x).drop_back());
  return NormOp::create(builder, loc, x.getType(), statistics, statistics, x, weight, bias, kind, APFloat(epsilon),
                        APFloat(offset))
      .getResult();
}

namespace {

/// x · (1/sqrt(mean(x²) + eps)) · rest, in any association; or x / sqrt(..) · rest.
struct RaiseRms : RewritePattern {
  RaiseRms(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<arith::MulFOp, arith::DivFOp>(op) || !isa<RankedTensorType>(op->getResult(0).getType()) ||
        typeOf(op->getResult(0)).getRank() == 0)
      return failure();
    Value divisor = isa<arith::DivFOp>(op) ? op->getOperand(1) : Value();
    Value product = divisor ? op->getOperand(0) : op->getResult(0);
    SmallVector<Value> factors;
    collectFactors(product, !divisor, factors);

    std::optional<InverseDeviation> found;
    Value inverse;
    for (Value factor : divisor ? ArrayRef(divisor) : ArrayRef(factors)) {
      for (Value numerator : factors)
        if (!found && (found = inverseDeviation(factor, factor == divisor, numerator)))
          inverse = factor;
    }
    if (!found)
      return rewriter.notifyMatchFailure(op, "no factor 1/sqrt(mean(x²) + eps)");
    auto remove = [&](Value value) {
      auto it = llvm::find(factors, value);
      bool there = it != factors.end();
      if (there)
        factors.erase(it);
      return there;
    };
    if (!remove(found->x) || (!divisor && !remove(inverse)))
      return rewriter.notifyMatchFailure(op, "x is no factor");
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      Value result = buildNorm(builder, op->getLoc(), NormKind::Rms, found->x, nullptr, nullptr, found->epsilon, 0);
      for (Value factor : factors)
        result = arith::MulFOp::create(builder, op->getLoc(), result, factor);
      return result;
    });
  }
};

/// The RMS norm of x less its mean is the layer norm of x.
struct RaiseLayerNorm : OpRewritePattern<NormOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NormOp op, PatternRewriter &rewriter) const override {
    if (op.getKind() != NormKind::Rms || !op.getMean().use_empty() || !op.getRstd().use_empty())
      return failure();
    Value x = centeredOf(op.getX());
    if (!x)
      return rewriter.notifyMatchFailure(op, "x is not centered");
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      return buildNorm(builder, op.getLoc(), NormKind::Layer, x, op.getWeight(), op.getBias(),
                       op.getEpsilon().convertToDouble(), op.getOffset().convertToDouble());
    });
  }
};

/// A weight of 1 + w.
struct TakeOffset : OpRewritePattern<NormOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(NormOp op, PatternRewriter &rewriter) const override {
    auto add = op.getWeight() ? op.getWeight().getDefiningOp<arith::AddFOp>() : arith::AddFOp();
    if (!add)
      return failure();
    for (bool left : {true, false}) {
      std::optional<double> constant = splatOf(left ? add.getLhs() : add.getRhs());
      if (!constant)
        continue;
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return buildNorm(builder, op.getLoc(), op.getKind(), op.getX(), left ? add.getRhs() : add.getLhs(),
                         op.getBias(), op.getEpsilon().convertToDouble(), op.getOffset().convertToDouble() + *constant);
      });
    }
    return rewriter.notifyMatchFailure(op, "the weight is no sum with a constant");
  }
};

/// norm(x) · w for a repeated vector w.
struct TakeWeight : OpRewritePattern<arith::MulFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::MulFOp op, PatternRewriter &rewriter) const override {
    for (bool swap : {false, true}) {
      Value normalized = swap ? op.getRhs() : op.getLhs();
      auto norm = normalized.getDefiningOp<NormOp>();
      if (!norm || normalized != norm.getResult() || norm.getWeight() || norm.getBias() || !normalized.hasOneUse())
        continue;
      Value weight = rowVectorOf(swap ? op.getLhs() : op.getRhs());
      if (!weight)
        continue;
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return buildNorm(builder, op.getLoc(), norm.getKind(), norm.getX(), weight, nullptr,
                         norm.getEpsilon().convertToDouble(), 0);
      });
    }
    return rewriter.notifyMatchFailure(op, "no norm and weight");
  }
};

/// layer norm + b for a repeated vector b.
struct TakeBias : OpRewritePattern<arith::AddFOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(arith::AddFOp op, PatternRewriter &rewriter) const override {
    for (bool swap : {false, true}) {
      Value normalized = swap ? op.getRhs() : op.getLhs();
      auto norm = normalized.getDefiningOp<NormOp>();
      Value bias = rowVectorOf(swap ? op.getLhs() : op.getRhs());
      if (!norm || !bias || normalized != norm.getResult() || norm.getKind() != NormKind::Layer || norm.getBias() ||
          !normalized.hasOneUse())
        continue;
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return buildNorm(builder, op.getLoc(), NormKind::Layer, norm.getX(), norm.getWeight(), bias,
                         norm.getEpsilon().convertToDouble(), norm.getOffset().convertToDouble());
      });
    }
    return rewriter.notifyMatchFailure(op, "no layer norm and bias");
  }
};

/// exp(x - max x) / Σ exp(x - max x) over the last dimension, with or without the maximum.
struct RaiseSoftmax : OpRewritePattern<arith::DivFOp> {
  using OpRewritePattern::OpRewritePattern;

  static ReduceOp reductionOf(Value column, ReduceKind kind) {
    Value small = columnOf(column);
    auto reduce = small ? small.getDefiningOp<ReduceOp>() : ReduceOp();
    bool overLast = reduce && reduce.getKind() == kind &&
                    reduce.getDims() == ArrayRef<int64_t>{typeOf(reduce.getX()).getRank() - 1};
    return overLast ? reduce : ReduceOp();
  }

  LogicalResult matchAndRewrite(arith::DivFOp op, PatternRewriter &rewriter) const override {
    auto exponential = op.getLhs().getDefiningOp<math::ExpOp>();
    if (!exponential || !isa<RankedTensorType>(op.getType()) || typeOf(op).getRank() == 0)
      return failure();
    ReduceOp sum = reductionOf(op.getRhs(), ReduceKind::Sum);
    if (!sum || sum.getX() != exponential.getResult())
      return rewriter.notifyMatchFailure(op, "not divided by its own sum");
    Value x = exponential.getOperand();
    if (auto subtract = x.getDefiningOp<arith::SubFOp>())
      if (ReduceOp max = reductionOf(subtract.getRhs(), ReduceKind::Max); max && max.getX() == subtract.getLhs())
        x = subtract.getLhs();
    return replaceIfLegal(rewriter, op,
                          [&](OpBuilder &builder) { return SoftmaxOp::create(builder, op.getLoc(), op.getType(), x); });
  }
};

struct RaiseNormsPass : galvatron::impl::RaiseNormsPassBase<RaiseNormsPass> {
  using Base::Base;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    populateShapePatterns(set);
    set.add<RaiseRms, RaiseLayerNorm, TakeOffset, TakeWeight, TakeBias, RaiseSoftmax>(context);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      auto norms = [&] { return llvm::range_size(function.getOps<NormOp>()); };
      auto softmaxes = [&] { return llvm::range_size(function.getOps<SoftmaxOp>()); };
      size_t normsBefore = norms(), softmaxesBefore = softmaxes();
      if (failed(settle(function, patterns, getArgument(), maxSweeps)))
        return signalPassFailure();
      numNorms += norms() - normsBefore;
      numSoftmaxes += softmaxes() - softmaxesBefore;
    }
  }

  FrozenRewritePatternSet patterns;
};

} // namespace
