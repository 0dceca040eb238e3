//===- SolverTest.cpp - The search is exact, monotone and explains itself -===//

#include "galvatron/Search/Solver/Solver.h"
#include "AllPlans.h"
#include "RandomProblem.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/Timetable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

namespace {
/// The best objective over all plans that fit.
double exhaustive(const Problem &problem, Schedule schedule) {
  double best = 0;
  forEachPlan(problem, schedule, [&](const Plan &plan) {
    for (std::int64_t peak : plan.peakBytesPerRank)
      if (peak > problem.cluster.memoryBytesPerDevice)
        return;
    if (best == 0 || plan.predictedStepSeconds < best)
      best = plan.predictedStepSeconds;
  });
  return best;
}

double exhaustive(const Problem &problem) {
  double flush = exhaustive(problem, Schedule::OneFOneB), all = exhaustive(problem, Schedule::GPipe);
  return flush > 0 && (all == 0 || flush < all) ? flush : all;
}

double solved(const Problem &problem) {
  SolveOptions options;
  options.explain = false;
  auto solution = solve(problem, options);
  EXPECT_TRUE(solution) << solution.error().message;
  return solution && solution->plan ? solution->plan->predictedStepSeconds : 0;
}

TEST(Solver, equals_exhaustive_search) {
  int feasible = 0, infeasible = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed);
    for (auto [ranks, layers] : {std::pair{1, 5}, {2, 4}, {3, 4}, {4, 4}})
      for (std::int64_t memory : {900000, 1600000, 2600000, 4000000, 8000000}) {
        Problem problem = randomProblem(costs, ranks, layers, 6, memory, 1 + seed % 2);
        double wanted = exhaustive(problem), got = solved(problem);
        EXPECT_NEAR(got, wanted, 1e-9 * wanted) << "seed " << seed << " ranks " << ranks << " memory " << memory;
        (wanted > 0 ? feasible : infeasible)++;
      }
  }
  EXPECT_GT(feasible, 30);
  EXPECT_GT(infeasible, 10);
}

TEST(Solver, counts_bytes_beyond_the_estimates_on_their_stage) {
  int differs = 0;
  for (unsigned seed = 0; seed < 4; ++seed)
    for (std::int64_t memory : {1300000, 1600000, 2100000}) {
      RandomCosts costs(seed);
      Problem problem = randomProblem(costs, 4, 4, 4, memory, 2);
      problem.space.stages = 2;
      double without = solved(problem);
      problem.extraBytesOfStage = {400000, -300000};
      double wanted = 0;
      for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
        forEachPlan(problem, schedule, [&](const Plan &plan) {
          // Priced with its extra bytes, as overhead.
          for (const StageMemory &stage : plan.stageMemory)
            if (plan.pipeline != 2 || stage.total() > memory)
              return;
          EXPECT_EQ(plan.stageMemory[0].overheadBytes, 400000);
          EXPECT_EQ(plan.stageMemory[1].overheadBytes, -300000);
          if (wanted == 0 || plan.predictedStepSeconds < wanted)
            wanted = plan.predictedStepSeconds;
        });
      SolveOptions options;
      Result<Solution> solution = solve(problem, options);
      ASSERT_TRUE(solution) << solution.error().message;
      double got = solution->plan ? solution->plan->predictedStepSeconds : 0;
      EXPECT_NEAR(got, wanted, 1e-9 * wanted) << "seed " << seed << " memory " << memory;
      differs += got != without;
      if (solution->plan)
        EXPECT_TRUE(checkPlan(problem, *solution->plan).ok()) << checkPlan(problem, *solution->plan).complaints.front();
      else
        EXPECT_GT(solution->infeasible.smallestBudgetBytes, memory);
    }
  EXPECT_GT(differs, 3);
}

TEST(Solver, names_the_smallest_budget) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    RandomCosts costs(seed);
    Problem problem = randomProblem(costs, 4, 8, 8, 1000);
    auto solution = solve(problem);
    ASSERT_TRUE(solution);
    ASSERT_FALSE(solution->plan);
    std::int64_t smallest = solution->infeasible.smallestBudgetBytes;
    problem.cluster.memoryBytesPerDevice = smallest;
    EXPECT_GT(solved(problem), 0) << seed;
    problem.cluster.memoryBytesPerDevice = smallest - 1;
    EXPECT_EQ(solved(problem), 0) << seed;
  }
}

