// What the proof of timetables counts, and that it rejects every classic silent error by name: each test changes one
// thing in the timetables of a right program, or in the program behind them.
#include "MutatedTimetables.h"

#include "dialects/Graph/GraphStructure.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

class VerifyTimetableTest : public MutatedTimetables {
protected:
  void SetUp() override { build(kTwoStages); }
};

TEST_F(VerifyTimetableTest, CountsWhatItProves) {
  mlir::FailureOr<TimetableProof> proof = verifyTimetables(*parsed->module, timetables);
  ASSERT_TRUE(succeeded(proof));
  EXPECT_EQ(proof->stages, 2);
  EXPECT_EQ(proof->transfers, 4); // an activation and a gradient for each micro-batch
  EXPECT_EQ(proof->gradients, 6); // n0, w0, n1, w1 and the table on both stages
  EXPECT_EQ(proof->reducedOverAxes, 6);
  EXPECT_EQ(proof->reducedOverStages, 2); // the table's
  EXPECT_EQ(proof->counted, 5);
  EXPECT_EQ(proof->lossTerms, 2);
  EXPECT_EQ(proof->totals, 1);
}

//===--------------------------------------------------------------------===//
// Evaluation
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, EvaluationIsForwardsAlone) {
  mlir::FailureOr<TimetableProof> proof = verifyTimetables(*parsed->module, timetables);
  ASSERT_TRUE(succeeded(proof));
  int64_t entries = 0;
  for (const Timetable &evaluation : evaluationsOf(timetables)) {
    entries += evaluation.entries.size();
    EXPECT_LE(evaluation.entries.size(), timetables[evaluation.stage].entries.size() / 2);
    for (const TimetableEntry &entry : evaluation.entries) {
      auto *compute = entry.getIf<Compute>();
      EXPECT_TRUE(!compute || compute->kind != Compute::Kind::Backward) << entry.name;
    }
  }
  EXPECT_EQ(proof->evaluationEntries, entries);
  EXPECT_GT(proof->evaluationReads, 0);
}

TEST_F(VerifyTimetableTest, EvaluationRunsABackward) {
  timetables[0].evaluation[0].entries.push_back(find(0, "backward block0 micro-batch 0"));
  EXPECT_THAT(complaint(),
              HasSubstr("expects evaluation to run forwards alone, but \"backward block0 micro-batch 0\" on "
                        "stage 0 runs @"));
}

TEST_F(VerifyTimetableTest, EvaluationLeavesAForwardOut) {
  timetables[1].evaluation[0].entries.pop_back();
  EXPECT_THAT(complaint(), HasSubstr("expects the loss to be whole at"));
}

TEST_F(VerifyTimetableTest, EvaluationFindsStateElsewhere) {
  Timetable &evaluation = timetables[0].evaluation[0];
  evaluation.buffers[evaluation.parameters[0].parameterBuffer].offset += 64;
  EXPECT_THAT(complaint(), HasSubstr("expects evaluation to find on stage 0 what training keeps there, at the same "
                                     "places of the same arena, but it does not"));
}

TEST_F(VerifyTimetableTest, AStageWithoutEvaluation) {
  timetables[1].evaluation.clear();
  EXPECT_THAT(complaint(), HasSubstr("expects every stage to have an evaluation, but 1 of 2 do"));
}

//===--------------------------------------------------------------------===//
// Reductions of gradients
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, NormWeightsReductionRemovedUnderSequenceParallelism) {
  for (bool isWait : {true, false})
    for (size_t index = 0; index < timetables[0].entries.size(); ++index) {
      TimetableEntry &entry = timetables[0].entries[index];
      int buffer = isWait && entry.getIf<Wait>() ? entry.getIf<Wait>()->buffer.buffer
                   : entry.getIf<AllReduce>()    ? entry.getIf<AllReduce>()->buffer.buffer
                                                 : -1;
      if (buffer == parameter(0, "n0").gradientBuffer && (isWait == (entry.getIf<Wait>() != nullptr)))
        timetables[0].entries.erase(timetables[0].entries.begin() + index--);
    }
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of n0 to be reduced over mesh axes 0, 1, on which it is "
                                     "partial, before the update, but no entry of stage 0 does it"));
  EXPECT_THAT(complaint(), HasSubstr("report it with the program and its plan"));
}

