// The order in which a stage runs its micro-batches' forwards and backwards.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Plan/Plan.h"

namespace galvatron {
#define GEN_PASS_DEF_SCHEDULEMICROBATCHESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

/// All forwards, then all backwards, first in, first out. Huang et al., GPipe (2019).
static SmallVector<std::string> scheduleGPipe(int64_t microBatches) {
  SmallVector<std::string> order;
  for (char direction : {'F', 'B'})
    for (int64_t k = 0; k < microBatches; ++k)
      order.push_back(direction + std::to_string(k));
  return order;
}

/// As many forwards ahead as there are stages behind, then one forward, one backward. Narayanan et al.,
/// PipeDream-Flush (2021).
static SmallVector<std::string> schedule1F1B(int64_t stage, int64_t stages, int64_t microBatches) {
  SmallVector<std::string> order;
  int64_t ahead = std::min(stages - 1 - stage, microBatches);
  for (int64_t k = 0; k < ahead; ++k)
    order.push_back("F" + std::to_string(k));
  for (int64_t k = 0; k < microBatches; ++k) {
    if (k + ahead < microBatches)
      order.push_back("F" + std::to_string(k + ahead));
    order.push_back("B" + std::to_string(k));
  }
  return order;
}

namespace {

struct ScheduleMicrobatchesPass : galvatron::impl::ScheduleMicrobatchesPassBase<ScheduleMicrobatchesPass> {
  using Base::Base;

  void runOnOperation() override {
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>("plan.pipeline");
    if (!pipeline) {
      getOperation().emitOpError(
          "expects the attribute plan.pipeline; run galvatron-annotate-plan or galvatron-search-plan first");
      return signalPassFailure();
    }
    Builder builder(&getContext());
    for (auto stage : getOperation().getOps<dist::StageOp>()) {
      SmallVector<std::string> order;
      switch (pipeline.getSchedule()) {
      case plan::Schedule::GPipe:
        order = scheduleGPipe(pipeline.getMicroBatches());
        break;
      case plan::Schedule::OneFOneB:
        order = schedule1F1B(stage.getIndex(), pipeline.getStages(), pipeline.getMicroBatches());
        break;
      }
      SmallVector<StringRef> words(order.begin(), order.end());
      stage.setOrderAttr(builder.getStrArrayAttr(words));
      numEntries += order.size();
    }
  }
};

} // namespace
