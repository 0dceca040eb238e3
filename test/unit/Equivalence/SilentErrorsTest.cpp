// The classic silent errors of composed parallelisms: a real program is spoilt once, and both judges reject it, the
// proof naming value and mesh axes, the executor the value on its layer. The proof's own tests (VerifyTimetableTest)
// have every rule on a small program; here is what a wrong compiler would make of Llama and GPT-2.
#include "SpoiltTimetables.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;
using testing::AllOf;
using testing::HasSubstr;

namespace {

const std::string kNorm = "model.layers.1.input_layernorm.weight", kQuery = "model.layers.1.self_attn.q_proj.weight";

class SilentErrorsTest : public SpoiltTimetables {
protected:
  /// Without the reductions of a buffer, and their waits.
  void removeReductions(size_t stage, const std::string &buffer) {
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    for (size_t index = entries.size(); index-- > 0;) {
      const auto *reduce = entries[index].getIf<AllReduce>();
      const auto *wait = entries[index].getIf<Wait>();
      int reduced = reduce ? reduce->buffer.buffer : wait ? wait->buffer.buffer : -1;
      if (reduced >= 0 && timetables[stage].buffers[reduced].name == buffer)
        removeAt(stage, index);
    }
  }

  /// Reductions of a layer's gradients go over mesh axis 0 alone.
  template <typename Kind> void reduceOverAxisZero(size_t stage, const std::string &layer) {
    timetables[stage].groups.push_back({{0}, {}});
    for (TimetableEntry &entry : timetables[stage].entries)
      if (auto *reduce = entry.getIf<Kind>();
          reduce && llvm::StringRef(entry.name).starts_with("reduce gradients of " + layer))
        reduce->group = timetables[stage].groups.size() - 1;
  }

