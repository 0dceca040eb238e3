// Every strategy, alone and mixed, trains like one device: three steps of AdamW with decay, clipping and labels that
// are ignored, by the timetables of all ranks on their real offsets, in doubles. What the lowering does not run yet
// joins by itself as `plan::whyUnsupported` lets it.
#include "DrawnPlans.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

const ModelSizes kLlama = {"llama_ignored.mlir", 8, 16, 4, 40, 32, false, {1, 2, 4}, {1, 2, 4, 8}, 160};
const ModelSizes kGpt2 = {"gpt2_ignored.mlir", 8, 16, 4, 40, 32, true, {1, 2, 4}, {1, 2, 4, 8}, 160};
/// Degrees of 3 and 6; three heads of keys and values, which 2 and 6 do not divide; a window.
const ModelSizes kSixths = {"sixths_ignored.mlir", 6, 12, 6, 30, 36, false, {1, 3, 6}, {2, 3, 4, 6, 8}, 100};

class EquivalenceTest : public testing::TestWithParam<ModelSizes> {
protected:
  /// Errors are failures of the test.
  void expectEquivalent(TrainedModel &model, const LayerwisePlan &plan) {
    mlir::ScopedDiagnosticHandler handler(model.context(), [&](mlir::Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
        ADD_FAILURE() << plan.describe() << "\n" << diagnostic.str();
      return mlir::success();
    });
    auto staged = model.stage(plan);
    ASSERT_TRUE(staged) << plan.describe();
    std::vector<Timetable> timetables = TrainedModel::lower(*staged);
    ASSERT_EQ(int64_t(timetables.size()), plan.stages) << plan.describe();
    EXPECT_EQ(model.differenceOf(model.train(*staged, timetables)), "") << plan.describe();
  }
};

TEST_P(EquivalenceTest, TestsWhatTheyShould) {
  TrainedModel model(GetParam().file);
  ASSERT_EQ(model.expected.losses.size(), size_t(TrainedModel::kSteps));
  for (double norm : model.expected.norms)
    EXPECT_GT(norm, 0.25) << "clipping binds";
  EXPECT_GE(std::popcount(uint64_t(model.recomputableValues()[1])), 5) << "a block has values to recompute";
  EXPECT_GE(uniformPlans(GetParam(), model.recomputableValues()).size(), GetParam().batch == 8 ? 300u : 80u);
}

TEST_P(EquivalenceTest, EveryStrategyTrainsLikeOneDevice) {
  TrainedModel model(GetParam().file);
  for (const LayerwisePlan &plan : uniformPlans(GetParam(), model.recomputableValues()))
    expectEquivalent(model, plan);
}

TEST_P(EquivalenceTest, RandomPlansTrainLikeOneDevice) {
  TrainedModel model(GetParam().file);
  for (int seed = 0; seed < GetParam().drawn; ++seed)
    expectEquivalent(model, drawLegalPlan(seed, GetParam(), model.recomputableValues()));
}

TEST_P(EquivalenceTest, PlansThatDoNotDivideAreRefused) {
  TrainedModel model(GetParam().file);
  for (int seed = 0; seed < 100; ++seed) {
    LayerwisePlan plan = drawIllegalPlan(seed, GetParam(), model.recomputableValues().size());
    std::string complaint;
    mlir::ScopedDiagnosticHandler handler(model.context(), [&](mlir::Diagnostic &diagnostic) {
      if (diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error)
        complaint += diagnostic.str();
      return mlir::success();
    });
    EXPECT_FALSE(model.stage(plan)) << plan.describe();
    EXPECT_THAT(complaint, testing::ContainsRegex("expects .* divide")) << plan.describe();
  }
}

std::string getName(const testing::TestParamInfo<ModelSizes> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, EquivalenceTest, testing::Values(kLlama, kGpt2, kSixths), getName);

} // namespace
