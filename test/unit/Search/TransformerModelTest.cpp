//===- TransformerModelTest.cpp - Costs by shape and by profile -----------===//

#include "galvatron/Search/Model/TransformerModel.h"
#include "RandomPlan.h"
#include "TestInputs.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Formats/ModelFile.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Reference/ReferenceSearch.h"
#include "galvatron/Search/Solver/Solver.h"

#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
TransformerShape mixtral() {
  auto shape = parseTransformerShape(
      R"({"hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4,
          "intermediate_size": 2048, "vocab_size": 32000, "hidden_act": "silu", "max_position_embeddings": 2048,
          "num_local_experts": 8, "num_experts_per_tok": 2})",
      0, 2);
  EXPECT_TRUE(shape) << shape.error().message;
  return *shape;
}

LayerCost costOf(const TransformerShape &shape, const Strategy &strategy, int dp, int layer = 1) {
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  auto layers = transformerLayers(shape.layers);
  Result<LayerCost> cost = costs.cost({&layers[layer], strategy, dp, 8, 1});
  EXPECT_TRUE(cost) << cost.error().message;
  return cost ? *cost : LayerCost();
}

TEST(ShapeCosts, experts_are_divided_by_ep_and_the_rest_is_not) {
  TransformerShape shape = mixtral();
  double experts = 8.0 * 3 * 1024 * 2048, dense = 2 * 1024 * 1024 + 2 * 1024 * 512 + 2 * 1024 + 1024 * 8;
  // bf16 weights and gradients, fp32 master copy and two moments: 16 bytes.
  EXPECT_EQ(costOf(shape, {}, 8).stateBytes, std::int64_t(16 * (experts + dense)));
  EXPECT_EQ(costOf(shape, {.ep = 4}, 8).stateBytes, std::int64_t(16 * (experts / 4 + dense)));
  // ZeRO-3 shards experts over the two ranks that hold the same, all else over 8.
  EXPECT_NEAR(double(costOf(shape, {.ep = 4, .zero = 3}, 8).stateBytes), 16 * (experts / 8 + dense / 8), 32);
  LayerCost cost = costOf(shape, {.ep = 4}, 8);
  auto exchanges = [](const std::vector<Collective> &list) {
    int count = 0;
    for (const Collective &c : list)
      count += c.group == Group::Expert ? c.count : 0;
    return count;
  };
  EXPECT_EQ(exchanges(cost.forwardCollectives), 2); // dispatch, combine
  EXPECT_EQ(exchanges(cost.backwardCollectives), 2);
  // A token meets 2 of 8 experts: as much work as a dense model twice as wide.
  TransformerShape dense2 = shape;
  dense2.experts = 0;
  dense2.ffn = 2 * shape.ffn;
  EXPECT_GT(cost.forwardSeconds, costOf(dense2, {}, 8).forwardSeconds);
  EXPECT_LT(cost.forwardSeconds, 1.5 * costOf(dense2, {}, 8).forwardSeconds);
}

TEST(ShapeCosts, attention_takes_its_pairs) {
  TransformerShape shape = mixtral();
  auto layers = transformerLayers(shape.layers);
  DeviceKind fast = *findDeviceKind("h100"), slow = fast;
  fast.attentionPairsPerSecond = 1e30; // bound by its products
  slow.attentionPairsPerSecond = 1e9;
  CostQuery query{&layers[1], {.tp = 2}, 4, 8, 1};
  auto before = ShapeCosts(shape, fast).cost(query), after = ShapeCosts(shape, slow).cost(query);
  ASSERT_TRUE(before && after);
  // 2 samples of a replica, half of 8 heads, half of 2048 x 2048 pairs; two products with heads of 128.
  double pairs = 2 * 4 * 2048.0 * 2048 / 2, products = pairs * 2 * 2 * 128 / fast.matmulFlopsPerSecond;
  EXPECT_NEAR(after->forwardSeconds - before->forwardSeconds, pairs / 1e9 - products, 1e-12);
  EXPECT_NEAR(after->backwardSeconds - before->backwardSeconds, kBackwardAttention * (pairs / 1e9 - products), 1e-12);
}