TEST_F(VerifyTimetableTest, ReductionOverOneAxisWhereAnotherIsPartialToo) {
  for (RankGroup &group : timetables[0].groups)
    if (group.axes == std::vector<int64_t>{0, 1})
      group.axes = {0};
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of n0 to be reduced over mesh axes 0, 1, on which it is "
                        "partial, but \"reduce gradients of block0\" on stage 0 does it over mesh axis 0"));
}

TEST_F(VerifyTimetableTest, ReductionTwice) {
  TimetableEntry again = find(0, "reduce gradients of embed");
  again.getIf<AllReduce>()->handle.reset();
  timetables[0].entries.push_back(again);
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of table to be reduced once over mesh axis 0, but \"reduce "
                                     "gradients of embed\" on stage 0 does it again"));
}

TEST_F(VerifyTimetableTest, ReductionBeforeTheLastMicroBatch) {
  find<AllReduce>(1, "reduce gradients of head").handle.reset();
  erase(1, "end of reduce gradients of head");
  move(1, "reduce gradients of head", "backward head micro-batch 1");
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of table to be whole at \"reduce gradients of head\" on stage "
                        "1, but the term of head micro-batch 1 is not in it"));
}

TEST_F(VerifyTimetableTest, AdditionAfterTheReduction) {
  Accumulate sum = {{parameter(1, "n1").gradientBuffer, 0}, {parameter(1, "table").gradientBuffer, 0}, GVRT_F32, 4};
  timetables[1].entries.push_back({sum, "add to table"});
  EXPECT_THAT(complaint(), HasSubstr("expects \"add to table\" on stage 1 to add a gradient or a term of its "
                                     "micro-batch, but in gradient of n1 there is gradient of n1"));
}

TEST_F(VerifyTimetableTest, ReductionOfAPiece) {
  find<AllReduce>(0, "reduce gradients of embed").count = 2;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"reduce gradients of embed\" on stage 0 to reduce all of the gradient of "
                        "table, but it reduces a piece"));
}

TEST_F(VerifyTimetableTest, ReductionOfWhatIsNoGradient) {
  AllReduce reduce = {{parameter(0, "w0").parameterBuffer, 0}, 0, 4, std::nullopt};
  timetables[0].entries.push_back({reduce, "reduce w0"});
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce w0\" on stage 0 to reduce gradients of parameters alone, but "
                                     "there is w0"));
}

//===--------------------------------------------------------------------===//
// Tied parameters
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, TiedGradientSummedTwice) {
  for (size_t stage : {0, 1})
    timetables[stage].entries.push_back(find(stage, "reduce gradient of tied table"));
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of tied table to be summed once over its stages, but \"reduce "
                        "gradient of tied table\" on stage 0 does it again"));
}

TEST_F(VerifyTimetableTest, TiedGradientNotSummed) {
  for (size_t stage : {0, 1})
    erase(stage, "reduce gradient of tied table");
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of tied table to be summed over stages 0, 1 before the "
                                     "update, but no entry of stage 0 does it"));
}

TEST_F(VerifyTimetableTest, TiedGradientSummedOverOtherStages) {
  for (RankGroup &group : timetables[1].groups)
    if (!group.stages.empty())
      group.stages = {1};
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of tied table to be summed over stages 0, 1, which hold it, "
                                     "but \"reduce gradient of tied table\" on stage 1 does it over stage 1"));
}

