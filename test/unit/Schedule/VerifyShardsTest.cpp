// What the proof of timetables says of states that ranks share (ZeRO): that it rejects every classic silent error by
// name. Each test changes one thing in the timetables of a right program.
#include "MutatedTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

void replaceAll(std::string &text, llvm::StringRef from, llvm::StringRef to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

/// Axis 0 cuts the batch, axis 1 the sequence, as under Ulysses or cp: all gradients are partial on both, so four ranks
/// share the states. Lists have pieces of 32 elements: n0 at 0 and w0 at 32 are block0's.
class VerifyShardsTest : public MutatedTimetables {
protected:
  void SetUp() override { use(2); }

  void use(int level, const std::string &everyMicroBatch = "") {
    std::string program = kTwoStages;
    replaceAll(program, "#g = #dist.placement<[4] partial [sum@g0]>",
               "#g = #dist.placement<[4] partial [sum@g0, sum@g1]>");
    replaceAll(program, "num_saved",
               "plan.strategy = #plan.strategy<dp = 2, ulysses = 2, zero = " + std::to_string(level) +
                   (everyMicroBatch.empty() ? "" : ", reduce_every_micro_batch = ") + everyMicroBatch + ">, num_saved");
    build(program);
  }

  /// Joins other ranks than the rest does.
  void join(size_t stage, int64_t &group, RankGroup other) {
    group = timetables[stage].groups.size();
    timetables[stage].groups.push_back(std::move(other));
  }

  void insertAfter(size_t stage, const std::string &name, TimetableEntry entry) {
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    entries.insert(entries.begin() + indexOf(stage, name) + 1, std::move(entry));
  }

  StateBucket &bucket(size_t stage, const std::string &path) {
    for (StateBucket &bucket : timetables[stage].buckets)
      if (bucket.path == path)
        return bucket;
    ADD_FAILURE() << "no bucket " << path;
    return timetables[stage].buckets.front();
  }
};

TEST_F(VerifyShardsTest, CountsWhatItProves) {
  // Each stage gathers block and table: once a step, or for two forwards, and for a block's backward after another
  // body.
  using Case = std::tuple<int, const char *, int, int>;
  for (auto [level, every, gathers, scatters] :
       {Case(1, "", 4, 4), Case(2, "", 4, 8), Case(3, "", 10, 8), Case(1, "true", 4, 8), Case(3, "false", 10, 4)}) {
    use(level, every);
    mlir::FailureOr<TimetableProof> proof = verifyTimetables(*parsed->module, timetables);
    ASSERT_TRUE(succeeded(proof)) << level;
    EXPECT_EQ(proof->lists, 4) << level;
    EXPECT_EQ(proof->gathers, gathers) << level;
    EXPECT_EQ(proof->scatters, scatters) << level;
    EXPECT_EQ(proof->gradients, 6) << level;
    EXPECT_EQ(proof->reducedOverAxes, 6) << level;
    EXPECT_EQ(proof->reducedOverStages, 2) << level;
  }
}

//===--------------------------------------------------------------------===//
// Reductions into pieces
//===--------------------------------------------------------------------===//

TEST_F(VerifyShardsTest, ReductionOverDpWhereUlyssesIsPartialToo) {
  join(0, find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").group, {{0}, {}});
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of n0 to be reduced over mesh axes 0, 1, on which it is "
                                     "partial, but \"reduce gradients of block0 micro-batch 0\" on stage 0 does it "
                                     "over mesh axis 0"));
}

TEST_F(VerifyShardsTest, RanksInAnotherOrder) {
  join(0, find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").group, {{1, 0}, {}});
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"reduce gradients of block0 micro-batch 0\" on stage 0 to join the ranks "
                        "along mesh axes 0, 1, which share the states of block0 in this order, but it "
                        "does along mesh axes 1, 0"));
}

TEST_F(VerifyShardsTest, ReductionMissing) {
  for (const char *name :
       {"reduce gradients of block0 micro-batch 1", "end of reduce gradients of block0 micro-batch 1",
        "add up gradients of block0 micro-batch 1"})
    erase(0, name);
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of n0 to be whole at the end of the step on stage 0, but the "
                        "term of block0 micro-batch 1 is not in it"));
}