TEST(Solver, is_monotone_in_memory_links_and_space) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    RandomCosts costs(seed);
    Problem problem = randomProblem(costs, 8, 10, 16, 0, 2);
    double before = 0;
    for (std::int64_t memory = 1000000; memory < 12000000; memory += 333333) {
      problem.cluster.memoryBytesPerDevice = memory;
      double now = solved(problem);
      if (before > 0)
        EXPECT_LE(now, before * (1 + 1e-9)) << "memory " << memory;
      before = now;
    }
    problem.cluster.memoryBytesPerDevice = 3000000;
    before = 0;
    for (double speed = 1e8; speed < 1e12; speed *= 3) {
      problem.cluster.intra.bytesPerSecond = speed;
      double now = solved(problem);
      if (before > 0)
        EXPECT_LE(now, before * (1 + 1e-9)) << "link " << speed;
      before = now;
    }
    double narrow = solved(problem);
    problem.space = SearchSpace();
    double wide = solved(problem);
    EXPECT_LE(wide, narrow * (1 + 1e-9));
  }
}

TEST(Solver, plans_satisfy_the_independent_check) {
  int plans = 0;
  for (unsigned seed = 0; seed < 12; ++seed)
    for (std::int64_t memory : {1500000, 2500000, 5000000, 20000000})
      for (int ranks : {4, 6, 8}) {
        RandomCosts costs(seed);
        Problem problem = randomProblem(costs, ranks, 9, 24, memory, 2);
        if (seed % 2)
          problem.cluster.device = *findDeviceKind("h200");
        problem.cluster.device.overheadBytes = 1000 * seed;
        if (seed % 3 == 0)
          problem.ties = {{0, 8, 300000}};
        auto solution = solve(problem);
        ASSERT_TRUE(solution);
        if (!solution->plan)
          continue;
        ++plans;
        CheckReport report = checkPlan(problem, *solution->plan);
        EXPECT_TRUE(report.ok()) << report.complaints.front();
        // The judge is awake: lies are noticed.
        Plan lie = *solution->plan;
        lie.predictedStepSeconds *= 0.5;
        EXPECT_FALSE(checkPlan(problem, lie).ok());
        lie = *solution->plan;
        lie.peakBytesPerRank.assign(ranks, 1000);
        EXPECT_FALSE(checkPlan(problem, lie).ok());
        problem.cluster.memoryBytesPerDevice = report.peakBytesPerStage[0] - 1;
        EXPECT_FALSE(checkPlan(problem, *solution->plan).ok());
      }
  EXPECT_GT(plans, 60);
}

/// A plan by hand may take more than there is and what the space does not offer, but not other bytes or seconds than it
/// says.
TEST(CheckPlan, a_given_plan_is_held_to_its_claims_alone) {
  RandomCosts costs(2);
  Problem problem = randomProblem(costs, 8, 9, 24, 20000000, 2);
  auto solution = solve(problem);
  ASSERT_TRUE(solution && solution->plan);
  Plan plan = *solution->plan;
  EXPECT_FALSE(checkPlan(problem, plan).error());
  problem.cluster.memoryBytesPerDevice = 1000;
  problem.space.data = problem.space.tensor = problem.space.context = problem.space.ulysses = false;
  EXPECT_TRUE(checkPlan(problem, plan).error());
  EXPECT_FALSE(checkGivenPlan(problem, plan).error());
  plan.predictedStepSeconds *= 2;
  plan.peakBytesPerRank.assign(8, 1000);
  std::optional<Error> error = checkGivenPlan(problem, plan).error();
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message, ::testing::HasSubstr("the plan does not hold what it says: stage 0 needs"));
  EXPECT_THAT(error->message, ::testing::HasSubstr("more complaints); this is an error of the search"));
}