TEST_F(VerifyTimetableTest, TiedGradientSummedBeforeItsReduction) {
  find<AllReduce>(0, "reduce gradients of embed").handle.reset();
  erase(0, "end of reduce gradients of embed");
  move(0, "reduce gradients of embed");
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of tied table to be reduced over mesh axis 0 before it is "
                        "summed over stages, but \"reduce gradient of tied table\" on stage 0 comes first"));
}

TEST_F(VerifyTimetableTest, TiedParameterWithUnequalCuts) {
  set("head", "homes", "[#dist.placement<[2@g1, 2]>]");
  EXPECT_THAT(complaint(), HasSubstr("expects tied table to be cut alike wherever it is, but head on stage 1 has it as "
                                     "#dist.placement<[2@g1, 2]> and a layer before as #dist.placement<[4]>"));
}

//===--------------------------------------------------------------------===//
// Gradients, written and added to
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, SharedGradientPartialOnOtherAxes) {
  parsed->module->walk([&](galvatron::graph::CallOp call) {
    if (call.getPath() == "block1")
      call.setParametersAttr(mlir::Builder(parsed->context.get()).getStrArrayAttr({"n1", "n1"}));
  });
  EXPECT_THAT(complaint(),
              HasSubstr("expects all layers to leave the gradient of n1 partial on the same mesh axes, but "
                        "block1 does not; give them the same strategy"));
}

TEST_F(VerifyTimetableTest, GradientAddedToWhatAnEarlierStepLeft) {
  erase(0, "zero gradient of table");
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of table to be written or zeroed before \"backward embed "
                                     "micro-batch 0\" on stage 0 adds to it, but there is nothing"));
}

TEST_F(VerifyTimetableTest, GradientWrittenOverByTheNextMicroBatch) {
  find<Compute>(1, "backward head micro-batch 1").adds = {false};
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of table to be whole at \"reduce gradients of head\" on stage "
                        "1, but the term of head micro-batch 0 is not in it"));
}

TEST_F(VerifyTimetableTest, GradientWrittenByABodyThatCanOnlyAdd) {
  find<Compute>(0, "backward embed micro-batch 0").adds = {false};
  EXPECT_THAT(complaint(), HasSubstr("expects @embed.backward to add to the gradient of table, for it cannot write it, "
                                     "but \"backward embed micro-batch 0\" on stage 0 asks for that"));
}

TEST_F(VerifyTimetableTest, GradientInAnotherBuffer) {
  find<Compute>(1, "backward head micro-batch 0").writes[1] = {parameter(1, "w1").gradientBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of table in its own buffer, but \"backward head micro-batch "
                                     "0\" on stage 1 leaves it in gradient of w1"));
}

TEST_F(VerifyTimetableTest, NoGradientForWhatIsTrained) {
  parameter(0, "w0").trained = false;
  EXPECT_THAT(complaint(), HasSubstr("expects the update to find a gradient for exactly what is trained, but for w0 on "
                                     "stage 0 there is gradient of w0"));
}

//===--------------------------------------------------------------------===//
// What is read
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, ForwardOfAnotherMicroBatch) {
  find<Compute>(1, "forward head micro-batch 1").reads[1].offset = 0;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"forward head micro-batch 1\" on stage 1 to find labels micro-batch 1 in "
                        "labels, but there is labels micro-batch 0"));
}

TEST_F(VerifyTimetableTest, BackwardOfWhatAnotherForwardSaved) {
  find<Compute>(0, "backward block0 micro-batch 1").reads[4] =
      find<Compute>(0, "forward block0 micro-batch 0").writes[1];
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 1\" on stage 0 to find value 0 saved by "
                                     "block0 micro-batch 1 in saved by block0 micro-batch 0"));
}

TEST_F(VerifyTimetableTest, LiveBuffersThatOverlap) {
  // The scratch of the second forward over what the first saved.
  buffer(0, find<Compute>(0, "forward block0 micro-batch 1").scratch).offset =
      buffer(0, find<Compute>(0, "forward block0 micro-batch 0").writes[1]).offset;
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 0\" on stage 0 to find value 0 saved by "
                                     "block0 micro-batch 0 in saved by block0 micro-batch 0, but there is nothing, "
                                     "written by \"forward block0 micro-batch 1\""));
}

