// Cross-entropy as statistics of each row. `exp` is taken of values at most 0, so nothing overflows,
// whatever part of the vocabulary a device has.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphReductions.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

namespace galvatron {
#define GEN_PASS_DEF_EXPANDCROSSENTROPYPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

/// log Σ exp of each row.
Value buildLogSumExp(OpBuilder &builder, Location loc, Value logits, RankedTensorType rows) {
  Value max =
      graph::ReduceOp::create(builder, loc, rows, logits, graph::ReduceKind::Max, ArrayRef<int64_t>{rows.getRank()});
  Value sum = graph::SumExpOp::create(builder, loc, rows, logits, max);
  Value log = math::LogOp::create(builder, loc, sum);
  return arith::AddFOp::create(builder, loc, log, max);
}

/// The value where the row's label counts, 0 elsewhere.
Value keepCounted(OpBuilder &builder, graph::CrossEntropyOp op, Value value) {
  Location loc = op.getLoc();
  Value ignored = graph::createSplat(builder, loc, op.getLabels().getType(), static_cast<int64_t>(op.getIgnoreIndex()));
  Value counts = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, op.getLabels(), ignored);
  return arith::SelectOp::create(builder, loc, counts, value, graph::createSplat(builder, loc, value.getType(), 0));
}

struct ExpandCrossEntropy : galvatron::impl::ExpandCrossEntropyPassBase<ExpandCrossEntropy> {
  using Base::Base;

  void runOnOperation() override {
    getOperation()->walk([&](Operation *op) {
      if (auto loss = dyn_cast<graph::CrossEntropyOp>(op))
        expand(loss), ++numExpanded;
      else if (auto sum = dyn_cast<graph::LogSumExpOp>(op))
        expand(sum), ++numExpanded;
    });
  }

  void expand(graph::LogSumExpOp op) {
    OpBuilder builder(op);
    op.getResult().replaceAllUsesWith(buildLogSumExp(builder, op.getLoc(), op.getX(), op.getType()));
    op.erase();
  }

  void expand(graph::CrossEntropyOp op) {
    OpBuilder builder(op);
    Location loc = op.getLoc();
    auto logits = cast<RankedTensorType>(op.getLogits().getType());
    auto rows = RankedTensorType::get(logits.getShape().drop_back(), op.getLoss().getType().getElementType());
    Value logSumExp = keepCounted(builder, op, buildLogSumExp(builder, loc, op.getLogits(), rows));
    Value target =
        graph::TargetLogitOp::create(builder, loc, rows, op.getLogits(), op.getLabels(), op.getIgnoreIndexAttr());
    Value losses = arith::SubFOp::create(builder, loc, logSumExp, target);
    Value loss = losses;
    if (op.isMean()) {
      Value total = graph::ReduceOp::create(builder, loc, op.getLoss().getType(), losses, graph::ReduceKind::Sum,
                                            llvm::to_vector(llvm::seq<int64_t>(0, rows.getRank())));
      loss = arith::MulFOp::create(builder, loc, total, op.buildShare(builder));
    }
    op.getLoss().replaceAllUsesWith(loss);
    op.erase();
  }
};

} // namespace
