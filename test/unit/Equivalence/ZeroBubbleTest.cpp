// Gradients of weights in a backward of their own (ZB-H1, ZB-V): every strategy, layers split and not, as many
// micro-batches as stages, fewer and more. Timetables that are wrong in one place are refused.
#include "DrawnPlans.h"
#include "SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

const ModelSizes kLlama = {"llama_ignored.mlir", 8, 16, 4, 40, 32, false, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kGpt2 = {"gpt2_ignored.mlir", 8, 16, 4, 40, 32, true, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kSixths = {"sixths_ignored.mlir", 6, 12, 6, 30, 36, false, {1, 3, 6}, {1, 2}, 12};

/// Puts the layers of a drawn plan on the parts of `stages` stages, each of one layer at least, some of them split or
/// whole by the plan.
void splitBackward(std::mt19937 &generator, LayerwisePlan &plan, const std::string &schedule, int64_t stages) {
  bool isVee = schedule == "zb-v";
  int64_t layers = plan.strategies.size(), parts = isVee ? 2 * stages : stages;
  std::vector<int64_t> partOf;
  plan.splitBackward.clear();
  for (int64_t layer = 0; layer < layers; ++layer) {
    partOf.push_back(layer < parts ? layer : int64_t(generator() % parts));
    unsigned drawn = generator() % 4;
    plan.splitBackward.push_back(drawn < 2 ? std::nullopt : std::optional(drawn == 2));
  }
  llvm::sort(partOf);
  plan.stages = stages;
  plan.schedule = schedule;
  plan.virtualStages = isVee ? 2 : 1;
  plan.stageOf.clear();
  for (int64_t part : partOf) {
    plan.stageOf.push_back(part < stages ? part : 2 * stages - 1 - part);
    plan.chunkOf.push_back(part / stages);
  }
}

class ZeroBubbleTest : public testing::TestWithParam<ModelSizes> {
protected:
  /// Plans of so many stages, each layer's strategy drawn.
  void expectEquivalentPlans(TrainedModel &model, const std::string &schedule, int64_t stages, int count) {
    expectEquivalentDrawn(model, GetParam(), 3000, count, [&](std::mt19937 &generator, LayerwisePlan &plan) {
      if (plan.devices * stages > kMostRanks)
        return false;
      splitBackward(generator, plan, schedule, stages);
      return true;
    });
  }
};

TEST_P(ZeroBubbleTest, WholeLayersTrainLikeOneDevice) {
  TrainedModel model(GetParam().file);
  ASSERT_EQ(model.recomputableValues().size(), 4u);
  expectEquivalentPlans(model, "zb-h1", 2, GetParam().drawn);
  expectEquivalentPlans(model, "zb-h1", 4, 6);
  expectEquivalentPlans(model, "zb-v", 2, GetParam().drawn);
}

/// Six units: stages of two and of one.
TEST_P(ZeroBubbleTest, HalvesTrainLikeOneDevice) {
  TrainedModel model(GetParam().file, GetParam().halves());
  ASSERT_EQ(model.recomputableValues().size(), 6u);
  expectEquivalentPlans(model, "zb-h1", 3, 8);
  expectEquivalentPlans(model, "zb-v", 2, 6);
  expectEquivalentPlans(model, "zb-v", 3, 8);
}

/// Two stages of embedding and block, block and head; the table is tied.
class SpoiltZeroBubbleTest : public SpoiltTimetables {
protected:
  SpoiltZeroBubbleTest() {
    LayerwisePlan plan;
    plan.stages = 2;
    plan.microBatches = 2;
    plan.schedule = "zb-h1";
    plan.strategies.resize(4);
    plan.stageOf = {0, 0, 1, 1};
    build("gpt2_ignored.mlir", plan);
    EXPECT_EQ(proofComplaint() + complaint(), "") << "right as it is";
  }
};

TEST_F(SpoiltZeroBubbleTest, WeightsBeforeTheirBackward) {
  move(1, "backward weights transformer.h.1 micro-batch 0", "backward transformer.h.1 micro-batch 0");
  EXPECT_THAT(proofComplaint(),
              testing::HasSubstr("expects every layer to run forward and then backward and then "
                                 "weights once a micro-batch, but not \"backward weights transformer.h.1 "
                                 "micro-batch 0\" on stage 1"));
}

TEST_F(SpoiltZeroBubbleTest, WeightsLeftOut) {
  remove(1, "backward weights transformer.h.1 micro-batch 1");
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("expects transformer.h.1 to run weights for micro-batch 1"));
}

TEST_F(SpoiltZeroBubbleTest, WeightsOfAnotherMicroBatch) {
  TimetableEntry &entry = timetables[1].entries[indexOf(1, "backward weights transformer.h.1 micro-batch 0")];
  Compute other = find<Compute>(1, "backward weights transformer.h.1 micro-batch 1");
  entry.getIf<Compute>()->reads.back() = other.reads.back();
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("kept by the backward of transformer.h.1 micro-batch 0 in kept by "
                                                   "transformer.h.1 micro-batch 1"));
}

