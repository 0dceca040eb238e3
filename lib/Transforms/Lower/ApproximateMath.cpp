// Transcendental functions → arithmetic that vectorizes.
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Approximation.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <numbers>

namespace galvatron {
#define GEN_PASS_DEF_APPROXIMATEMATHPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;

namespace {

/// atan2(y, x) by the arctangent of a quotient that is at most 1, in the right eighth of the circle. (Upstream's
/// polynomial is wrong for a negative x.)
struct ExpandArctangent2 : OpRewritePattern<math::Atan2Op> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(math::Atan2Op op, PatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    Type type = op.getType();
    auto number = [&](double value) -> Value {
      auto element = rewriter.getFloatAttr(getElementTypeOrSelf(type), value);
      if (auto shaped = dyn_cast<ShapedType>(type))
        return arith::ConstantOp::create(rewriter, loc, DenseElementsAttr::get(shaped, Attribute(element)));
      return arith::ConstantOp::create(rewriter, loc, element);
    };
    auto less = [&](Value a, Value b) -> Value {
      return arith::CmpFOp::create(rewriter, loc, arith::CmpFPredicate::OLT, a, b);
    };
    auto choose = [&](Value condition, Value a, Value b) -> Value {
      return arith::SelectOp::create(rewriter, loc, condition, a, b);
    };
    auto from = [&](double value, Value angle) -> Value {
      return arith::SubFOp::create(rewriter, loc, number(value), angle);
    };
    Value y = math::AbsFOp::create(rewriter, loc, op.getLhs()), x = math::AbsFOp::create(rewriter, loc, op.getRhs());
    Value isSteep = less(x, y);
    Value opposite = choose(isSteep, x, y), adjacent = choose(isSteep, y, x);
    Value isOrigin = arith::CmpFOp::create(rewriter, loc, arith::CmpFPredicate::OEQ, adjacent, number(0));
    Value quotient = arith::DivFOp::create(rewriter, loc, opposite, choose(isOrigin, number(1), adjacent));
    Value angle = math::AtanOp::create(rewriter, loc, quotient);
    angle = choose(isSteep, from(std::numbers::pi / 2, angle), angle);
    angle = choose(less(op.getRhs(), number(0)), from(std::numbers::pi, angle), angle);
    rewriter.replaceOpWithNewOp<math::CopySignOp>(op, angle, op.getLhs());
    return success();
  }
};

struct ApproximateMathPass : galvatron::impl::ApproximateMathPassBase<ApproximateMathPass> {
  using Base::Base;

  static int64_t count(ModuleOp module) {
    int64_t found = 0;
    module.walk([&](Operation *op) {
      found += isa<math::ExpOp, math::TanhOp, math::ErfOp, math::LogOp, math::AtanOp, math::Atan2Op>(op);
    });
    return found;
  }

  void runOnOperation() override {
    int64_t before = count(getOperation());
    RewritePatternSet patterns(&getContext());
    auto wanted = [](StringRef name) {
      return name == math::ExpOp::getOperationName() || name == math::TanhOp::getOperationName() ||
             name == math::ErfOp::getOperationName() || name == math::LogOp::getOperationName() ||
             name == math::AtanOp::getOperationName();
    };
    populateMathPolynomialApproximationPatterns(patterns, wanted);
    patterns.add<ExpandArctangent2>(&getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    numReplaced += before - count(getOperation());
  }
};

} // namespace
