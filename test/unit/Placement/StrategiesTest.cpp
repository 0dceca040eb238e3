// Every strategy gives the loss and gradients of the single-device program: small models are placed,
// cut and run on all devices of a mesh by the reference evaluator, in doubles, so that what differs
// is the order of additions only.
#include "../Reference/Program.h"
#include "PlannedModel.h"

#include "dialects/Dist/Dist.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <random>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

/// Token ids and normal weights, the same for every plan.
StepInputs makeInputs(mlir::ModuleOp module) {
  StepInputs inputs;
  inputs.exact = true;
  auto parameters = initialParameters(module, 1);
  EXPECT_TRUE(succeeded(parameters));
  for (auto &[name, value] : *parameters) {
    Tensor normal = randomTensor(value.shape, name);
    for (int64_t i = 0; i < normal.size(); ++i)
      normal[i] = (value.rank() == 1 ? 1.0 : 0.0) + 0.3 * normal[i];
    inputs.parameters[name] = normal;
  }
  std::mt19937 generator(5);
  auto step = module.lookupSymbol<mlir::func::FuncOp>("step");
  for (mlir::Type type : step.getArgumentTypes()) {
    Tensor ids(llvm::cast<mlir::RankedTensorType>(type).getShape());
    for (int64_t i = 0; i < ids.size(); ++i)
      ids[i] = generator() % 32;
    inputs.inputs.push_back(ids);
  }
  return inputs;
}

/// A parameter's gradient may be zero in exact arithmetic (a key's bias): compared on the scale of all.
void expectEqual(const StepResult &result, const StepResult &expected, const std::string &phase) {
  EXPECT_NEAR(result.loss, expected.loss, 1e-10) << phase;
  double scale = 0;
  for (auto &[name, gradient] : expected.gradients)
    for (double value : gradient.data)
      scale = std::max(scale, std::abs(value));
  ASSERT_EQ(result.gradients.size(), expected.gradients.size()) << phase;
  for (auto &[name, gradient] : expected.gradients) {
    const Tensor &other = result.gradients.at(name);
    double worst = 0;
    for (int64_t i = 0; i < gradient.size(); ++i)
      worst = std::max(worst, std::abs(gradient[i] - other[i]));
    EXPECT_LT(worst, 1e-10 * scale) << phase << ": " << name;
  }
}

class StrategiesTest : public testing::TestWithParam<Plan> {};

TEST_P(StrategiesTest, GradientsEqualSingleDevice) {
  const Plan &plan = GetParam();
  Program program(readInput(plan.model));
  ASSERT_TRUE(program.run(kTrain));
  StepInputs inputs = makeInputs(*program.module);
  auto expected = evaluateStep(*program.module, inputs);
  ASSERT_TRUE(succeeded(expected));
  ASSERT_FALSE(expected->gradients.empty());
  annotate(*program.module, plan);
  for (const char *pipeline : {kPlace, kCollect, kSplit, kFuse}) {
    ASSERT_TRUE(program.run(pipeline));
    auto result = evaluateStep(*program.module, inputs);
    ASSERT_TRUE(succeeded(result));
    expectEqual(*result, *expected, pipeline);
  }
  EXPECT_FALSE(program.module->getOps<dist::LayerOp>().empty());
}

/// Every unit with a strategy of its own, drawn from all that use the mesh.
std::vector<Plan> getRandomPlans(const std::string &model, int count) {
  std::mt19937 generator(11);
  auto draw = [&](std::vector<std::string> choices) { return choices[generator() % choices.size()]; };
  std::vector<Plan> plans;
  for (int i = 0; i < count; ++i) {
    Plan &plan = plans.emplace_back(Plan{model, int64_t(1) << generator() % 4, int64_t(1) << generator() % 2, {}});
    for (int unit = 0; unit < 4; ++unit) {
      int64_t degrees[4] = {1, 1, 1, 1}; // dp, cp, ulysses, tp
      for (int64_t rest = plan.devices; rest > 1;) {
        int64_t &degree = degrees[generator() % 4];
        // 8 samples in up to 2 micro-batches, 4 heads, 16 positions
        bool cutsHeads = &degree == &degrees[2] || &degree == &degrees[3];
        if (&degree == &degrees[0] ? degree * plan.microBatches >= 8
                                   : (cutsHeads ? degrees[2] * degrees[3] : degree) >= 4)
          continue;
        degree *= 2;
        rest /= 2;
      }
      plan.strategies.push_back("dp = " + std::to_string(degrees[0]) + ", cp = " + std::to_string(degrees[1]) +
                                ", ulysses = " + std::to_string(degrees[2]) + ", tp = " + std::to_string(degrees[3]) +
                                draw({"", ", sequence_parallel = true"}) + draw({"", ", recompute = true"}));
      if (degrees[1] > 1)
        plan.strategies.back() += draw({"", ", cp_kind = ring"}) + draw({"", ", cp_zigzag = true"});
    }
  }
  return plans;
}

