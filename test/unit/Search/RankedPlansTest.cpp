//===- RankedPlansTest.cpp - The list misses nothing that may be better ---===//

#include "galvatron/Search/Solver/RankedPlans.h"
#include "AllPlans.h"
#include "RandomProblem.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Formats/PlanFile.h"

#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
constexpr std::int64_t kPlenty = 100000000;

std::int64_t mostBytes(const Plan &plan) {
  std::int64_t most = 0;
  for (const StageMemory &memory : plan.stageMemory)
    most = std::max(most, memory.total());
  return most;
}

/// No slower, and no stage larger.
bool noWorse(const Plan &a, const Plan &b) {
  if (a.pipeline != b.pipeline || a.microBatches != b.microBatches ||
      a.predictedStepSeconds > b.predictedStepSeconds * (1 + 1e-9))
    return false;
  for (int stage = 0; stage < a.pipeline; ++stage)
    if (a.stageMemory[stage].total() > b.stageMemory[stage].total())
      return false;
  return true;
}

/// All layers of types of their own, so that their order matters.
Problem problemOf(const CostSource &costs, int ranks, int layers) {
  return randomProblem(costs, ranks, layers, 6, kPlenty, layers);
}

TEST(RankedPlans, list_has_a_match_for_every_plan_below_limit_and_budget) {
  std::size_t compared = 0;
  for (unsigned seed = 0; seed < 4; ++seed)
    for (auto [ranks, layers] : {std::pair{1, 5}, {2, 4}, {4, 4}}) {
      RandomCosts costs(seed);
      Problem problem = problemOf(costs, ranks, layers);
      std::vector<double> seconds;
      std::vector<Plan> all;
      for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
        forEachPlan(problem, schedule, [&](const Plan &plan) {
          all.push_back(plan);
          seconds.push_back(plan.predictedStepSeconds);
        });
      std::sort(seconds.begin(), seconds.end());
      for (std::int64_t budget : {2600000, 4000000}) {
        RankOptions options{.limitSeconds = seconds[seconds.size() / 4], .budgets = {budget}, .mostPlans = 1u << 20};
        options.mostWork = 1 << 30;
        Result<RankedPlans> ranked = rankPlans(problem, options);
        ASSERT_TRUE(ranked) << ranked.error().message;
        EXPECT_EQ(ranked->budget, budget);
        for (const Plan &plan : all) {
          if (mostBytes(plan) > budget || plan.predictedStepSeconds >= options.limitSeconds * (1 - 1e-9))
            continue;
          ++compared;
          bool isMatched = std::any_of(ranked->plans.begin(), ranked->plans.end(),
                                       [&](const Plan &listed) { return noWorse(listed, plan); });
          ASSERT_TRUE(isMatched) << "seed " << seed << ", " << ranks << " ranks\n" << writePlan(plan);
        }
      }
    }
  EXPECT_GT(compared, 1000u);
}

TEST(RankedPlans, listed_plans_are_right_and_in_order) {
  RandomCosts costs(3);
  Problem problem = randomProblem(costs, 4, 6, 6, kPlenty, 2);
  RankOptions options{.limitSeconds = 0.04, .budgets = {3000000}, .mostPlans = 1u << 20};
  Result<RankedPlans> ranked = rankPlans(problem, options);
  ASSERT_TRUE(ranked) << ranked.error().message;
  ASSERT_GT(ranked->plans.size(), 20u);
  double before = 0;
  for (const Plan &plan : ranked->plans) {
    CheckReport report = checkPlan(problem, plan);
    EXPECT_TRUE(report.ok()) << report.complaints.front();
    EXPECT_GE(plan.predictedStepSeconds, before);
    EXPECT_LT(plan.predictedStepSeconds, options.limitSeconds);
    EXPECT_LE(mostBytes(plan), options.budgets.front());
    before = plan.predictedStepSeconds;
    Result<Plan> priced = evaluatePlan(problem, plan);
    ASSERT_TRUE(priced) << priced.error().message;
    EXPECT_NEAR(priced->predictedStepSeconds, before, 1e-12 * before);
    EXPECT_EQ(priced->peakBytesPerRank, plan.peakBytesPerRank);
  }
}

