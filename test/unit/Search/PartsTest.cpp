//===- PartsTest.cpp - Stages of several parts, against brute force -------===//
//
// Small models whose stages have two parts: every way to cut the layers, each
// recomputed or not, priced here from the cost source alone.
//
//===----------------------------------------------------------------------===//

#include "RandomProblem.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Check/Simulator.h"
#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Solver/Solver.h"

#include <gtest/gtest.h>

#include <functional>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
/// Seconds of the best plan of `shape`, one rank a stage; 0: none fits.
class EveryPlan {
public:
  EveryPlan(const Problem &problem, const PipelineShape &shape) : problem(problem), shape(shape), timetable(shape) {
    for (const Layer &layer : problem.layers) {
      CostQuery query{&layer, {}, 1, problem.globalBatch / shape.microBatches, shape.microBatches};
      choices.emplace_back();
      for (bool recompute : {false, true}) {
        query.strategy.recompute = recompute;
        if (!recompute || layer.role == LayerRole::Block) // the ends recompute nothing
          addChoices(*problem.costs->cost(query));
      }
    }
  }

  double best() {
    std::vector<int> partOf;
    cut(partOf);
    return least;
  }

private:
  void cut(std::vector<int> &partOf) {
    int left = int(choices.size() - partOf.size());
    if (!left)
      return tryAll(partOf);
    int part = partOf.empty() ? 0 : partOf.back();
    for (int next : {part, part + 1}) {
      if (next >= shape.parts() || (partOf.empty() && next) || shape.parts() - 1 - next > left - 1)
        continue;
      partOf.push_back(next);
      cut(partOf);
      partOf.pop_back();
    }
  }

  /// Whole, and with weights' gradients put off. Where that keeps no more there is no reason for the whole.
  void addChoices(LayerCost cost) {
    if (splitsBackward(shape.schedule) && cost.weightSavedBytes > cost.savedBytes) {
      LayerCost whole = cost;
      whole.weightSeconds = 0;
      choices.back().push_back(whole);
      cost.savedBytes = cost.weightSavedBytes;
    }
    choices.back().push_back(cost);
  }

  void tryAll(const std::vector<int> &partOf) {
    std::vector<std::size_t> chosen(choices.size(), 0);
    for (std::size_t at = 0; at < choices.size();) {
      price(partOf, chosen);
      for (at = 0; at < choices.size() && ++chosen[at] == choices[at].size(); ++at)
        chosen[at] = 0;
    }
  }

  void price(const std::vector<int> &partOf, const std::vector<std::size_t> &chosen) {
    std::vector<PartTimes> times(shape.parts());
    std::vector<std::int64_t> saved(shape.parts(), 0), state(shape.stages, 0), scratch(shape.stages, 0);
    std::vector<double> tail(shape.stages, 0);
    LinkModel links(problem.cluster, problem.cluster.inter);
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const LayerCost &cost = choices[i][chosen[i]];
      int part = partOf[i], stage = shape.stageOf(part);
      times[part].forward += cost.forwardSeconds;
      times[part].backward += cost.backwardSeconds + cost.recomputeSeconds;
      times[part].weight += std::min(cost.weightSeconds, cost.backwardSeconds);
      saved[part] += cost.savedBytes;
      state[stage] += cost.stateBytes;
      scratch[stage] = std::max(scratch[stage], cost.scratchBytes);
      tail[stage] += cost.updateSeconds;
      if (i + 1 < choices.size() && shape.stageOf(partOf[i + 1]) != stage)
        times[part].transfer =
            links.sendSecondsFrom(stage, 1, double(cost.boundaryBytes), shape.stageOf(partOf[i + 1]) - stage);
    }
    for (int stage = 0; stage < shape.stages; ++stage)
      for (const std::vector<int> &counts : timetable.inFlight(stage)) {
        std::int64_t bytes = problem.cluster.device.overheadBytes + state[stage] + scratch[stage];
        for (int chunk = 0; chunk < shape.virtualStages; ++chunk)
          bytes += counts[chunk] * saved[shape.partOf(stage, chunk)];
        if (bytes > problem.cluster.memoryBytesPerDevice)
          return;
      }
    double seconds = timetable.seconds(times) + *std::max_element(tail.begin(), tail.end());
    if (least == 0 || seconds < least)
      least = seconds;
  }

  const Problem &problem;
  PipelineShape shape;
  Timetable timetable;
  std::vector<std::vector<LayerCost>> choices; ///< of each layer, everything that its choice brings
  double least = 0;
};

