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

#include <map>
#include <tuple>

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
  EXPECT_EQ(
      *whyImpossible({Schedule::ZeroBubbleV, 2, 3, 4}),
      "key 'virtual_stages' expects 2 parts a stage, one on the way down and one up, under schedule zb-v, but got "
      "3; leave it out");
  EXPECT_NE(whyImpossible({Schedule::ZeroBubbleV, 1, 2, 4})->find("at least 2 stages"), std::string::npos);
  EXPECT_FALSE(whyImpossible({Schedule::ZeroBubbleV, 3, 2, 1}));
}

TEST(PipelineShape, goes_down_and_up_again_under_zb_v) {
  PipelineShape shape{Schedule::ZeroBubbleV, 3, 2, 4};
  int stages[] = {0, 1, 2, 2, 1, 0};
  for (int part = 0; part < 6; ++part) {
    EXPECT_EQ(shape.stageOf(part), stages[part]);
    EXPECT_EQ(shape.partOf(shape.stageOf(part), shape.chunkOf(part)), part);
    EXPECT_EQ(shape.staysOnStage(part), part == 2);
  }
}

/// Every entry of the stage's parts once, and nothing before what it needs of its own stage.
void expectWhole(const PipelineShape &shape, int stage) {
  std::map<std::tuple<Computation, int, int>, int> at;
  std::vector<Instruction> list = stageTimetable(shape, stage);
  for (std::size_t i = 0; i < list.size(); ++i)
    EXPECT_TRUE(at.emplace(std::tuple{list[i].phase, list[i].chunk, list[i].microBatch}, int(i)).second);
  ASSERT_EQ(at.size(), std::size_t(3 * shape.virtualStages * shape.microBatches));
  for (int chunk = 0; chunk < shape.virtualStages; ++chunk)
    for (int m = 0; m < shape.microBatches; ++m) {
      EXPECT_LT(at.at({Computation::Forward, chunk, m}), at.at({Computation::Backward, chunk, m}));
      EXPECT_LT(at.at({Computation::Backward, chunk, m}), at.at({Computation::Weight, chunk, m}));
    }
}

TEST(Timetable, zb_v_is_for_any_stages_and_micro_batches_and_keeps_little) {
  for (int stages = 2; stages <= 9; ++stages)
    for (int count = 1; count <= 3 * stages; ++count) {
      PipelineShape shape{Schedule::ZeroBubbleV, stages, 2, count};
      Timetable timetable(shape);
      // Each with times of its own: no cycle of waits, whatever they are.
      std::vector<PartTimes> times;
      for (int part = 0; part < shape.parts(); ++part)
        times.push_back({1.0 + part % 3, 2.0 + part % 4, 1.0, 0.5});
      TimetableResult result = timetable.result(times);
      for (int stage = 0; stage < stages; ++stage) {
        expectWhole(shape, stage);
        ASSERT_EQ(result.start[stage].size(), std::size_t(6 * count));
        int most = 0;
        for (const std::vector<int> &kept : timetable.inFlight(stage))
          most = std::max(most, kept[0] + kept[1]);
        EXPECT_LE(most, 2 * stages) << "stage " << stage << ", " << count << " micro-batches";
        if (count >= 2 * stages - 1)
          EXPECT_EQ(most, 2 * stages) << "on every stage alike";
      }
    }
}

TEST(Timetable, zb_v_idles_for_the_first_fill_alone) {
  // A part's forward, backward and gradients of weights take half of a stage's, which take 1 each.
  PartTimes half{0.5, 1, 0.5, 0};
  for (int stages : {2, 3, 4, 8})
    for (int count : {2 * stages - 1, 2 * stages, 2 * stages + 1, 5 * stages}) {
      PipelineShape shape{Schedule::ZeroBubbleV, stages, 2, count};
      EXPECT_DOUBLE_EQ(Timetable(shape).seconds(equalParts(2 * stages, half)), 3 * count + (stages - 1) / 2.0)
          << stages << " stages, " << count << " micro-batches";
    }
  // Few micro-batches do not fill it.
  EXPECT_DOUBLE_EQ(Timetable({Schedule::ZeroBubbleV, 4, 2, 1}).seconds(equalParts(8, half)), 3 + 6);
  EXPECT_DOUBLE_EQ(Timetable({Schedule::ZeroBubbleV, 4, 2, 4}).seconds(equalParts(8, half)), 3 * 4 + 3);
}

/// What the last stage hands itself takes no time and no link.
TEST(Timetable, zb_v_turns_without_a_message) {
  PipelineShape shape{Schedule::ZeroBubbleV, 2, 2, 1};
  std::vector<PartTimes> times = equalParts(4, {1, 2, 1, 10});
  times[1].transfer = 0;
  // F F F F with a message on either side of the turn, B B W B B the same way, and the last W.
  EXPECT_DOUBLE_EQ(Timetable(shape).seconds(times), (1 + 10 + 2 + 10 + 1) + (1 + 10 + 3 + 10 + 1) + 1);
}

TEST(Simulator, takes_as_long_as_the_search_says) {
  int plans = 0;
  std::vector<int> bySchedule(5, 0);
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