TEST_F(VerifyTimetableTest, OutputOverInput) {
  Compute &forward = find<Compute>(0, "forward block0 micro-batch 0");
  buffer(0, forward.writes[0]).offset = buffer(0, forward.reads[0]).offset;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"forward block0 micro-batch 0\" on stage 0 to write beside what it reads, "
                        "but output of block0 micro-batch 0 overlaps output of embed micro-batch 0"));
}

TEST_F(VerifyTimetableTest, ScratchOverInput) {
  Compute &forward = find<Compute>(0, "forward block0 micro-batch 0");
  buffer(0, forward.scratch).offset = buffer(0, forward.reads[0]).offset;
  EXPECT_THAT(complaint(), HasSubstr("expects the scratch of \"forward block0 micro-batch 0\" on stage 0 beside its "
                                     "arguments, but it overlaps output of embed micro-batch 0"));
  forward.scratch = {};
  EXPECT_THAT(complaint(),
              HasSubstr("expects a scratch of 64 bytes for \"forward block0 micro-batch 0\" on stage 0, but "
                        "there is none"));
}

TEST_F(VerifyTimetableTest, ArgumentThatIsReadButAbsent) {
  find<Compute>(0, "backward block0 micro-batch 0").reads[1] = {};
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 0\" on stage 0 to give @block.backward its "
                                     "argument 1, which it reads, but there is none"));
  find<Compute>(0, "backward block0 micro-batch 0").reads.pop_back();
  EXPECT_THAT(complaint(), HasSubstr("to give @block.backward the buffers of its 9 arguments, but it gives 8"));
}

TEST_F(VerifyTimetableTest, GradientOfAnotherValue) {
  find<Compute>(0, "backward embed micro-batch 1").reads[0] =
      find<Compute>(0, "backward block0 micro-batch 1").reads[0];
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"backward embed micro-batch 1\" on stage 0 to find the gradient of output "
                        "of embed micro-batch 1 in gradient from stage 1 micro-batch 1, but there is gradient "
                        "of output of block0 micro-batch 1"));
}

TEST_F(VerifyTimetableTest, LayerLeftOut) {
  erase(0, "forward block0 micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("to find output of block0 micro-batch 1 in"));
}

TEST_F(VerifyTimetableTest, BackwardLeftOut) {
  erase(0, "backward embed micro-batch 0");
  find<Compute>(0, "backward embed micro-batch 1").adds = {true};
  for (const char *name :
       {"reduce gradients of embed", "end of reduce gradients of embed", "reduce gradient of tied table"})
    erase(0, name);
  EXPECT_THAT(complaint(),
              HasSubstr("expects embed to run backward for micro-batch 0, but no entry of stage 0 does it"));
}

TEST_F(VerifyTimetableTest, LayerTwice) {
  timetables[0].entries.push_back(find(0, "forward embed micro-batch 0"));
  EXPECT_THAT(complaint(), HasSubstr("expects every layer to run forward and then backward once a micro-batch, but not "
                                     "\"forward embed micro-batch 0\" on stage 0, as @embed.forward"));
}

//===--------------------------------------------------------------------===//
// What is under way
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, WaitDropped) {
  erase(0, "end of reduce gradients of embed");
  EXPECT_THAT(complaint(),
              HasSubstr("expects what is under way to be left alone until its wait, but \"reduce gradient "
                        "of tied table\" on stage 0 touches gradient of table, which \"reduce gradients of "
                        "embed\" still holds"));
}

TEST_F(VerifyTimetableTest, WaitDroppedAtTheEnd) {
  erase(1, "end of send gradient to stage 0 micro-batch 1");
  EXPECT_THAT(complaint(),
              HasSubstr("expects a wait for \"send gradient to stage 0 micro-batch 1\" on stage 1, but the "
                        "list ends without one"));
}

