//===- ReferenceSearchTest.cpp - Better than the reference, task by task --===//
//
// The reference's per-task answers are lower bounds: under its own score, in
// the same space and budget, an exact search finds at least as much, and is
// feasible exactly where the reference is.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Reference/ReferenceSearch.h"
#include "TestInputs.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/TransformerModel.h"

#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <map>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
class ReferenceCases : public ::testing::TestWithParam<std::string> {};

TEST_P(ReferenceCases, every_task_is_at_least_as_good) {
  Json file = readInput("galvatron-reference/" + GetParam());
  Result<ReferenceModel> model = loadModel(file["inputs"]);
  ASSERT_TRUE(model) << model.error().message;
  ReferenceSearchOptions options;
  options.referenceDivision = true;
  for (const Json &row : file["per_task"]) {
    std::string mode = row[3];
    using Mode = ReferenceTask::Mode;
    ReferenceTask task{row[0], row[1], row[2],
                       mode == "tp_only"   ? Mode::TpOnly
                       : mode == "sp_only" ? Mode::SpOnly
                                           : Mode::Both,
                       row[4]};
    double theirs = row[5];
    auto solution = searchReferenceTask(*model, task, options);
    ASSERT_TRUE(solution) << solution.error().message;
    EXPECT_EQ(solution->plan.has_value(), theirs > 0) << row << " " << solution->reason;
    if (!solution->plan)
      continue;
    EXPECT_GE(solution->price.throughput, theirs * (1 - referenceTolerance(*model))) << row;
    EXPECT_TRUE(solution->price.fits) << row;
  }
}

TEST_P(ReferenceCases, the_best_plan_is_at_least_as_good) {
  Json file = readInput("galvatron-reference/" + GetParam());
  Result<ReferenceModel> model = loadModel(file["inputs"]);
  ASSERT_TRUE(model) << model.error().message;
  auto solution = searchReference(*model);
  ASSERT_TRUE(solution) << solution.error().message;
  ASSERT_TRUE(solution->plan) << solution->reason;
  double theirs = file["result"]["predicted"]["throughput_samples_per_s"];
  std::cout << GetParam() << " " << theirs << " -> " << solution->price.throughput << " ("
            << (solution->price.throughput / theirs - 1) * 100 << " %) in " << solution->searchSeconds << " s, opened "
            << solution->opened << "/" << solution->candidates << ", nodes " << solution->nodes << "\n";
  EXPECT_TRUE(solution->price.fits);
  // Batches that dp does not divide lose samples in the reference's score.
  if (GetParam() != "odd_m36_b56.json")
    EXPECT_GE(solution->price.throughput, theirs * (1 - referenceTolerance(*model)));
}

/// Every plan of a tiny model, priced one by one.
class Exhaustive {
public:
  Exhaustive(const ReferenceModel &model, int batch) : model(model), batch(batch) {}

  double best() {
    const ReferenceArguments &a = model.args();
    for (int chunks = 1; chunks <= batch; ++chunks)
      for (int stages = 1; stages <= std::min({chunks, a.layers, a.world()}); stages *= 2)
        if (batch % chunks == 0)
          for (int bufferTp = 0; bufferTp <= a.world() / stages; bufferTp = std::max(1, 2 * bufferTp))
            task(chunks, stages, bufferTp);
    return throughput;
  }

private:
  std::vector<ReferenceStrategy> strategies(int chunks, int stages, int bufferTp, bool ends) {
    const ReferenceArguments &a = model.args();
    int ranks = a.world() / stages, micro = batch / chunks;
    std::vector<ReferenceStrategy> list;
    for (int tp = 1; tp <= ranks; tp *= 2)
      for (int sp = 1; sp <= ranks; sp *= 2)
        for (int zero3 = 0; zero3 < 2; ++zero3)
          for (int checkpoint = 0; checkpoint < 2; ++checkpoint) {
            int dp = ranks / tp / sp;
            if (tp * sp > ranks || (tp > 1 && sp > 1) || (dp == 1 && zero3) || (ends && checkpoint) || micro % dp)
              continue;
            if (bufferTp ? std::max(tp, sp) > bufferTp : tp > 1)
              continue;
            list.push_back({stages, tp, sp, 1, dp,
                            dp == 1 ? DpType::Ddp
                            : zero3 ? DpType::Zero3
                                    : model.defaultType(),
                            checkpoint == 1});
          }
    return list;
  }

