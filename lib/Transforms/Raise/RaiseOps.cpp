// Runs the families of patterns that name what arithmetic spells out. The order matters in three
// places: shapes and norms settle together first, since each uncovers the other; rotary embedding is
// looked for before attention, which looks through it; projections are split last, when nothing
// reads them but slices.
#include "RaiseOps.h"

#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace galvatron {
#define GEN_PASS_DEF_RAISEOPSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

/// Erases what nothing reads.
static void eraseDead(func::FuncOp function) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
}

static void settle(func::FuncOp function, const FrozenRewritePatternSet &patterns) {
  GreedyRewriteConfig config;
  config.setRegionSimplificationLevel(GreedySimplifyRegionLevel::Disabled);
  // No spelling needs as many; a loop between patterns would be a bug, but not the user's wait.
  config.setMaxNumRewrites(256 * int64_t(function.getBody().front().getOperations().size()) + 4096);
  // Not converging would only mean that something is left unraised.
  (void)applyPatternsGreedily(function, patterns, config);
}

namespace {

struct RaiseOpsPass : galvatron::impl::RaiseOpsPassBase<RaiseOpsPass> {
  using Base::Base;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    raise::populateShapePatterns(set);
    raise::populateNormPatterns(set);
    raise::populateLossPatterns(set);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal())
        raiseFunction(function);
  }

  void raiseFunction(func::FuncOp function) {
    settle(function, patterns);
    // A reader remembers values, so each lives only while none is erased.
    {
      raise::TableReader reader;
      numPositions += raise::raisePositions(function, reader);
    }
    numActivations += raise::raiseActivations(function);
    eraseDead(function);
    {
      raise::TableReader reader;
      numRopes += raise::raiseRope(function, reader);
    }
    eraseDead(function);
    {
      raise::TableReader reader;
      numAttentions += raise::raiseAttention(function, reader);
    }
    eraseDead(function);
    {
      raise::TableReader reader;
      raise::absorbIntoAttention(function, reader);
    }
    eraseDead(function);
    // New reshapes meet old ones, and slices of slices.
    settle(function, patterns);
    numProjections += raise::splitProjections(function);
    eraseDead(function);
    numActivations += raise::raiseGatedActivations(function);
    settle(function, patterns);
    eraseDead(function);
    raise::normalizeEquations(function);
  }

  FrozenRewritePatternSet patterns;
};

} // namespace
