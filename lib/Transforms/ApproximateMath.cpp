// Transcendental functions → arithmetic that vectorizes.
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Approximation.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace galvatron {
#define GEN_PASS_DEF_APPROXIMATEMATHPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;

namespace {

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
             name == math::AtanOp::getOperationName() || name == math::Atan2Op::getOperationName();
    };
    populateMathPolynomialApproximationPatterns(patterns, wanted);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    numReplaced += before - count(getOperation());
  }
};

} // namespace