  void task(int chunks, int stages, int bufferTp) {
    const ReferenceArguments &a = model.args();
    int widest = std::min(batch / chunks, a.world() / stages);
    if (bufferTp && bufferTp < a.world() / stages / widest)
      return;
    ReferencePlan plan{a.world(), stages, batch, chunks, {}, {}, {}, bufferTp};
    for (int stage = 0; stage < stages; ++stage)
      plan.layersOfStage.push_back(a.layers / stages + (stage + 1 == stages ? a.layers % stages : 0));
    std::vector<ReferenceStrategy> layers = strategies(chunks, stages, bufferTp, false);
    for (const ReferenceStrategy &ends : strategies(chunks, stages, bufferTp, true)) {
      plan.ends = ends;
      fill(plan, layers);
    }
  }

  void fill(ReferencePlan &plan, const std::vector<ReferenceStrategy> &layers) {
    if (int(plan.layers.size()) == model.args().layers) {
      auto price = model.price(plan);
      ASSERT_TRUE(price) << price.error().message;
      if (price->fits)
        throughput = std::max(throughput, price->throughput);
      return;
    }
    for (const ReferenceStrategy &s : layers) {
      plan.layers.push_back(s);
      fill(plan, layers);
      plan.layers.pop_back();
    }
  }

  const ReferenceModel &model;
  int batch;
  double throughput = 0;
};

TEST(ReferenceSearch, equals_exhaustive_search_on_small_models) {
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  inputs["hardware"] = "galvatron-profiles/hardware-synthetic";
  inputs["args"]["hardware_info"]["num_gpus_per_node"] = 4;
  int feasible = 0;
  for (int layers : {2, 3, 4})
    for (int memory : {3, 5, 6, 8, 12, 22})
      for (int batch : {4, 12})
        for (const char *type : {"gpipe", "pipedream_flush"}) {
          if (layers == 4 && batch == 12)
            continue; // half a minute of pricing
          inputs["model"]["num_layers"] = layers;
          inputs["args"]["hardware_info"]["memory_constraint"] = memory;
          inputs["args"]["batch_size_info"]["settle_bsz"] = batch;
          inputs["args"]["parallelism_info"]["pipeline_type"] = type;
          Result<ReferenceModel> model = loadModel(inputs);
          ASSERT_TRUE(model) << model.error().message;
          double wanted = Exhaustive(*model, batch).best();
          auto solution = searchReference(*model);
          ASSERT_TRUE(solution) << solution.error().message;
          EXPECT_EQ(solution->plan.has_value(), wanted > 0);
          feasible += wanted > 0;
          if (solution->plan)
            EXPECT_NEAR(solution->price.throughput, wanted, 1e-10 * wanted)
                << layers << " layers, " << memory << " GB, batch " << batch << " " << type;
          else
            EXPECT_GT(solution->smallestMemoryGB, memory);
        }
  EXPECT_GT(feasible, 25);
}

/// As its search does: with default_dp_type zero3, zero2 beside zero3.
TEST(ReferenceSearch, offers_zero2_beside_a_default_of_zero3) {
  Json inputs = readInput("galvatron-reference/full_8g_m48_b64.json")["inputs"];
  std::map<std::string, double> throughput;
  for (const char *type : {"zero2", "zero3"}) {
    inputs["args"]["parallelism_info"]["default_dp_type"] = type;
    auto model = loadModel(inputs);
    ASSERT_TRUE(model);
    auto solution = searchReference(*model);
    ASSERT_TRUE(solution && solution->plan);
    throughput[type] = solution->price.throughput;
    Plan plan = model->toPlan(*solution->plan);
    EXPECT_TRUE(std::any_of(plan.layers.begin(), plan.layers.end(),
                            [](const PlannedLayer &layer) { return layer.strategy.zero == 2; }));
    // Its own plan says zero3 and means zero2 by a 0 of dp_types_enc.
    Json written = Json::parse(*writeReferencePlan(plan));
    written["default_dp_type"] = type;
    PlanTarget target;
    target.layers = transformerLayers(model->args().layers);
    target.asSearched = true;
    auto read = parsePlan(written.dump(), target);
    ASSERT_TRUE(read) << read.error().message;
    auto again = model->fromPlan(*read);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(model->price(*again)->throughput, solution->price.throughput);
  }
  EXPECT_EQ(throughput["zero3"], throughput["zero2"]);
}

