// The contract after phase `shard`: bodies on local shapes, tied together by `dist.layer`s whose
// placements say what the shapes should be.
#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYSHARDPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;

/// Whether a value of the local type may be what a device holds under the placement.
static bool fits(Attribute placement, Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && ArrayRef<int64_t>(cast<PlacementAttr>(placement).getLocalShape()) == tensor.getShape();
}

/// Gradients that there are not, and values without one, have no type.
static LogicalResult verifyTypes(dist::LayerOp layer, StringRef what, ArrayAttr placements, TypeRange types) {
  auto type = types.begin();
  for (auto [index, placement] : llvm::enumerate(placements))
    if (isa<PlacementAttr>(placement) && !fits(placement, *type++))
      return layer.emitOpError("expects ")
             << what << " " << index << " to be held as " << placement << ", but got " << *std::prev(type);
  return success();
}

static LogicalResult verifyLayer(dist::LayerOp layer, SymbolTable &symbols) {
  auto forward = symbols.lookup<dist::BodyOp>(layer.getForward());
  ArrayRef<Type> arguments = forward.getArgumentTypes(), results = forward.getResultTypes();
  size_t inputs = layer.getInputs().size();
  if (failed(verifyTypes(layer, "input", layer.getInputs(), arguments)) ||
      failed(verifyTypes(layer, "parameter", layer.getHomes(), arguments.drop_front(inputs))) ||
      failed(verifyTypes(layer, "output", layer.getOutputs(), results)))
    return failure();
  if (!layer.getBackward())
    return success();
  auto backward = symbols.lookup<dist::BodyOp>(*layer.getBackward());
  results = backward.getResultTypes();
  if (failed(verifyTypes(layer, "output gradient", layer.getOutputGradients(), backward.getArgumentTypes())) ||
      failed(verifyTypes(layer, "input gradient", layer.getInputGradients(), results)) ||
      failed(verifyTypes(layer, "gradient", layer.getGradients(), results.take_back(layer.getTrained().size()))))
    return failure();
  for (unsigned index : layer.getTrained()) {
    auto home = cast<PlacementAttr>(layer.getHomes()[index]), gradient = layer.getGradient(index);
    if (home != gradient.withPartials({}))
      return layer.emitOpError("expects gradient ")
             << index << " at its home " << home << " but for partial sums, but got " << gradient;
  }
  return success();
}

namespace {
struct VerifyShardPass : galvatron::impl::VerifyShardPassBase<VerifyShardPass> {
  using Base::Base;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    WalkResult result = getOperation().walk([&](Operation *op) -> WalkResult {
      if (isa<graph::LayerOp, dist::RedistributeOp, dist::MultiplierOp, dist::ShareOp>(op))
        return op->emitOpError("expects to be gone after split-tensors");
      if (auto layer = dyn_cast<dist::LayerOp>(op)) {
        ++numLayers;
        return verifyLayer(layer, symbols);
      }
      if (!op->getParentOfType<dist::BodyOp>())
        return success();
      for (Type type : op->getResultTypes())
        if (dist::getPlacement(type))
          return op->emitOpError("expects local types in a body, but got ") << type;
      return success();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
