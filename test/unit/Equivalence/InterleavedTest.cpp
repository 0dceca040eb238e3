// Stages that hold several parts of the model train like one device: every strategy, parts of one layer and of several,
// micro-batches of one round and of more. One order on each channel serves both its ends: the proof asks for it.
#include "DrawnPlans.h"
#include "SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

const ModelSizes kLlama = {"llama_ignored.mlir", 8, 16, 4, 40, 32, false, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kGpt2 = {"gpt2_ignored.mlir", 8, 16, 4, 40, 32, true, {1, 2, 4}, {1, 2, 4}, 24};
const ModelSizes kSixths = {"sixths_ignored.mlir", 6, 12, 6, 30, 36, false, {1, 3, 6}, {1, 2}, 16};

/// Puts the layers of a drawn plan on `parts` parts, each of one layer at least.
void interleave(std::mt19937 &generator, LayerwisePlan &plan, int64_t stages, int64_t virtualStages) {
  int64_t layers = plan.strategies.size(), parts = stages * virtualStages;
  std::vector<int64_t> partOf;
  for (int64_t layer = 0; layer < layers; ++layer)
    partOf.push_back(layer < parts ? layer : int64_t(generator() % parts));
  llvm::sort(partOf);
  plan.stages = stages;
  plan.virtualStages = virtualStages;
  plan.schedule = "interleaved";
  plan.stageOf.clear();
  for (int64_t part : partOf) {
    plan.stageOf.push_back(part % stages);
    plan.chunkOf.push_back(part / stages);
  }
}

class InterleavedTest : public testing::TestWithParam<ModelSizes> {
protected:
  /// Plans of these stages and parts, each layer's strategy drawn.
  void expectEquivalentPlans(TrainedModel &model, int64_t stages, int64_t virtualStages, int count) {
    expectEquivalentDrawn(model, GetParam(), 2000, count, [&](std::mt19937 &generator, LayerwisePlan &plan) {
      if (plan.microBatches % stages || plan.devices * stages > kMostRanks)
        return false;
      interleave(generator, plan, stages, virtualStages);
      return true;
    });
  }
};

TEST_P(InterleavedTest, PartsOfWholeLayersTrainLikeOneDevice) {
  TrainedModel model(GetParam().file);
  ASSERT_EQ(model.recomputableValues().size(), 4u);
  expectEquivalentPlans(model, 2, 2, GetParam().drawn);
}

/// Six units: three parts a stage, three stages, and parts of unequal length.
TEST_P(InterleavedTest, PartsOfHalvesTrainLikeOneDevice) {
  TrainedModel model(GetParam().file, GetParam().halves());
  ASSERT_EQ(model.recomputableValues().size(), 6u);
  expectEquivalentPlans(model, 2, 2, 6);
  expectEquivalentPlans(model, 2, 3, 6);
  if (GetParam().batch % 3 == 0)
    expectEquivalentPlans(model, 3, 2, 8);
}

/// A layer a part: stage 0 has the embedding and the second block, stage 1 the first block and the head, and the table
/// is tied.
class SpoiltInterleavedTest : public SpoiltTimetables {
protected:
  SpoiltInterleavedTest() {
    LayerwisePlan plan;
    plan.stages = plan.virtualStages = plan.microBatches = 2;
    plan.schedule = "interleaved";
    plan.strategies.resize(4);
    plan.stageOf = {0, 1, 0, 1};
    plan.chunkOf = {0, 0, 1, 1};
    build("gpt2_ignored.mlir", plan);
    EXPECT_EQ(proofComplaint() + complaint(), "") << "right as it is";
  }
  void swap(size_t stage, const std::string &one, const std::string &other) {
    std::swap(timetables[stage].entries[indexOf(stage, one)], timetables[stage].entries[indexOf(stage, other)]);
  }
};

TEST_F(SpoiltInterleavedTest, ReceivesOfTwoPartsSwapped) {
  std::swap(find<Receive>(1, "receive from stage 0 in chunk 0 micro-batch 1").channel,
            find<Receive>(1, "receive from stage 0 in chunk 1 micro-batch 0").channel);
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("to find value"));
}

TEST_F(SpoiltInterleavedTest, SendsOfTwoPartsInAnotherOrder) {
  size_t first = indexOf(0, "send activation to stage 1 in chunk 0 micro-batch 1");
  TimetableEntry entry = timetables[0].entries[first];
  size_t second = indexOf(0, "send activation to stage 1 in chunk 1 micro-batch 0");
  removeAt(0, first);
  insert(0, second, entry);
  EXPECT_THAT(proofComplaint(),
              testing::HasSubstr("expects stage 1 to receive what stage 0 sends, but number 1 is \"send activation to "
                                 "stage 1 in chunk 1 micro-batch 0\""));
}

TEST_F(SpoiltInterleavedTest, SendDropped) {
  std::string send = "send activation to stage 0 in chunk 0 micro-batch 0";
  remove(1, "end of " + send);
  remove(1, send);
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("expects stage 0 to receive what stage 1 sends, but number 0 is"));
}

TEST_F(SpoiltInterleavedTest, PartBeforeTheOneBefore) {
  // The last part's forward stands before its value is there.
  size_t from = indexOf(1, "receive from stage 0 in chunk 1 micro-batch 0");
  TimetableEntry receive = timetables[1].entries[from];
  removeAt(1, from);
  insert(1, indexOf(1, "receive from stage 0 in chunk 0 micro-batch 0"), receive);
  EXPECT_THAT(proofComplaint(), testing::AnyOf(testing::HasSubstr("expects stage 1 to receive what stage 0 sends"),
                                               testing::HasSubstr("the stages wait for one another")));
}

TEST_F(SpoiltInterleavedTest, TiedSumMovedOnOneStage) {
  auto isSum = [](const TimetableEntry &entry) {
    return llvm::StringRef(entry.name).starts_with("reduce gradient of tied");
  };
  auto found = llvm::find_if(timetables[1].entries, isSum);
  ASSERT_NE(found, timetables[1].entries.end());
  TimetableEntry sum = *found;
  removeAt(1, found - timetables[1].entries.begin());
  insert(1, indexOf(1, "send gradient to stage 0 in chunk 0 micro-batch 0"), sum);
  EXPECT_THAT(proofComplaint(), testing::HasSubstr("the stages wait for one another"));
}

std::string getName(const testing::TestParamInfo<ModelSizes> &info) {
  return info.param.file.substr(0, info.param.file.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, InterleavedTest, testing::Values(kLlama, kGpt2, kSixths), getName);

} // namespace
