// The budget search against a lowering made up of estimates: what it answers fits, and nothing it knew of is faster.
#include "lib/Driver/BudgetSearch.h"
#include "../Search/RandomProblem.h"
#include "lib/Driver/PlanBytes.h"

#include <gmock/gmock.h>

#include <set>

using namespace galvatron;
using search::Plan;
using search::Problem;
using search::testing::RandomCosts;
using search::testing::randomProblem;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {
constexpr int64_t kPlenty = 100000000;

/// A lowering by which every rank takes `share` of its estimate, and up to `spread` of it more, which differs from
/// stage to stage; and a trace of it.
struct FakeLowering {
  double share = 1, spread = 0;
  std::vector<Plan> *trace = nullptr;
  std::optional<std::vector<RankBytes>> operator()(const Plan &plan) const {
    if (trace)
      trace->push_back(plan);
    std::vector<RankBytes> ofStages;
    for (auto [stage, estimate] : llvm::enumerate(plan.stageMemory)) {
      double draw = double(std::hash<std::string>()(describeStage(plan, int(stage))) % 1000) / 1000;
      ofStages.push_back({int64_t((share + spread * draw) * double(estimate.total())), 0});
    }
    return ofStages;
  }
};

/// No two plans all of whose stages are the same.
void expectNoneTwice(const std::vector<Plan> &trace) {
  std::set<std::string> seen;
  for (const Plan &plan : trace) {
    std::string stages;
    for (int stage = 0; stage < plan.pipeline; ++stage)
      stages += describeStage(plan, stage) + "\n";
    EXPECT_TRUE(seen.insert(stages).second) << "lowered twice: " << stages;
  }
}

/// Four ranks, embedding, three layers and a head, a batch of 4.
Problem problemOf(const RandomCosts &costs, int64_t memory) { return randomProblem(costs, 4, 5, 4, memory); }

BudgetAnswer answerOf(const Problem &problem, const LowerFunction &lower) {
  search::Result<BudgetAnswer> answer = BudgetSearch(problem, lower).run();
  EXPECT_TRUE(bool(answer)) << answer.error().message;
  return *answer;
}

/// A budget that binds: two thirds of what the fastest plan of all takes by its estimate.
int64_t getTightBudget(const RandomCosts &costs) {
  Problem roomy = problemOf(costs, kPlenty);
  return getMostBytes(*answerOf(roomy, FakeLowering{}).plan) * 2 / 3;
}

TEST(BudgetSearch, exact_estimates_give_the_plan_of_the_search) {
  RandomCosts costs(1);
  Problem problem = problemOf(costs, getTightBudget(costs));
  BudgetAnswer answer = answerOf(problem, FakeLowering{});
  ASSERT_TRUE(answer.plan);
  EXPECT_DOUBLE_EQ(answer.plan->predictedStepSeconds, search::solve(problem)->plan->predictedStepSeconds);
  EXPECT_LE(getMostBytes(*answer.plan), problem.cluster.memoryBytesPerDevice);
  EXPECT_EQ(int64_t(answer.plan->peakBytesPerRank.size()), answer.plan->ranks);
  EXPECT_FALSE(answer.plan->reasons.layers.empty());
}

/// However wrong the estimates are.
class UniformPlans : public testing::TestWithParam<FakeLowering> {};

TEST_P(UniformPlans, that_fit_are_not_faster) {
  int fitting = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed);
    Problem problem = problemOf(costs, getTightBudget(costs));
    const FakeLowering &lowering = GetParam();
    BudgetAnswer answer = answerOf(problem, lowering);
    search::RankOptions all;
    all.budgets = {kPlenty};
    search::Result<std::vector<Plan>> uniform = search::listUniformPlans(problem, all);
    ASSERT_TRUE(bool(uniform)) << uniform.error().message;
    for (Plan &plan : *uniform) {
      setBytes(plan, *lowering(plan));
      if (getMostBytes(plan) > problem.cluster.memoryBytesPerDevice)
        continue;
      ++fitting;
      ASSERT_TRUE(answer.plan) << seed;
      EXPECT_LE(answer.plan->predictedStepSeconds, plan.predictedStepSeconds * (1 + 1e-9)) << seed;
    }
  }
  EXPECT_GT(fitting, 10);
}

