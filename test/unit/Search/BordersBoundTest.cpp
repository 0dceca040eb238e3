//===- BordersBoundTest.cpp - A bound that no plan goes below -------------===//

#include "lib/Search/Solver/BordersBound.h"
#include "RandomPlan.h"
#include "RandomProblem.h"
#include "galvatron/Search/Solver/Solver.h"
#include "lib/Search/Solver/LeastMemory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;
using ::testing::ElementsAre;

namespace {
std::vector<Candidate> candidatesWithExactSearch(const Problem &problem) {
  std::vector<Candidate> all;
  for (auto [stages, microBatches, mesh] : offeredSettings(problem))
    if (Result<Setting> setting = Setting::make(problem, stages, microBatches, mesh))
      for (Candidate &candidate : candidatesOf(std::make_shared<const Setting>(std::move(*setting))))
        if (candidate.hasExactSearch())
          all.push_back(std::move(candidate));
  return all;
}

/// The fastest of all plans of a candidate that fit, priced one by one.
class Fastest {
public:
  explicit Fastest(const Candidate &candidate)
      : candidate(candidate), timetable(candidate.shape()), choice{{}, std::vector<int>(setting().layers(), 0)} {
    choice.options.resize(setting().layers());
    fill(0);
  }
  double seconds = kInfinity;
  long plans = 0;

private:
  const Setting &setting() const { return candidate.setting(); }
  void fill(int layer) {
    if (layer == setting().layers()) {
      if (choice.partOf.back() != setting().stages - 1)
        return;
      ++plans;
      PlanPrice price = pricePlan(setting(), timetable, choice);
      if (price.peak() <= setting().problem->cluster.memoryBytesPerDevice)
        seconds = std::min(seconds, price.seconds);
      return;
    }
    int before = layer ? choice.partOf[layer - 1] : 0;
    for (int stage = before; stage <= (layer ? std::min(before + 1, setting().stages - 1) : 0); ++stage)
      for (const Option &option : candidate.options()[setting().classOf[stage]][setting().typeOf[layer]]) {
        choice.partOf[layer] = stage;
        choice.options[layer] = &option;
        fill(layer + 1);
      }
  }

