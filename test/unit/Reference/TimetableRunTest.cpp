// What is wrong with a timetable is found when it runs: each test spoils one that is right in one place.
#include "galvatron/Reference/TimetableRun.h"
#include "../Equivalence/SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

namespace {

class TimetableRunTest : public SpoiltTimetables {
protected:
  /// Two stages of dp 2 x tp 2.
  void build(const std::string &file = "llama_ignored.mlir") { SpoiltTimetables::build(file, {.dp = 2, .tp = 2}); }
};

TEST_F(TimetableRunTest, FindsNothingWrongWithWhatIsRight) {
  build();
  EXPECT_EQ(complaint(), "");
}

//===----------------------------------------------------------------------===//
// What is under way
//===----------------------------------------------------------------------===//

TEST_F(TimetableRunTest, DroppedWaitOfAReduction) {
  build();
  remove(1, "end of reduce gradients of lm_head");
  EXPECT_EQ(complaint(), "expects stage 1 to wait for \"reduce gradients of lm_head\", but the step ends while it is "
                         "under way");
}

TEST_F(TimetableRunTest, UseBeforeTheWait) {
  build();
  // Zeroed while it is reduced.
  AllReduce reduce = find<AllReduce>(1, "reduce gradients of lm_head");
  insert(1, indexOf(1, "reduce gradients of lm_head") + 1, {FillZero{reduce.buffer, 4}, "zero too late"});
  EXPECT_THAT(complaint(), AllOf(HasSubstr("expects \"zero too late\" of stage 1 to leave \"gradient of "),
                                 HasSubstr("\" alone until the wait of \"reduce gradients of lm_head\"")));
}

TEST_F(TimetableRunTest, DroppedWaitOfASend) {
  build();
  std::string name = "send activation to stage 1 micro-batch 0";
  remove(0, "end of " + name);
  EXPECT_THAT(complaint(), HasSubstr("expects the memory of \"" + name + "\" to be its own until its wait, but \""));
}

TEST_F(TimetableRunTest, WrittenWhileItIsSent) {
  build();
  std::string name = "send activation to stage 1 micro-batch 0";
  insert(0, indexOf(0, name) + 1, {FillZero{find<Send>(0, name).buffer, 4}, "zero too early"});
  EXPECT_THAT(complaint(), HasSubstr("\" alone until the wait of \"" + name + "\""));
}

TEST_F(TimetableRunTest, WaitForNothing) {
  build();
  find<Wait>(1, "end of reduce gradients of lm_head").handle = 1000;
  EXPECT_EQ(complaint(),
            "expects \"end of reduce gradients of lm_head\" to wait for what is under way, but nothing has "
            "its handle 1000");
}

TEST_F(TimetableRunTest, OneHandleForTwo) {
  build();
  find<AllReduce>(1, "reduce gradients of model.layers.1").handle =
      find<AllReduce>(1, "reduce gradients of lm_head").handle;
  EXPECT_EQ(complaint(), "expects a handle for \"reduce gradients of model.layers.1\" that nothing under way has");
}

TEST_F(TimetableRunTest, OneHandleForTwoSends) {
  build();
  insert(0, indexOf(0, "send activation to stage 1 micro-batch 0") + 1,
         timetables[0].entries[indexOf(0, "send activation to stage 1 micro-batch 0")]);
  EXPECT_EQ(complaint(),
            "expects a handle for \"send activation to stage 1 micro-batch 0\" that nothing under way has");
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

TEST_F(TimetableRunTest, FreedEarly) {
  build();
  Compute &forward = find<Compute>(1, "forward model.layers.1 micro-batch 0");
  Buffer &output = bufferOf(1, forward.writes.front());
  output.last = output.first;
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("expects \"output of model.layers.1 micro-batch 0\" to be there when \"forward lm_head "
                              "micro-batch 0\" reads it on device 0 of stage 1, but byte 0 of it "),
                    HasSubstr("was freed after \"forward model.layers.1 micro-batch 0\"")));
}

TEST_F(TimetableRunTest, OffsetOnALiveBuffer) {
  build();
  Buffer &saved = bufferOf(1, find<Compute>(1, "forward model.layers.1 micro-batch 0").writes.back());
  Buffer &output = bufferOf(1, find<Compute>(1, "forward lm_head micro-batch 0").writes.back());
  output.offset = saved.offset;
  EXPECT_THAT(complaint(), AllOf(HasSubstr("expects \"saved by model.layers.1 micro-batch 0\" to be there when"),
                                 HasSubstr("was taken by \"saved by lm_head micro-batch 0\"")));
}

TEST_F(TimetableRunTest, NeverWritten) {
  build();
  remove(1, "zero loss");
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("expects \"loss\" to be there"), HasSubstr("byte 0 of it was never written")));
}

TEST_F(TimetableRunTest, NothingToSend) {
  build();
  Send &send = find<Send>(0, "send activation to stage 1 micro-batch 0");
  send.buffer = find<Send>(0, "send activation to stage 1 micro-batch 1").buffer;
  EXPECT_THAT(complaint(), HasSubstr("to be there when \"send activation to stage 1 micro-batch 0\" reads it"));
}

