// What a step of a few layers on two devices becomes; the proof over all stages agrees.
#include "Timetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace {

/// Layers of four features and two parameters, `second` partial on an axis of its own where `apart`. `stages` is
/// the text of the stages.
std::string program(int stages, const std::string &text, bool apart = false) {
  std::string second = apart ? "#dist.placement<[4] partial [sum@g1]>" : "#g";
  return R"(
#x = #dist.placement<[4]>
#s = #dist.placement<[]>
#g = #dist.placement<[4] partial [sum@g0]>
module attributes {plan.pipeline = #plan.pipeline<stages = )" +
         std::to_string(stages) + R"(, devices = 2, micro_batches = 2, schedule = "gpipe">} {
  exec.function @embed.forward(%ids: memref<4xi64>, %t: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @embed.backward(%dy: memref<4xf32>, %ids: memref<4xi64>, %t: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @embed {forward = @embed.forward, backward = @embed.backward, inputs = [#x], outputs = [#x], input_gradients = [unit], output_gradients = [#x], homes = [#x], gradients = [#g], num_saved = 0 : i64}
  exec.function @block.forward(%x: memref<4xf32>, %v: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @block.backward(%dy: memref<4xf32>, %x: memref<4xf32>, %v: memref<4xf32>, %w: memref<4xf32>, %dx: memref<4xf32>, %dv: memref<4xf32>, %dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @block {forward = @block.forward, backward = @block.backward, inputs = [#x], outputs = [#x], input_gradients = [#x], output_gradients = [#x], homes = [#x, #x], gradients = [#g, )" +
         second + R"(], num_saved = 0 : i64}
  exec.function @head.forward(%x: memref<4xf32>, %t: memref<4xf32>, %y: memref<f32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @head.backward(%dy: memref<f32>, %x: memref<4xf32>, %t: memref<4xf32>, %dx: memref<4xf32>, %dt: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @head {forward = @head.forward, backward = @head.backward, inputs = [#x], outputs = [#s], input_gradients = [#x], output_gradients = [#s], homes = [#x], gradients = [#g], num_saved = 0 : i64}
)" + text +
         "}\n";
}

/// One stage: an embedding, two blocks and a head, whose parameter is named `head`.
std::string oneStage(const std::string &head) {
  return R"(
  dist.stage @stage0 index 0 order <F0, F1, B0, B1> {
    %ids = dist.input "ids" : tensor<4xi64, #x>
    %0 = graph.call @embed(%ids) parameters ["table"] path "embed" : (tensor<4xi64, #x>) -> tensor<4xf32, #x>
    %1 = graph.call @block(%0) parameters ["v0", "w0"] path "block0" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %2 = graph.call @block(%1) parameters ["v1", "w1"] path "block1" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %3 = graph.call @head(%2) parameters [")" +
         head + R"("] path "head" : (tensor<4xf32, #x>) -> tensor<f32, #s>
    dist.loss %3 : tensor<f32, #s>
  }
)";
}

/// The same on two stages, with one parameter shared by the first and the last layer.
const char *const kTwoStages = R"(
  dist.stage @stage0 index 0 order <F0, F1, B0, B1> {
    %ids = dist.input "ids" : tensor<4xi64, #x>
    %0 = graph.call @embed(%ids) parameters ["table"] path "embed" : (tensor<4xi64, #x>) -> tensor<4xf32, #x>
    dist.send %0 to 1 tag 0 : tensor<4xf32, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0, F1, B1> {
    %0 = dist.receive from 0 tag 0 : tensor<4xf32, #x>
    %1 = graph.call @block(%0) parameters ["v", "w"] path "block" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %2 = graph.call @head(%1) parameters ["table"] path "head" : (tensor<4xf32, #x>) -> tensor<f32, #s>
    dist.loss %2 : tensor<f32, #s>
  }
)";

class TimetableTest : public TimetablesTest {
protected:
  /// Names of the entries from the last backward of the last layer on.
  std::vector<std::string> end(size_t stage, const std::string &from) {
    std::vector<std::string> names;
    for (const TimetableEntry &entry : timetables[stage].entries)
      if (!names.empty() || entry.name == from)
        names.push_back(entry.name);
    return names;
  }
};

TEST_F(TimetableTest, GradientsAreReducedAfterTheLastBackwardOfTheirLayer) {
  build(program(1, oneStage("head")));
  EXPECT_THAT(end(0, "backward head micro-batch 1"),
              ElementsAre("backward head micro-batch 1", "reduce gradients of head", "backward block1 micro-batch 1",
                          "reduce gradients of block1", "backward block0 micro-batch 1", "reduce gradients of block0",
                          "backward embed micro-batch 1", "reduce gradients of embed",
                          "end of reduce gradients of head", "end of reduce gradients of block1",
                          "end of reduce gradients of block0", "end of reduce gradients of embed"));
  EXPECT_EQ(complaint(), "");
}

TEST_F(TimetableTest, BodiesSayWhichFloatsTheyGive) {
  build(program(1, oneStage("head")));
  auto is = [](int64_t buffer, int64_t count = 4) { return BodyResult{buffer, GVRT_F32, count}; };
  EXPECT_THAT(find<Compute>(0, "forward block0 micro-batch 1").results, ElementsAre(is(3)));
  EXPECT_THAT(find<Compute>(0, "forward head micro-batch 0").results, ElementsAre(is(2, 1)));
  // The gradients of the input and of both parameters; of token ids there is none.
  EXPECT_THAT(find<Compute>(0, "backward block0 micro-batch 1").results, ElementsAre(is(4), is(5), is(6)));
  EXPECT_THAT(find<Compute>(0, "backward embed micro-batch 0").results, ElementsAre(is(3)));
}

TEST_F(TimetableTest, TiedParametersKeepTheirOtherNames) {
  std::string text = program(1, oneStage("table")), attribute = "module attributes {";
  text.insert(text.find(attribute) + attribute.size(), "graph.tied = {head.weight = \"table\"}, ");
  build(text);
  EXPECT_THAT(timetables[0].parameters.front().names, ElementsAre("table", "head.weight"));
  EXPECT_THAT(timetables[0].parameters.back().names, ElementsAre("w1"));
}

TEST_F(TimetableTest, NeighboursAreOneBucket) {
  build(program(1, oneStage("head")));
  // Two gradients of 16 bytes, each on a cache line: f32 elements of both with what lies between.
  EXPECT_EQ(find<AllReduce>(0, "reduce gradients of block0").count, 32);
  EXPECT_EQ(find<AllReduce>(0, "reduce gradients of block0").handle, 2);
  EXPECT_EQ(find<AllReduce>(0, "reduce gradients of head").count, 16);
  EXPECT_EQ(find<AllReduce>(0, "reduce gradients of head").handle, 0);
}

TEST_F(TimetableTest, OtherAxesAreAnotherBucket) {
  build(program(1, oneStage("head"), /*apart=*/true));
  std::vector<std::pair<int64_t, int64_t>> buckets; // group, elements
  for (const TimetableEntry &entry : timetables[0].entries)
    if (entry.name == "reduce gradients of block1")
      buckets.push_back({entry.getIf<AllReduce>()->group, entry.getIf<AllReduce>()->count});
  EXPECT_THAT(buckets, ElementsAre(std::pair(0, 16), std::pair(1, 16)));
}

TEST_F(TimetableTest, SharedParameterIsReducedBehindItsLastUse) {
  build(program(1, oneStage("table")));
  std::vector<std::string> names = end(0, "backward head micro-batch 1");
  EXPECT_THAT(
      std::vector(names.begin(), names.begin() + 3),
      ElementsAre("backward head micro-batch 1", "backward block1 micro-batch 1", "reduce gradients of block1"));
  EXPECT_EQ(find<AllReduce>(0, "reduce gradients of embed").count, 16);
  EXPECT_EQ(complaint(), "");
}

TEST_F(TimetableTest, SumOverStagesComesBehindTheReductionOfEach) {
  build(program(2, kTwoStages));
  EXPECT_THAT(end(0, "backward embed micro-batch 1"),
              ElementsAre("backward embed micro-batch 1", "reduce gradients of embed",
                          "end of reduce gradients of embed", "reduce gradient of tied table"));
  // The first stage waits for the last gradient, so it goes before the reductions.
  EXPECT_THAT(end(1, "backward head micro-batch 1"),
              ElementsAre("backward head micro-batch 1", "backward block micro-batch 1",
                          "end of send gradient to stage 0 micro-batch 0", "send gradient to stage 0 micro-batch 1",
                          "reduce gradients of head", "reduce gradients of block",
                          "end of send gradient to stage 0 micro-batch 1", "end of reduce gradients of head",
                          "end of reduce gradients of block", "reduce gradient of tied table"));
  EXPECT_EQ(complaint(), "");
}

TEST_F(TimetableTest, CommunicatorsAreOfWhatIsJoined) {
  std::string text = program(2, kTwoStages);
  std::string attribute = "module attributes {";
  text.insert(text.find(attribute) + attribute.size(), "exec.groups = [array<i64: 1>], "); // nobody's
  build(text);
  for (const Timetable &timetable : timetables) {
    Communicators communicators = communicatorsOf(timetable, {2, 3});
    EXPECT_THAT(communicators.groupSizes, ElementsAre(2, 2)); // along axis 0, and both stages
    EXPECT_EQ(communicators.channels, 2);
    EXPECT_EQ(timetable.groups[0], RankGroup());
  }
}

TEST_F(TimetableTest, PeersAreThoseThatPiecesAreExchangedWith) {
  Timetable timetable;
  timetable.groups = {{{0}, {}, false, {{1, 2, 3, 0}}}, // of 4 ranks: one it sends to, one it receives from
                      {{1, 0}, {}, false, {}},          // all 8, in two orders: one communicator
                      {{0, 1}, {}, true, {}},           //
                      {{1}, {}, false, {{1, 0}}}};      // of 2: the same one
  EXPECT_EQ(communicatorsOf(timetable, {4, 2}).peers, 2 + 7 + 1);
}

TEST_F(TimetableTest, TheFirstMicroBatchWritesGradients) {
  build(program(1, oneStage("head")));
  EXPECT_THAT(find<Compute>(0, "backward block0 micro-batch 0").adds, ElementsAre(false, false));
  EXPECT_THAT(find<Compute>(0, "backward block0 micro-batch 1").adds, ElementsAre(true, true));
  for (const TimetableEntry &entry : timetables[0].entries)
    EXPECT_TRUE(!entry.getIf<FillZero>() || entry.name == "zero loss") << entry.name;
}

TEST_F(TimetableTest, TheSecondUseOfASharedParameterAdds) {
  build(program(1, oneStage("table")));
  EXPECT_THAT(find<Compute>(0, "backward head micro-batch 0").adds, ElementsAre(false));
  EXPECT_THAT(find<Compute>(0, "backward embed micro-batch 0").adds, ElementsAre(true));
}

TEST_F(TimetableTest, WhatCanOnlyBeAddedToIsZeroedFirst) {
  std::string text = program(1, oneStage("head"));
  std::string function = "%dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {";
  text.insert(text.find(function) + function.size(), "exec.adds = array<i64: 1>, ");
  build(text);
  EXPECT_THAT(find<Compute>(0, "backward block1 micro-batch 0").adds, ElementsAre(false, true));
  std::vector<std::string> names = end(0, "zero gradient of w1");
  EXPECT_EQ(names[1], "backward block1 micro-batch 0");
  EXPECT_EQ(std::count(names.begin(), names.end(), "zero gradient of w1"), 1);
  EXPECT_EQ(find<FillZero>(0, "zero gradient of w1").bytes, 16);
}

TEST_F(TimetableTest, AProductWritesAllGradientsThatLieTogetherOrNone) {
  std::string text = program(1, R"(
  dist.stage @stage0 index 0 order <F0, F1, B0, B1> {
    %ids = dist.input "ids" : tensor<4xi64, #x>
    %0 = graph.call @embed(%ids) parameters ["table"] path "embed" : (tensor<4xi64, #x>) -> tensor<4xf32, #x>
    %1 = graph.call @block(%0) parameters ["v", "w"] path "block" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %2 = graph.call @head(%1) parameters ["w"] path "head" : (tensor<4xf32, #x>) -> tensor<f32, #s>
    dist.loss %2 : tensor<f32, #s>
  }
)");
  std::string layer = "dist.layer @block {";
  text.insert(text.find(layer) + layer.size(), "dist.adjacent = [array<i64: 0, 1>], ");
  build(text);
  EXPECT_THAT(find<Compute>(0, "backward head micro-batch 0").adds, ElementsAre(false));
  EXPECT_EQ(end(0, "zero gradient of v")[1], "backward block micro-batch 0");
  EXPECT_THAT(find<Compute>(0, "backward block micro-batch 0").adds, ElementsAre(true, true));
}

/// A frozen first stage, and after it a layer the first of whose parameters is frozen. `head`: the head's parameter.
std::string frozenStage(const std::string &head) {
  return R"(
  exec.function @frozen.forward(%ids: memref<4xi64>, %t: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  dist.layer @frozen {forward = @frozen.forward, inputs = [#x], outputs = [#x], input_gradients = [], output_gradients = [], homes = [#x], gradients = [], num_saved = 0 : i64}
  exec.function @half.forward(%x: memref<4xf32>, %v: memref<4xf32>, %w: memref<4xf32>, %y: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
    exec.return
  }
  exec.function @half.backward(%dy: memref<4xf32>, %x: memref<4xf32>, %v: memref<4xf32>, %w: memref<4xf32>, %dw: memref<4xf32>, %scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64, exec.adds = array<i64: 0>} {
    exec.return
  }
  dist.layer @half {forward = @half.forward, backward = @half.backward, inputs = [#x], outputs = [#x], input_gradients = [unit], output_gradients = [#x], homes = [#x, #x], gradients = [unit, #g], num_saved = 0 : i64}
  dist.stage @stage0 index 0 order <F0, F1, B0, B1> {
    %ids = dist.input "ids" : tensor<4xi64, #x>
    %0 = graph.call @frozen(%ids) parameters ["table"] path "embed" : (tensor<4xi64, #x>) -> tensor<4xf32, #x>
    dist.send %0 to 1 tag 0 frozen : tensor<4xf32, #x>
  }
  dist.stage @stage1 index 1 order <F0, B0, F1, B1> {
    %0 = dist.receive from 0 tag 0 frozen : tensor<4xf32, #x>
    %1 = graph.call @half(%0) parameters ["v", "w"] path "block" : (tensor<4xf32, #x>) -> tensor<4xf32, #x>
    %2 = graph.call @head(%1) parameters [")" +
         head + R"("] path "head" : (tensor<4xf32, #x>) -> tensor<f32, #s>
    dist.loss %2 : tensor<f32, #s>
  }
)";
}

TEST_F(TimetableTest, FrozenParametersHaveNoGradientAndNoMoments) {
  build(program(2, frozenStage("head")));
  for (const auto &[stage, index] : {std::pair(0, 0), {1, 0}}) {
    const StageParameter &frozen = timetables[stage].parameters[index];
    EXPECT_FALSE(frozen.trained);
    EXPECT_GE(frozen.parameterBuffer, 0);
    EXPECT_EQ(std::vector({frozen.gradientBuffer, frozen.firstMomentBuffer, frozen.secondMomentBuffer}),
              std::vector(3, -1));
  }
  EXPECT_EQ(timetables[0].gradientRegionFirst, -1);
  EXPECT_TRUE(timetables[1].parameters[1].trained);
  // Of two parameters one has a gradient.
  const Compute &backward = find<Compute>(1, "backward block micro-batch 0");
  EXPECT_THAT(backward.adds, ElementsAre(true));
  EXPECT_EQ(backward.writes.back().buffer, timetables[1].parameters[1].gradientBuffer);
  EXPECT_EQ(end(1, "zero gradient of w")[1], "backward block micro-batch 0");
}

TEST_F(TimetableTest, NoGradientGoesToWhatIsFrozen) {
  build(program(2, frozenStage("head")));
  std::vector<std::string> names;
  for (const TimetableEntry &entry : timetables[0].entries)
    names.push_back(entry.name);
  // What was sent is free as soon as its micro-batch would go backward.
  EXPECT_THAT(names, ElementsAre("forward embed micro-batch 0", "send activation to stage 1 micro-batch 0",
                                 "forward embed micro-batch 1", "send activation to stage 1 micro-batch 1",
                                 "end of send activation to stage 1 micro-batch 0",
                                 "end of send activation to stage 1 micro-batch 1"));
  // Nobody waits for a gradient, so reductions start where they can.
  EXPECT_THAT(end(1, "backward head micro-batch 1"),
              ElementsAre("backward head micro-batch 1", "reduce gradients of head", "backward block micro-batch 1",
                          "reduce gradients of block", "end of reduce gradients of head",
                          "end of reduce gradients of block"));
  EXPECT_EQ(complaint(), "");
}

/// The first stage reads it for its value alone, but its copy is updated like the other stage's.
TEST_F(TimetableTest, ATiedParameterIsTrainedWhereverItIsHeld) {
  build(program(2, frozenStage("table")));
  EXPECT_TRUE(timetables[0].parameters[0].trained);
  EXPECT_EQ(timetables[0].entries.front().name, "zero gradient of table");
  EXPECT_EQ(timetables[0].entries.back().name, "reduce gradient of tied table");
  EXPECT_EQ(complaint(), "");
}

TEST_F(TimetableTest, AValueThatIsThereIsReceivedDuringTheLastLayerBefore) {
  build(program(2, kTwoStages));
  std::vector<std::string> names = end(1, "backward head micro-batch 0");
  names.resize(6);
  EXPECT_THAT(names, ElementsAre("backward head micro-batch 0", "receive from stage 0 micro-batch 1",
                                 "backward block micro-batch 0", "send gradient to stage 0 micro-batch 0",
                                 "end of receive from stage 0 micro-batch 1", "forward block micro-batch 1"));
  std::optional<int64_t> handle = find<Receive>(1, "receive from stage 0 micro-batch 1").handle;
  EXPECT_TRUE(handle);
  EXPECT_EQ(find<Wait>(1, "end of receive from stage 0 micro-batch 1").handle, handle);
  // Nothing is sent early enough for the others.
  EXPECT_EQ(find<Receive>(1, "receive from stage 0 micro-batch 0").handle, std::nullopt);
  EXPECT_EQ(find<Receive>(0, "receive gradient from stage 1 micro-batch 0").handle, std::nullopt);
  EXPECT_EQ(find<Receive>(0, "receive gradient from stage 1 micro-batch 1").handle, std::nullopt);
}

/// Five forwards of the first stage end at 5, the second stage's first backward at 4.
TEST_F(TimetableTest, AGradientIsReceivedEarlyOnlyIfItWasThereBefore) {
  std::string text = program(2, kTwoStages);
  auto replace = [&](const std::string &from, const std::string &to) {
    text.replace(text.find(from), from.size(), to);
  };
  replace("micro_batches = 2", "micro_batches = 5");
  replace("<F0, F1, B0, B1>", "<F0, F1, F2, F3, F4, B0, B1, B2, B3, B4>");
  replace("<F0, B0, F1, B1>", "<F0, B0, F1, B1, F2, B2, F3, B3, F4, B4>");
  build(text);
  std::vector<std::string> names = end(0, "receive gradient from stage 1 micro-batch 0");
  names.resize(4);
  EXPECT_THAT(names, ElementsAre("receive gradient from stage 1 micro-batch 0", "forward embed micro-batch 4",
                                 "send activation to stage 1 micro-batch 4",
                                 "end of send activation to stage 1 micro-batch 0"));
  EXPECT_TRUE(find<Receive>(0, names[0]).handle);
  EXPECT_EQ(find<Receive>(0, "receive gradient from stage 1 micro-batch 1").handle,
            std::nullopt); // there at 7, as B0 ends
  EXPECT_EQ(complaint(), "");
}

TEST_F(TimetableTest, LayersThatShareAParameterTreatItAlike) {
  for (auto [strategy, expected] :
       {std::pair("zero = 1",
                  "expects one level of ZeRO of the tied parameter table, but its layers have zero 0 and 1; "
                  "give them the same one"),
        std::pair("reduce_every_micro_batch = true",
                  "expects the gradient of the tied parameter table to be reduced once a step or after each "
                  "micro-batch, but its layers say both; give them the same reduce_every_micro_batch")}) {
    std::string text = program(2, kTwoStages), layer = "dist.layer @embed {";
    text.replace(text.find(layer), layer.size(), layer + "plan.strategy = #plan.strategy<dp = 2, " + strategy + ">, ");
    parsed.emplace(text);
    EXPECT_THAT(reference::errorsOf(parsed->context.get(),
                                    [&] {
                                      EXPECT_TRUE(failed(buildTimetable(
                                          *parsed->module, *parsed->module->getOps<dist::StageOp>().begin())));
                                    }),
                HasSubstr(expected));
  }
}

/// Buffers and constants as runtime/api/Functions.def lists them.
TEST(TimetableEntryTest, EveryKindGivesItsFunctionWhatItTakes) {
  std::map<std::string, std::pair<size_t, size_t>> functions;
  auto countOf = [](llvm::StringRef list) { return list.count(',') + 1; };
#define GVRT_FUNCTION(name, buffers, attributes) functions["gvrt_" #name] = {countOf(buffers), countOf(attributes)};
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
  for (const Action &action : {Action(FillZero()), Action(Accumulate()), Action(AllReduce()), Action(ReduceScatter()),
                               Action(AllGather()), Action(Send()), Action(Receive()), Action(Wait())}) {
    RuntimeCall call = getRuntimeCall(action);
    ASSERT_TRUE(functions.contains(call.function)) << call.function;
    EXPECT_EQ(std::pair(call.buffers.size(), call.constants.size()), functions[call.function]) << call.function;
  }
  EXPECT_THAT(getRuntimeCall(Receive{{}, {3, Lane::Gradient, 2, 64}, std::nullopt}).constants,
              ElementsAre(3, (1 << 20) + 2, 64, -1));
}

} // namespace