  std::string nameOfTotal(size_t stage) { return timetables[stage].buffers[timetables[stage].totals.front()].name; }
};

TEST_F(SilentErrorsTest, NormWeightsReductionRemovedUnderSequenceParallelism) {
  build("llama_ignored.mlir", {.dp = 2, .tp = 2, .sequenceParallel = 1});
  EXPECT_EQ(proofComplaint() + complaint(), "") << "right as it is";
  removeReductions(1, "gradient of " + kNorm);
  EXPECT_THAT(proofComplaint(), HasSubstr("expects the gradient of " + kNorm +
                                          " to be reduced over mesh axes 0, 1, on which it is partial"));
  EXPECT_THAT(complaint(), HasSubstr("expects equal replicas of \"gradient of " + kNorm + "\" on stage 1"));
}

TEST_F(SilentErrorsTest, ReductionOverDpWhereTheSequenceIsCutToo) {
  const std::pair<plan::StrategyValues, std::string> strategies[] = {{{.dp = 2, .tp = 2, .sequenceParallel = 1}, kNorm},
                                                                     {{.dp = 2, .ulysses = 2}, kQuery},
                                                                     {{.dp = 2, .cp = 2}, kQuery}};
  for (const auto &[strategy, parameter] : strategies) {
    build("llama_ignored.mlir", strategy);
    reduceOverAxisZero<AllReduce>(1, "model.layers.1");
    EXPECT_THAT(proofComplaint(),
                AllOf(HasSubstr("expects the gradient of " + parameter +
                                " to be reduced over mesh axes 0, 1, on which it is partial, but "),
                      HasSubstr("\"reduce gradients of model.layers.1\" on stage 1 does it over mesh axis 0")));
    EXPECT_THAT(complaint(), HasSubstr("expects equal replicas of \"gradient of " + parameter + "\" on stage 1"));
  }
}

/// ZeRO: the pieces differ by right, so that no replicas tell the executor; the gradient itself does.
TEST_F(SilentErrorsTest, ReduceScatterOverDpWhereTheSequenceIsCutToo) {
  for (int64_t zero : {1, 2, 3})
    for (plan::StrategyValues strategy : {plan::StrategyValues{.dp = 2, .ulysses = 2}, {.dp = 2, .cp = 2}}) {
      strategy.zero = zero;
      build("llama_ignored.mlir", strategy);
      EXPECT_EQ(proofComplaint() + complaint(), "") << "right as it is";
      reduceOverAxisZero<ReduceScatter>(1, "model.layers.1");
      EXPECT_THAT(proofComplaint(),
                  AllOf(HasSubstr("expects the gradient of " + kQuery +
                                  " to be reduced over mesh axes 0, 1, on which it is partial, but \"reduce gradients "
                                  "of model.layers.1"),
                        HasSubstr("on stage 1 does it over mesh axis 0")));
      EXPECT_THAT(complaint(), testing::MatchesRegex("the gradient of model.layers.1.* in step 1"));
    }
}

TEST_F(SilentErrorsTest, PartialSumUsedAsFull) {
  build("llama_ignored.mlir", {.dp = 2, .tp = 2});
  dist::AllReduceOp reduce;
  staged->walk([&](dist::AllReduceOp op) {
    auto body = op->getParentOfType<dist::BodyOp>();
    if (!reduce && body && body.getSymName().starts_with("decoder") && body.getSymName().ends_with("forward"))
      reduce = op;
  });
  ASSERT_TRUE(reduce);
  reduce.getResult().replaceAllUsesWith(reduce.getOperand());
  EXPECT_THAT(complaint(),
              testing::MatchesRegex("expects equal replicas of \"gradient of model.layers.0.*\" on stage 0, "
                                    "but devices 0 and 1 differ in micro-batch 0"));
}

TEST_F(SilentErrorsTest, TiedGradientSummedTwice) {
  build("gpt2_ignored.mlir", {.dp = 2, .tp = 2});
  for (size_t stage : {0, 1}) {
    size_t index = indexOf(stage, "reduce gradient of tied transformer.wte.weight");
    insert(stage, index + 1, TimetableEntry(timetables[stage].entries[index]));
  }
  EXPECT_THAT(proofComplaint(), HasSubstr("expects the gradient of tied transformer.wte.weight to be summed once over "
                                          "its stages"));
  EXPECT_THAT(complaint(), testing::MatchesRegex("the gradient of transformer.wte.weight .* in step 1"));
}

/// Layers that would cut it otherwise get it as its first one has it. Unequal cuts in a program:
/// VerifyTimetableTest.TiedParameterWithUnequalCuts.
TEST_F(SilentErrorsTest, TiedTableHasOneCut) {
  TrainedModel gpt2("gpt2_ignored.mlir");
  LayerwisePlan plan{.stages = 2,
                     .devices = 4,
                     .microBatches = 2,
                     .strategies = {{.tp = 4}, {.tp = 4}, {.dp = 4}, {.dp = 4}},
                     .stageOf = {0, 0, 1, 1}};
  auto program = gpt2.stage(plan);
  ASSERT_TRUE(program);
  EXPECT_EQ(gpt2.differenceOf(gpt2.train(*program, TrainedModel::lower(*program))), "");
  plan.strategies = {{.dp = 4}, {.dp = 4}, {.dp = 4}, {.dp = 4, .zero = 2}};
  program = gpt2.stage(plan);
  ASSERT_TRUE(program);
  auto complaint = [&] {
    return errorsOf(gpt2.context(), [&] { EXPECT_TRUE(TrainedModel::lower(*program).empty()); });
  };
  EXPECT_THAT(complaint(), HasSubstr("expects one level of ZeRO of the tied parameter transformer.wte.weight"));
  plan.stages = 1;
  plan.stageOf = {0, 0, 0, 0};
  program = gpt2.stage(plan);
  ASSERT_TRUE(program);
  EXPECT_THAT(complaint(), HasSubstr("transformer.wte.weight, but its layers have zero 0 and 2"));
}

TEST_F(SilentErrorsTest, GatherLeftOut) {
  for (int64_t zero : {1, 2, 3}) {
    build("llama_ignored.mlir", {.dp = 2, .cp = 2, .zero = zero});
    std::string gather = "gather parameters of model.layers.1";
    gather += zero < 3 ? "" : " micro-batch 0";
    remove(1, "end of " + gather);
    EXPECT_THAT(complaint(), AllOf(HasSubstr("expects \"forward model.layers.1 micro-batch 0\" of stage 1 to leave \""),
                                   HasSubstr("\" alone until the wait of \"" + gather + "\"")));
    EXPECT_THAT(proofComplaint(), HasSubstr("which \"" + gather + "\" still holds"));
    remove(1, gather);
    EXPECT_THAT(proofComplaint(), HasSubstr("expects \"forward model.layers.1 micro-batch 0\" on stage 1 to find " +
                                            kQuery + " as gathered"));
    EXPECT_THAT(complaint(), AllOf(HasSubstr("to be there when \"forward model.layers.1 micro-batch 0\" reads it"),
                                   HasSubstr("was never written")));
  }
}

TEST_F(SilentErrorsTest, GatheredParametersFreedBeforeTheirUse) {
  build("llama_ignored.mlir", {.dp = 2, .cp = 2, .zero = 3});
  Buffer &gathered = bufferOf(1, find<AllGather>(1, "gather parameters of model.layers.1 micro-batch 0").whole);
  gathered.last = gathered.first;
  EXPECT_EQ(complaint(),
            "expects the memory of \"gather parameters of model.layers.1 micro-batch 0\" to be its own until its "
            "wait, but \"gathered model.layers.1 micro-batch 0\" ends with \"gather parameters of model.layers.1 "
            "micro-batch 0\"");
}

TEST_F(SilentErrorsTest, NormThatCountsReplicas) {
  build("gpt2_ignored.mlir", {.dp = 2, .cp = 2, .zero = 2});
  for (StageParameter &parameter : timetables[1].parameters)
    parameter.counted = true;
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient norm to count every element of \"transformer.wte.weight\" "
                                     "once"));
}

