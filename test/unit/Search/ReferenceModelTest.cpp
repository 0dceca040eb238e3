//===- ReferenceModelTest.cpp - The reference's numbers, row by row -------===//
//
// Every row that Hetu-Galvatron's own engine printed, and every plan that it
// found, against the formulas: memory to the last digit, seconds as far as its fits
// are exact (referenceTolerance).
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Reference/ReferenceModel.h"
#include "TestInputs.h"
#include "galvatron/Search/Formats/PlanFile.h"

#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
/// Without a tolerance: sums of the same numbers in another order.
void expectNear(double got, double wanted, const std::string &what, double tolerance = 1e-13) {
  EXPECT_NEAR(got, wanted, tolerance * std::max(1e-12, std::abs(wanted))) << what;
}

ReferenceStrategy strategyOf(const Json &row) {
  std::string type = row["dp_type"];
  return {row["pp"],        row["tp"], row["sp"],
          row["cp"],        row["dp"], type == "zero3" ? DpType::Zero3 : type == "zero2" ? DpType::Zero2 : DpType::Ddp,
          row["checkpoint"]};
}

class CostRows : public ::testing::TestWithParam<const char *> {};

TEST_P(CostRows, equal_the_reference) {
  Json file = readInput(std::string("galvatron-reference/costs/") + GetParam());
  Result<ReferenceModel> loaded = loadModel(file["inputs"]);
  ASSERT_TRUE(loaded) << loaded.error().message;
  const ReferenceModel &model = *loaded;
  double near = referenceTolerance(model);
  for (const Json &row : file["rows"]) {
    ReferenceStrategy s = strategyOf(row);
    int batch = row["batch"], chunks = row["chunks"];
    std::string what =
        row["strategy"].get<std::string>() + " batch " + std::to_string(batch) + " chunks " + std::to_string(chunks);
    EXPECT_EQ(notation(s), row["strategy"].get<std::string>());
    auto layer = model.layerSeconds(s, batch, chunks);
    ASSERT_TRUE(layer) << layer.error().message;
    expectNear(layer->withSync, row["layer_seconds_with_sync"], what + " layer sync", near);
    expectNear(layer->noSync, row["layer_seconds_no_sync"], what + " layer no sync", near);
    auto ends = model.endsSeconds(s, batch, chunks);
    auto endsMB = model.endsMemory(s, batch, chunks);
    ASSERT_TRUE(ends && endsMB);
    ReferencePlan plan{model.args().world(), s.pp, batch, chunks, {}, {}, s, 0};
    for (int stage = 0; stage < s.pp; ++stage) {
      expectNear((*ends)[stage].withSync, row["ends_seconds_with_sync"][stage], what + " ends", near);
      expectNear((*ends)[stage].noSync, row["ends_seconds_no_sync"][stage], what + " ends", near);
      auto memory = model.layerMemory(s, batch, chunks, stage);
      ASSERT_TRUE(memory);
      const Json &wanted = row["layer_states_activation_mb_per_stage"][stage];
      expectNear(memory->states, wanted[0], what + " states");
      expectNear(memory->activation, wanted[1], what + " activation");
      expectNear((*endsMB)[stage].states, row["ends_states_mb"][stage], what + " ends states");
      expectNear((*endsMB)[stage].activation, row["ends_activation_mb"][stage], what + " ends activation");
      int count = model.args().layers / s.pp;
      plan.layersOfStage.push_back(stage + 1 < s.pp ? count : model.args().layers - count * (s.pp - 1));
    }
    plan.layers.assign(model.args().layers, s);
    auto price = model.price(plan);
    ASSERT_TRUE(price) << price.error().message;
    expectNear(price->iterationSeconds, row["uniform_iteration_seconds"], what + " iteration", near);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, CostRows,
                         ::testing::Values("golden_8gpus_seq8192.json", "llama2-7b_16gpus.json",
                                           "llama2-7b_8gpus_zero2_async.json"));

class ReferencePlans : public ::testing::TestWithParam<std::string> {};

TEST_P(ReferencePlans, are_priced_as_the_reference_prices_them) {
  Json file = readInput("galvatron-reference/" + GetParam());
  Result<ReferenceModel> model = loadModel(file["inputs"]);
  ASSERT_TRUE(model) << model.error().message;
  PlanTarget target;
  target.unevenBatch = true; // as the reference prices them
  Result<Plan> plan = parsePlan(file["result"]["plan"]["strategy_config"].dump(), target);
  ASSERT_TRUE(plan) << plan.error().message;
  Result<ReferencePlan> inTerms = model->fromPlan(*plan);
  ASSERT_TRUE(inTerms) << inTerms.error().message;
  auto price = model->price(*inTerms);
  ASSERT_TRUE(price) << price.error().message;
  const Json &wanted = file["result"]["predicted"];
  expectNear(price->iterationSeconds, wanted["iteration_seconds"], "iteration", referenceTolerance(*model));
  expectNear(price->throughput, wanted["throughput_samples_per_s"], "throughput", referenceTolerance(*model));
  ASSERT_EQ(price->memoryUsedMB.size(), wanted["memory_used_mb_per_stage"].size());
  for (std::size_t stage = 0; stage < price->memoryUsedMB.size(); ++stage)
    expectNear(price->memoryUsedMB[stage], wanted["memory_used_mb_per_stage"][stage],
               "memory of stage " + std::to_string(stage));
  EXPECT_TRUE(price->fits);
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferencePlans, ::testing::ValuesIn(referenceCases()),
                         [](const auto &info) { return caseName(info.param); });
} // namespace