INSTANTIATE_TEST_SUITE_P(BudgetSearch, UniformPlans,
                         testing::Values(FakeLowering{0.9, 0.3}, FakeLowering{0.3, 0.4}, FakeLowering{0.2, 1.6}));

TEST(BudgetSearch, searches_that_share_prices_answer_as_those_that_do_not) {
  RandomCosts costs(2);
  search::PricedSettings settings;
  search::SolveOptions shared;
  shared.settings = &settings;
  int64_t tight = getTightBudget(costs);
  for (int64_t memory : {kPlenty, tight, tight * 9 / 10}) {
    Problem problem = problemOf(costs, memory);
    search::Result<search::Solution> one = search::solve(problem, shared), other = search::solve(problem);
    ASSERT_EQ(bool(one->plan), bool(other->plan));
    if (one->plan)
      EXPECT_EQ(one->plan->predictedStepSeconds, other->plan->predictedStepSeconds);
    EXPECT_EQ(one->infeasible.smallestBudgetBytes, other->infeasible.smallestBudgetBytes);
  }
}

TEST(BudgetSearch, estimates_too_high_leave_room_for_a_faster_plan) {
  int faster = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed);
    Problem problem = problemOf(costs, getTightBudget(costs));
    BudgetAnswer answer = answerOf(problem, FakeLowering{0.8});
    double byEstimate = search::solve(problem)->plan->predictedStepSeconds;
    ASSERT_TRUE(answer.plan);
    EXPECT_LE(getMostBytes(*answer.plan), problem.cluster.memoryBytesPerDevice);
    EXPECT_LE(answer.plan->predictedStepSeconds, byEstimate * (1 + 1e-12));
    faster += answer.plan->predictedStepSeconds < byEstimate * (1 - 1e-9);
  }
  EXPECT_GT(faster, 2);
}

TEST(BudgetSearch, estimates_too_low_lead_to_a_plan_that_fits) {
  int over = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed);
    Problem problem = problemOf(costs, getTightBudget(costs));
    std::vector<Plan> trace;
    BudgetAnswer answer = answerOf(problem, FakeLowering{.share = 1.2, .trace = &trace});
    ASSERT_TRUE(answer.plan);
    EXPECT_LE(getMostBytes(*answer.plan), problem.cluster.memoryBytesPerDevice);
    for (Plan &plan : trace) {
      setBytes(plan, *FakeLowering{1.2}(plan));
      if (getMostBytes(plan) <= problem.cluster.memoryBytesPerDevice)
        EXPECT_GE(plan.predictedStepSeconds, answer.plan->predictedStepSeconds);
    }
    ASSERT_GT(trace.size(), 1u);
    // The second leaves as much free as the first took beyond its estimate.
    int64_t missing = 0;
    for (auto [stage, estimate] : llvm::enumerate(trace[0].stageMemory))
      if (int64_t bytes = getBytes(trace[0], int(stage)).total(); bytes > problem.cluster.memoryBytesPerDevice)
        missing = std::max(missing, bytes - estimate.total());
    if (!missing)
      continue;
    ++over;
    problem.cluster.memoryBytesPerDevice -= missing;
    EXPECT_DOUBLE_EQ(trace[1].predictedStepSeconds, search::solve(problem)->plan->predictedStepSeconds);
  }
  EXPECT_GT(over, 2);
}

TEST(BudgetSearch, what_was_lowered_is_told_once_each_with_what_it_lost_by) {
  RandomCosts costs(2);
  std::vector<Plan> trace;
  BudgetAnswer answer = answerOf(problemOf(costs, getTightBudget(costs)), FakeLowering{.share = 1.2, .trace = &trace});
  ASSERT_TRUE(answer.plan);
  const std::vector<search::LoweredPlan> &lowered = answer.plan->reasons.lowered;
  EXPECT_EQ(lowered.size(), trace.size());
  int chosen = 0;
  for (const search::LoweredPlan &plan : lowered)
    chosen += plan.lostBy.empty();
  EXPECT_EQ(chosen, 1);
  expectNoneTwice(trace);
}