TEST(RankedPlans, the_first_is_the_best_plan) {
  for (unsigned seed = 0; seed < 8; ++seed)
    for (int ranks : {2, 3, 4}) {
      RandomCosts costs(seed);
      Problem problem = problemOf(costs, ranks, 5);
      problem.cluster.memoryBytesPerDevice = 4000000;
      Result<Solution> solution = solve(problem);
      ASSERT_TRUE(solution && solution->plan);
      double best = solution->plan->predictedStepSeconds;
      RankOptions options{.limitSeconds = best * 1.01, .budgets = {4000000}};
      Result<RankedPlans> ranked = rankPlans(problem, options);
      ASSERT_TRUE(ranked && !ranked->plans.empty());
      EXPECT_NEAR(ranked->plans.front().predictedStepSeconds, best, 1e-9 * best);
      options.limitSeconds = best;
      ranked = rankPlans(problem, options);
      ASSERT_TRUE(ranked) << ranked.error().message;
      EXPECT_TRUE(ranked->plans.empty());
      // What a stage takes beyond its estimate counts here too.
      if (ranks % 2)
        continue;
      problem.space.stages = 2;
      problem.extraBytesOfStage = {900000, -1200000};
      solution = solve(problem);
      ASSERT_TRUE(solution && solution->plan);
      best = solution->plan->predictedStepSeconds;
      options.limitSeconds = best * 1.01;
      ranked = rankPlans(problem, options);
      ASSERT_TRUE(ranked && !ranked->plans.empty());
      EXPECT_NEAR(ranked->plans.front().predictedStepSeconds, best, 1e-9 * best);
    }
}

TEST(RankedPlans, list_that_grows_too_long_is_that_of_a_smaller_budget) {
  RandomCosts costs(1);
  Problem problem = problemOf(costs, 4, 5);
  RankOptions options{.budgets = {2000000, 2600000, 4000000}, .mostPlans = 1u << 20};
  Result<RankedPlans> whole = rankPlans(problem, options);
  ASSERT_TRUE(whole) << whole.error().message;
  ASSERT_EQ(whole->budget, 4000000);
  options.budgets = {2600000};
  std::size_t fewer = rankPlans(problem, options)->plans.size();
  ASSERT_LT(fewer, whole->plans.size());
  options.budgets = {2000000, 2600000, 4000000};
  options.mostPlans = fewer;
  Result<RankedPlans> cut = rankPlans(problem, options);
  EXPECT_EQ(cut->budget, 2600000);
  EXPECT_EQ(cut->plans.size(), fewer);
  options.mostWork = 10;
  EXPECT_EQ(rankPlans(problem, options)->budget, 0);
}

TEST(RankedPlans, smallest_plans_begin_with_the_smallest_budget_of_all) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed);
    Problem problem = randomProblem(costs, 4, 6, 8, 1000);
    Result<Solution> solution = solve(problem);
    ASSERT_TRUE(solution && !solution->plan);
    Result<std::vector<Plan>> plans = listSmallestPlans(problem);
    ASSERT_TRUE(plans) << plans.error().message;
    EXPECT_EQ(mostBytes(plans->front()), solution->infeasible.smallestBudgetBytes);
    // 1, 2 and 4 stages; 1, 2, 4 and 8 micro-batches where dp or tp divides; gpipe where it differs.
    EXPECT_GT(plans->size(), 12u);
    for (std::size_t i = 1; i < plans->size(); ++i)
      EXPECT_LE(mostBytes((*plans)[i - 1]), mostBytes((*plans)[i]));
  }
}

TEST(RankedPlans, refuses_what_it_does_not_list) {
  RandomCosts costs(0);
  Problem problem = problemOf(costs, 2, 4);
  problem.space.uniform = true;
  EXPECT_EQ(rankPlans(problem, {}).error().message, "expects a space of uneven stages and a strategy for every layer");
  problem.layers.clear();
  EXPECT_EQ(listSmallestPlans(problem).error().message, "expects a problem with layers, a cost source and a batch");
}
} // namespace
