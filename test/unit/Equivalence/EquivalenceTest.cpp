// Every strategy, alone and mixed, trains like one device: three steps of AdamW with decay, clipping and labels that
// are ignored, by the timetables of all ranks on their real offsets, in doubles. What the lowering does not run yet
// joins by itself as `plan::whyUnsupported` lets it.
#include "TrainedPlan.h"

#include "llvm/ADT/STLExtras.h"

using namespace galvatron;
using namespace galvatron::reference;
using plan::StrategyValues;

namespace {

constexpr int64_t kBatch = 8, kHeads = 4, kMostRanks = 8;
constexpr int kRandomPlans = 160; // of each model
constexpr int kGathered = 1, kRing = 2, kContiguous = 1, kZigzag = 2;

/// No context parallelism, gathered keys, a ring.
const StrategyValues kContexts[] = {{}, {.cp = 2, .cpKind = kGathered, .cpZigzag = kContiguous},
                                    {.cp = 2, .cpKind = kRing, .cpZigzag = kZigzag}};

bool isLegal(const StrategyValues &values, int64_t microBatches) {
  return values.dp * microBatches <= kBatch && values.tp * values.ulysses <= kHeads &&
         (!values.sequenceParallel || values.tp > 1) && (!values.zero || values.dp * values.ulysses * values.cp > 1) &&
         plan::whyUnsupported(values).empty();
}

/// Embedding and first block on the first stage, the rest on the last.
std::vector<int64_t> halves(size_t layers, int64_t stages) {
  std::vector<int64_t> stageOf(layers, 0);
  for (size_t layer = layers / 2; layer < layers; ++layer)
    stageOf[layer] = stages - 1;
  return stageOf;
}

/// All layers alike.
std::vector<LayerwisePlan> uniformPlans(size_t layers) {
  std::vector<LayerwisePlan> plans;
  StrategyValues values;
  auto add = [&](int64_t pp) {
    LayerwisePlan plan;
    plan.stages = pp;
    plan.devices = values.dp * values.tp * values.ulysses * values.cp;
    plan.microBatches = kBatch / values.dp >= 4 ? 4 : 2;
    plan.schedule = plans.size() % 2 ? "gpipe" : "1f1b";
    if (!isLegal(values, plan.microBatches) || plan.stages * plan.devices > kMostRanks)
      return;
    plan.strategies.assign(layers, values);
    plan.stageOf = halves(layers, pp);
    plans.push_back(std::move(plan));
  };
  for (int64_t pp : {1, 2})
    for (values.tp = 1; values.tp <= 4; values.tp *= 2)
      for (values.sequenceParallel = 0; values.sequenceParallel <= 1; ++values.sequenceParallel)
        for (values.ulysses = 1; values.ulysses <= 4; values.ulysses *= 2)
          for (const StrategyValues &context : kContexts) {
            values.cp = context.cp, values.cpKind = context.cpKind, values.cpZigzag = context.cpZigzag;
            for (values.zero = 0; values.zero <= 3; ++values.zero)
              for (values.recompute = 0; values.recompute <= 1; ++values.recompute)
                for (values.dp = 1; values.dp <= 4; values.dp *= 2)
                  add(pp);
          }
  return plans;
}

/// A layer's own share of `devices`, drawn until the lowering runs it.
StrategyValues drawStrategy(std::mt19937 &generator, int64_t devices, int64_t microBatches) {
  while (true) {
    StrategyValues values;
    int64_t *degrees[] = {&values.dp, &values.cp, &values.ulysses, &values.tp};
    for (int64_t rest = devices; rest > 1; rest /= 2)
      *degrees[generator() % 4] *= 2;
    values.sequenceParallel = generator() % 2;
    values.recompute = generator() % 2;
    values.zero = generator() % 4;
    if (values.cp > 1) {
      values.cpKind = generator() % 3;
      values.cpZigzag = generator() % 3;
    }
    // What is refused is left out rather than drawn again, where it can be.
    if (values.tp == 1 || !plan::whyUnsupported({.sequenceParallel = values.sequenceParallel}).empty())
      values.sequenceParallel = 0;
    if (values.dp * values.ulysses * values.cp == 1 || !plan::whyUnsupported({.zero = values.zero}).empty())
      values.zero = 0;
    if (values.cp <= 2 && isLegal(values, microBatches))
      return values;
  }
}

LayerwisePlan drawPlan(unsigned seed, size_t layers) {
  std::mt19937 generator(seed);
  LayerwisePlan plan;
  plan.stages = 1 + generator() % 2;
  plan.devices = int64_t(1) << generator() % (plan.stages == 1 ? 4 : 3);
  plan.microBatches = int64_t(1) << generator() % 3;
  plan.schedule = generator() % 2 ? "gpipe" : "1f1b";
  int64_t border = 1 + generator() % (layers - 1);
  for (size_t layer = 0; layer < layers; ++layer) {
    plan.stageOf.push_back(int64_t(layer) >= border ? plan.stages - 1 : 0);
    plan.strategies.push_back(drawStrategy(generator, plan.devices, plan.microBatches));
  }
  return plan;
}

class EquivalenceTest : public testing::TestWithParam<std::string> {
protected:
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
  TrainedModel model(GetParam());
  ASSERT_EQ(model.expected.losses.size(), size_t(TrainedModel::kSteps));
  for (double norm : model.expected.norms)
    EXPECT_GT(norm, 0.25) << "clipping binds";
  EXPECT_GE(uniformPlans(model.numLayers()).size(), 110u);
}

TEST_P(EquivalenceTest, EveryStrategyTrainsLikeOneDevice) {
  TrainedModel model(GetParam());
  for (const LayerwisePlan &plan : uniformPlans(model.numLayers()))
    expectEquivalent(model, plan);
}

TEST_P(EquivalenceTest, RandomPlansTrainLikeOneDevice) {
  TrainedModel model(GetParam());
  for (int seed = 0; seed < kRandomPlans; ++seed) {
    LayerwisePlan plan = drawPlan(seed, model.numLayers());
    // A tied table has one placement in all stages.
    if (GetParam() == "gpt2_ignored.mlir")
      plan.strategies.back() = plan.strategies.front();
    expectEquivalent(model, plan);
  }
}

std::string getName(const testing::TestParamInfo<std::string> &info) {
  return info.param.substr(0, info.param.find('_'));
}

INSTANTIATE_TEST_SUITE_P(Models, EquivalenceTest, testing::Values("llama_ignored.mlir", "gpt2_ignored.mlir"), getName);

} // namespace