TEST_F(VerifyTimetableTest, WaitTwice) {
  timetables[1].entries.push_back(find(1, "end of send gradient to stage 0 micro-batch 1"));
  EXPECT_THAT(complaint(), HasSubstr("expects one wait for one start, but nothing is under way with the handle"));
}

TEST_F(VerifyTimetableTest, WaitOfAnotherBuffer) {
  find<Wait>(0, "end of reduce gradients of embed").buffer = {parameter(0, "w0").gradientBuffer, 0};
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"end of reduce gradients of embed\" on stage 0 to hold gradient of table "
                        "until then, but it holds gradient of w0"));
}

TEST_F(VerifyTimetableTest, HandleTwice) {
  find<Send>(0, "send activation to stage 1 micro-batch 1").handle =
      find<Send>(0, "send activation to stage 1 micro-batch 0").handle;
  EXPECT_THAT(complaint(), HasSubstr("expects a handle of its own for \"send activation to stage 1 micro-batch 1\" on "
                                     "stage 0, but \"send activation to stage 1 micro-batch 0\" still has 0"));
}

TEST_F(VerifyTimetableTest, SentBufferFreedBeforeItsWait) {
  // What comes next lies where the value is still being sent from.
  buffer(0, find<Compute>(0, "forward embed micro-batch 1").writes[0]).offset =
      buffer(0, find<Send>(0, "send activation to stage 1 micro-batch 0").buffer).offset;
  EXPECT_THAT(complaint(), HasSubstr("expects what is under way to be left alone until its wait, but \"forward embed "
                                     "micro-batch 1\" on stage 0 touches output of embed micro-batch 1, which \"send "
                                     "activation to stage 1 micro-batch 0\" still holds"));
}

TEST_F(VerifyTimetableTest, ReceivedBufferReadBeforeItsWait) {
  find<Compute>(1, "backward block1 micro-batch 0").reads[1] =
      find<Receive>(1, "receive from stage 0 micro-batch 1").buffer;
  EXPECT_THAT(complaint(), HasSubstr("expects what is under way to be left alone until its wait, but \"backward block1 "
                                     "micro-batch 0\" on stage 1 touches value from stage 0 micro-batch 1, which "
                                     "\"receive from stage 0 micro-batch 1\" still holds"));
}

TEST_F(VerifyTimetableTest, ReducedBufferWrittenBeforeItsWait) {
  find<Compute>(0, "backward embed micro-batch 1").writes[0] = find<AllReduce>(0, "reduce gradients of block0").buffer;
  EXPECT_THAT(complaint(), HasSubstr("expects what is under way to be left alone until its wait, but \"backward embed "
                                     "micro-batch 1\" on stage 0 touches"));
}

TEST_F(VerifyTimetableTest, WaitOfAReductionDroppedAtTheEnd) {
  erase(1, "end of reduce gradients of block1");
  EXPECT_THAT(complaint(), HasSubstr("expects a wait for \"reduce gradients of block1\" on stage 1, but the list ends "
                                     "without one"));
}

TEST_F(VerifyTimetableTest, HandleOfAReductionTwice) {
  find<AllReduce>(1, "reduce gradients of block1").handle = find<AllReduce>(1, "reduce gradients of head").handle;
  EXPECT_THAT(complaint(), HasSubstr("expects a handle of its own for \"reduce gradients of block1\" on stage 1, but "
                                     "\"reduce gradients of head\" still has"));
}

//===--------------------------------------------------------------------===//
// Stages that wait for one another
//===--------------------------------------------------------------------===//

/// The sum over stages comes before what the other stage waits for.
TEST_F(VerifyTimetableTest, SumOverStagesThatClosesACircle) {
  move(1, "send gradient to stage 0 micro-batch 1");
  move(1, "end of send gradient to stage 0 micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("expects every wait to end, but the stages wait for one another: stage 0 in "
                                     "\"receive gradient from stage 1 micro-batch 1\", stage 1 in \"reduce gradient of "
                                     "tied table\""));
}