std::vector<Plan> getPlans() {
  std::vector<Plan> plans;
  for (std::string model : {"llama.mlir", "gpt2.mlir"}) {
    plans.push_back({model, 1, 1, {"dp = 1"}});
    plans.push_back({model, 1, 4, {"dp = 1"}});
    plans.push_back({model, 2, 1, {"dp = 2"}});
    plans.push_back({model, 2, 1, {"tp = 2"}});
    plans.push_back({model, 4, 1, {"tp = 4"}});
    plans.push_back({model, 4, 2, {"dp = 2, tp = 2"}});
    plans.push_back({model, 4, 2, {"dp = 4", "tp = 4", "dp = 2, tp = 2"}});
    plans.push_back({model, 4, 1, {"tp = 4", "dp = 4", "dp = 2, tp = 2", "dp = 4"}});
    plans.push_back({model, 2, 2, {"tp = 2", "tp = 2, recompute = true"}});
    plans.push_back({model, 4, 1, {"dp = 2, tp = 2", "dp = 2, tp = 2, recompute = true", "tp = 4"}});
    plans.push_back({model, 2, 1, {"tp = 2, sequence_parallel = true"}});
    plans.push_back({model, 4, 2, {"dp = 2, tp = 2, sequence_parallel = true"}});
    plans.push_back({model, 2, 1, {"ulysses = 2"}});
    plans.push_back({model, 4, 1, {"ulysses = 4"}});
    plans.push_back({model, 4, 1, {"dp = 2, cp = 2"}});
    plans.push_back({model, 2, 1, {"cp = 2, cp_zigzag = true"}});
    plans.push_back({model, 4, 2, {"cp = 4, cp_zigzag = true"}});
    plans.push_back({model, 4, 1, {"cp = 2, cp_zigzag = true, ulysses = 2"}});
    plans.push_back({model, 4, 1, {"cp = 2, cp_zigzag = true, tp = 2, sequence_parallel = true"}});
    plans.push_back({model, 2, 1, {"cp = 2, cp_kind = ring"}});
    plans.push_back({model, 2, 1, {"cp = 2, cp_kind = ring, cp_zigzag = true", "cp = 2, cp_kind = ring"}});
    plans.push_back({model, 4, 1, {"cp = 4, cp_kind = ring, cp_zigzag = true, recompute = true"}});
    plans.push_back({model, 4, 2, {"cp = 4, cp_kind = ring"}});
    plans.push_back({model, 4, 1, {"cp = 2, cp_kind = ring, ulysses = 2", "cp = 4, cp_zigzag = true", "dp = 4"}});
    plans.push_back({model, 8, 1, {"dp = 2, cp = 2, tp = 2, sequence_parallel = true", "cp = 2, ulysses = 2, tp = 2"}});
  }
  return plans;
}

std::string getName(const testing::TestParamInfo<Plan> &info) {
  std::string text =
      info.param.model.substr(0, info.param.model.find('.')) + "_mb" + std::to_string(info.param.microBatches);
  for (const std::string &strategy : info.param.strategies)
    text += "_" + strategy;
  std::string name;
  for (char c : text)
    if (std::isalnum(c) || c == '_')
      name += c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Plans, StrategiesTest, testing::ValuesIn(getPlans()), getName);

std::string getNumber(const testing::TestParamInfo<Plan> &info) { return std::to_string(info.index); }
INSTANTIATE_TEST_SUITE_P(RandomLlama, StrategiesTest, testing::ValuesIn(getRandomPlans("llama.mlir", 40)), getNumber);
INSTANTIATE_TEST_SUITE_P(RandomGpt2, StrategiesTest, testing::ValuesIn(getRandomPlans("gpt2.mlir", 40)), getNumber);

} // namespace