/// Layers of one rank a stage, under one schedule alone.
Problem problemOf(const RandomCosts &costs, Schedule schedule, int stages, int layers, std::int64_t memory) {
  Problem problem = randomProblem(costs, stages, layers, 2 * stages, memory, 2);
  problem.space.schedules = {schedule};
  problem.space.stages = stages;
  problem.space.microBatches = 2 * stages;
  problem.space.maxVirtualStages = 2;
  problem.space.virtualStages = 2;
  return problem;
}

void expectBest(Schedule schedule, int stages, int layers, int &fitting, int &without, bool keepsForWeights = false) {
  for (unsigned seed = 0; seed < 3; ++seed)
    for (std::int64_t memory : {2500000, 5000000, 9000000, 30000000}) {
      RandomCosts costs(seed, keepsForWeights);
      Problem problem = problemOf(costs, schedule, stages, layers, memory);
      double wanted = EveryPlan(problem, {schedule, stages, 2, 2 * stages}).best();
      SolveOptions options;
      options.explain = false;
      Result<Solution> solution = solve(problem, options);
      ASSERT_TRUE(solution) << solution.error().message;
      double got = solution->plan ? solution->plan->predictedStepSeconds : 0;
      EXPECT_NEAR(got, wanted, 1e-9 * wanted) << scheduleName(schedule) << " seed " << seed << " memory " << memory;
      (wanted > 0 ? fitting : without)++;
      if (!solution->plan)
        continue;
      CheckReport report = checkPlan(problem, *solution->plan);
      EXPECT_TRUE(report.ok()) << report.complaints.front();
      EXPECT_NEAR(simulate(problem, *solution->plan)->stepSeconds, got, 1e-9 * got);
    }
}

TEST(Parts, the_search_finds_the_best_of_all_plans) {
  int fitting = 0, without = 0;
  for (Schedule schedule : {Schedule::Interleaved, Schedule::ZeroBubbleV}) {
    expectBest(schedule, 2, 9, fitting, without);
    expectBest(schedule, 3, 10, fitting, without);
  }
  expectBest(Schedule::ZeroBubbleV, 2, 8, fitting, without, /*keepsForWeights=*/true);

  EXPECT_GT(fitting, 20);
  EXPECT_GT(without, 2);
}

/// A head as slow as three layers: its part has fewer of them.
TEST(Parts, of_large_models_are_uneven_where_layers_are) {
  struct HeavyHead : RandomCosts {
    using RandomCosts::RandomCosts;
    Result<LayerCost> cost(const CostQuery &query) const override {
      LayerCost cost;
      double seconds = query.layer->role == LayerRole::Head        ? 3e-3
                       : query.layer->role == LayerRole::Embedding ? 0
                                                                   : 1e-3;
      cost.forwardSeconds = seconds;
      cost.backwardSeconds = 2 * seconds;
      cost.stateBytes = cost.savedBytes = 1000;
      cost.boundaryBytes = 1;
      return cost;
    }
  } costs(0);
  Problem problem = problemOf(costs, Schedule::Interleaved, 4, 34, 1 << 30);
  Result<Solution> solution = solve(problem);
  ASSERT_TRUE(solution && solution->plan);
  EXPECT_TRUE(checkPlan(problem, *solution->plan).ok());
  std::vector<int> parts = solution->plan->partOfLayers();
  EXPECT_LT(std::count(parts.begin(), parts.end(), 7) - 1, 4); // without the head; alike, each would have four
  problem.space.unevenStages = false;
  Result<Solution> even = solve(problem);
  ASSERT_TRUE(even && even->plan);
  EXPECT_LT(solution->plan->predictedStepSeconds, 0.99 * even->plan->predictedStepSeconds);
}
} // namespace