/// A plan that holds for `problem`: one stage, dp 2 x tp 2.
Plan planThatHolds(const Problem &problem) {
  Plan plan;
  plan.ranks = 4;
  plan.globalBatch = problem.globalBatch;
  for (const Layer &layer : problem.layers)
    plan.layers.push_back({layer.path, layer.layerType, layer.role, Strategy{.tp = 2}, 2, 0});
  Result<Plan> priced = evaluatePlan(problem, plan);
  EXPECT_TRUE(priced) << priced.error().message;
  return priced ? *priced : plan;
}

TEST(CheckPlan, names_what_the_plan_is_not_for) {
  RandomCosts costs(2);
  const Problem problem = randomProblem(costs, 4, 3, 8, 1 << 30);
  const Plan plan = planThatHolds(problem);
  EXPECT_THAT(checkPlan(problem, plan).complaints, IsEmpty());

  Problem other = problem;
  other.cluster.devicesPerNode = 8;
  EXPECT_THAT(checkPlan(other, plan).complaints, ElementsAre("plan is for 4 ranks, the cluster has 8"));
  other = problem;
  other.globalBatch = 16;
  EXPECT_THAT(checkPlan(other, plan).complaints, ElementsAre("plan is for another global batch"));
  other = problem;
  other.layers.pop_back();
  EXPECT_THAT(checkPlan(other, plan).complaints, ElementsAre("plan has 3 layers, the model 2"));
  other = problem;
  other.layers[1].path = "other.1";
  EXPECT_THAT(checkPlan(other, plan).complaints,
              ElementsAre("layer 1 is 'other.1' in the model and 'layer.1' in the plan"));
}

TEST(CheckPlan, names_the_layers_whose_strategies_are_not_allowed) {
  RandomCosts costs(2);
  Problem problem = randomProblem(costs, 4, 3, 8, 1 << 30);
  Plan plan = planThatHolds(problem);
  problem.space.tensorInEnds = false;
  EXPECT_THAT(
      checkPlan(problem, plan).complaints,
      ElementsAre("layer 'layer.0' takes " + describe(Strategy{.tp = 2}, 2) + ", which the space does not offer",
                  "layer 'layer.2' takes " + describe(Strategy{.tp = 2}, 2) + ", which the space does not offer"));
  problem.space.tensorInEnds = true;
  problem.ties = {{0, 2, 300000}};
  plan.layers[2].strategy.tp = 4;
  plan.layers[2].dp = 1;
  EXPECT_THAT(checkPlan(problem, plan).complaints,
              ElementsAre("layers 'layer.0' and 'layer.2' share a parameter but have different tp"));
  plan.layers[2].strategy = plan.layers[0].strategy;
  plan.layers[2].dp = plan.layers[0].dp;
  plan.layers[2].strategy.zero = 1;
  EXPECT_THAT(
      checkPlan(problem, plan).complaints,
      ::testing::Contains("layers 'layer.0' and 'layer.2' share a parameter but have different levels of ZeRO"));
  plan.layers[2].strategy.strided = true;
  EXPECT_THAT(
      checkPlan(problem, plan).complaints,
      ::testing::Contains("layers 'layer.0' and 'layer.2' share a parameter but have different orders of ranks"));
  plan.layers[2].strategy.reduceEveryMicroBatch = 2;
  EXPECT_THAT(
      checkPlan(problem, plan).complaints,
      ::testing::Contains("layers 'layer.0' and 'layer.2' share a parameter but have different times to reduce its "
                          "gradient"));
}

/// Blocks under context parallelism alone: a ring takes less and lasts longer, and of stretches attention lasts
/// longest.
struct ContextCosts : RandomCosts {
  using RandomCosts::RandomCosts;
  Result<LayerCost> cost(const CostQuery &query) const override {
    const Strategy &s = query.strategy;
    LayerCost cost;
    cost.forwardSeconds = 1e-3 * (s.cpKind == 2 ? 1.1 : 1) * (s.cpZigzag == 1 ? 1.5 : 1);
    cost.backwardSeconds = 2 * cost.forwardSeconds;
    cost.stateBytes = s.zero == 3 && s.reduceEveryMicroBatch == 1 ? 1500 : 1000;
    cost.scratchBytes = s.cpKind == 1 ? 4000 : 1000;
    cost.boundaryBytes = query.microBatchSamples;
    return cost;
  }
  std::vector<Strategy> settle(const Layer &layer, const Strategy &strategy, int) const override {
    std::vector<Strategy> ways;
    for (int zigzag : {1, 2})
      for (int kind : {1, 2}) {
        Strategy way = strategy;
        way.cpKind = layer.role == LayerRole::Block ? kind : 0;
        way.cpZigzag = zigzag;
        if (strategy.cp > 1 && (kind == 1 || way.cpKind))
          ways.push_back(way);
      }
    return ways.empty() ? std::vector{strategy} : ways;
  }
};