TEST_F(TimetableRunTest, TooSmallABuffer) {
  build();
  bufferOf(1, find<Compute>(1, "forward model.layers.1 micro-batch 0").writes.front()).bytes -= 4;
  EXPECT_THAT(complaint(),
              MatchesRegex("expects \"output of model.layers.1 micro-batch 0\" to have room for the [0-9]+ "
                           "elements of type 'f32' that \"forward lm_head micro-batch 0\" has there"));
}

TEST_F(TimetableRunTest, ParametersThatDoNotLieTogether) {
  build();
  // Bodies read keys' weights after queries': here they have moved away.
  for (Buffer &buffer : timetables[0].buffers)
    if (buffer.name == "model.layers.0.self_attn.k_proj.weight") {
      buffer.offset = timetables[0].arenaBytes;
      timetables[0].arenaBytes += buffer.bytes;
    }
  EXPECT_THAT(complaint(), HasSubstr("was never written"));
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

TEST_F(TimetableRunTest, SkippedReduction) {
  build();
  remove(1, "reduce gradients of model.layers.1");
  remove(1, "end of reduce gradients of model.layers.1");
  EXPECT_THAT(complaint(), MatchesRegex("expects equal replicas of \"gradient of model.layers.1.*\" on stage 1, but "
                                        "devices 0 and [12] differ in micro-batch 0"));
}

TEST_F(TimetableRunTest, ReducedTwice) {
  build();
  size_t index = indexOf(1, "end of reduce gradients of model.layers.1");
  AllReduce again = find<AllReduce>(1, "reduce gradients of model.layers.1");
  again.handle.reset();
  insert(1, index + 1, {again, "reduce again"});
  EXPECT_THAT(complaint(), MatchesRegex("the gradient of model.layers.1.* in step 1"));
}

TEST_F(TimetableRunTest, ReducedOverTheWrongAxis) {
  build();
  // Over tp instead of dp.
  AllReduce &reduce = find<AllReduce>(1, "reduce gradients of model.layers.1");
  timetables[1].groups.push_back({{1}, {}});
  reduce.group = timetables[1].groups.size() - 1;
  EXPECT_THAT(complaint(), HasSubstr("expects equal replicas of \"gradient of model.layers.1"));
}

TEST_F(TimetableRunTest, AddedToTheStepBefore) {
  build();
  for (TimetableEntry &entry : timetables[1].entries)
    if (auto *compute = entry.getIf<Compute>(); compute && entry.name == "backward lm_head micro-batch 0")
      compute->adds.assign(compute->adds.size(), true);
  EXPECT_THAT(complaint(), HasSubstr("to be there when \"backward lm_head micro-batch 0\" reads it"));
}

TEST_F(TimetableRunTest, TiedGradientsNotAddedUp) {
  build("gpt2_ignored.mlir");
  EXPECT_EQ(complaint(), "");
  for (size_t stage : {0, 1})
    remove(stage, "reduce gradient of tied transformer.wte.weight");
  EXPECT_EQ(complaint(),
            "expects tied copies of \"gradient of transformer.wte.weight\" to be equal, but those of stages "
            "0 and 1 differ");
}

TEST_F(TimetableRunTest, NormThatCountsTwice) {
  build("gpt2_ignored.mlir");
  for (StageParameter &parameter : timetables[1].parameters)
    parameter.counted = true;
  EXPECT_THAT(complaint(),
              MatchesRegex("expects the gradient norm to count every element of \"transformer.wte.weight\" "
                           "once, but ranks count [0-9.e+-]+ of [0-9.e+-]+"));
}

TEST_F(TimetableRunTest, NormThatMisses) {
  build();
  for (StageParameter &parameter : timetables[1].parameters)
    parameter.counted = parameter.names.front() != "lm_head.weight";
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient norm to count every element of \"lm_head.weight\" once"));
}

//===----------------------------------------------------------------------===//
// Between stages, and bodies
//===----------------------------------------------------------------------===//

TEST_F(TimetableRunTest, AnotherValueThanIsSent) {
  build();
  find<Receive>(1, "receive from stage 0 micro-batch 0").channel.value += 5;
  EXPECT_THAT(complaint(),
              MatchesRegex("expects \"receive from stage 0 micro-batch 0\" of stage 1 to find value [0-9]+ of "
                           "[0-9]+ bytes, but stage 0 sent value [0-9]+ of [0-9]+"));
}

TEST_F(TimetableRunTest, StagesThatWaitForOneAnother) {
  build();
  remove(0, "send activation to stage 1 micro-batch 0");
  remove(0, "end of send activation to stage 1 micro-batch 0");
  EXPECT_THAT(complaint(),
              HasSubstr("expects the step to end, but its stages wait for one another; stage 0 waits in \""));
}

TEST_F(TimetableRunTest, UnknownBody) {
  build();
  find<Compute>(0, "forward model.layers.0 micro-batch 0").function = "nobody";
  EXPECT_EQ(complaint(), "expects a dist.body named @nobody, which \"forward model.layers.0 micro-batch 0\" runs");
}

TEST_F(TimetableRunTest, BodyOfOtherArguments) {
  build();
  find<Compute>(0, "forward model.layers.0 micro-batch 0").reads.pop_back();
  EXPECT_THAT(complaint(),
              HasSubstr("expects as many arguments and results as \"forward model.layers.0 micro-batch 0\" has, "));
}

} // namespace