TEST(ReferenceSearch, says_what_leaves_no_batch) {
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  auto complaint = [&](const Json &sizes) {
    inputs["args"]["batch_size_info"] = sizes;
    auto solution = searchReference(*loadModel(inputs));
    return solution ? "" : solution.error().message;
  };
  EXPECT_EQ(complaint({{"min_bsz", 8}, {"max_bsz", 24}, {"settle_chunk", 16}}), "");
  EXPECT_NE(complaint({{"min_bsz", 8}, {"max_bsz", 24}, {"settle_chunk", 7}}).find("settle_chunk 7 divides none"),
            std::string::npos);
  EXPECT_NE(complaint({{"min_bsz", 3}, {"max_bsz", 5}}).find("no batch lies between min_bsz 3 and max_bsz 5"),
            std::string::npos);
}

/// Sizes that no integer of MB holds are too big, not negative.
TEST(ReferenceSearch, absurd_sizes_do_not_fit) {
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  inputs["hardware"] = "galvatron-profiles/hardware-synthetic";
  inputs["args"]["hardware_info"]["num_gpus_per_node"] = 1;
  inputs["args"]["batch_size_info"] = {{"settle_bsz", 1 << 24}, {"settle_chunk", 1}};
  auto solution = searchReference(*loadModel(inputs));
  ASSERT_TRUE(solution);
  EXPECT_FALSE(solution->plan);
  EXPECT_NE(solution->reason.find("more than any device has"), std::string::npos) << solution->reason;
}

TEST(ReferenceConfig, refuses_what_contradicts_itself) {
  auto complaint = [](const std::function<void(Json &)> &change) {
    Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
    change(inputs);
    auto arguments = parseReferenceConfig(inputs.dump(), inputPath(""));
    return arguments ? "" : arguments.error().message;
  };
  auto expect = [&](const std::function<void(Json &)> &change, const char *part) {
    EXPECT_NE(complaint(change).find(part), std::string::npos) << part << " in: " << complaint(change);
  };
  expect([](Json &json) { json["args"]["search_space_info"] = {{"disable_fsdp", 1}, {"disable_sdp", 0}}; },
         "keys 'disable_fsdp' and 'disable_sdp' name one switch, but differ");
  EXPECT_EQ(
      complaint([](Json &json) { json["args"]["search_space_info"] = {{"disable_fsdp", 1}, {"disable_sdp", 1}}; }), "");
  expect([](Json &json) { json["hardware_info"] = {{"memory_constraint", 8}}; },
         "has the group 'hardware_info' at top level and in 'args'");
  expect([](Json &json) { json["args"]["hardware_info"]["memory_constraint"] = 1 << 21; },
         "key 'memory_constraint' expects at most 262144, but got 2097152");
  expect([](Json &json) { json["model"]["num_layers"] = 1 << 24; }, "key 'num_layers' expects at most 65536");
  // What the command line says under one name replaces the other.
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  inputs["args"]["search_space_info"]["disable_fsdp"] = 1;
  auto arguments = parseReferenceConfig(inputs.dump(), inputPath(""), R"({"search_space_info": {"disable_sdp": 0}})");
  ASSERT_TRUE(arguments) << arguments.error().message;
  EXPECT_FALSE(arguments->disableFsdp);
}

TEST(ReferenceSearch, names_the_smallest_budget) {
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  inputs["args"]["hardware_info"]["memory_constraint"] = 8;
  auto model = loadModel(inputs);
  ASSERT_TRUE(model);
  auto solution = searchReference(*model);
  ASSERT_TRUE(solution);
  ASSERT_FALSE(solution->plan);
  int smallest = solution->smallestMemoryGB;
  EXPECT_NE(solution->reason.find("memory_constraint to at least " + std::to_string(smallest)), std::string::npos)
      << solution->reason;
  for (int memory : {smallest - 1, smallest}) {
    inputs["args"]["hardware_info"]["memory_constraint"] = memory;
    auto again = searchReference(*loadModel(inputs));
    EXPECT_EQ(again->plan.has_value(), memory == smallest) << memory;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ReferenceCases, ::testing::ValuesIn(referenceCases()),
                         [](const auto &info) { return caseName(info.param); });
} // namespace