TEST(ShapeCosts, refuses_what_does_not_divide) {
  TransformerShape shape = mixtral();
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  auto layers = transformerLayers(shape.layers);
  auto refusal = [&](const Strategy &strategy, int layer) {
    Result<LayerCost> cost = costs.cost({&layers[layer], strategy, 3, 6, 1});
    return cost ? "" : cost.error().message;
  };
  EXPECT_NE(refusal({.tp = 3}, 1).find("does not divide the 8 heads"), std::string::npos);
  EXPECT_NE(refusal({.ep = 3}, 1).find("does not divide the 8 experts"), std::string::npos);
  EXPECT_NE(refusal({.tp = 3}, 0).find("words of the vocabulary"), std::string::npos);
  EXPECT_NE(refusal({.cp = 3}, 1).find("positions"), std::string::npos);
  shape.experts = 0;
  ShapeCosts dense(shape, *findDeviceKind("h100"));
  EXPECT_NE(dense.cost({&layers[1], {.ep = 2}, 4, 8, 1}).error().message.find("needs a model with experts"),
            std::string::npos);
  auto parsed = [](const char *more) {
    return parseTransformerShape(std::string(R"({"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "vocab_size": 100, )") + more +
                                     "}",
                                 0, 2)
        .error()
        .message;
  };
  EXPECT_NE(parsed(R"("num_experts": 2, "num_experts_per_tok": 4, "max_position_embeddings": 8)").find("at most the 2"),
            std::string::npos);
  EXPECT_NE(parsed(R"("hidden_act": "silu")").find("give --seq"), std::string::npos);
}

TEST(ShapeCosts, single_values_trade_bytes_for_time) {
  TransformerShape shape = mixtral();
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  auto layers = transformerLayers(shape.layers);
  std::vector<std::string> names = costs.recomputableValues(layers[1]);
  ASSERT_EQ(names.size(), 5u);
  EXPECT_TRUE(costs.recomputableValues(layers[0]).empty());
  LayerCost none = costOf(shape, {}, 8), all = costOf(shape, {.values = 0b11111}, 8);
  LayerCost whole = costOf(shape, {.recompute = true}, 8);
  std::int64_t saved = 0;
  for (std::uint32_t bit = 0; bit < 5; ++bit) {
    LayerCost one = costOf(shape, {.values = 1u << bit}, 8);
    EXPECT_LT(one.savedBytes, none.savedBytes) << names[bit];
    EXPECT_GT(one.recomputeSeconds, 0) << names[bit];
    EXPECT_EQ(one.stateBytes, none.stateBytes);
    // What is recomputed has to lie somewhere while it is used.
    EXPECT_EQ(one.scratchBytes - none.scratchBytes, none.savedBytes - one.savedBytes) << names[bit];
    saved += none.savedBytes - one.savedBytes;
  }
  EXPECT_NEAR(double(none.savedBytes - all.savedBytes), double(saved), 5);
  // A whole layer keeps only its input, and makes everything again.
  EXPECT_LT(whole.savedBytes, all.savedBytes);
  EXPECT_GT(whole.recomputeSeconds, all.recomputeSeconds);
}

TEST(ShapeCosts, values_are_made_again_where_memory_is_short) {
  TransformerShape shape = mixtral();
  shape.experts = 0;
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  Problem problem;
  problem.cluster = *hostCluster(2, 0, "h100");
  problem.cluster.device.overheadBytes = 0;
  problem.globalBatch = 8;
  problem.layers = transformerLayers(shape.layers);
  problem.costs = &costs;
  int single = 0;
  double before = 0;
  for (std::int64_t megabytes = 900; megabytes < 4000; megabytes += 100) {
    problem.cluster.memoryBytesPerDevice = megabytes << 20;
    auto solution = solve(problem);
    ASSERT_TRUE(solution);
    if (!solution->plan)
      continue;
    CheckReport report = checkPlan(problem, *solution->plan);
    EXPECT_TRUE(report.ok()) << report.complaints.front();
    double now = solution->plan->predictedStepSeconds;
    if (before > 0)
      EXPECT_LE(now, before * (1 + 1e-9));
    before = now;
    for (const PlannedLayer &layer : solution->plan->layers)
      single += !layer.recomputeValues.empty();
    // By name, there and back.
    auto again = parsePlan(writePlan(*solution->plan), PlanTarget{});
    ASSERT_TRUE(again) << again.error().message;
    for (std::size_t i = 0; i < again->layers.size(); ++i)
      EXPECT_EQ(again->layers[i].recomputeValues, solution->plan->layers[i].recomputeValues);
    problem.space.recomputeValues = false;
    auto whole = solve(problem);
    if (whole->plan)
      EXPECT_LE(now, whole->plan->predictedStepSeconds * (1 + 1e-9));
    problem.space.recomputeValues = true;
  }
  EXPECT_GT(single, 0);
}

