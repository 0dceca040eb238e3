// Memory of every stage, to the byte, on the timetable that the object file will hold, which is built here and nowhere
// else.
#include "galvatron/Transforms/PlanMemory.h"

#include "dialects/Plan/Plan.h"

namespace galvatron {
#define GEN_PASS_DEF_PLANMEMORYPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct PlanMemoryPass : galvatron::impl::PlanMemoryPassBase<PlanMemoryPass> {
  using Base::Base;

  void runOnOperation() override {
    timetables->clear();
    for (auto stage : getOperation().getOps<dist::StageOp>()) {
      FailureOr<Timetable> timetable = buildTimetable(getOperation(), stage);
      if (failed(timetable))
        return signalPassFailure();
      planArena(*timetable);
      describe(*timetable, stage);
      numBuffers += timetable->buffers.size();
      timetables->push_back(std::move(*timetable));
    }
  }

  /// What a rank takes of its device, as attributes.
  void describe(const Timetable &timetable, dist::StageOp stage) {
    Builder builder(&getContext());
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    Communicators communicators = communicatorsOf(timetable, plan::getMesh(pipeline));
    stage->setAttr(dist::kArenaBytesAttrName, builder.getI64IntegerAttr(timetable.arenaBytes));
    if (!communicators.groupSizes.empty())
      stage->setAttr(dist::kGroupSizesAttrName, builder.getDenseI64ArrayAttr(communicators.groupSizes));
    if (communicators.channels)
      stage->setAttr(dist::kChannelsAttrName, builder.getI64IntegerAttr(communicators.channels));
    if (communicators.peers)
      stage->setAttr(dist::kPeersAttrName, builder.getI64IntegerAttr(communicators.peers));
    if (communicators.entries)
      stage->setAttr(dist::kEntriesAttrName, builder.getI64IntegerAttr(communicators.entries));
    if (communicators.calls)
      stage->setAttr(dist::kCallsAttrName, builder.getI64IntegerAttr(communicators.calls));
  }

  std::shared_ptr<std::vector<Timetable>> timetables = std::make_shared<std::vector<Timetable>>();
};

} // namespace

std::unique_ptr<Pass> galvatron::createPlanMemoryPass(std::shared_ptr<std::vector<Timetable>> timetables) {
  auto pass = std::make_unique<PlanMemoryPass>();
  if (timetables)
    pass->timetables = std::move(timetables);
  return pass;
}
