// What a degree does not divide is padded where the plan asks, and trains like one device, in doubles: so padding adds
// nothing to losses, gradients, norms and updates, and is 0 after each (`removePadding`).
#include "DrawnPlans.h"

using namespace galvatron;
using namespace galvatron::reference;
using plan::StrategyValues;

namespace {

struct PaddedModel {
  std::string file;
  std::vector<int64_t> degrees; ///< none divides all of the model's heads, widths and vocabulary
};

class PaddedTest : public testing::TestWithParam<PaddedModel> {
protected:
  PaddedTest() : model(GetParam().file, /*units=*/"", /*hasDropout=*/false) {}

  /// Strategies of the first layers; they repeat. The last layer has the first one's.
  LayerwisePlan makePlan(int64_t stages, int64_t devices, std::vector<StrategyValues> strategies) {
    LayerwisePlan plan;
    plan.stages = stages;
    plan.devices = devices;
    plan.microBatches = 2;
    plan.schedule = stages % 2 ? "gpipe" : "1f1b";
    size_t layers = model.recomputableValues().size();
    for (size_t layer = 0; layer < layers; ++layer)
      plan.strategies.push_back(strategies[layer % strategies.size()]);
    plan.strategies.back() = strategies.front();
    plan.stageOf = halves(layers, stages);
    return plan;
  }

  void expectEquivalent(const LayerwisePlan &plan) { reference::expectEquivalent(model, plan); }

  TrainedModel model;
};

TEST_P(PaddedTest, OneDegreeForAll) {
  for (int64_t stages : {1, 2})
    for (int64_t recompute : {0, 1})
      for (int64_t tp : GetParam().degrees)
        expectEquivalent(makePlan(stages, tp, {{.tp = tp, .recompute = recompute, .pad = 1}}));
}

TEST_P(PaddedTest, RanksShareStates) {
  int64_t tp = GetParam().degrees[0];
  for (int64_t stages : {1, 2})
    for (int64_t zero : {0, 1, 2, 3})
      expectEquivalent(makePlan(stages, 2 * tp, {{.tp = tp, .ulysses = 2, .zero = zero, .pad = 1}}));
}

/// Of one layer type with two ways of padding, and of one that is not padded; a tied table is padded for both ends.
TEST_P(PaddedTest, LayersAreMixed) {
  int64_t tp = GetParam().degrees[0];
  for (int64_t stages : {1, 2}) {
    expectEquivalent(
        makePlan(stages, 2 * tp, {{.tp = tp, .cp = 2, .pad = 1}, {.tp = 2 * tp, .recompute = 1, .pad = 1}}));
    expectEquivalent(makePlan(stages, 2 * tp, {{.tp = 2 * tp, .pad = 1}, {.tp = tp, .ulysses = 2, .pad = 1}}));
    expectEquivalent(makePlan(stages, 4, {{.tp = 4, .sequenceParallel = 1, .pad = 1}, {.tp = 2, .cp = 2, .pad = 1}}));
    expectEquivalent(makePlan(stages, 4, {{.tp = 2, .cp = 2}, {.ulysses = 4, .pad = 1}}));
  }
}

TEST(PaddedModels, DropoutOfPaddedHeadsIsRefused) {
  TrainedModel model("gpt2_ignored.mlir");
  LayerwisePlan plan;
  plan.devices = 3;
  plan.strategies.assign(model.recomputableValues().size(), {.tp = 3, .pad = 1});
  plan.stageOf.assign(model.recomputableValues().size(), 0);
  std::string complaint;
  mlir::ScopedDiagnosticHandler handler(model.context(), [&](mlir::Diagnostic &diagnostic) {
    complaint += diagnostic.str();
    return mlir::success();
  });
  EXPECT_FALSE(model.stage(plan));
  EXPECT_NE(complaint.find("cannot pad 4 to 6: 'graph.attention' draws random numbers"), std::string::npos)
      << complaint;
}

std::string getName(const testing::TestParamInfo<PaddedModel> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, PaddedTest,
                         testing::Values(PaddedModel{"llama_ignored.mlir", {3, 5, 6}},
                                         PaddedModel{"gpt2_ignored.mlir", {3, 5, 6}},
                                         PaddedModel{"sixths_ignored.mlir", {4, 5, 8}}),
                         getName);

} // namespace
