// What the proof says to a program of each schedule that was spoilt in one place: two receives swapped, a send dropped,
// a backward before the one that it follows, a tied sum moved on one stage.
#include "SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;
using testing::HasSubstr;

namespace {

/// Embedding and a block on stage 0, a block and the head on stage 1, one rank each; the table is tied.
class SpoiltSchedulesTest : public SpoiltTimetables, public testing::WithParamInterface<std::string> {
protected:
  SpoiltSchedulesTest() {
    LayerwisePlan plan;
    plan.stages = plan.microBatches = 2;
    plan.schedule = GetParam();
    plan.strategies.resize(4);
    plan.stageOf = {0, 0, 1, 1};
    build("gpt2_ignored.mlir", plan);
    EXPECT_EQ(proofComplaint(), "") << "right as it is";
  }
};

TEST_P(SpoiltSchedulesTest, TwoReceivesSwapped) {
  move(1, "receive from stage 0 micro-batch 1", "receive from stage 0 micro-batch 0");
  EXPECT_THAT(proofComplaint(), HasSubstr("expects stage 1 to receive what stage 0 sends"));
}

TEST_P(SpoiltSchedulesTest, SendDropped) {
  std::string send = "send gradient to stage 0 micro-batch 0";
  remove(1, "end of " + send);
  remove(1, send);
  EXPECT_THAT(proofComplaint(), HasSubstr("expects stage 0 to receive what stage 1 sends"));
}

TEST_P(SpoiltSchedulesTest, TiedSumMovedOnOneStage) {
  auto sum = llvm::find_if(timetables[1].entries, [](const TimetableEntry &entry) {
    return llvm::StringRef(entry.name).starts_with("reduce gradient of tied");
  });
  ASSERT_NE(sum, timetables[1].entries.end());
  std::string name = sum->name;
  // Stage 0 sums its own after the last gradient, for which this stage would have it wait.
  move(1, name, "send gradient to stage 0 micro-batch 1");
  EXPECT_THAT(proofComplaint(), HasSubstr("the stages wait for one another"));
}

INSTANTIATE_TEST_SUITE_P(Schedules, SpoiltSchedulesTest, testing::Values("gpipe", "1f1b"),
                         [](const auto &info) { return info.param; });

} // namespace