TEST_F(VerifyShardsTest, ReductionMissingAltogether) {
  use(1);
  erase(0, "reduce gradients of block0");
  erase(0, "end of reduce gradients of block0");
  EXPECT_THAT(complaint(), HasSubstr("expects the update to find a gradient for exactly what is trained, but for n0 on "
                                     "stage 0 there is nothing"));
}

TEST_F(VerifyShardsTest, ReductionTwice) {
  TimetableEntry again = find(0, "reduce gradients of block0 micro-batch 0");
  again.getIf<ReduceScatter>()->handle.reset();
  insertAfter(0, "end of reduce gradients of block0 micro-batch 0", again);
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of n0 to be reduced once over mesh axes 0, 1, but \"reduce "
                                     "gradients of block0 micro-batch 0\" on stage 0 does it again"));
}

TEST_F(VerifyShardsTest, PieceAddedTwice) {
  insertAfter(0, "add up gradients of block0 micro-batch 1", find(0, "add up gradients of block0 micro-batch 1"));
  EXPECT_THAT(complaint(), HasSubstr("expects each term of the gradients of block0 once, but \"add up gradients of "
                                     "block0 micro-batch 1\" on stage 0 adds that of block0 micro-batch 1 again"));
}

TEST_F(VerifyShardsTest, PieceAddedElsewhere) {
  find<Accumulate>(0, "add up gradients of block0 micro-batch 1").sum = {bucket(0, "table").gradientBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects \"add up gradients of block0 micro-batch 1\" on stage 0 to add to this "
                                     "rank's piece of gradients of block0, but there is this rank's piece of gradients "
                                     "of table"));
}

TEST_F(VerifyShardsTest, PieceAddedAfterTheSumOverStages) {
  move(0, "add up gradients of table micro-batch 1");
  std::string text = complaint();
  EXPECT_THAT(text, HasSubstr("expects the gradient of table to be whole at \"reduce gradient of tied table\" on stage "
                              "0, but the term of embed micro-batch 1 is not in it"));
  // Not so where another stage's terms are all that is missing.
  use(2);
  insertAfter(0, "reduce gradient of tied table", find(0, "add up gradients of table micro-batch 1"));
  EXPECT_THAT(complaint(), HasSubstr("expects no addition to the gradients of table after they are summed over stages, "
                                     "but \"add up gradients of table micro-batch 1\" on stage 0 adds to them"));
}

TEST_F(VerifyShardsTest, GradientsAtOtherElements) {
  find<Compute>(0, "backward block0 micro-batch 0").writes[2].offset += 64;
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradients of block0 micro-batch 0\" on stage 0 to find the "
                                     "gradient of w0 at element 32 of whole gradients of block0 micro-batch 0, but "
                                     "there is nothing"));
}

TEST_F(VerifyShardsTest, ReductionOfAPiece) {
  find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").count = 16;
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradients of block0 micro-batch 0\" on stage 0 to leave a piece "
                                     "of 32 elements of the gradients of block0, but it leaves 16"));
}

TEST_F(VerifyShardsTest, ReductionOfWhatIsNoGradient) {
  find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").from = {bucket(0, "block0").parameterBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradients of block0 micro-batch 0\" on stage 0 to reduce "
                                     "gradients of parameters that ranks share, but in parameters of block0 there is "
                                     "n0 as gathered"));
}

TEST_F(VerifyShardsTest, PieceOverTheWhole) {
  ReduceScatter &scatter = find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 1");
  buffer(0, scatter.to).offset = buffer(0, scatter.from).offset;
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradients of block0 micro-batch 1\" on stage 0 to write beside "
                                     "what it reads, but piece of gradients of block0 micro-batch 1 overlaps whole "
                                     "gradients of block0 micro-batch 1"));
}

TEST_F(VerifyShardsTest, PieceWrittenOverAnotherState) {
  find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").to = {bucket(0, "table").firstMomentBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects the update alone to write this rank's piece of first moments of table, "
                                     "but \"reduce gradients of block0 micro-batch 0\" on stage 0 does as first "
                                     "moments of table"));
}

TEST_F(VerifyShardsTest, SumOverStagesOfAPart) {
  find<AllReduce>(0, "reduce gradient of tied table").count = 16;
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradient of tied table\" on stage 0 to sum all of this rank's "
                                     "piece of gradients of table and no more, but it does not"));
}