TEST(Solver, chooses_how_context_parallelism_works) {
  ContextCosts costs(0);
  Problem problem = randomProblem(costs, 2, 4, 4, 1 << 20);
  problem.space.context = true;
  problem.space.data = problem.space.tensor = problem.space.pipeline = problem.space.recompute = false;
  auto waysOf = [&](std::int64_t memory) {
    problem.cluster.memoryBytesPerDevice = memory;
    Result<Solution> solution = solve(problem);
    EXPECT_TRUE(solution && solution->plan);
    EXPECT_THAT(checkPlan(problem, *solution->plan).complaints, IsEmpty());
    std::vector<std::string> ways;
    for (const PlannedLayer &layer : solution->plan->layers)
      ways.push_back(describe(layer.strategy, layer.dp));
    return ways;
  };
  // Zigzag for all, so that nothing is redistributed; rings only where there is no room for gathered keys.
  EXPECT_THAT(waysOf(8000), ElementsAre("cp=2 zigzag", "cp=2 gathered zigzag", "cp=2 gathered zigzag", "cp=2 zigzag"));
  for (const std::string &way : waysOf(7999))
    EXPECT_THAT(way, ::testing::HasSubstr("zigzag"));
  EXPECT_THAT(waysOf(7999)[1], "cp=2 ring zigzag");
}

/// However little a slower way saves: more memory then never makes a plan worse, nor impossible.
TEST(Solver, takes_the_ring_that_saves_the_last_byte) {
  struct LargeCosts : ContextCosts {
    using ContextCosts::ContextCosts;
    Result<LayerCost> cost(const CostQuery &query) const override {
      Result<LayerCost> cost = ContextCosts::cost(query);
      cost->stateBytes = 1'000'000;
      return cost;
    }
  } costs(0);
  Problem problem = randomProblem(costs, 2, 4, 4, 1 << 30);
  problem.space.context = true;
  problem.space.data = problem.space.tensor = problem.space.pipeline = problem.space.recompute = false;
  auto findsRing = [&](std::int64_t memory) {
    problem.cluster.memoryBytesPerDevice = memory;
    Result<Solution> solution = solve(problem);
    EXPECT_TRUE(solution && solution->plan) << memory;
    if (!solution || !solution->plan)
      return false;
    const std::vector<PlannedLayer> &layers = solution->plan->layers;
    return std::any_of(layers.begin(), layers.end(), [](const auto &layer) { return layer.strategy.cpKind == 2; });
  };
  // Four layers with states of 1 MB; gathered keys take 4 kB, those of a ring 1 kB.
  EXPECT_FALSE(findsRing(4'004'000));
  EXPECT_TRUE(findsRing(4'003'999));
  EXPECT_TRUE(findsRing(4'001'000));
}

/// Stretches of context parallelism are cut as those of Ulysses are, pieces from both ends are not.
TEST(Solver, redistributes_between_layouts_of_positions) {
  ContextCosts costs(0);
  Problem problem = randomProblem(costs, 2, 4, 4, 1 << 20);
  problem.space = SearchSpace();
  auto secondsOf = [&](const Strategy &blocks) {
    Plan plan;
    plan.ranks = 2;
    plan.globalBatch = 4;
    for (const Layer &layer : problem.layers) {
      Strategy ends{.ulysses = 2};
      plan.layers.push_back({layer.path, layer.layerType, layer.role, layer.role == LayerRole::Block ? blocks : ends});
    }
    Result<Plan> priced = evaluatePlan(problem, plan);
    EXPECT_TRUE(priced) << priced.error().message;
    EXPECT_THAT(checkGivenPlan(problem, *priced).complaints, IsEmpty());
    double moved = 0;
    for (const LayerReason &reason : priced->reasons.layers)
      moved += reason.redistributionSeconds;
    return moved;
  };
  EXPECT_EQ(secondsOf({.cp = 2, .cpZigzag = 1}), 0);
  EXPECT_GT(secondsOf({.cp = 2, .cpZigzag = 2}), 0);
  EXPECT_EQ(secondsOf({.cp = 2, .cpZigzag = 2}), secondsOf({.cp = 2}));
}