/// Stages of devices with one value each that `first` and `second` exchange.
std::string exchange(const std::string &first, const std::string &second) {
  return R"(
#x = #dist.placement<[4]>
#y = #dist.placement<[2]>
module attributes {plan.pipeline = #plan.pipeline<stages = 2, devices = 1, micro_batches = 1, schedule = "gpipe">} {
  dist.stage @stage0 index 0 order <F0> {
    %a = dist.input "a" : tensor<4xi64, #x>
    )" + first +
         R"(
  }
  dist.stage @stage1 index 1 order <F0> {
    )" + second +
         "\n  }\n}\n";
}

const char *const kSendA = "dist.send %a to 1 tag 0 : tensor<4xi64, #x>\n";
const char *const kSendB = "dist.send %a to 1 tag 1 : tensor<4xi64, #x>\n";

TEST_F(VerifyTimetableTest, ReceivesBeforeTheSendsOfOneAnother) {
  build(exchange(std::string("%0 = dist.receive from 1 tag 1 : tensor<4xi64, #x>\n") +
                     "dist.send %0 to 1 tag 0 : tensor<4xi64, #x>",
                 std::string("%0 = dist.receive from 0 tag 0 : tensor<4xi64, #x>\n") +
                     "dist.send %0 to 0 tag 1 : tensor<4xi64, #x>"));
  EXPECT_THAT(complaint(), HasSubstr("the stages wait for one another: stage 0 in \"receive from stage 1 micro-batch "
                                     "0\", stage 1 in \"receive from stage 0 micro-batch 0\""));
}

TEST_F(VerifyTimetableTest, ValueThatNobodyReceives) {
  build(exchange(kSendA, ""));
  EXPECT_THAT(complaint(), HasSubstr("expects stage 1 to receive what stage 0 sends, but number 0 is \"send activation "
                                     "to stage 1 micro-batch 0\" of 32 bytes there and nothing here"));
}

TEST_F(VerifyTimetableTest, ValueReceivedInAnotherSize) {
  build(exchange(kSendA, "%0 = dist.receive from 0 tag 0 : tensor<2xi64, #y>"));
  EXPECT_THAT(complaint(), HasSubstr("number 0 is \"send activation to stage 1 micro-batch 0\" of 32 bytes there and "
                                     "\"receive from stage 0 micro-batch 0\" of 16 bytes here"));
}

TEST_F(VerifyTimetableTest, ValuesSentInAnotherOrder) {
  build(exchange(std::string(kSendA) + kSendB, "%0 = dist.receive from 0 tag 1 : tensor<4xi64, #x>\n"
                                               "%1 = dist.receive from 0 tag 0 : tensor<4xi64, #x>"));
  // The timetable receives them in the order that they are sent in, whatever the program's.
  EXPECT_EQ(complaint(), "");
  std::vector<TimetableEntry *> receives;
  for (TimetableEntry &entry : timetables[1].entries)
    if (entry.getIf<Receive>())
      receives.push_back(&entry);
  ASSERT_EQ(receives.size(), 2u);
  std::swap(*receives[0], *receives[1]);
  EXPECT_THAT(complaint(), HasSubstr("expects stage 1 to receive what stage 0 sends, but number 0 is"));
}

/// Both blocks' parameters are one: four sums over the two stages.
TEST_F(VerifyTimetableTest, SumsOverStagesInAnotherOrder) {
  std::string text = kTwoStages;
  for (const char *name : {"n", "w"}) {
    std::string own = std::string("\"") + name + "1\"";
    text.replace(text.find(own), own.size(), std::string("\"") + name + "0\"");
  }
  build(text);
  ASSERT_EQ(complaint(), "");
  move(1, "reduce gradient of tied w0", "reduce gradient of tied n0");
  EXPECT_THAT(complaint(), HasSubstr("expects stages that share a communicator to issue the same collectives in one "
                                     "order, but number 0 is"));
}

