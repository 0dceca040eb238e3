//===- SpaceTest.cpp - The whole space: exact, monotone, any threads ------===//

#include "RandomPlan.h"
#include "RandomProblem.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Solver/Solver.h"
#include "lib/Search/Solver/PlanPrice.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
/// Enough for most of these problems.
constexpr std::int64_t kBudget = 200000;

Solution solved(const Problem &problem, int threads = 1) {
  SolveOptions options;
  options.labelBudget = kBudget;
  options.explain = false;
  options.threads = threads;
  Result<Solution> solution = solve(problem, options);
  EXPECT_TRUE(solution) << solution.error().message;
  return solution ? std::move(*solution) : Solution();
}

/// The least memory of a device with which the problem has a plan.
std::int64_t smallestBudget(Problem problem) {
  problem.cluster.memoryBytesPerDevice = 1 << 20;
  return solved(problem).infeasible.smallestBudgetBytes;
}

double secondsOf(const Solution &solution) { return solution.plan ? solution.plan->predictedStepSeconds : 0; }

/// The schedules whose plans are searched exactly.
const std::vector<Schedule> kExact = {Schedule::OneFOneB, Schedule::GPipe, Schedule::ZeroBubble};

/// Every plan of the space under these, priced one by one: the best step
/// for each of some budgets.
class Enumeration {
public:
  Enumeration(const Problem &problem, std::vector<std::int64_t> budgets) : problem(problem) {
    for (std::int64_t budget : budgets)
      best[budget] = 0;
    for (int stages = 1; stages <= problem.ranks() && stages <= int(problem.layers.size()); ++stages)
      for (int count = 1; count <= problem.globalBatch; ++count)
        if (problem.ranks() % stages == 0 && problem.globalBatch % count == 0 &&
            (!problem.space.stages || stages == problem.space.stages))
          for (Schedule schedule : problem.space.schedules)
            all(stages, count, schedule);
  }
  std::map<std::int64_t, double> best;
  long plans = 0;

private:
  void all(int stages, int count, Schedule schedule) {
    for (const galvatron::plan::Mesh &mesh : offeredMeshes(problem, problem.ranks() / stages))
      all(Setting::bare(problem, stages, count, mesh), schedule);
  }

  void all(Setting setting, Schedule schedule) {
    std::vector<std::vector<Option>> options(problem.layers.size());
    for (int layer = 0; layer < int(problem.layers.size()); ++layer) {
      bool isBlock = problem.layers[layer].role == LayerRole::Block;
      for (auto [strategy, dp] : offeredStrategies(problem.space, setting.stageRanks, setting.microBatchSamples))
        for (bool strided : {false, true})
          for (std::uint32_t values : {0u, 1u}) {
            if ((values && !(problem.space.recompute && problem.space.recomputeValues)) ||
                (strided && (strategy.tp == 1 || dp * strategy.cp == 1)) ||
                (strided && setting.stageRanks <= problem.cluster.devicesPerNode) ||
                (values && (strategy.recompute || !isBlock)) || (!isBlock && (strategy.recompute || strategy.ep > 1)))
              continue;
            strategy.strided = strided;
            strategy.values = values;
            Result<Option> option = setting.price(layer, strategy, dp, 0, true);
            ASSERT_TRUE(option) << option.error().message;
            // Split, and where that keeps more also whole.
            if (splitsBackward(schedule))
              options[layer].push_back(*option);
            if (!splitsBackward(schedule) || option->keepsForWeights)
              options[layer].push_back(*setting.price(layer, strategy, dp, 0, false));
          }
    }
    Timetable timetable({schedule, setting.stages, 1, setting.microBatches});
    Choice choice{std::vector<const Option *>(options.size()), std::vector<int>(options.size(), 0)};
    fill(setting, timetable, options, choice, 0);
  }

