// Memory of every stage, to the byte, and the proof that its transfers end: both on the timetable that
// the object file will hold.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Plan/Plan.h"
#include "galvatron/Schedule/Timetable.h"

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
    SmallVector<Timetable> timetables;
    Builder builder(&getContext());
    SmallVector<int64_t> grid;
    if (auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName))
      grid = plan::getGrid(pipeline.getDevices());
    for (auto stage : getOperation().getOps<dist::StageOp>()) {
      FailureOr<Timetable> timetable = buildTimetable(getOperation(), stage);
      if (failed(timetable))
        return signalPassFailure();
      planArena(*timetable);
      stage->setAttr(dist::kArenaBytesAttrName, builder.getI64IntegerAttr(timetable->arenaBytes));
      Communicators communicators = communicatorsOf(*timetable, grid);
      if (!communicators.groupSizes.empty())
        stage->setAttr(dist::kGroupSizesAttrName, builder.getDenseI64ArrayAttr(communicators.groupSizes));
      if (communicators.directions)
        stage->setAttr(dist::kDirectionsAttrName, builder.getI64IntegerAttr(communicators.directions));
      numSlots += timetable->slots.size();
      timetables.push_back(std::move(*timetable));
    }
    if (failed(verifyTransfers(getOperation(), timetables)))
      signalPassFailure();
  }
};

} // namespace
