// The contract of phase `differentiate` (docs/IR.md).
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYDIFFERENTIATEPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

static LogicalResult verifyOp(Operation *op) {
  if (isa<graph::CrossEntropyOp, graph::LogSumExpOp>(op))
    return op->emitOpError("expects cross-entropy to be expanded; run --galvatron-expand-cross-entropy");
  if (isa<graph::DetachOp>(op))
    return op->emitOpError("expects detached values to be those they came from; run --galvatron-differentiate");
  bool hasLoops =
      isa<graph::AxisOpInterface>(op) || op->hasTrait<OpTrait::ConstantLike>() || op->hasTrait<OpTrait::Elementwise>();
  if (!hasLoops || !isa<graph::CostOpInterface>(op))
    return op->emitOpError("expects an op that declares its loops and cost, but this one has no ")
           << (hasLoops ? "cost" : "loops");
  return success();
}

static LogicalResult verifyLayer(graph::LayerOp layer) {
  if (layer.getBody().getOps<graph::BackwardOp>().empty() && !layer.getGradientTypes().empty())
    return layer.emitOpError("expects a backward, but got none; run --galvatron-differentiate");
  WalkResult result = layer.getBody().walk([](Operation *op) {
    if (isa<graph::BackwardOp, graph::ReturnOp>(op))
      return WalkResult::advance();
    return failed(verifyOp(op)) ? WalkResult::interrupt() : WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

namespace {

struct VerifyDifferentiate : galvatron::impl::VerifyDifferentiatePassBase<VerifyDifferentiate> {
  using Base::Base;

  void runOnOperation() override {
    for (auto layer : getOperation().getOps<graph::LayerOp>()) {
      if (failed(verifyLayer(layer)))
        return signalPassFailure();
      ++numLayers;
    }
  }
};

} // namespace
