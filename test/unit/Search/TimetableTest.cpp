//===- TimetableTest.cpp - Schedules, and who prices them -----------------===//
//
// The search prices a plan by the longest path through its timetable, the
// simulator by events on every device, the judge by replaying. All three are to
// say the same, for plans of every schedule with uneven stages.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Model/Timetable.h"
#include "RandomPlan.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Check/Simulator.h"
#include "galvatron/Search/Solver/Solver.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
std::vector<PartTimes> equalParts(int parts, PartTimes times) { return std::vector<PartTimes>(parts, times); }

TEST(Timetable, of_equal_stages_has_the_known_length) {
  // Forward 1, backward 2 of which the weights' gradients are 1.
  PartTimes times{1, 2, 1, 0};
  for (int stages : {1, 2, 3, 5})
    for (int count : {1, 2, 7, 10}) {
      int fill = stages - 1;
      for (Schedule schedule : {Schedule::GPipe, Schedule::OneFOneB})
        EXPECT_DOUBLE_EQ(Timetable({schedule, stages, 1, count}).seconds(equalParts(stages, times)),
                         3 * (count + fill));
      if (count >= 2 * stages) // enough to overlap the put-off gradients with: ZB-H1 waits a third
        EXPECT_DOUBLE_EQ(Timetable({Schedule::ZeroBubble, stages, 1, count}).seconds(equalParts(stages, times)),
                         3 * count + fill);
    }
  // Interleaved: each part is half a stage, so the fill is half of 1F1B's.
  EXPECT_DOUBLE_EQ(Timetable({Schedule::Interleaved, 4, 2, 8}).seconds(equalParts(8, {0.5, 1, 0, 0})), 3 * 8 + 3 * 1.5);
}

TEST(Timetable, keeps_the_known_number_of_micro_batches) {
  EXPECT_EQ(Timetable({Schedule::GPipe, 4, 1, 8}).inFlight(2)[0][0], 8);
  EXPECT_EQ(Timetable({Schedule::OneFOneB, 4, 1, 8}).inFlight(0)[0][0], 4);
  EXPECT_EQ(Timetable({Schedule::OneFOneB, 4, 1, 8}).inFlight(3)[0][0], 1);
  EXPECT_EQ(Timetable({Schedule::ZeroBubble, 4, 1, 8}).inFlight(3)[0][0], 4);
}

TEST(Timetable, stops_at_a_limit_that_it_exceeds) {
  Timetable timetable({Schedule::OneFOneB, 3, 1, 6});
  std::vector<PartTimes> times = {{1, 2, 0, 0.1}, {2, 3, 0, 0.2}, {1, 1, 0, 0}};
  double seconds = timetable.seconds(times);
  EXPECT_EQ(timetable.secondsWithin(seconds, times), seconds);
  EXPECT_GT(timetable.secondsWithin(seconds * 0.999, times), seconds * 0.999);
}

TEST(Timetable, says_what_cannot_be) {
  EXPECT_NE(whyImpossible({Schedule::OneFOneB, 2, 2, 4})->find("use schedule interleaved"), std::string::npos);
  EXPECT_NE(whyImpossible({Schedule::Interleaved, 2, 1, 4})->find("use schedule 1f1b"), std::string::npos);
  EXPECT_NE(whyImpossible({Schedule::Interleaved, 3, 2, 4})->find("a multiple of the 3 stages"), std::string::npos);
  EXPECT_FALSE(whyImpossible({Schedule::Interleaved, 2, 2, 4}));
}

TEST(Simulator, takes_as_long_as_the_search_says) {
  int plans = 0;
  std::vector<int> bySchedule(4, 0);
  for (unsigned seed = 0; seed < 60; ++seed) {
    RandomCase made = randomCase(seed);
    Draw draw(seed + 1000);
    for (int attempt = 0; attempt < 16; ++attempt) {
      std::optional<Plan> plan = randomPlan(made.problem, draw);
      if (!plan)
        continue;
      Result<Plan> priced = evaluatePlan(made.problem, *plan);
      ASSERT_TRUE(priced) << priced.error().message;
      Result<Simulation> simulation = simulate(made.problem, *priced);
      ASSERT_TRUE(simulation) << simulation.error().message;
      double wanted = priced->predictedStepSeconds;
      EXPECT_NEAR(simulation->stepSeconds, wanted, 1e-9 * wanted) << "seed " << seed;
      for (int stage = 0; stage < plan->pipeline; ++stage)
        EXPECT_EQ(simulation->peakBytesPerStage[stage], priced->stageMemory[stage].total()) << "seed " << seed;
      CheckReport report = checkPlan(made.problem, *priced);
      EXPECT_TRUE(report.ok()) << "seed " << seed << ": " << report.complaints.front();
      ++plans;
      ++bySchedule[int(plan->schedule)];
    }
  }
  EXPECT_GT(plans, 150);
  for (int count : bySchedule)
    EXPECT_GT(count, 10);
}

TEST(Simulator, writes_a_trace_of_every_stage) {
  RandomCase made = randomCase(3);
  Draw draw(5);
  std::optional<Plan> plan;
  while (!plan || plan->pipeline < 2)
    plan = randomPlan(made.problem, draw);
  Result<Simulation> simulation = simulate(made.problem, *plan);
  ASSERT_TRUE(simulation) << simulation.error().message;
  auto trace = nlohmann::json::parse(writeTrace(*simulation, *plan));
  std::vector<double> lastEnd(plan->pipeline, 0);
  int work = 0;
  for (const auto &event : trace["traceEvents"]) {
    if (event["ph"] != "X" || event["tid"] != 1)
      continue;
    ++work;
    // A compute stream does one thing at a time.
    int stage = event["pid"];
    EXPECT_GE(event["ts"].get<double>(), lastEnd[stage] - 1e-4);
    lastEnd[stage] = event["ts"].get<double>() + event["dur"].get<double>();
  }
  EXPECT_GE(work, 2 * plan->pipeline * plan->microBatches);
}
} // namespace