TEST_F(VerifyShardsTest, SumOverStagesBeforeThereIsAPiece) {
  TimetableEntry early = find(0, "reduce gradient of tied table");
  timetables[0].entries.insert(timetables[0].entries.begin(), early);
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"reduce gradient of tied table\" on stage 0 to find this rank's piece of "
                        "gradients of table, but there is nothing"));
}

TEST_F(VerifyShardsTest, PiecesSummedOverRanksThatShareThem) {
  AllReduce reduce = {{bucket(0, "block0").gradientBuffer, 0}, 0, 32, std::nullopt};
  join(0, reduce.group, {{0, 1}, {}});
  timetables[0].entries.push_back({reduce, "reduce pieces"});
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient of n0 to be reduced once over mesh axes 0, 1, but \"reduce "
                                     "pieces\" on stage 0 does it again"));
}

//===--------------------------------------------------------------------===//
// Gathers
//===--------------------------------------------------------------------===//

TEST_F(VerifyShardsTest, GatherBeforeTheUpdate) {
  // At the end of a step: what it gathers is of the update before.
  for (int level : {1, 2}) {
    use(level);
    find<AllGather>(0, "gather parameters of block0").handle.reset();
    erase(0, "end of gather parameters of block0");
    move(0, "gather parameters of block0");
    EXPECT_THAT(complaint(), HasSubstr("expects \"forward block0 micro-batch 0\" on stage 0 to find n0 as gathered in "
                                       "parameters of block0, but there is parameters of block0 as the step before "
                                       "gathered them"));
  }
}

TEST_F(VerifyShardsTest, GatherTwice) {
  TimetableEntry again = find(0, "gather parameters of block0");
  again.getIf<AllGather>()->handle.reset();
  insertAfter(0, "forward block0 micro-batch 0", again);
  EXPECT_THAT(complaint(), HasSubstr("expects \"gather parameters of block0\" on stage 0 to gather from this rank's "
                                     "piece of parameters, once a step, but in parameters of block0 there is n0 as "
                                     "gathered, written by \"gather parameters of block0\""));
}

TEST_F(VerifyShardsTest, GatherOverDpWhereUlyssesSharesToo) {
  join(0, find<AllGather>(0, "gather parameters of block0").group, {{0}, {}});
  EXPECT_THAT(complaint(), HasSubstr("expects \"gather parameters of block0\" on stage 0 to join the ranks along mesh "
                                     "axes 0, 1, which share the states of block0 in this order, but it does along "
                                     "mesh axis 0"));
}

TEST_F(VerifyShardsTest, GatherOfTooLittle) {
  find<AllGather>(0, "gather parameters of block0").count = 16;
  EXPECT_THAT(complaint(),
              HasSubstr("expects \"gather parameters of block0\" on stage 0 to gather pieces of 32 elements "
                        "of block0, but it gathers 16"));
}

TEST_F(VerifyShardsTest, GatherMissingInBackward) {
  use(3);
  // It starts one body ahead, and so has the name of the micro-batch before.
  std::vector<TimetableEntry> &entries = timetables[0].entries;
  size_t after = indexOf(0, "backward block0 micro-batch 0");
  for (const char *name :
       {"gather parameters of block0 micro-batch 0", "end of gather parameters of block0 micro-batch 0"}) {
    auto found = std::find_if(entries.begin() + after, entries.end(),
                              [&](const TimetableEntry &entry) { return entry.name == name; });
    ASSERT_NE(found, entries.end());
    entries.erase(found);
  }
  // At a place of its own: at that of the gather before, there still is what that brought.
  Buffer &gathered = buffer(0, find<Compute>(0, "backward block0 micro-batch 1").reads[3]);
  gathered.offset = timetables[0].arenaBytes;
  timetables[0].arenaBytes += gathered.bytes;
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 1\" on stage 0 to find w0 as gathered in "
                                     "gathered block0 micro-batch 0, but there is nothing"));
}

TEST_F(VerifyShardsTest, GatherOfAnotherLayersPiece) {
  use(3);
  find<AllGather>(0, "gather parameters of block0 micro-batch 0").piece = {bucket(0, "table").parameterBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects \"forward block0 micro-batch 0\" on stage 0 to find n0 as gathered in "
                                     "gathered block0 micro-batch 0, but there is table as gathered"));
}