  void fill(const Setting &setting, const Timetable &timetable, const std::vector<std::vector<Option>> &options,
            Choice &choice, std::size_t at) {
    if (at == options.size()) {
      if (choice.partOf.back() != setting.stages - 1)
        return;
      ++plans;
      PlanPrice price = pricePlan(setting, timetable, choice);
      std::int64_t peak = price.peak();
      for (auto &[budget, seconds] : best)
        if (peak <= budget && (seconds == 0 || price.seconds < seconds))
          seconds = price.seconds;
      return;
    }
    int before = at ? choice.partOf[at - 1] : 0;
    for (int stage = before; stage <= (at ? std::min(before + 1, setting.stages - 1) : 0); ++stage)
      for (const Option &option : options[at]) {
        choice.partOf[at] = stage;
        choice.options[at] = &option;
        fill(setting, timetable, options, choice, at + 1);
      }
  }

  const Problem &problem;
};

TEST(Space, search_equals_enumeration) {
  int feasible = 0, infeasible = 0;
  long plans = 0;
  std::set<std::string> seen;
  for (unsigned seed : {0, 1, 2, 3, 10})
    for (auto [nodes, devices, layers] : {std::tuple{1, 2, 4}, {2, 2, 3}, {3, 1, 3}}) {
      RandomCosts costs(seed);
      Problem problem = randomProblem(costs, devices, layers, 4, 0);
      problem.cluster.nodes = nodes;
      problem.space = SearchSpace();
      problem.space.schedules = kExact;
      // Not every kind at once, or the enumeration takes minutes.
      problem.space.recompute = seed % 2;
      problem.space.zeroLevels = seed % 2 ? 0b0101 : 0b1011;
      problem.space.maxExpert = seed == 2 ? 1 : 2;
      problem.space.keepGathered = seed == 10;
      if (nodes == 3)
        problem.globalBatch = 6;
      Enumeration enumeration(problem, {700000, 1100000, 1700000, 2600000, 5000000});
      plans += enumeration.plans;
      for (auto [budget, wanted] : enumeration.best) {
        problem.cluster.memoryBytesPerDevice = budget;
        Solution solution = solved(problem);
        EXPECT_NEAR(secondsOf(solution), wanted, 1e-9 * wanted)
            << "seed " << seed << ", " << nodes << " x " << devices << " devices, budget " << budget;
        EXPECT_EQ(solution.provenWithin, 0);
        (wanted > 0 ? feasible : infeasible)++;
        if (solution.plan)
          for (const PlannedLayer &layer : solution.plan->layers)
            seen.insert(describe(layer.strategy, layer.dp));
      }
    }
  EXPECT_GT(feasible, 35);
  EXPECT_GT(infeasible, 3);
  EXPECT_GT(plans, 500000);
  // The cases are such that every kind of strategy is best somewhere.
  for (const char *word : {"cp=", "tp=", "ulysses=", "ep=", "sp", "zero", "recompute", "strided", "values", "keep"})
    EXPECT_TRUE(std::any_of(seen.begin(), seen.end(), [&](const std::string &text) {
      return text.find(word) != std::string::npos;
    })) << word;
}

TEST(Space, zero_bubble_equals_enumeration) {
  int feasible = 0;
  for (unsigned seed = 0; seed < 6; ++seed)
    for (auto [devices, layers] : {std::pair{2, 5}, {3, 4}, {4, 4}}) {
      RandomCosts costs(seed);
      Problem problem = randomProblem(costs, devices, layers, 2 * devices, 0, 2);
      problem.space = SearchSpace();
      problem.space.schedules = {Schedule::ZeroBubble};
      problem.space.stages = devices == 4 ? 2 : devices;
      problem.space.zeroLevels = 0b0001;
      problem.space.context = problem.space.expert = problem.space.strided = problem.space.ulysses = false;
      problem.space.recomputeValues = false;
      Enumeration enumeration(problem, {1500000, 2200000, 3000000, 4500000, 9000000});
      for (auto [budget, wanted] : enumeration.best) {
        problem.cluster.memoryBytesPerDevice = budget;
        Solution solution = solved(problem);
        EXPECT_NEAR(secondsOf(solution), wanted, 1e-9 * wanted)
            << "seed " << seed << ", " << devices << " devices, budget " << budget;
        EXPECT_EQ(solution.provenWithin, 0);
        feasible += wanted > 0;
      }
    }
  EXPECT_GT(feasible, 40);
}