struct TiedCosts : RandomCosts {
  using RandomCosts::RandomCosts;
  Result<LayerCost> cost(const CostQuery &query) const override {
    Result<LayerCost> made = RandomCosts::cost(query);
    if (made)
      made->tiedStateBytes = made->stateBytes / 2;
    return made;
  }
};

/// What several parameters that two layers share take is one figure.
TEST(CheckPlan, states_of_several_tied_parameters_are_kept_once) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    TiedCosts costs(seed);
    Problem one = randomProblem(costs, 4, 3, 8, 1 << 30), several = one;
    one.ties = {{0, 2, 300000}};
    several.ties = {{0, 2, 100000}, {0, 2, 100000}, {0, 2, 100000}};
    one.space.stages = several.space.stages = {1};
    Result<Solution> ofOne = solve(one), ofSeveral = solve(several);
    ASSERT_TRUE(ofOne && ofOne->plan && ofSeveral && ofSeveral->plan);
    EXPECT_EQ(ofOne->plan->stageMemory.at(0).total(), ofSeveral->plan->stageMemory.at(0).total());
    EXPECT_EQ(checkPlan(one, *ofOne->plan).peakBytesPerStage, checkPlan(several, *ofSeveral->plan).peakBytesPerStage);
  }
}

TEST(CheckPlan, names_the_bytes_beyond_the_budget_and_the_claim) {
  RandomCosts costs(2);
  Problem problem = randomProblem(costs, 4, 3, 8, 1 << 30);
  Plan plan = planThatHolds(problem);
  std::int64_t peak = checkPlan(problem, plan).peakBytesPerStage.at(0);
  std::string needs = "stage 0 needs " + std::to_string(peak);

  problem.cluster.memoryBytesPerDevice = peak;
  EXPECT_THAT(checkPlan(problem, plan).complaints, IsEmpty());
  problem.cluster.memoryBytesPerDevice = peak - 1;
  EXPECT_THAT(checkPlan(problem, plan).complaints,
              ElementsAre(needs + " bytes, the budget is " + std::to_string(peak - 1)));
  problem.cluster.memoryBytesPerDevice = peak;
  plan.peakBytesPerRank.assign(4, peak - 1);
  plan.overheadBytesPerRank.assign(4, 0);
  EXPECT_THAT(checkPlan(problem, plan).complaints,
              ElementsAre(needs + " bytes, the plan claims " + std::to_string(peak - 1)));
}

TEST(Solver, explains_every_layer) {
  RandomCosts costs(3);
  Problem problem = randomProblem(costs, 4, 8, 8, 2500000);
  auto solution = solve(problem);
  ASSERT_TRUE(solution && solution->plan);
  const Plan &plan = *solution->plan;
  ASSERT_EQ(plan.reasons.layers.size(), plan.layers.size());
  for (const LayerReason &reason : plan.reasons.layers)
    for (const auto &other : reason.alternatives)
      EXPECT_FALSE(other.lostBy.empty());
  // Optimal: no alternative that fits is better.
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer)
    for (const auto &other : plan.reasons.layers[layer].alternatives)
      if (other.lostBy.find("fit") == std::string::npos)
        EXPECT_GE(other.extraSeconds, -1e-12);
  std::string text = writePlan(plan);
  auto again = parsePlan(text, PlanTarget{});
  ASSERT_TRUE(again) << again.error().message;
  auto priced = evaluatePlan(problem, *again);
  ASSERT_TRUE(priced) << priced.error().message;
  EXPECT_NEAR(priced->predictedStepSeconds, plan.predictedStepSeconds, 1e-12);
  EXPECT_EQ(priced->peakBytesPerRank, plan.peakBytesPerRank);
}
} // namespace