TEST_F(VerifyShardsTest, GatherOfAMoment) {
  use(3);
  find<AllGather>(0, "gather parameters of block0 micro-batch 0").piece = {bucket(0, "block0").firstMomentBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects \"gather parameters of block0 micro-batch 0\" on stage 0 to gather from "
                                     "this rank's piece of parameters, but in first moments of block0 there is this "
                                     "rank's piece of first moments of block0"));
}

TEST_F(VerifyShardsTest, UseOfAPiece) {
  use(3);
  find<Compute>(0, "forward block0 micro-batch 0").reads[1] = {bucket(0, "block0").parameterBuffer, 0};
  EXPECT_THAT(complaint(), HasSubstr("expects \"forward block0 micro-batch 0\" on stage 0 to find n0 as gathered in "
                                     "parameters of block0, but there is this rank's piece of parameters of block0"));
}

//===--------------------------------------------------------------------===//
// What is under way
//===--------------------------------------------------------------------===//

TEST_F(VerifyShardsTest, WaitOfAGatherDropped) {
  for (int level : {2, 3}) {
    use(level);
    std::string name = level == 2 ? "gather parameters of block0" : "gather parameters of block0 micro-batch 0";
    erase(0, "end of " + name);
    EXPECT_THAT(complaint(), HasSubstr("which \"" + name + "\" still holds"));
  }
}

TEST_F(VerifyShardsTest, WaitOfAReductionDropped) {
  erase(0, "end of reduce gradients of block0 micro-batch 1");
  EXPECT_THAT(complaint(),
              HasSubstr("expects what is under way to be left alone until its wait, but \"add up gradients of block0 "
                        "micro-batch 1\" on stage 0 touches piece of gradients of block0 micro-batch 1, which \"reduce "
                        "gradients of block0 micro-batch 1\" still holds"));
}

TEST_F(VerifyShardsTest, WaitOfAReductionDroppedAtTheEnd) {
  use(1);
  erase(0, "end of reduce gradients of block0");
  EXPECT_THAT(complaint(), HasSubstr("expects a wait for \"reduce gradients of block0\" on stage 0, but the list ends "
                                     "without one"));
}

TEST_F(VerifyShardsTest, GradientsFreedBeforeTheirWait) {
  // What backward writes next lies where gradients are still being reduced from.
  buffer(0, find<Compute>(0, "backward embed micro-batch 0").writes[0]).offset =
      buffer(0, find<ReduceScatter>(0, "reduce gradients of block0 micro-batch 0").from).offset;
  EXPECT_THAT(complaint(),
              HasSubstr("touches whole gradients of table micro-batch 0, which \"reduce gradients of block0 "
                        "micro-batch 0\" still holds"));
}

TEST_F(VerifyShardsTest, GatheredBufferFreedBeforeItsLastUse) {
  use(3);
  // The scratch of the forward over what it reads; and what another gather brings over it.
  int gathered = find<Compute>(0, "forward block0 micro-batch 0").reads[2].buffer;
  buffer(0, find<Compute>(0, "forward embed micro-batch 0").writes[0]).offset = timetables[0].buffers[gathered].offset;
  EXPECT_THAT(complaint(), HasSubstr("which \"gather parameters of block0 micro-batch 0\" still holds"));
}

//===--------------------------------------------------------------------===//
// Owners
//===--------------------------------------------------------------------===//

TEST_F(VerifyShardsTest, ElementsOfTwoOwners) {
  parameter(0, "w0").bucketOffset = 2;
  EXPECT_THAT(complaint(), HasSubstr("expects one owner of each element of the states of block0 on stage 0, but w0 "
                                     "begins at element 2, which is of n0"));
}

TEST_F(VerifyShardsTest, ElementsOfNoOwner) {
  parameter(0, "w0").bucketOffset = 126;
  EXPECT_THAT(complaint(),
              HasSubstr("expects one owner of each element of the states of block0 on stage 0, but w0 ends "
                        "at element 130 and the last piece at element 128"));
}

