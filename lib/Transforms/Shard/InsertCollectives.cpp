// Expands each redistribution into collectives along grid axes; which, in which order and which axes
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

static LogicalResult expand(dist::RedistributeOp op, ArrayRef<int64_t> grid) {
  dist::PlacementAttr from = dist::getPlacement(op.getX().getType());
  dist::PlacementAttr to = dist::getPlacement(op.getResult().getType());
  auto steps = planRedistribution(from, to, grid);
  if (!steps)
    return op.emitOpError("expects a target that collectives can reach, but got ") << from << " to " << to;
  OpBuilder builder(op);
  Value value = op.getX();
  for (const RedistributionStep &step : *steps)
    value = buildStep(builder, op.getLoc(), value, step);
  op.getResult().replaceAllUsesWith(value);
  op.erase();
  return success();
}

namespace {
struct InsertCollectivesPass : galvatron::impl::InsertCollectivesPassBase<InsertCollectivesPass> {
  using Base::Base;

  void runOnOperation() override {
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    if (!pipeline) {
      getOperation().emitOpError("expects '") << plan::kPipelineAttrName << "', but got none";
      return signalPassFailure();
    }
    SmallVector<int64_t> grid = plan::getGrid(pipeline.getDevices());
    SmallVector<dist::RedistributeOp> ops;
    getOperation().walk([&](dist::RedistributeOp op) { ops.push_back(op); });
    for (dist::RedistributeOp op : ops) {
      if (failed(expand(op, grid)))
        return signalPassFailure();
      ++numRedistributions;
    }
  }
};
} // namespace