  const Candidate &candidate;
  Timetable timetable;
  Choice choice;
};

const std::vector<Schedule> kExact = {Schedule::OneFOneB, Schedule::GPipe, Schedule::ZeroBubble};

TEST(LayerRuns, are_alike_whatever_the_order_of_their_layers) {
  LayerRuns runs({0, 1, 2, 1, 2, 3});
  EXPECT_EQ(runs.kind(1, 3), runs.kind(2, 4));
  EXPECT_NE(runs.kind(1, 3), runs.kind(1, 4));
  EXPECT_NE(runs.kind(0, 2), runs.kind(1, 3));
  EXPECT_THAT(runs.kinds()[runs.kind(1, 4)], ElementsAre(0, 2, 1, 0));
  EXPECT_THAT(runs.kinds()[runs.kind(0, 6)], ElementsAre(1, 2, 2, 1));
}

TEST(BordersBound, no_plan_goes_below_it) {
  std::map<Schedule, int> compared;
  long plans = 0;
  double share = 0, shareBefore = 0;
  for (unsigned seed = 0; seed < 12; ++seed)
    for (std::int64_t memory : {1500000, 2600000, 6000000}) {
      RandomCosts costs(seed);
      Problem problem = randomProblem(costs, 4, 6, 8, memory, 2);
      problem.space.schedules = kExact;
      if (seed % 2)
        problem.space.recompute = false;
      else
        problem.space.stages = 4;
      if (seed % 4 == 3) {
        problem.space.stages = 2;
        problem.extraBytesOfStage = {300000, -200000};
      }
      for (const Candidate &candidate : candidatesWithExactSearch(problem)) {
        LayerRuns runs(candidate.setting().typeOf);
        BordersBound bound(candidate, runs);
        Fastest fastest(candidate);
        plans += fastest.plans;
        if (fastest.seconds == kInfinity)
          continue;
        double floor = bound.floor(2 * fastest.seconds);
        EXPECT_LE(floor, fastest.seconds * (1 + 1e-9))
            << "seed " << seed << " memory " << memory << " stages " << candidate.shape().stages << " micro-batches "
            << candidate.shape().microBatches << " " << scheduleName(candidate.shape().schedule);
        EXPECT_GE(floor, candidate.bound());
        EXPECT_FALSE(bound.excludes(fastest.seconds * (1 + 1e-9)));
        EXPECT_FALSE(bound.excludes(kInfinity));
        ++compared[candidate.shape().schedule];
        share += floor / fastest.seconds;
        shareBefore += candidate.bound() / fastest.seconds;
      }
    }
  int all = 0;
  for (Schedule schedule : kExact) {
    EXPECT_GT(compared[schedule], 20) << scheduleName(schedule);
    all += compared[schedule];
  }
  EXPECT_GT(plans, 50000);
  // Near to the best on average, and nearer than what knows of no borders.

  EXPECT_GT(share / all, 0.95);
  EXPECT_GT(share / all, shareBefore / all + 0.1);
}

/// Tied layers, nodes with links of their own, experts, memory that is short on some stage.
TEST(BordersBound, the_exact_search_does_not_go_below_it) {
  std::map<Schedule, int> compared;
  std::function<bool()> never = [] { return false; };
  for (unsigned seed = 0; seed < 8; ++seed) {
    RandomCase made = randomCase(seed);
    Problem &problem = made.problem;
    problem.space.schedules = kExact;
    problem.space.context = problem.space.strided = problem.space.recomputeValues = false;
    problem.cluster.memoryBytesPerDevice = 1ll << 50;
    for (const Candidate &candidate : candidatesWithExactSearch(problem)) {
      if (candidate.shape().microBatches > 6 || candidate.shape().stages == 1)
        continue;
      problem.cluster.memoryBytesPerDevice =
          (findLeastMemory(candidate).bytes + problem.cluster.device.overheadBytes) * (seed % 3 + 11) / 10;
      LayerRuns runs(candidate.setting().typeOf);
      Opened opened = candidate.open(kInfinity, 1, 20000, never);
      if (opened.found.seconds == kInfinity)
        continue;
      double floor = BordersBound(candidate, runs).floor(2 * opened.found.seconds);
      EXPECT_LE(floor, opened.found.seconds * (1 + 1e-9))
          << "seed " << seed << " stages " << candidate.shape().stages << " micro-batches "
          << candidate.shape().microBatches << " " << scheduleName(candidate.shape().schedule);
      ++compared[candidate.shape().schedule];
    }
  }
  for (Schedule schedule : kExact)
    EXPECT_GT(compared[schedule], 20) << scheduleName(schedule);
}

TEST(BordersBound, excludes_what_does_not_fit_and_nothing_that_does) {
  int compared = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    RandomCosts costs(seed);
    Problem problem = randomProblem(costs, 4, 8, 8, 1000, 2);
    problem.space.schedules = kExact;
    for (const Candidate &candidate : candidatesWithExactSearch(problem)) {
      LayerRuns runs(candidate.setting().typeOf);
      std::int64_t least = findLeastMemory(candidate).bytes;
      problem.cluster.memoryBytesPerDevice = least;
      EXPECT_FALSE(BordersBound(candidate, runs).excludes(kInfinity)) << seed;
      problem.cluster.memoryBytesPerDevice = least * 4 / 5;
      compared += BordersBound(candidate, runs).excludes(kInfinity);
    }
  }
  EXPECT_GT(compared, 50);
}

/// Of a size where labels run out: deep pipelines, memory short.
TEST(BordersBound, proves_plans_of_a_large_cluster_within_a_hundredth) {
  TransformerShape shape;
  shape.layers = 32;
  shape.hidden = 4096;
  shape.ffn = 14336;
  shape.heads = 32;
  shape.kvHeads = 8;
  shape.vocab = 32000;
  shape.sequence = 8192;
  shape.bytesPerElement = 2;
  Problem problem;
  problem.cluster.device = *findDeviceKind("h100");
  problem.cluster.nodes = problem.cluster.devicesPerNode = 8;
  problem.cluster.intra = problem.cluster.device.intra;
  problem.cluster.inter = problem.cluster.device.inter;
  problem.cluster.memoryBytesPerDevice = 20'000'000'000;
  problem.globalBatch = 256;
  problem.layers = transformerLayers(shape.layers);
  ShapeCosts costs(shape, problem.cluster.device);
  problem.costs = &costs;
  SolveOptions options;
  options.explain = false;
  Result<Solution> solution = solve(problem, options);
  ASSERT_TRUE(solution && solution->plan);
  EXPECT_LE(solution->provenWithin, 0.01);
  EXPECT_LE(solution->labels, 5 * options.labelBudget);
}
} // namespace