TEST_F(VerifyShardsTest, PiecesForSomeOfTheRanks) {
  bucket(0, "block0").ranks = 2;
  EXPECT_THAT(complaint(),
              HasSubstr("expects one owner of each element of the states of block0 on stage 0, but of the 4 "
                        "ranks along mesh axes 0, 1 2 have pieces"));
}

TEST_F(VerifyShardsTest, BytesOfTwoOwners) {
  buffer(0, {bucket(0, "block0").secondMomentBuffer, 0}).offset =
      buffer(0, {bucket(0, "block0").firstMomentBuffer, 0}).offset;
  EXPECT_THAT(complaint(),
              HasSubstr("expects every byte to have one owner, but \"first moments of block0\" and \"second "
                        "moments of block0\" of stage 0 overlap"));
}

TEST_F(VerifyShardsTest, PieceWithTooFewBytes) {
  buffer(0, {bucket(0, "block0").firstMomentBuffer, 0}).bytes = 64;
  EXPECT_THAT(complaint(),
              HasSubstr("expects 128 bytes for first moments of block0 on stage 0, but its buffer has 64"));
}

TEST_F(VerifyShardsTest, SharedAlongOneOfTwoAxes) {
  bucket(0, "block0").axes = {0};
  EXPECT_THAT(complaint(),
              HasSubstr("expects the states of n0 to be shared along mesh axes 0, 1, on which its gradient "
                        "is partial, but stage 0 does it along mesh axis 0"));
}

TEST_F(VerifyShardsTest, NotSharedAsThePlanSays) {
  parameter(0, "n0").bucket = -1;
  EXPECT_THAT(complaint(), HasSubstr("expects ranks of stage 0 to share the states of n0, as the zero of its layers "
                                     "says, but they do not"));
  use(2);
  set("block", "plan.strategy", "#plan.strategy<dp = 2, ulysses = 2>");
  EXPECT_THAT(complaint(),
              HasSubstr("expects ranks of stage 0 not to share the states of n0, as the zero of its layers "
                        "says, but they do"));
  set("block", "plan.strategy", "#plan.strategy<dp = 2, ulysses = 2, zero = 3>");
  EXPECT_THAT(complaint(), HasSubstr("expects zero 3 of n0, but stage 0 has 2"));
}

TEST_F(VerifyShardsTest, StatesElsewhere) {
  parameter(0, "n0").firstMomentBuffer = bucket(0, "table").firstMomentBuffer;
  EXPECT_THAT(complaint(),
              HasSubstr("expects the states of n0 in the buffers of the list that it is in, block0, but on "
                        "stage 0 they are elsewhere"));
}

TEST_F(VerifyShardsTest, TiedParameterCutOtherwise) {
  parameter(1, "table").bucketOffset = 32;
  EXPECT_THAT(complaint(),
              HasSubstr("expects the states of tied table to be cut alike in its stages, but stage 0 has them from "
                        "element 0 on of pieces of 32 along mesh axes 0, 1 and stage 1 from element 32 on of pieces of "
                        "32 along mesh axes 0, 1"));
}

TEST_F(VerifyShardsTest, NeighboursApart) {
  set("block", "dist.adjacent", "[array<i64: 0, 1>]");
  EXPECT_THAT(complaint(), HasSubstr("expects w0 to lie right after n0 in one list of states that ranks share, since "
                                     "block0 has both as one, but it does not"));
}

//===--------------------------------------------------------------------===//
// Reductions after each micro-batch, without shards
//===--------------------------------------------------------------------===//

class VerifyPartsTest : public VerifyShardsTest {
protected:
  void SetUp() override { use(0, "true"); }
};

TEST_F(VerifyPartsTest, CountsWhatItProves) {
  mlir::FailureOr<TimetableProof> proof = verifyTimetables(*parsed->module, timetables);
  ASSERT_TRUE(succeeded(proof));
  EXPECT_EQ(proof->gradients, 6);
  EXPECT_EQ(proof->reducedOverAxes, 6);
  EXPECT_EQ(proof->reducedOverStages, 2);
}