/// Two nodes of two: tp 2 x dp 2, tensor groups beside each other or apart.
TEST(StridedGroups, move_the_slow_link_from_tensors_to_gradients) {
  TransformerShape shape = mixtral();
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  Problem problem;
  problem.cluster = *hostCluster(2, 0, "h100");
  problem.cluster.nodes = 2;
  problem.globalBatch = 8;
  problem.layers = transformerLayers(shape.layers);
  problem.costs = &costs;
  Plan plan;
  plan.ranks = 4;
  plan.globalBatch = 8;
  plan.layers.clear();
  auto priced = [&](bool strided) {
    plan.layers.clear();
    for (const Layer &layer : problem.layers)
      plan.layers.push_back({layer.path, layer.layerType, layer.role, Strategy{.tp = 2, .strided = strided}, 2, 0});
    Result<Plan> result = evaluatePlan(problem, plan);
    EXPECT_TRUE(result) << result.error().message;
    EXPECT_TRUE(checkPlan(problem, *result).ok()) << checkPlan(problem, *result).complaints.front();
    return *result;
  };
  LayerReason near = priced(false).reasons.layers[1], far = priced(true).reasons.layers[1];
  EXPECT_GT(far.communicationSeconds, 2 * near.communicationSeconds);
  EXPECT_LT(far.stepSeconds, near.stepSeconds);
  // Offered only where ranks are not equally far from each other.
  EXPECT_FALSE(whyUnsupported(Strategy{.tp = 2, .strided = true}));
}

TEST(Communicators, of_a_layer_count_once_each_with_its_peers) {
  TransformerShape shape = mixtral();
  Problem problem;
  problem.cluster = *hostCluster(8, 0, "h100");
  ShapeCosts costs(shape, problem.cluster.device);
  problem.globalBatch = 8;
  problem.layers = transformerLayers(shape.layers);
  problem.costs = &costs;
  auto scratch = [&](const Strategy &strategy, int dp, const OverheadBytes &overhead) {
    problem.cluster.device.overhead = overhead;
    Plan plan;
    plan.ranks = plan.globalBatch = 8;
    for (const Layer &layer : problem.layers)
      plan.layers.push_back({layer.path, layer.layerType, layer.role, strategy, dp, 0});
    Result<Plan> result = evaluatePlan(problem, plan);
    EXPECT_TRUE(result) << result.error().message;
    EXPECT_TRUE(checkPlan(problem, *result).ok()) << checkPlan(problem, *result).complaints.front();
    return result->reasons.layers[1].scratchBytes;
  };
  auto counted = [&](const Strategy &strategy, int dp) {
    return scratch(strategy, dp, {.group = 1000, .peer = 1}) - scratch(strategy, dp, {});
  };
  EXPECT_EQ(counted({}, 8), 1000);
  EXPECT_EQ(counted({.tp = 2}, 4), 2000);
  EXPECT_EQ(counted({.ulysses = 4}, 2), 2003); // its own, and that of the gradients
  EXPECT_EQ(counted({.tp = 8}, 1), 1000);
}

