// Rings in the bodies of the layers whose strategy asks for them; how one is made is in Rings.cpp.
#include "RingBias.h"

#include "dialects/Dist/Dist.h"
#include "galvatron/Placement/Placements.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Math/IR/Math.h"

namespace galvatron {
#define GEN_PASS_DEF_INSERTRINGSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

static Value cutBias(OpBuilder &builder, Location loc, Value bias, const RingStep &step) {
  return RingBias(builder, loc, step).cut(bias, cast<RankedTensorType>(bias.getType()).getRank() - 1);
}

namespace {
struct InsertRingsPass : galvatron::impl::InsertRingsPassBase<InsertRingsPass> {
  using Base::Base;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    SmallVector<int64_t> mesh =
        plan::getMesh(getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName));
    for (dist::LayerOp layer : getOperation().getOps<dist::LayerOp>()) {
      auto strategy = layer->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
      if (!strategy || !plan::isRing(strategy.getValues()))
        continue;
      for (FlatSymbolRefAttr name : {layer.getForwardAttr(), layer.getBackwardAttr()}) {
        if (!name)
          continue;
        Block &body = symbols.lookup<dist::BodyOp>(name.getAttr()).getBody().front();
        FailureOr<unsigned> rings = insertRings(body, mesh, cutBias);
        if (failed(rings))
          return signalPassFailure();
        numRings += *rings;
      }
    }
  }
};
} // namespace
