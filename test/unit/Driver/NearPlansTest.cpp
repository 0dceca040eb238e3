// Plans near the best: what is listed fits, is the fastest that does, and rises by what a simulation says of it.
#include "lib/Driver/NearPlans.h"
#include "../Search/RandomProblem.h"
#include "lib/Driver/BudgetSearch.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <set>

using namespace galvatron;
using search::Plan;
using search::Problem;
using search::testing::RandomCosts;
using search::testing::randomProblem;

namespace {
constexpr int64_t kPlenty = 100000000;

/// Every rank takes its estimate.
std::optional<std::vector<RankBytes>> lowerAsEstimated(const Plan &plan) {
  std::vector<RankBytes> ofStages;
  for (const search::StageMemory &estimate : plan.stageMemory)
    ofStages.push_back({estimate.total(), 0});
  return ofStages;
}

/// A simulation that is up to 50 % off the estimate, another way for each plan.
double simulated(const Plan &plan) {
  double draw = double(std::hash<std::string>()(describeUnordered(plan)) % 1000) / 1000;
  return plan.predictedStepSeconds * (1 + 0.5 * draw);
}

Problem problemOf(const RandomCosts &costs, int64_t memory) { return randomProblem(costs, 4, 5, 4, memory); }

BudgetAnswer listOf(const Problem &problem, int64_t count) {
  NearPlansOptions near{[](const Plan &plan) { return std::optional(simulated(plan)); }, count};
  search::Result<BudgetAnswer> answer = BudgetSearch(problem, lowerAsEstimated, {}, near).run();
  EXPECT_TRUE(bool(answer)) << answer.error().message;
  return *answer;
}

int64_t tightBudget(const RandomCosts &costs) {
  return getMostBytes(*listOf(problemOf(costs, kPlenty), 1).plan) * 2 / 3;
}

TEST(NearPlans, of_a_list_all_fit_and_none_that_fits_is_faster_by_estimate) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    RandomCosts costs(seed);
    Problem problem = problemOf(costs, tightBudget(costs));
    BudgetAnswer answer = listOf(problem, 6);
    ASSERT_EQ(answer.listed.size(), 6u) << seed;
    search::RankOptions all;
    all.budgets = {problem.cluster.memoryBytesPerDevice};
    for (const Plan &plan : answer.listed)
      all.limitSeconds = std::min(all.limitSeconds, plan.predictedStepSeconds);
    double slowest = 0;
    std::set<std::string> listed;
    for (const Plan &plan : answer.listed) {
      EXPECT_LE(getMostBytes(plan), problem.cluster.memoryBytesPerDevice);
      EXPECT_FALSE(plan.reasons.layers.empty());
      EXPECT_TRUE(listed.insert(describeUnordered(plan)).second) << "listed twice";
      slowest = std::max(slowest, plan.predictedStepSeconds);
    }
    all.limitSeconds = slowest;
    search::Result<search::RankedPlans> ranked = search::rankPlans(problem, all);
    ASSERT_TRUE(bool(ranked));
    ASSERT_GT(ranked->budget, 0);
    for (const Plan &plan : ranked->plans)
      EXPECT_TRUE(listed.count(describeUnordered(plan))) << seed << " lacks " << describeUnordered(plan);
  }
}

TEST(NearPlans, rise_by_simulation_and_the_first_is_taken) {
  bool isAnother = false;
  for (unsigned seed = 0; seed < 4; ++seed) {
    RandomCosts costs(seed);
    BudgetAnswer answer = listOf(problemOf(costs, tightBudget(costs)), 6);
    ASSERT_TRUE(answer.plan);
    ASSERT_GT(answer.listed.size(), 1u);
    for (size_t index = 0; index < answer.listed.size(); ++index) {
      EXPECT_DOUBLE_EQ(answer.listed[index].simulatedStepSeconds, simulated(answer.listed[index]));
      if (index)
        EXPECT_LE(answer.listed[index - 1].simulatedStepSeconds, answer.listed[index].simulatedStepSeconds);
    }
    EXPECT_EQ(describeUnordered(*answer.plan), describeUnordered(answer.listed.front()));
    for (const Plan &plan : answer.listed)
      isAnother |= plan.predictedStepSeconds < answer.plan->predictedStepSeconds;
    for (const search::LoweredPlan &plan : answer.plan->reasons.lowered)
      if (plan.seconds < answer.plan->predictedStepSeconds && plan.bytes <= getMostBytes(*answer.plan))
        EXPECT_EQ(plan.lostBy, "slower by simulation");
  }
  EXPECT_TRUE(isAnother) << "the best by estimate was the best by simulation everywhere";
}

TEST(NearPlans, without_a_list_plans_of_other_kinds_within_two_per_cent_may_win) {
  bool isAnother = false;
  for (unsigned seed = 0; seed < 30; ++seed) {
    RandomCosts costs(seed);
    Problem problem = problemOf(costs, kPlenty);
    double best = BudgetSearch(problem, lowerAsEstimated).run()->plan->predictedStepSeconds;
    BudgetAnswer answer = listOf(problem, 1);
    ASSERT_TRUE(answer.plan);
    EXPECT_GE(answer.plan->predictedStepSeconds, best);
    EXPECT_LE(answer.plan->predictedStepSeconds, best * 1.02);
    isAnother |= answer.plan->predictedStepSeconds > best;
  }
  EXPECT_TRUE(isAnother);
}

TEST(NearPlans, where_there_are_fewer_all_of_them_are_listed) {
  RandomCosts costs(1);
  Problem problem = randomProblem(costs, 1, 3, 1, kPlenty);
  problem.space.recompute = problem.space.recomputeValues = false;
  BudgetAnswer answer = listOf(problem, 50);
  EXPECT_TRUE(answer.hasListedAll);
  EXPECT_GE(answer.listed.size(), 1u);
  EXPECT_LT(answer.listed.size(), 50u);
}

TEST(NearPlans, a_plan_whose_simulation_fails_is_passed_over) {
  RandomCosts costs(1);
  Problem problem = problemOf(costs, kPlenty);
  int calls = 0;
  NearPlansOptions near{[&](const Plan &plan) { return calls++ % 2 ? std::nullopt : std::optional(simulated(plan)); },
                        3};
  search::Result<BudgetAnswer> answer = BudgetSearch(problem, lowerAsEstimated, {}, near).run();
  ASSERT_TRUE(bool(answer));
  ASSERT_TRUE(answer->plan);
  EXPECT_GT(calls, 3);
}

} // namespace
