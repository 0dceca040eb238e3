// Conversions between f32 and bf16 → integer arithmetic.
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace galvatron {
#define GEN_PASS_DEF_EXPANDBFLOAT16PASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;

namespace {

struct ExpandBfloat16Pass : galvatron::impl::ExpandBfloat16PassBase<ExpandBfloat16Pass> {
  using Base::Base;

  static int64_t count(ModuleOp module) {
    int64_t found = 0;
    module.walk([&](Operation *op) { found += isa<arith::ExtFOp, arith::TruncFOp>(op); });
    return found;
  }

  void runOnOperation() override {
    int64_t before = count(getOperation());
    RewritePatternSet patterns(&getContext());
    arith::populateExpandBFloat16Patterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    numExpanded += before - count(getOperation());
  }
};

} // namespace