/// Where gradients of weights that are put off keep more than forward does, each layer's backward is split or whole.
TEST(Space, split_backwards_equal_enumeration) {
  int feasible = 0, split = 0, whole = 0;
  for (unsigned seed = 0; seed < 4; ++seed)
    for (auto [devices, layers] : {std::pair{2, 5}, {3, 4}}) {
      RandomCosts costs(seed, /*keepsForWeights=*/true);
      Problem problem = randomProblem(costs, devices, layers, 2 * devices, 0, 2);
      problem.space.schedules = {Schedule::ZeroBubble, Schedule::OneFOneB};
      problem.space.stages = devices;
      problem.space.keepGathered = false;
      Enumeration enumeration(problem, {1500000, 2200000, 3000000, 4500000, 9000000, 20000000});
      for (auto [budget, wanted] : enumeration.best) {
        problem.cluster.memoryBytesPerDevice = budget;
        Solution solution = solved(problem);
        EXPECT_NEAR(secondsOf(solution), wanted, 1e-9 * wanted)
            << "seed " << seed << ", " << devices << " devices, budget " << budget;
        feasible += wanted > 0;
        if (!solution.plan)
          continue;
        CheckReport report = checkPlan(problem, *solution.plan);
        EXPECT_TRUE(report.ok()) << report.complaints.front();
        for (const PlannedLayer &layer : solution.plan->layers) {
          EXPECT_EQ(layer.splitBackward.has_value(), splitsBackward(solution.plan->schedule));
          (layer.splitBackward.value_or(false) ? split : whole)++;
        }
      }
    }
  EXPECT_GT(feasible, 20);
  EXPECT_GT(split, 10);
  EXPECT_GT(whole, 2);
}

/// Some of everything that may be switched off.
SearchSpace narrowed(SearchSpace space, Draw &draw) {
  for (bool *flag : {&space.tensor, &space.ulysses, &space.context, &space.expert, &space.recompute,
                     &space.sequenceParallel, &space.strided, &space.keepGathered, &space.recomputeValues,
                     &space.tensorInEnds, &space.ulyssesInEnds, &space.unevenStages})
    if (draw.below(4) == 0)
      *flag = false;
  if (draw.below(2))
    space.zeroLevels &= unsigned(draw.of({0b0001, 0b0011, 0b1001}));
  if (draw.below(4) == 0)
    space.maxPipeline = 2;
  return space;
}

/// Whether `now` is no worse than `before`, as far as either is proven.
void expectNoWorse(const Solution &now, const Solution &before, const std::string &what) {
  ASSERT_TRUE(now.plan) << what;
  if (before.plan)
    EXPECT_LE(secondsOf(now) * (1 - now.provenWithin), secondsOf(before) * (1 + 1e-9)) << what;
}