//===--------------------------------------------------------------------===//
// State and transfers
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, StateWithTwoOwners) {
  StageParameter &w0 = parameter(0, "w0");
  timetables[0].buffers[w0.secondMomentBuffer].offset = timetables[0].buffers[w0.firstMomentBuffer].offset;
  EXPECT_THAT(complaint(), HasSubstr("expects every byte to have one owner, but \"first moment of w0\" and \"second "
                                     "moment of w0\" of stage 0 overlap"));
}

TEST_F(VerifyTimetableTest, StateWithTooFewBytes) {
  timetables[0].buffers[parameter(0, "w0").firstMomentBuffer].bytes = 8;
  EXPECT_THAT(complaint(), HasSubstr("expects 16 bytes for first moment of w0 on stage 0, but its buffer has 8"));
}

TEST_F(VerifyTimetableTest, StateWrittenOver) {
  find<Compute>(0, "forward block0 micro-batch 0").writes[0] = {parameter(0, "table").parameterBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects the update alone to write table, but \"forward block0 micro-batch 0\" on "
                                     "stage 0 does as table"));
}

TEST_F(VerifyTimetableTest, BeyondTheBuffer) {
  find<Compute>(0, "forward block0 micro-batch 0").writes[0].offset = 8;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"forward block0 micro-batch 0\" on stage 0 to stay within the 16 bytes of "
                        "output of block0 micro-batch 0, but it touches bytes 8 to 24"));
}

TEST_F(VerifyTimetableTest, NormThatCountsReplicas) {
  parameter(1, "table").counted = true;
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient norm to count table in one stage, but 2 of 2 stages that hold "
                        "it do"));
}

TEST_F(VerifyTimetableTest, NormThatMissesShards) {
  parameter(0, "w0").home = parameter(0, "w0").gradient;
  EXPECT_THAT(complaint(),
              HasSubstr("expects norm, files and gradient of w0 to have the elements that block0 reads, but "
                        "on stage 0 they are cut otherwise"));
  parameter(0, "w0").names.front() = "v";
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient norm to count w0 in one stage, but 0 of 1"));
}

TEST_F(VerifyTimetableTest, ParameterThatNoStageHolds) {
  StageParameter w0 = parameter(0, "w0");
  parameter(0, "w0").names.front() = "v";
  timetables[1].parameters.push_back(w0);
  EXPECT_THAT(complaint(), HasSubstr("expects stage 0 to hold the parameter w0 of block0"));
}

TEST_F(VerifyTimetableTest, ValuesReceivedInAnotherOrder) {
  TimetableEntry &first = find(0, "receive gradient from stage 1 micro-batch 0"),
                 &second = find(0, "receive gradient from stage 1 micro-batch 1");
  std::swap(first.microBatch, second.microBatch);
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 0\" on stage 0 to find the gradient of "
                                     "output of block0 micro-batch 0 in gradient from stage 1 micro-batch 0, but there "
                                     "is gradient of output of block0 micro-batch 1"));
}

TEST_F(VerifyTimetableTest, ValueThatNobodySends) {
  erase(1, "send gradient to stage 0 micro-batch 1");
  erase(1, "end of send gradient to stage 0 micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("expects stage 0 to receive what stage 1 sends, but number 1 is nothing there and "
                                     "\"receive gradient from stage 1 micro-batch 1\" of 16 bytes here"));
}

TEST_F(VerifyTimetableTest, TransferOfNoValue) {
  find<Receive>(0, "receive gradient from stage 1 micro-batch 1").channel.value = 7;
  EXPECT_THAT(complaint(),
              HasSubstr("expects the stage to receive what \"receive gradient from stage 1 micro-batch 1\" "
                        "on stage 0 receives, but it has no such value"));
  find<Send>(0, "send activation to stage 1 micro-batch 0").channel.value = 7;
  EXPECT_THAT(complaint(), HasSubstr("expects the stage to send what \"send activation to stage 1 micro-batch 0\" on "
                                     "stage 0 sends, but it has no such value"));
}