/// Three nodes of four: dp 3 x tp 4, in the order of ranks that it asks for and in another.
TEST(RankOrder, is_priced_by_the_groups_that_come_out) {
  TransformerShape shape = mixtral();
  ShapeCosts costs(shape, *findDeviceKind("h100"));
  Problem problem;
  problem.cluster = *hostCluster(4, 0, "h100");
  problem.cluster.nodes = 3;
  problem.globalBatch = 12;
  problem.layers = transformerLayers(shape.layers);
  problem.costs = &costs;
  auto priced = [&](const galvatron::plan::Mesh &mesh) {
    Plan wanted;
    wanted.ranks = 12;
    wanted.globalBatch = 12;
    wanted.mesh = mesh;
    for (const Layer &layer : problem.layers)
      wanted.layers.push_back({layer.path, layer.layerType, layer.role, Strategy{.tp = 4}, 3, 0});
    Result<Plan> result = evaluatePlan(problem, wanted);
    EXPECT_TRUE(result) << result.error().message;
    EXPECT_TRUE(checkPlan(problem, *result).ok()) << checkPlan(problem, *result).complaints.front();
    Result<Plan> again = parsePlan(writePlan(*result), PlanTarget{});
    EXPECT_TRUE(again && again->mesh == mesh);
    return *result;
  };
  Plan near = priced({}), far = priced({2, 2, 3});
  EXPECT_EQ(near.rankMesh(), galvatron::plan::Mesh({3, 2, 2})); // tensor groups in a node each
  LayerReason nearLayer = near.reasons.layers[1], farLayer = far.reasons.layers[1];
  EXPECT_GT(farLayer.communicationSeconds, 2 * nearLayer.communicationSeconds);
  EXPECT_LT(farLayer.stepSeconds, nearLayer.stepSeconds);
}

/// In the order of ranks.
TEST(Strategy, is_told_slowest_first) {
  Strategy strategy{.tp = 2, .sequenceParallel = true, .ulysses = 4, .cp = 8, .ep = 2, .zero = 3, .recompute = true};
  EXPECT_EQ(describe(strategy, 6), "dp=6 cp=8 ulysses=4 tp=2 ep=2 sp zero3 recompute");
  EXPECT_EQ(describe(Strategy{.strided = true, .values = 5}, 2), "dp=2 strided recompute-2-values");
  EXPECT_EQ(describe(Strategy(), 1), "one device");
}

TEST(TiedLayers, take_one_tp) {
  int plans = 0;
  SolveOptions options;
  options.labelBudget = 30000;
  for (unsigned seed = 0; seed < 20; ++seed) {
    RandomCase made = randomCase(seed);
    Problem &problem = made.problem;
    if (problem.ties.empty())
      continue;
    problem.cluster.memoryBytesPerDevice = 1 << 20;
    auto none = solve(problem, options);
    ASSERT_TRUE(none);
    for (double factor : {1.0, 1.4, 4.0}) {
      problem.cluster.memoryBytesPerDevice = std::int64_t(double(none->infeasible.smallestBudgetBytes) * factor);
      auto solution = solve(problem, options);
      ASSERT_TRUE(solution && solution->plan) << seed;
      ++plans;
      EXPECT_EQ(solution->plan->layers.front().strategy.tp, solution->plan->layers.back().strategy.tp);
      EXPECT_TRUE(checkPlan(problem, *solution->plan).ok());
    }
  }
  EXPECT_GT(plans, 8);
}

//===----------------------------------------------------------------------===//
// Profiles
//===----------------------------------------------------------------------===//