TEST(Space, more_memory_faster_links_and_a_wider_space_never_hurt) {
  int exact = 0, all = 0;
  auto count = [&](const Solution &solution) {
    ++all;
    exact += solution.provenWithin == 0;
  };
  for (unsigned seed = 0; seed < 14; ++seed) {
    RandomCase made = randomCase(seed);
    Problem &problem = made.problem;
    Draw draw(seed);
    std::string name = "seed " + std::to_string(seed) + " ";
    std::int64_t smallest = smallestBudget(problem);
    ASSERT_GT(smallest, 0) << seed;
    Solution before;
    for (double factor : {1.0, 1.1, 1.7, 6.0}) {
      problem.cluster.memoryBytesPerDevice = std::int64_t(double(smallest) * factor);
      Solution now = solved(problem);
      expectNoWorse(now, before, name + "memory x " + std::to_string(factor));
      count(now);
      before = std::move(now);
    }
    problem.cluster.memoryBytesPerDevice = std::int64_t(double(smallest) * draw.of({1.05, 1.5, 3.0}));
    Cluster base = problem.cluster;
    before = {};
    for (double factor : {0.1, 1.0, 100.0}) {
      problem.cluster = base;
      problem.cluster.intra.bytesPerSecond *= factor;
      problem.cluster.inter.bytesPerSecond *= factor;
      for (Link &link : problem.cluster.interOfNode)
        link.bytesPerSecond *= factor;
      Solution now = solved(problem);
      expectNoWorse(now, before, name + "links x " + std::to_string(factor));
      count(now);
      before = std::move(now);
    }
    problem.cluster = base;
    SearchSpace wide = problem.space;
    Solution best = solved(problem);
    count(best);
    for (int i = 0; i < 3; ++i) {
      problem.space = narrowed(wide, draw);
      SolveOptions options;
      options.explain = false;
      options.labelBudget = kBudget;
      Result<Solution> narrow = solve(problem, options); // an error where a layer has no strategy left
      if (!narrow || !narrow->plan)
        continue;
      expectNoWorse(best, *narrow, name + "space");
      CheckReport report = checkPlan(problem, *narrow->plan);
      EXPECT_TRUE(report.ok()) << name << report.complaints.front();
    }
  }
  EXPECT_GT(exact, all / 2);
  EXPECT_GT(all, 100);
}

/// Pipelines alone, of one schedule: plans that are interleaved, with parts of like length, or have zero bubble. Moving
/// layers from part to part may end at a better plan from a worse one.
TEST(Space, more_never_hurts_any_schedule) {
  std::map<Schedule, int> compared;
  for (unsigned seed = 0; seed < 10; ++seed)
    for (Schedule schedule : {Schedule::Interleaved, Schedule::ZeroBubble}) {
      RandomCase made = randomCase(seed);
      Problem &problem = made.problem;
      Draw draw(seed);
      SearchSpace wide;
      wide.schedules = {schedule};
      wide.unevenStages = schedule != Schedule::Interleaved;
      for (int stages = 2; stages <= 4 && !wide.stages; ++stages)
        if (problem.ranks() % stages == 0 && stages < int(problem.layers.size()) - 1)
          wide.stages = stages;
      if (!wide.stages)
        continue;
      problem.globalBatch = 2 * wide.stages;
      problem.space = wide;
      // Where there is no exact search, nothing names the smallest budget.
      std::int64_t memory = 1 << 24;
      do
        problem.cluster.memoryBytesPerDevice = memory += memory / 4;
      while (memory < (1ll << 36) && !solved(problem).plan);
      std::string name = "seed " + std::to_string(seed) + " " + std::string(scheduleName(schedule)) + " ";
      Solution before;
      auto noWorse = [&](const std::string &what) {
        Solution now = solved(problem);
        if (before.plan)
          expectNoWorse(now, before, name + what);
        compared[schedule] += before.plan && now.plan;
        before = std::move(now);
      };
      for (double factor : {1.0, 1.05, 1.2, 2.0}) {
        problem.cluster.memoryBytesPerDevice = std::int64_t(double(memory) * factor);
        noWorse("memory x " + std::to_string(factor));
      }
      problem.cluster.memoryBytesPerDevice = std::int64_t(double(memory) * draw.of({1.05, 1.5}));
      Cluster base = problem.cluster;
      before = {};
      for (double factor : {0.1, 1.0, 10.0}) {
        problem.cluster.intra.bytesPerSecond = base.intra.bytesPerSecond * factor;
        problem.cluster.inter.bytesPerSecond = base.inter.bytesPerSecond * factor;
        for (std::size_t node = 0; node < base.interOfNode.size(); ++node)
          problem.cluster.interOfNode[node].bytesPerSecond = base.interOfNode[node].bytesPerSecond * factor;
        noWorse("links x " + std::to_string(factor));
      }
      problem.cluster = base;
      for (int i = 0; i < 3; ++i) {
        problem.space = narrowed(wide, draw);
        before = solved(problem);
        problem.space = wide;
        noWorse("space");
      }
    }
  EXPECT_GT(compared[Schedule::Interleaved], 20);
  EXPECT_GT(compared[Schedule::ZeroBubble], 40);
}