TEST_F(SpoiltZeroBubbleTest, ReceivesSwapped) {
  TimetableEntry &one = timetables[0].entries[indexOf(0, "receive gradient from stage 1 micro-batch 0")];
  TimetableEntry &other = timetables[0].entries[indexOf(0, "receive gradient from stage 1 micro-batch 1")];
  std::swap(one.microBatch, other.microBatch);
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("to find the gradient of output of transformer.h.0 micro-batch 0"));
}

TEST_F(SpoiltZeroBubbleTest, SendDropped) {
  remove(1, "end of send gradient to stage 0 micro-batch 1");
  remove(1, "send gradient to stage 0 micro-batch 1");
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("expects stage 0 to receive what stage 1 sends, but number 1 is"));
}

TEST_F(SpoiltZeroBubbleTest, TiedSumMovedOnOneStage) {
  auto isSum = [](const TimetableEntry &entry) {
    return llvm::StringRef(entry.name).starts_with("reduce gradient of tied");
  };
  auto found = llvm::find_if(timetables[1].entries, isSum);
  ASSERT_NE(found, timetables[1].entries.end());
  move(1, std::string(found->name), "send gradient to stage 0 micro-batch 0");
  EXPECT_THAT(proofComplaint(), testing::AnyOf(testing::HasSubstr("to be whole at"),
                                               testing::HasSubstr("the stages wait for one another")));
}

/// The embedding and the head on stage 0, both blocks on stage 1: activations and gradients of both parts go both ways.
class SpoiltVeeTest : public SpoiltZeroBubbleTest {
protected:
  SpoiltVeeTest() {
    LayerwisePlan plan;
    plan.stages = plan.virtualStages = plan.microBatches = 2;
    plan.schedule = "zb-v";
    plan.strategies.resize(4);
    plan.stageOf = {0, 1, 1, 0};
    plan.chunkOf = {0, 0, 1, 1};
    build("gpt2_ignored.mlir", plan);
    EXPECT_EQ(proofComplaint() + complaint(), "") << "right as it is";
  }
};

TEST_F(SpoiltVeeTest, NoSumOfTiedGradientsBetweenStages) {
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries)
      EXPECT_FALSE(llvm::StringRef(entry.name).starts_with("reduce gradient of tied")) << entry.name;
}

TEST_F(SpoiltVeeTest, WeightsBeforeTheirBackward) {
  move(1, "backward weights transformer.h.0 micro-batch 1", "backward transformer.h.0 micro-batch 1");
  EXPECT_THAT(proofComplaint(),
              testing::HasSubstr("but not \"backward weights transformer.h.0 micro-batch 1\" on stage 1"));
}

TEST_F(SpoiltVeeTest, ReceivesOfBothWaysSwapped) {
  std::swap(find<Receive>(1, "receive from stage 0 in chunk 0 micro-batch 1").channel,
            find<Receive>(1, "receive gradient from stage 0 in chunk 1 micro-batch 0").channel);
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("micro-batch 1\" on stage 1 to find value"));
}

TEST_F(SpoiltVeeTest, SendDropped) {
  remove(0, "end of send gradient to stage 1 in chunk 1 micro-batch 0");
  remove(0, "send gradient to stage 1 in chunk 1 micro-batch 0");
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("expects stage 1 to receive what stage 0 sends, but number"));
}

std::string getName(const testing::TestParamInfo<ModelSizes> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, ZeroBubbleTest, testing::Values(kLlama, kGpt2, kSixths), getName);

} // namespace