TEST(BudgetSearch, the_budget_it_names_is_enough_and_a_byte_less_is_not) {
  for (unsigned seed = 0; seed < 8; ++seed) {
    RandomCosts costs(seed);
    std::vector<Plan> trace;
    FakeLowering lower{.share = 0.7, .spread = 0.6, .trace = &trace};
    BudgetAnswer answer = answerOf(problemOf(costs, 1000), lower);
    ASSERT_FALSE(answer.plan);
    ASSERT_GT(answer.smallestBudget, 1000);
    EXPECT_THAT(answer.message, HasSubstr("no strategy fits 1000 B per device; the smallest plan needs " +
                                          std::to_string(answer.smallestBudget) + " bytes"));
    expectNoneTwice(trace);
    EXPECT_TRUE(answerOf(problemOf(costs, answer.smallestBudget), lower).plan);
    EXPECT_FALSE(answerOf(problemOf(costs, answer.smallestBudget - 1), lower).plan);
  }
}

TEST(BudgetSearch, the_ranks_it_names_are_enough) {
  int named = 0;
  for (unsigned seed = 0; seed < 8; ++seed) {
    RandomCosts costs(seed);
    FakeLowering lower{.share = 0.7, .spread = 0.6};
    int64_t least = answerOf(problemOf(costs, 1000), lower).smallestBudget;
    Problem problem = problemOf(costs, least * 3 / 4);
    BudgetAnswer answer = answerOf(problem, lower);
    ASSERT_FALSE(answer.plan);
    if (!answer.enoughRanks)
      continue;
    ++named;
    EXPECT_GT(answer.enoughRanks, problem.ranks());
    EXPECT_THAT(answer.message,
                HasSubstr(" or use " + std::to_string(answer.enoughRanks) + " ranks, which are enough, or"));
    problem.cluster.devicesPerNode = std::min<int64_t>(answer.enoughRanks, 8);
    problem.cluster.nodes = answer.enoughRanks / problem.cluster.devicesPerNode;
    EXPECT_TRUE(answerOf(problem, lower).plan);
  }
  EXPECT_GE(named, 3);
}

TEST(BudgetSearch, a_plan_that_cannot_be_lowered_is_handed_back) {
  RandomCosts costs(1);
  BudgetAnswer answer = answerOf(problemOf(costs, kPlenty), [](const Plan &) { return std::nullopt; });
  EXPECT_FALSE(answer.plan);
  EXPECT_THAT(answer.message, IsEmpty());
  ASSERT_TRUE(answer.refused);
  EXPECT_EQ(answer.refused->layers.size(), 5u);
}

TEST(BudgetSearch, of_a_list_what_cannot_be_lowered_is_passed_over) {
  RandomCosts costs(1);
  Problem problem = problemOf(costs, getTightBudget(costs));
  int calls = 0;
  auto onlyFirst = [&](const Plan &plan) { return calls++ ? std::nullopt : FakeLowering{0.8}(plan); };
  BudgetAnswer answer = answerOf(problem, onlyFirst);
  ASSERT_TRUE(answer.plan);
  EXPECT_GT(calls, 1);
  EXPECT_DOUBLE_EQ(answer.plan->predictedStepSeconds, search::solve(problem)->plan->predictedStepSeconds);
}

TEST(BudgetSearch, without_any_plan_the_message_is_the_search_s) {
  RandomCosts costs(1);
  Problem problem = randomProblem(costs, 7, 5, 3, kPlenty);
  problem.space.pipeline = problem.space.tensor = false;
  BudgetAnswer answer = answerOf(problem, FakeLowering{});
  EXPECT_FALSE(answer.plan);
  EXPECT_EQ(answer.smallestBudget, 0);
  EXPECT_EQ(answer.message, search::solve(problem)->infeasible.message);
}

/// Costs that rise each time they are asked for: a search whose plans do not hold what they say.
class RisingCosts : public search::CostSource {
public:
  explicit RisingCosts(const RandomCosts &costs) : costs(costs) {}
  search::Result<search::LayerCost> cost(const search::CostQuery &query) const override {
    search::Result<search::LayerCost> cost = costs.cost(query);
    if (cost)
      cost->forwardSeconds *= 1 + 1e-3 * ++calls;
    return cost;
  }

private:
  const RandomCosts &costs;
  mutable int calls = 0;
};

