// The order in which a stage runs its micro-batches' forwards and backwards: the list that the search prices.
#include "galvatron/Transforms/Passes.h"

#include "PipelineShape.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Plan/Plan.h"

namespace galvatron {
#define GEN_PASS_DEF_SCHEDULEMICROBATCHESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

static dist::Computation computationOf(search::Computation phase) {
  switch (phase) {
  case search::Computation::Forward:
    return dist::Computation::Forward;
  case search::Computation::Backward:
    return dist::Computation::Backward;
  case search::Computation::Weight:
    return dist::Computation::Weight;
  }
  llvm_unreachable("a phase of the search");
}

namespace {

struct ScheduleMicrobatchesPass : galvatron::impl::ScheduleMicrobatchesPassBase<ScheduleMicrobatchesPass> {
  using Base::Base;

  void runOnOperation() override {
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    if (!pipeline) {
      getOperation().emitOpError(
          "expects the attribute plan.pipeline; run galvatron-annotate-plan or galvatron-search-plan first");
      return signalPassFailure();
    }
    search::PipelineShape shape = shapeOf(pipeline);
    if (std::optional<std::string> reason = search::whyImpossible(shape)) {
      getOperation().emitOpError("expects a schedule that its stages can run: ") << *reason;
      return signalPassFailure();
    }
    for (auto stage : getOperation().getOps<dist::StageOp>()) {
      SmallVector<dist::Instruction> order;
      for (const search::Instruction &entry : search::stageTimetable(shape, stage.getIndex()))
        order.push_back({computationOf(entry.phase), entry.chunk, entry.microBatch});
      stage.setOrderAttr(dist::OrderAttr::get(&getContext(), order));
      numInstructions += order.size();
    }
  }
};

} // namespace