TEST_F(SilentErrorsTest, NormThatMissesShards) {
  build("llama_ignored.mlir", {.dp = 2, .cp = 2, .zero = 2});
  for (StageParameter &parameter : timetables[1].parameters)
    parameter.counted = parameter.names.front() != kQuery;
  EXPECT_THAT(proofComplaint(),
              HasSubstr("expects the gradient norm to count " + kQuery + " in one stage, but 0 of 1"));
  EXPECT_THAT(complaint(), HasSubstr("expects the gradient norm to count every element of \"" + kQuery + "\" once"));
}

TEST_F(SilentErrorsTest, StateThatNobodyHas) {
  build("llama_ignored.mlir", {.dp = 2, .cp = 2, .zero = 2});
  for (StateBucket &bucket : timetables[1].buckets)
    if (bucket.path == "model.layers.1")
      bucket.axes = {0};
  EXPECT_THAT(proofComplaint(), HasSubstr("expects the states of " + kQuery +
                                          " to be shared along mesh axes 0, 1, on which "
                                          "its gradient is partial, but stage 1 does it along mesh axis 0"));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("expects \"parameters of model.layers.1\" to be there when \"forward "
                                           "model.layers.1 micro-batch 0\" reads it on device 0 of stage 1"),
                                 HasSubstr("was never written")));
}

TEST_F(SilentErrorsTest, LossAveragedPerRank) {
  build("llama_ignored.mlir", {.dp = 2, .cp = 2});
  std::string total = nameOfTotal(1);
  remove(1, "add up " + total + " over devices");
  EXPECT_THAT(proofComplaint(), HasSubstr("expects " + total +
                                          " over the whole batch at \"forward lm_head micro-batch 0\" "
                                          "on stage 1, but nothing has reduced it over mesh axes 0, 1"));
  EXPECT_EQ(complaint(), "the loss of step 1");
}

} // namespace
