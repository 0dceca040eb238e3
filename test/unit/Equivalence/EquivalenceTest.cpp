// Every strategy, alone and mixed, trains like one device: three steps of AdamW with decay, clipping and labels that
// are ignored, by the timetables of all ranks on their real offsets, in doubles. What the lowering does not run yet
// joins by itself as `plan::whyUnsupported` lets it.
#include "DrawnPlans.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

constexpr int kDrawnHalves = 40; // plans of each model and way to cut it
const ModelSizes kLlama = {"llama_ignored.mlir", 8, 16, 4, 40, 32, false, {1, 2, 4}, {1, 2, 4, 8}, 160};
const ModelSizes kGpt2 = {"gpt2_ignored.mlir", 8, 16, 4, 40, 32, true, {1, 2, 4}, {1, 2, 4, 8}, 160};
/// Degrees of 3 and 6; three heads of keys and values, which 2 and 6 do not divide; a window.
const ModelSizes kSixths = {"sixths_ignored.mlir", 6, 12, 6, 30, 36, false, {1, 3, 6}, {2, 3, 4, 6, 8}, 100};

class EquivalenceTest : public testing::TestWithParam<ModelSizes> {};

TEST_P(EquivalenceTest, TestsWhatTheyShould) {
  TrainedModel model(GetParam().file);
  ASSERT_EQ(model.expected.losses.size(), size_t(TrainedModel::kSteps));
  for (double norm : model.expected.norms)
    EXPECT_GT(norm, 0.25) << "clipping binds";
  // One element of one weight, or of one gradient of the last step, by a millionth.
  Training other = model.expected;
  auto &[name, value] = *other.parameters.rbegin();
  value[value.size() - 1] += 1e-6;
  EXPECT_THAT(model.differenceOf(other), testing::HasSubstr("the value of " + name + " at "));
  other = model.expected;
  for (double &element : other.gradients.back().begin()->second.data)
    element *= 1 + 1e-6;
  EXPECT_THAT(model.differenceOf(other), testing::HasSubstr("in step 3"));
  EXPECT_GE(std::popcount(uint64_t(model.recomputableValues()[1])), 5) << "a block has values to recompute";
  EXPECT_GE(uniformPlans(GetParam(), model.recomputableValues()).size(), GetParam().batch == 8 ? 300u : 80u);
}

TEST_P(EquivalenceTest, EveryStrategyTrainsLikeOneDevice) {
  TrainedModel model(GetParam().file);
  for (const LayerwisePlan &plan : uniformPlans(GetParam(), model.recomputableValues()))
    expectEquivalent(model, plan);
}

/// What a level of ZeRO would not do unless told.
TEST_P(EquivalenceTest, ReductionsWhenTheStrategySaysSo) {
  TrainedModel model(GetParam().file);
  size_t layers = model.recomputableValues().size();
  int64_t degree = GetParam().degrees[1];
  plan::StrategyValues dp{.dp = 2}, sp{.dp = 2, .tp = degree, .sequenceParallel = 1},
      ulysses{.dp = 2, .ulysses = degree};
  for (auto [pp, values] : {std::pair(1, dp), {2, dp}, {1, sp}, {1, ulysses}})
    for (values.zero = 0; values.zero <= 3; ++values.zero) {
      values.reduceEveryMicroBatch = values.zero >= 2 ? 1 : 2;
      LayerwisePlan plan;
      plan.stages = pp;
      plan.devices = values.dp * values.tp * values.ulysses;
      plan.microBatches = GetParam().batch / 2;
      plan.schedule = "1f1b";
      plan.strategies.assign(layers, values);
      plan.stageOf = halves(layers, pp);
      expectEquivalent(model, plan);
    }
}

TEST_P(EquivalenceTest, RandomPlansTrainLikeOneDevice) {
  TrainedModel model(GetParam().file);
  for (int seed = 0; seed < GetParam().drawn; ++seed)
    expectEquivalent(model, drawLegalPlan(seed, GetParam(), model.recomputableValues()));
}

/// Attention and feed-forward each with a strategy of its own, in one layer of two or in both; what they come to is
/// what whole layers come to.
TEST_P(EquivalenceTest, RandomHalvesTrainLikeOneDevice) {
  TrainedModel whole(GetParam().file);
  std::string attention = GetParam().isTied ? "attn" : "self_attn";
  std::string last = "layers.1." + attention + ",layers.1.mlp";
  for (const std::string &units : {last, GetParam().halves()}) {
    TrainedModel model(GetParam().file, units);
    EXPECT_EQ(model.recomputableValues().size(), whole.recomputableValues().size() + (units == last ? 1 : 2));
    EXPECT_EQ(whole.differenceOf(model.expected), "");
    for (int seed = 0; seed < kDrawnHalves; ++seed)
      expectEquivalent(model, drawLegalPlan(1000 + seed, GetParam(), model.recomputableValues()));
  }
}

TEST_P(EquivalenceTest, PlansThatDoNotDivideAreRefused) {
  TrainedModel model(GetParam().file);
  for (int seed = 0; seed < 100; ++seed) {
    LayerwisePlan plan = drawIllegalPlan(seed, GetParam(), model.recomputableValues().size());
    std::string complaint = errorsOf(model.context(), [&] { EXPECT_FALSE(model.stage(plan)) << plan.describe(); });
    EXPECT_THAT(complaint, testing::ContainsRegex("expects .* divide")) << plan.describe();
  }
}

std::string getName(const testing::TestParamInfo<ModelSizes> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, EquivalenceTest, testing::Values(kLlama, kGpt2, kSixths), getName);

} // namespace
