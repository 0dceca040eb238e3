// Expands each redistribution into collectives along mesh axes; which, in which order and which axes
// together is decided by the planner of lib/Placement/PlacementsRedistribution.cpp.
#include "dialects/Dist/Dist.h"
#include "galvatron/Placement/PlacementsRedistribution.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_INSERTCOLLECTIVESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {
struct InsertCollectivesPass : galvatron::impl::InsertCollectivesPassBase<InsertCollectivesPass> {
  using Base::Base;

  void runOnOperation() override {
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    if (!pipeline) {
      getOperation().emitOpError("expects '") << plan::kPipelineAttrName << "', but got none";
      return signalPassFailure();
    }
    FailureOr<unsigned> expanded = insertCollectives(getOperation(), plan::getMesh(pipeline));
    if (failed(expanded))
      return signalPassFailure();
    numRedistributions += *expanded;
  }
};
} // namespace