//===--------------------------------------------------------------------===//
// The loss
//===--------------------------------------------------------------------===//

TEST_F(VerifyTimetableTest, LossAveragedPerRank) {
  erase(1, "add up labels over devices");
  EXPECT_THAT(complaint(),
              HasSubstr("expects labels over the whole batch at \"forward head micro-batch 0\" on stage 1, "
                        "but nothing has reduced it over mesh axis 0"));
}

TEST_F(VerifyTimetableTest, LossAveragedPerMicroBatch) {
  erase(1, "add up labels micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("expects labels to be whole at \"add up labels over devices\" on stage 1, but the "
                                     "term of labels micro-batch 1 is not in it"));
}

TEST_F(VerifyTimetableTest, TotalReadBeforeItsReduction) {
  move(1, "add up labels over devices", "backward head micro-batch 0");
  EXPECT_THAT(complaint(), HasSubstr("expects labels over the whole batch at \"forward head micro-batch 0\""));
}

TEST_F(VerifyTimetableTest, TotalAddedToWhatIsThere) {
  erase(1, "zero labels");
  EXPECT_THAT(complaint(),
              HasSubstr("expects labels to be zeroed before \"add up labels micro-batch 0\" on stage 1 adds "
                        "to it, but there is nothing"));
}

TEST_F(VerifyTimetableTest, AdditionToATotalThatIsReduced) {
  move(1, "add up labels micro-batch 1", "add up labels over devices");
  std::vector<TimetableEntry> &entries = timetables[1].entries;
  TimetableEntry again = find(1, "add up labels micro-batch 1");
  entries.insert(entries.begin() + indexOf(1, "add up labels over devices") + 1, again);
  EXPECT_THAT(complaint(),
              HasSubstr("expects no addition to labels after it is reduced, but \"add up labels micro-batch "
                        "1\" on stage 1 adds to it"));
}

TEST_F(VerifyTimetableTest, PieceOfATotal) {
  find<AllReduce>(1, "add up labels over devices").count = 2;
  EXPECT_THAT(complaint(), HasSubstr("to reduce all of labels and no more, but it does not"));
}

TEST_F(VerifyTimetableTest, TermOfTheLossTwice) {
  std::vector<TimetableEntry> &entries = timetables[1].entries;
  TimetableEntry again = find(1, "add up loss micro-batch 0");
  entries.insert(entries.begin() + indexOf(1, "add up loss micro-batch 0"), again);
  EXPECT_THAT(complaint(), HasSubstr("expects each term of the loss once, but \"add up loss micro-batch 0\" on stage 1 "
                                     "adds that of loss micro-batch 0 again"));
}

TEST_F(VerifyTimetableTest, TermOfTheLossLeftOut) {
  erase(1, "add up loss micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("expects the loss to be whole at the end of the step on stage 1, but the term of "
                                     "loss micro-batch 1 is not in it"));
}

TEST_F(VerifyTimetableTest, LossNotZeroed) {
  erase(1, "zero loss");
  EXPECT_THAT(complaint(),
              HasSubstr("expects the loss to be zeroed before \"add up loss micro-batch 0\" on stage 1 adds "
                        "to it, but there is nothing"));
}

TEST_F(VerifyTimetableTest, PartialLossUsedAsFull) {
  timetables[1].losses[0].placement = parameter(1, "w1").home;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"add up loss micro-batch 0\" on stage 1 to add a term of the loss to the "
                        "sum of those that are partial on its mesh axes, but it adds output of head to loss"));
  timetables[1].losses.clear();
  erase(1, "add up loss micro-batch 0");
  erase(1, "add up loss micro-batch 1");
  EXPECT_THAT(complaint(),
              HasSubstr("expects each term of the loss in one sum, but of 1 terms of stage 1 sums have 0"));
}

} // namespace
