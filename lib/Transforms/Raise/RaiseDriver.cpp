// Runs sets of patterns to their end, and says where they have none.
#include "Raise.h"

#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;
using namespace galvatron;

void raise::eraseDead(func::FuncOp function) {
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(function.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
}

SmallVector<func::FuncOp> raise::getBodies(ModuleOp module) {
  return llvm::filter_to_vector(module.getOps<func::FuncOp>(),
                                [](func::FuncOp function) { return !function.isExternal(); });
}

namespace {
/// Counts patterns that applied.
struct Counter : RewriterBase::Listener {
  void notifyPatternEnd(const Pattern &, LogicalResult status) override { numApplied += succeeded(status); }

  unsigned numApplied = 0;
};
} // namespace

FailureOr<unsigned> raise::settle(func::FuncOp function, const FrozenRewritePatternSet &patterns, StringRef pass,
                                  int64_t maxSweeps) {
  Counter counter;
  GreedyRewriteConfig config;
  config.setListener(&counter);
  config.setRegionSimplificationLevel(GreedySimplifyRegionLevel::Disabled);
  config.setMaxIterations(maxSweeps);
  // Of a sweep. No spelling needs as many; a loop between patterns would be a bug, but not the user's wait.
  config.setMaxNumRewrites(256 * int64_t(function.getBody().front().getOperations().size()) + 4096);
  if (failed(applyPatternsGreedily(function, patterns, config)))
    return function.emitOpError("expects ")
           << pass << " to come to an end within max-sweeps = " << maxSweeps << ", but its patterns applied "
           << counter.numApplied
           << " times and still do; give it more sweeps, and where that does not help report the program, since two "
              "patterns undo each other";
  eraseDead(function);
  return counter.numApplied;
}
