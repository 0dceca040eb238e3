// Trees of additions become n-ary sums. One walk in program order: when an addition is reached, those
// that feed it are sums already, so their operands need only be spliced in.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphElementwise.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

namespace galvatron {
#define GEN_PASS_DEF_FLATTENSUMSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

/// An addition of tensors, none of them a constant.
bool isSum(Operation *op) {
  if (isa<graph::SumOp>(op))
    return true;
  return isa<arith::AddFOp>(op) && isa<RankedTensorType>(op->getResult(0).getType()) &&
         llvm::none_of(op->getOperands(), [](Value operand) { return matchPattern(operand, m_Constant()); });
}

struct FlattenSums : galvatron::impl::FlattenSumsPassBase<FlattenSums> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<Operation *> sums;
    getOperation()->walk([&](Operation *op) {
      if (isSum(op))
        sums.push_back(op);
    });
    for (Operation *op : sums)
      flatten(op);
  }

  void flatten(Operation *op) {
    SmallVector<Value> operands;
    SmallVector<graph::SumOp> joined;
    for (Value operand : op->getOperands()) {
      auto inner = operand.getDefiningOp<graph::SumOp>();
      if (inner && inner->hasOneUse() && inner.getType() == op->getResult(0).getType() &&
          inner->getBlock() == op->getBlock()) {
        llvm::append_range(operands, inner.getInputs());
        joined.push_back(inner);
      } else {
        operands.push_back(operand);
      }
    }
    if (isa<graph::SumOp>(op) && joined.empty())
      return;
    OpBuilder builder(op);
    Value sum = graph::SumOp::create(builder, op->getLoc(), op->getResult(0).getType(), operands);
    op->getResult(0).replaceAllUsesWith(sum);
    op->erase();
    for (graph::SumOp inner : joined)
      inner.erase();
    numFlattened += joined.size();
  }
};

} // namespace