TEST_F(VerifyPartsTest, SecondMicroBatchAddedToWhatIsReduced) {
  Compute &second = find<Compute>(0, "backward block0 micro-batch 1");
  second.writes = find<Compute>(0, "backward block0 micro-batch 0").writes;
  second.adds = {true, true};
  erase(0, "end of reduce gradients of block0 micro-batch 0");
  find<AllReduce>(0, "reduce gradients of block0 micro-batch 0").handle.reset();
  EXPECT_THAT(complaint(), HasSubstr("expects no addition to the gradient of n0 after it is reduced, but \"backward "
                                     "block0 micro-batch 1\" on stage 0 adds to it"));
}

TEST_F(VerifyPartsTest, PartNotReduced) {
  erase(0, "reduce gradients of block0 micro-batch 1");
  erase(0, "end of reduce gradients of block0 micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("expects \"add up gradients of block0 micro-batch 1\" on stage 0 to add parts of "
                                     "the gradient of n0 that are reduced over mesh axes 0, 1 alone, but one is not"));
}

TEST_F(VerifyPartsTest, PartNotAdded) {
  erase(0, "add up gradients of block0 micro-batch 1");
  EXPECT_THAT(complaint(),
              HasSubstr("expects the gradient of n0 to be whole at the end of the step on stage 0, but the "
                        "term of block0 micro-batch 1 is not in it"));
}

TEST_F(VerifyPartsTest, PartAddedTwice) {
  insertAfter(0, "add up gradients of block0 micro-batch 1", find(0, "add up gradients of block0 micro-batch 1"));
  EXPECT_THAT(complaint(), HasSubstr("expects \"add up gradients of block0 micro-batch 1\" on stage 0 to add a part of "
                                     "the gradient of n0, but there is nothing, written by \"add up gradients of "
                                     "block0 micro-batch 1\""));
}

TEST_F(VerifyPartsTest, PartAddedAtOtherElements) {
  Accumulate &sum = find<Accumulate>(0, "add up gradients of block0 micro-batch 1");
  sum.addend.offset = 64;
  sum.count -= 16;
  EXPECT_THAT(complaint(), HasSubstr("expects \"add up gradients of block0 micro-batch 1\" on stage 0 to add a part of "
                                     "the gradient of n0, but there is gradient of w0"));
}

TEST_F(VerifyPartsTest, PartAddedElsewhere) {
  find<Accumulate>(0, "add up gradients of block0 micro-batch 1").sum =
      find<Compute>(0, "backward block0 micro-batch 1").writes[0];
  EXPECT_THAT(complaint(), HasSubstr("expects \"add up gradients of block0 micro-batch 1\" on stage 0 to add to "
                                     "gradients of parameters alone, but there is gradient of output of embed"));
}

TEST_F(VerifyPartsTest, PartsBeyondTheArena) {
  // The last gradients of all, to the end of an arena that does not have their padding.
  find<AllReduce>(0, "reduce gradients of block0 micro-batch 1").count = 1 << 20;
  EXPECT_THAT(complaint(), HasSubstr("expects \"reduce gradients of block0 micro-batch 1\" on stage 0 to stay within "
                                     "the arena of "));
}

TEST_F(VerifyPartsTest, PartTakenWhileItIsReduced) {
  erase(0, "end of reduce gradients of block0 micro-batch 1");
  EXPECT_THAT(complaint(), HasSubstr("touches gradients of block0 micro-batch 1, which \"reduce gradients of block0 "
                                     "micro-batch 1\" still holds"));
}

TEST_F(VerifyPartsTest, NeighboursApartInWhatABackwardLeaves) {
  set("block", "dist.adjacent", "[array<i64: 1, 0>]");
  // In that order they are nowhere; where their homes are, is told first.
  EXPECT_THAT(complaint(), HasSubstr("since block0 has both as one, but it does not"));
  set("block", "dist.adjacent", "[array<i64: 0, 1>]");
  for (int StageParameter::*state : {&StageParameter::parameterBuffer, &StageParameter::gradientBuffer})
    for (auto [stage, one, next] : {std::tuple(0, "n0", "w0"), {1, "n1", "w1"}})
      buffer(stage, {parameter(stage, next).*state, 0}).offset =
          buffer(stage, {parameter(stage, one).*state, 0}).offset + 16;
  EXPECT_THAT(complaint(), HasSubstr("expects \"backward block0 micro-batch 1\" on stage 0 to leave the gradient of w0 "
                                     "right after that of n0, since it writes both as one, but it does not"));
}

} // namespace
