// Gradients of weights in a backward of their own (ZB-H1): every strategy, layers split and not, as many micro-batches
// as stages, fewer and more. Timetables that are wrong in one place are refused.
#include "DrawnPlans.h"
#include "SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

const ModelSizes kLlama = {"llama_ignored.mlir", 8, 16, 4, 40, 32, false, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kGpt2 = {"gpt2_ignored.mlir", 8, 16, 4, 40, 32, true, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kSixths = {"sixths_ignored.mlir", 6, 12, 6, 30, 36, false, {1, 3, 6}, {1, 2}, 12};

/// Puts the layers of a drawn plan on `stages` stages, each of one layer at least, some of them split or whole by
/// the plan.
void splitBackward(std::mt19937 &generator, LayerwisePlan &plan, int64_t stages) {
  int64_t layers = plan.strategies.size();
  plan.stageOf.clear();
  for (int64_t layer = 0; layer < layers; ++layer) {
    plan.stageOf.push_back(layer < stages ? layer : int64_t(generator() % stages));
    unsigned drawn = generator() % 4;
    plan.splitBackward.push_back(drawn < 2 ? std::nullopt : std::optional(drawn == 2));
  }
  llvm::sort(plan.stageOf);
  plan.stages = stages;
  plan.schedule = "zb-h1";
}

class ZeroBubbleTest : public testing::TestWithParam<ModelSizes> {
protected:
  /// Plans of so many stages, each layer's strategy drawn.
  void expectEquivalentPlans(TrainedModel &model, int64_t stages, int count) {
    ValueBits values = model.recomputableValues();
    int tested = 0;
    for (unsigned seed = 0; tested < count; ++seed) {
      LayerwisePlan plan = drawLegalPlan(3000 + seed, GetParam(), values);
      if (plan.devices * stages > kMostRanks)
        continue;
      std::mt19937 generator(seed);
      splitBackward(generator, plan, stages);
      expectEquivalent(model, plan);
      ++tested;
    }
  }
};

TEST_P(ZeroBubbleTest, WholeLayersTrainLikeOneDevice) {
  TrainedModel model(GetParam().file);
  ASSERT_EQ(model.recomputableValues().size(), 4u);
  expectEquivalentPlans(model, 2, GetParam().drawn);
  expectEquivalentPlans(model, 4, 6);
}

/// Six units: stages of two and of one.
TEST_P(ZeroBubbleTest, HalvesTrainLikeOneDevice) {
  std::string attention = GetParam().isTied ? "attn" : "self_attn", units;
  for (std::string layer : {"layers.0.", "layers.1."})
    units += (units.empty() ? "" : ",") + layer + attention + "," + layer + "mlp";
  TrainedModel model(GetParam().file, units);
  ASSERT_EQ(model.recomputableValues().size(), 6u);
  expectEquivalentPlans(model, 3, 8);
}

std::string getName(const testing::TestParamInfo<ModelSizes> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, ZeroBubbleTest, testing::Values(kLlama, kGpt2, kSixths), getName);

} // namespace
