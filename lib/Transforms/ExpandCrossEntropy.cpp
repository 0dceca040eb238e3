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

/// log Σ exp of each row whose label counts, 0 elsewhere.
Value buildLogSumExp(OpBuilder &builder, graph::CrossEntropyOp op, RankedTensorType rows) {
  Location loc = op.getLoc();
  Value max = graph::ReduceOp::create(builder, loc, rows, op.getLogits(), graph::ReduceKind::Max,
                                      ArrayRef<int64_t>{rows.getRank()});
  Value sum = graph::SumExpOp::create(builder, loc, rows, op.getLogits(), max);
  Value log = math::LogOp::create(builder, loc, sum);
  Value logSumExp = arith::AddFOp::create(builder, loc, log, max);
  Value ignored = graph::createSplat(builder, loc, op.getLabels().getType(), static_cast<int64_t>(op.getIgnoreIndex()));
  Value counts = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, op.getLabels(), ignored);
  Value zero = graph::createSplat(builder, loc, rows, 0);
  return arith::SelectOp::create(builder, loc, counts, logSumExp, zero);
}

struct ExpandCrossEntropy : galvatron::impl::ExpandCrossEntropyPassBase<ExpandCrossEntropy> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<graph::CrossEntropyOp> losses;
    getOperation()->walk([&](graph::CrossEntropyOp op) { losses.push_back(op); });
    for (graph::CrossEntropyOp op : losses)
      expand(op);
    numExpanded += losses.size();
  }

  void expand(graph::CrossEntropyOp op) {
    OpBuilder builder(op);
    Location loc = op.getLoc();
    auto logits = cast<RankedTensorType>(op.getLogits().getType());
    auto rows = RankedTensorType::get(logits.getShape().drop_back(), op.getLoss().getType().getElementType());
    Value logSumExp = buildLogSumExp(builder, op, rows);
    Value target =
        graph::TargetLogitOp::create(builder, loc, rows, op.getLogits(), op.getLabels(), op.getIgnoreIndexAttr());
    Value losses = arith::SubFOp::create(builder, loc, logSumExp, target);
    Value total = graph::ReduceOp::create(builder, loc, op.getLoss().getType(), losses, graph::ReduceKind::Sum,
                                          llvm::to_vector(llvm::seq<int64_t>(0, rows.getRank())));
    Value share = graph::createSplat(builder, loc, op.getLoss().getType(), 1.0 / op.getNumValidLabels());
    Value loss = arith::MulFOp::create(builder, loc, total, share);
    op.getLoss().replaceAllUsesWith(loss);
    op.erase();
  }
};

} // namespace