Json llamaInputs() { return readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"]; }

/// The shipped times, changed.
Result<ReferenceModel> withTimes(const std::string &name, const std::function<void(Json &)> &change) {
  const char *file = "galvatron-profiles/llama2-7b-seq2048/computation_profiling_bf16_llama2-7b_all.json";
  Json times = readInput(file), inputs = llamaInputs();
  change(times);
  inputs["args"]["profiling_info"]["time_profiling_path"] = std::filesystem::absolute(writeTemporary(name, times));
  return loadModel(inputs);
}

TEST(Profile, times_come_from_raw_keys_of_either_grammar) {
  Json derivedTimes;
  auto derived = withTimes("derived.json", [&](Json &times) {
    // Mode static takes the first entry of the file: leave one.
    for (const char *key : {"layertype_0_bsz8_seq2048", "layertype_other_bsz8_seq2048"})
      derivedTimes[key] = times[key];
    times = derivedTimes;
  });
  ASSERT_TRUE(derived) << derived.error().message;
  ReferenceStrategy s{1, 8, 1, 1, 1, DpType::Ddp, false};
  double wanted = derived->layerSeconds(s, 64, 8)->noSync;
  for (bool bracket : {false, true}) {
    auto raw = withTimes(bracket ? "older.json" : "newer.json", [&](Json &times) {
      // 1 and 3 layers of the derived time, and ends.
      double layer = derivedTimes["layertype_0_bsz8_seq2048"], ends = derivedTimes["layertype_other_bsz8_seq2048"];
      times = Json::object();
      for (int depth : {1, 3})
        times[std::string("layernum") + (bracket ? "[" : "") + std::to_string(depth) + (bracket ? "]" : "") +
              "_bsz8_seq2048"] = 8 * (depth * layer + ends);
    });
    ASSERT_TRUE(raw) << raw.error().message;
    EXPECT_NEAR(raw->layerSeconds(s, 64, 8)->noSync, wanted, 1e-9 * wanted) << bracket;
  }
}

TEST(Profile, says_which_key_is_missing_or_wrong) {
  auto complaint = [](const std::string &name, const std::function<void(Json &)> &change) {
    auto model = withTimes(name, change);
    return model ? std::string() : model.error().message;
  };
  std::string text = complaint("empty.json", [](Json &times) { times = Json::object(); });
  EXPECT_NE(text.find("empty.json' lacks a key layertype_0_bsz<b>_seq<s>"), std::string::npos) << text;
  EXPECT_NE(text.find("run the model profiler"), std::string::npos) << text;
  text = complaint("negative.json", [](Json &times) {
    for (auto &item : times.items())
      item.value() = -1;
  });
  EXPECT_NE(text.find("expects a number above 0, but got -1; measure it again"), std::string::npos) << text;
  text = complaint("shrinking.json",
                   [](Json &times) { times = {{"layernum[2]_bsz8_seq2048", 5}, {"layernum[4]_bsz8_seq2048", 4}}; });
  EXPECT_NE(text.find("do not grow with depth"), std::string::npos) << text;
  text = complaint("words.json", [](Json &times) { times["layertype_0_bsz8_seq2048"] = "fast"; });
  EXPECT_NE(text.find("key 'layertype_0_bsz8_seq2048' expects a number, but got \"fast\""), std::string::npos) << text;
}

/// A hardware file of the shipped cluster, changed.
std::string withHardware(const char *argument, const std::string &file, const std::function<void(Json &)> &change,
                         Json inputs = llamaInputs()) {
  Json measured = readInput("galvatron-profiles/hardware/" + file);
  change(measured);
  inputs["args"]["profiling_info"][argument] = std::filesystem::absolute(writeTemporary("changed_" + file, measured));
  auto model = loadModel(inputs);
  if (!model)
    return model.error().message;
  // Some keys are asked for by the search alone.
  auto solution = searchReference(*model);
  return solution ? "" : solution.error().message;
}

TEST(Profile, says_which_bandwidth_is_missing_or_wrong) {
  std::string file = "allreduce_bandwidth_1nodes_8gpus_per_node.json", argument = "allreduce_bandwidth_config_path";
  auto reduce = [&](const std::function<void(Json &)> &change) { return withHardware(argument.c_str(), file, change); };
  EXPECT_EQ(reduce([](Json &) {}), "");
  for (double rate : {0.0, -3.0}) {
    std::string text = reduce([&](Json &json) { json["allreduce_size_4_consec_1"] = rate; });
    EXPECT_NE(text.find("key 'allreduce_size_4_consec_1' expects a number above 0"), std::string::npos) << text;
    EXPECT_NE(text.find(file), std::string::npos) << text;
  }
  std::string text = reduce([](Json &json) { json.erase("allreduce_size_4_consec_0"); });
  EXPECT_NE(text.find("lacks the key 'allreduce_size_4_consec_0'; run the hardware profiler"), std::string::npos)
      << text;
  text = withHardware("p2p_bandwidth_config_path", "p2p_bandwidth_1nodes_8gpus_per_node.json",
                      [](Json &json) { json.erase("pp_size_2"); });
  EXPECT_NE(text.find("lacks the key 'pp_size_2'"), std::string::npos) << text;
  text = withHardware("overlap_coe_path", "overlap_coefficient.json", [](Json &json) { json["overlap_coe"] = 0.5; });
  EXPECT_NE(text.find("expects at least 1"), std::string::npos) << text;
  text = withHardware("sp_time_path", "sp_time_1nodes_8gpus_per_node.json", [](Json &json) {
    json = {{"allreduce_size_2_1MB_time", 1.0}, {"allreduce_size_2_2MB_time", 2.0}};
  });
  EXPECT_NE(text.find("has 2 keys allreduce_size_2_<m>MB_time, but a line needs 8"), std::string::npos) << text;
}
} // namespace