TEST(Space, any_number_of_threads_gives_the_same_answer) {
  for (unsigned seed = 0; seed < 8; ++seed) {
    RandomCase made = randomCase(seed);
    made.problem.cluster.memoryBytesPerDevice = smallestBudget(made.problem) * 5 / 4;
    Solution one = solved(made.problem, 1);
    ASSERT_TRUE(one.plan);
    for (int threads : {2, 3, 8}) {
      Solution many = solved(made.problem, threads);
      ASSERT_TRUE(many.plan);
      EXPECT_EQ(writePlan(*many.plan), writePlan(*one.plan)) << "seed " << seed << ", " << threads << " threads";
      EXPECT_EQ(many.labels, one.labels);
      EXPECT_EQ(many.provenWithin, one.provenWithin);
    }
  }
}

TEST(Space, awkward_numbers_of_devices_and_samples_have_plans) {
  int uneven = 0, odd = 0, oddMicroBatches = 0;
  for (int devices : {3, 5, 6, 7, 12})
    for (int batch : {15, 18, 42}) {
      RandomCosts costs(unsigned(devices + batch));
      Problem problem = randomProblem(costs, devices, 8, batch, 0, 2);
      problem.space = SearchSpace();
      problem.space.context = problem.space.strided = false;
      problem.space.zeroLevels = 0b1001;
      problem.space.maxTensor = problem.space.maxUlysses = 3;
      if (batch == 18)
        problem.space.data = false; // leaves stages
      for (std::int64_t memory : {2000000, 4000000, 30000000}) {
        problem.cluster.memoryBytesPerDevice = memory;
        Solution solution = solved(problem);
        if (!solution.plan)
          continue;
        CheckReport report = checkPlan(problem, *solution.plan);
        EXPECT_TRUE(report.ok()) << report.complaints.front();
        std::vector<int> counts = solution.plan->layersPerStage();
        uneven += *std::max_element(counts.begin(), counts.end()) > *std::min_element(counts.begin(), counts.end());
        oddMicroBatches += (solution.plan->microBatches & (solution.plan->microBatches - 1)) != 0;
        for (const PlannedLayer &layer : solution.plan->layers)
          odd += (layer.dp * layer.strategy.modelRanks()) % 2;
      }
    }
  EXPECT_GT(uneven, 5);
  EXPECT_GT(oddMicroBatches, 5);
  EXPECT_GT(odd, 5);
}

TEST(Space, stages_are_balanced_by_memory) {
  // A large embedding: with equal stages the first does not fit.
  class LargeEmbedding : public CostSource {
  public:
    Result<LayerCost> cost(const CostQuery &query) const override {
      LayerCost cost;
      bool embedding = query.layer->role == LayerRole::Embedding;
      cost.forwardSeconds = (embedding ? 1e-5 : 1e-3) * double(query.microBatchSamples);
      cost.backwardSeconds = 2 * cost.forwardSeconds;
      cost.stateBytes = embedding ? 6000000 : 1000000;
      cost.boundaryBytes = 1000;
      return cost;
    }
  } costs;
  Problem problem = randomProblem(costs, 2, 10, 4, 8000000); // embedding, 8 layers, head
  problem.space.tensor = problem.space.data = false;
  Solution solution = solved(problem);
  ASSERT_TRUE(solution.plan);
  EXPECT_EQ(solution.plan->layersPerStage(), (std::vector<int>{3, 7}));
  EXPECT_TRUE(checkPlan(problem, *solution.plan).ok());
  problem.space.unevenStages = false;
  problem.space.schedules = {Schedule::OneFOneB};
  EXPECT_FALSE(solved(problem).plan);
}