TEST(BudgetSearch, a_plan_that_does_not_hold_what_it_says_is_an_error_and_not_lowered) {
  RandomCosts costs(1);
  RisingCosts rising(costs);
  Problem problem = problemOf(costs, kPlenty);
  problem.costs = &rising;
  std::vector<Plan> trace;
  search::Result<BudgetAnswer> answer = BudgetSearch(problem, FakeLowering{.trace = &trace}).run();
  ASSERT_FALSE(answer);
  EXPECT_THAT(answer.error().message, HasSubstr("the plan does not hold what it says: the timetable takes"));
  EXPECT_THAT(trace, IsEmpty());
}

/// Two stages of one rank, also under a schedule with several parts a stage or a split backward.
Problem problemOfParts(const RandomCosts &costs, int64_t memory,
                       search::Schedule schedule = search::Schedule::Interleaved) {
  Problem problem = randomProblem(costs, 2, 8, 4, memory);
  problem.space.stages = 2;
  problem.space.schedules.push_back(schedule);
  return problem;
}

/// By estimates that hold, the answer is the search's, whatever the schedule; by others it fits, and nothing that was
/// lowered and fits is faster.
void expectFasterUnder(search::Schedule schedule) {
  int taken = 0, above = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    RandomCosts costs(seed, /*keepsForWeights=*/true);
    int64_t roomy = getMostBytes(*answerOf(problemOfParts(costs, kPlenty, schedule), FakeLowering{}).plan);
    for (int64_t memory : {roomy, roomy * 9 / 10, roomy * 3 / 4}) {
      Problem problem = problemOfParts(costs, memory, schedule);
      search::Result<search::Solution> best = search::solve(problem);
      BudgetAnswer answer = answerOf(problem, FakeLowering{});
      ASSERT_EQ(bool(answer.plan), bool(best->plan));
      if (!answer.plan)
        continue;
      EXPECT_DOUBLE_EQ(answer.plan->predictedStepSeconds, best->plan->predictedStepSeconds);
      taken += answer.plan->schedule == schedule;
      std::vector<Plan> trace;
      FakeLowering wrong{.share = 0.9, .spread = 0.4, .trace = &trace};
      answer = answerOf(problem, wrong);
      expectNoneTwice(trace);
      ASSERT_TRUE(answer.plan);
      EXPECT_LE(getMostBytes(*answer.plan), memory);
      for (Plan plan : trace) {
        setBytes(plan, *FakeLowering{0.9, 0.4}(plan));
        above += plan.schedule == schedule && getMostBytes(plan) > memory;
        if (getMostBytes(plan) <= memory)
          EXPECT_GE(plan.predictedStepSeconds, answer.plan->predictedStepSeconds * (1 - 1e-9));
      }
    }
  }
  EXPECT_GT(taken, 5);
  EXPECT_GT(above, 0); // some took more than they were thought to, and others were tried
}

TEST(BudgetSearch, takes_several_parts_a_stage_where_they_are_faster) {
  expectFasterUnder(search::Schedule::Interleaved);
}

TEST(BudgetSearch, takes_split_backwards_where_they_are_faster) {
  expectFasterUnder(search::Schedule::ZeroBubble);
  expectFasterUnder(search::Schedule::ZeroBubbleV);
}

TEST(BudgetSearch, a_stage_of_other_parts_is_another_stage) {
  RandomCosts costs(0);
  Plan plan = *search::solve(problemOfParts(costs, kPlenty))->plan;
  ASSERT_EQ(plan.schedule, search::Schedule::Interleaved);
  std::string text = describeStage(plan, 0);
  EXPECT_THAT(text, HasSubstr("interleaved of " + std::to_string(plan.virtualStages) + " parts"));
  EXPECT_THAT(text, HasSubstr(" in part 0"));
}

TEST(BudgetSearch, an_inconsistent_problem_is_an_error) {
  RandomCosts costs(1);
  Problem problem = problemOf(costs, kPlenty);
  problem.layers.clear();
  EXPECT_FALSE(BudgetSearch(problem, FakeLowering{}).run());
}

} // namespace
