// Decides what backward keeps of forward, by each layer's strategy; the rules are in lib/Placement/Recomputation.cpp.
#include "dialects/Dist/Dist.h"
#include "galvatron/Placement/Recomputation.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_PLANRECOMPUTATIONPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {
struct PlanRecomputationPass : galvatron::impl::PlanRecomputationPassBase<PlanRecomputationPass> {
  using Base::Base;

  void runOnOperation() override {
    for (auto layer : getOperation().getOps<graph::LayerOp>()) {
      auto strategy = layer->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
      for (auto backward : layer.getBody().front().getOps<graph::BackwardOp>()) {
        recomputeAsPlanned(layer, backward, strategy);
        numKept += getSavedValues(layer, backward).size();
      }
      untagRecomputableValues(layer);
    }
  }
};
} // namespace