TEST(Space, uniform_plans_have_one_strategy_for_all_layers) {
  int plans = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    RandomCase made = randomCase(seed);
    Problem &problem = made.problem;
    problem.cluster.memoryBytesPerDevice = smallestBudget(problem) * 3 / 2;
    Solution any = solved(problem);
    double free = secondsOf(any), provenWithin = any.provenWithin;
    problem.space.uniform = true;
    Solution solution = solved(problem);
    if (!solution.plan)
      continue;
    ++plans;
    EXPECT_GE(secondsOf(solution), free * (1 - provenWithin) * (1 - 1e-9)) << seed;
    const PlannedLayer *first = nullptr;
    for (const PlannedLayer &layer : solution.plan->layers) {
      if (layer.role != LayerRole::Block)
        continue;
      first = first ? first : &layer;
      EXPECT_EQ(layer.strategy, first->strategy);
    }
    EXPECT_TRUE(checkPlan(problem, *solution.plan).ok());
  }
  EXPECT_GT(plans, 6);
}

TEST(Space, an_interrupted_search_has_a_plan_all_the_same) {
  RandomCase made = randomCase(2);
  made.problem.cluster.nodes = 8;
  made.problem.cluster.interOfNode.clear();
  made.problem.globalBatch = 64;
  std::atomic<bool> stop = false;
  int calls = 0;
  SolveOptions options;
  options.stop = &stop;
  options.progress = [&](const Progress &progress) {
    ++calls;
    stop = progress.bestStepSeconds > 0;
  };
  Result<Solution> solution = solve(made.problem, options);
  ASSERT_TRUE(solution);
  EXPECT_GT(calls, 0);
  EXPECT_TRUE(solution->interrupted);
  ASSERT_TRUE(solution->plan);
  EXPECT_TRUE(checkPlan(made.problem, *solution->plan).ok());
  // Says how far it may be from the best.
  double best = secondsOf(solved(made.problem));
  EXPECT_GE(best, solution->plan->predictedStepSeconds * (1 - solution->provenWithin) * (1 - 1e-9));
}

/// The plans on the hull of time against memory.
TEST(Space, an_inexact_answer_is_close_where_memory_is_short) {
  int compared = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    RandomCase made = randomCase(seed);
    Problem &problem = made.problem;
    std::int64_t smallest = smallestBudget(problem);
    problem.cluster.memoryBytesPerDevice = smallest + smallest / 20;
    SolveOptions options;
    options.explain = false;
    options.labelBudget = 1000;
    Result<Solution> quick = solve(problem, options);
    options.labelBudget = 3000000;
    Result<Solution> exact = solve(problem, options);
    ASSERT_TRUE(quick && quick->plan && exact && exact->plan) << seed;
    if (exact->provenWithin > 0)
      continue;
    ++compared;
    EXPECT_LE(secondsOf(*quick), secondsOf(*exact) * 1.03) << seed;
  }
  EXPECT_GT(compared, 6);
}

TEST(Space, proves_how_good_an_inexact_answer_is) {
  int inexact = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    RandomCosts costs(seed);
    Problem problem = randomProblem(costs, 4, 12, 8, 9000000, 2);
    SolveOptions options;
    options.explain = false;
    Result<Solution> exact = solve(problem, options);
    options.labelBudget = 20;
    Result<Solution> quick = solve(problem, options);
    ASSERT_TRUE(exact && quick);
    ASSERT_TRUE(exact->plan && quick->plan) << seed;
    EXPECT_EQ(exact->provenWithin, 0);
    inexact += quick->provenWithin > 0;
    EXPECT_GE(exact->plan->predictedStepSeconds,
              quick->plan->predictedStepSeconds * (1 - quick->provenWithin) * (1 - 1e-9))
        << seed;
  }
  EXPECT_GT(inexact, 3);
}
} // namespace
