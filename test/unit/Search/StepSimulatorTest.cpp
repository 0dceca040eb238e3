//===- StepSimulatorTest.cpp - Steps entry by entry, by hand --------------===//
//
// Prices are round numbers, so that what a step takes can be added up beside it.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Check/StepSimulator.h"
#include "galvatron/Search/Formats/TimetableFile.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <random>

using namespace galvatron::search;

namespace {

/// A body takes as many seconds as it has flops, everything else a second for each byte.
class RoundPrices final : public StepPrices {
public:
  explicit RoundPrices(bool overlaps, double slowdown = 1) : isOverlapping(overlaps), factor(slowdown) {}
  double bodySeconds(const StepTimetable &, int, const StepBody &body) const override { return body.calls[0].flops; }
  double collectiveSeconds(CollectiveKind kind, double bytes, const galvatron::plan::GroupShape &) const override {
    return bytes > 16 ? 0 : kind == CollectiveKind::AllGather && bytes == 16 ? 0 : bytes; // sums of two ranks: free
  }
  double sendSeconds(const StepTimetable &, int, int, double bytes) const override { return bytes; }
  double touchSeconds(double bytes) const override { return bytes; }
  double updateSeconds(double bytes) const override { return bytes; }
  double slowdown() const override { return factor; }
  bool overlaps() const override { return isOverlapping; }

private:
  bool isOverlapping;
  double factor;
};

StepEntry compute(EntryKind kind, int body, int microBatch) {
  StepEntry entry;
  entry.kind = kind;
  entry.name = std::string(kEntryKinds[int(kind)]) + " micro-batch " + std::to_string(microBatch);
  entry.microBatch = microBatch;
  entry.body = body;
  return entry;
}

StepEntry message(EntryKind kind, int peer, std::int64_t bytes) {
  StepEntry entry;
  entry.kind = kind;
  entry.name = std::string(kEntryKinds[int(kind)]) + " stage " + std::to_string(peer);
  entry.stream = (kind == EntryKind::Send ? "to stage " : "from stage ") + std::to_string(peer);
  entry.category = std::string(kEntryKinds[int(kind)]);
  entry.peer = peer;
  entry.bytes = bytes;
  return entry;
}

void waitFor(StageTimetable &stage, int entry) {
  StepEntry wait;
  wait.kind = EntryKind::Wait;
  wait.name = "end of " + stage.entries[entry].name;
  wait.ends = entry;
  stage.entries[entry].endedBy = int(stage.entries.size());
  stage.entries.push_back(wait);
}

/// Forward of 2 s, a message of 1 s, then forward of 3 s and what it takes backward: 4 s, 1 s, 5 s.
StepTimetable twoStages() {
  StepTimetable step;
  step.cluster = *hostCluster(2);
  for (double seconds : {2, 3, 4, 5})
    step.bodies.push_back({"body" + std::to_string(int(seconds)), {{.function = "matmul", .flops = seconds}}});
  step.stages.resize(2);
  StageTimetable &first = step.stages[0], &second = step.stages[1];
  first.entries = {compute(EntryKind::Forward, 0, 0), message(EntryKind::Send, 1, 1)};
  waitFor(first, 1);
  first.entries.push_back(message(EntryKind::Receive, 1, 1));
  first.entries.push_back(compute(EntryKind::Backward, 3, 0));
  second.entries = {message(EntryKind::Receive, 0, 1), compute(EntryKind::Forward, 1, 0),
                    compute(EntryKind::Backward, 2, 0), message(EntryKind::Send, 0, 1)};
  waitFor(second, 3);
  first.updateBytes = 7;
  second.updateBytes = 6;
  return step;
}

TEST(StepSimulator, takes_stages_one_after_another) {
  Result<SimulatedStep> step = simulateStep(twoStages(), RoundPrices(/*overlaps=*/true));
  ASSERT_TRUE(step) << step.error().message;
  EXPECT_DOUBLE_EQ(step->stepSeconds, 2 + 1 + 3 + 4 + 1 + 5 + 7);
  EXPECT_DOUBLE_EQ(step->entries[1][1].start, 3);
  EXPECT_DOUBLE_EQ(step->entries[0][2].seconds, 1); // the wait for its send
  EXPECT_DOUBLE_EQ(step->entries[0][3].seconds, 11 - 3);
  EXPECT_DOUBLE_EQ(step->sums[1].start, 11);
  EXPECT_DOUBLE_EQ(step->sums[1].seconds, 5);
  EXPECT_DOUBLE_EQ(step->updates[1].start, 16);
}

TEST(StepSimulator, adding_to_gradients_reads_them_but_rows_of_a_table) {
  StepTimetable step = twoStages();
  step.stages[0].entries.back().addedBytes = 8;
  EXPECT_DOUBLE_EQ(simulateStep(step, RoundPrices(true))->stepSeconds, 2 + 1 + 3 + 4 + 1 + 5 + 8 + 7);
  step.bodies[3].calls.push_back({.function = "embedding_backward"});
  EXPECT_DOUBLE_EQ(simulateStep(step, RoundPrices(true))->stepSeconds, 2 + 1 + 3 + 4 + 1 + 5 + 7);
}

TEST(StepSimulator, overlaps_collectives_with_compute_at_a_price) {
  StepTimetable step;
  step.cluster = *hostCluster(2);
  step.devices = 2;
  step.bodies = {{"body", {{.function = "matmul", .flops = 6}}}};
  StageTimetable &stage = step.stages.emplace_back();
  stage.groups = {{{0}, {}, galvatron::plan::GroupShape(2, 1)}};
  StepEntry reduce;
  reduce.kind = EntryKind::AllReduce;
  reduce.name = "reduce";
  reduce.bytes = 4;
  reduce.group = 0;
  stage.entries = {reduce, compute(EntryKind::Backward, 0, 0)};
  waitFor(stage, 0);
  auto secondsWith = [&](bool overlaps, double slowdown) {
    return simulateStep(step, RoundPrices(overlaps, slowdown))->stepSeconds;
  };
  EXPECT_DOUBLE_EQ(secondsWith(true, 1), 6);
  EXPECT_NEAR(secondsWith(true, 1.25), 6 + 0.25 * 4, 1e-12); // max + (s - 1) min
  EXPECT_DOUBLE_EQ(secondsWith(false, 1.25), 6 + 4);
}

TEST(StepSimulator, lets_stages_meet_for_a_collective) {
  StepTimetable step = twoStages();
  for (int stage : {0, 1}) {
    StepTimetable &whole = step;
    whole.stages[stage].groups = {{{}, {0, 1}, galvatron::plan::GroupShape(2, 1)}};
    StepEntry reduce;
    reduce.kind = EntryKind::AllReduce;
    reduce.name = "over stages";
    reduce.bytes = 10;
    reduce.group = 0;
    whole.stages[stage].entries.push_back(reduce);
  }
  SimulatedStep simulated = *simulateStep(step, RoundPrices(true));
  EXPECT_DOUBLE_EQ(simulated.stepSeconds, 16 + 10 + 7);
  EXPECT_DOUBLE_EQ(simulated.entries[1].back().start, 11); // and waits for the other stage
  EXPECT_DOUBLE_EQ(simulated.entries[1].back().seconds, 15);
}

TEST(StepSimulator, moves_a_value_while_its_receiver_waits_where_nothing_overlaps) {
  StepTimetable step = twoStages();
  // The second stage starts its receive early, and then computes until 9: the value moves from there on.
  StageTimetable &second = step.stages[1];
  second.entries = {message(EntryKind::Receive, 0, 1), compute(EntryKind::Forward, 2, 0),
                    compute(EntryKind::Backward, 3, 0)};
  waitFor(second, 0);
  second.entries.push_back(message(EntryKind::Send, 0, 1));
  waitFor(second, 4);
  EXPECT_DOUBLE_EQ(simulateStep(step, RoundPrices(false))->entries[1][3].seconds, 1);
  EXPECT_DOUBLE_EQ(simulateStep(step, RoundPrices(true))->entries[1][3].seconds, 0);
}

TEST(StepSimulator, tells_of_stages_that_wait_for_one_another) {
  StepTimetable step = twoStages();
  step.stages[1].entries.erase(step.stages[1].entries.begin()); // its receive
  step.stages[1].entries[2].endedBy = 3, step.stages[1].entries[3].ends = 2;
  Result<SimulatedStep> simulated = simulateStep(step, RoundPrices(true));
  ASSERT_FALSE(simulated);
  EXPECT_EQ(simulated.error().message, "expects a timetable that ends, but its stages wait for one another: stage 0 in "
                                       "'end of send stage 1', stage 1 in 'end of send stage 0'; lower the plan again");
}

/// Viewers drop what begins before the one before it ends, be it by a nanosecond.
TEST(StepSimulator, writes_spans_that_do_not_overlap_by_rounding) {
  StepTimetable step;
  step.cluster = *hostCluster(1);
  step.bodies.push_back({"third", {{.function = "matmul", .flops = 1e-6 / 3}}});
  step.stages.resize(1);
  for (int i = 0; i < 50; ++i)
    step.stages[0].entries.push_back(compute(EntryKind::Forward, 0, i));
  auto trace = nlohmann::json::parse(writeStepTrace(step, *simulateStep(step, RoundPrices(true))));
  auto nanos = [](const nlohmann::json &micros) { return std::llround(micros.get<double>() * 1000); };
  long long end = 0, spans = 0;
  for (const nlohmann::json &event : trace["traceEvents"])
    if (event["ph"] == "X" && event["tid"] == 1) {
      EXPECT_GE(nanos(event["ts"]), end) << event;
      end = nanos(event["ts"]) + nanos(event["dur"]);
      ++spans;
    }
  EXPECT_EQ(spans, 51); // and the update
}

TEST(StepSimulator, writes_groups_that_may_be_under_way_at_once_beside_each_other) {
  StepTimetable step = twoStages();
  for (int group : {0, 1, 0}) {
    StepEntry gather = compute(EntryKind::AllGather, -1, 0);
    gather.stream = "collectives", gather.category = "collective", gather.group = group, gather.bytes = 16;
    step.stages[0].entries.insert(step.stages[0].entries.begin(), gather);
  }
  step.stages[0].groups.resize(2);
  for (StepEntry &entry : step.stages[0].entries) // three entries further on
    entry.endedBy += entry.endedBy >= 0 ? 3 : 0, entry.ends += entry.ends >= 0 ? 3 : 0;
  auto trace = nlohmann::json::parse(writeStepTrace(step, *simulateStep(step, RoundPrices(false))));
  std::vector<std::int64_t> threads;
  std::map<std::int64_t, std::string> names;
  for (const nlohmann::json &event : trace["traceEvents"]) {
    if (event["pid"] == 0 && event["name"] == "thread_name")
      names[event["tid"]] = event["args"]["name"];
    if (event["pid"] == 0 && event["ph"] == "X" && event["cat"] == "collective")
      threads.push_back(event["tid"]);
  }
  std::int64_t other = 2 + (1 << 20);
  EXPECT_EQ(threads, (std::vector<std::int64_t>{2, other, 2, 2})); // the last: sums of all ranks
  EXPECT_EQ(names[2], "collectives");
  EXPECT_EQ(names[other], "collectives");
}

TEST(TimetableFile, is_read_as_it_was_written) {
  StepTimetable step = twoStages();
  noteSimulation(step, *simulateStep(step, RoundPrices(true)));
  std::string text = writeTimetable(step);
  Result<StepTimetable> read = parseTimetable(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(writeTimetable(*read), text);
  EXPECT_EQ(simulateStep(*read, RoundPrices(true))->stepSeconds, step.predictedStepSeconds);
}

TEST(TimetableFile, has_rows_where_there_is_much) {
  StepTimetable step = twoStages();
  step.stages[0].entries[0].name = "forward a 07";
  step.stages[0].entries[1].name = "forward a 12345678901";
  noteSimulation(step, *simulateStep(step, RoundPrices(true)));
  std::string text = writeTimetable(step, /*mostObjects=*/0);
  Result<StepTimetable> read = parseTimetable(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(writeTimetable(*read), writeTimetable(step));
  EXPECT_EQ(writeTimetable(*read, 0), text);
}

TEST(TimetableFile, names_what_is_no_row) {
  std::string good = writeTimetable(twoStages(), /*mostObjects=*/0);
  auto errorWith = [&](const std::string &from, const std::string &to) {
    std::string text = good;
    auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from << " in " << good;
    Result<StepTimetable> read = parseTimetable(text.replace(at, from.size(), to));
    return read ? "" : read.error().message;
  };
  for (
      auto [from, to, message] : std::initializer_list<std::array<const char *, 3>>{
          {"\"words\": [", "\"words\": [1,", "timetable key 'words' expects a list of texts, but got a list of 17"},
          {"\"shapes\": [", "\"shapes\": [1,", "timetable key 'shapes' expects lists of keys, but got a list of 4"},
          {"\"version\": 2", "\"version\": 1", "timetable stage 0 entry 0 expects an object, but got a list of 5"},
          {"[0,0,", "[0,99,", "timetable stage 0 entry 0 key 'kind' expects the number of one of 16 words, but got 99"},
          {"[0,0,", "[0,[0,-1],",
           "timetable stage 0 entry 0 key 'kind' expects the number of one of 16 words, but got a list of 2"},
          {"\"kind\",\"name\"", "\"name\",\"name\"", "timetable stage 0 entry 0 has a shape with the key 'name' twice"},
          {"[0,0,", "[99,0,",
           "timetable stage 0 entry 0 expects a row: the number of one of 3 shapes, then its values, but got a list of "
           "5"},
          {"[0,0,", "[0,0,0,",
           "timetable stage 0 entry 0 expects a row: the number of one of 3 shapes, then its values, but got a list of "
           "6"}})
    EXPECT_EQ(errorWith(from, to), message);
}

TEST(TimetableFile, names_what_is_wrong) {
  std::string good = writeTimetable(twoStages());
  auto errorWith = [&](std::string from, std::string to) {
    std::string text = good;
    auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    Result<StepTimetable> read = parseTimetable(text.replace(at, from.size(), to));
    return read ? "" : read.error().message;
  };
  for (auto [from, to, message] : std::initializer_list<std::array<const char *, 3>>{
           {"galvatron-timetable", "galvatron-plan",
            "timetable key 'format' expects 'galvatron-timetable', but got 'galvatron-plan'"},
           {"\"version\": 1", "\"version\": 3",
            "timetable key 'version' expects 1 or 2, but got 3; lower the plan again"},
           {"\"nodes\":1", "\"nodes\":0",
            "timetable key 'cluster': cluster key 'nodes' expects an integer of at least 1, but got 0"},
           {"\"kind\":\"forward\"", "\"kind\":\"sideways\"",
            "timetable stage 0 entry 0 key 'kind' expects one of forward, backward, total, zero, one, loss_scale, "
            "accumulate, all_reduce, reduce_scatter, all_gather, send, receive, wait, but got 'sideways'"},
           {"\"body\":\"body2\"", "\"body\":\"none\"",
            "timetable stage 0 entry 0 key 'body' expects the name of a body, but got 'none'"},
           {",\"body\":\"body2\"", "", "timetable stage 0 entry 0 lacks the key 'body'"},
           {"\"peer\":1", "\"peer\":2",
            "timetable stage 0 entry 'send stage 1' key 'peer' expects another stage, but got 2"},
           {"\"flops\":2.0", "\"flops\":-2.0",
            "timetable body 0 call 0 key 'flops' expects a number from 0 to 1e+30, but got -2.0"},
           {"\"flops\":2.0", "\"flops\":2e30",
            "timetable body 0 call 0 key 'flops' expects a number from 0 to 1e+30, but got 2e+30"},
           {"\"body\":\"body2\"", "\"body\":\"body2\",\"start\":0,\"seconds\":1e300",
            "timetable stage 0 entry 0 key 'seconds' expects a number from 0 to 1000000000.0, but got 1e+300"},
           {"\"body\":\"body2\"", "\"body\":\"body2\",\"start\":1,\"seconds\":2",
            "timetable stage 0 entry 0 keys 'start' and 'seconds' expect an end within the step's "
            "predicted_step_seconds, -1.0, but got 3.0"},
           {"\"buffers\": []", "\"buffers\": [{\"name\": \"x\", \"unit\": \"y\", \"kind\": \"activation\"}]",
            "timetable stage 0 buffer 0 key 'unit' expects a module of the timetable's units, or a state's parameter, "
            "but got 'y'"},
           {"\"entries\": [", "\"entries\": 1, \"more\": [",
            "timetable stage 0 key 'entries' expects a list, but got 1"},
           {"{\"stage\": 1,", "{\"stage\": 3,", "timetable stage 1 key 'stage' expects 1, as stages stand in order"},
           {"\"units\": []", "\"units\": 1", "timetable key 'units' expects a list, but got 1"},
           {"\"groups\": []", "\"groups\": [{\"loops\": [[2]]}]",
            "timetable stage 0 group 0 key 'loops' expects a list of pairs [ranks, stride], but got a list of 1"},
           {"\"name\":\"forward micro-batch 0\"", "\"name\":\"forward micro-batch 0\",\"buffers\":[0]",
            "timetable stage 0 entry 0 key 'buffers' expects a list of integers from 0 to -1, but got a list of 1"},
           {"\"flops\":2.0", "\"collective\":\"all_reduce\",\"group\":0",
            "timetable body 'body2' expects the number of a group of timetable stage 0, but got 0"}})
    EXPECT_EQ(errorWith(from, to), message);
  EXPECT_EQ(parseTimetable(good.substr(0, good.find("\"stages\"")) + "\"stages\": []}").error().message,
            "timetable key 'stages' expects at least one stage");
  EXPECT_NE(errorWith("\"arena_bytes\"", "\"arena\"").find("lacks the key 'arena_bytes'"), std::string::npos);
}

TEST(TimetableFile, is_damaged_and_no_reader_falls_over_it) {
  std::string good = writeTimetable(twoStages());
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text = good;
    for (int change = 0; change <= round % 3; ++change) {
      size_t at = random() % text.size();
      switch (random() % 3) {
      case 0:
        text[at] = char('0' + random() % 10);
        break;
      case 1:
        text.erase(at, random() % 8);
        break;
      case 2:
        text.resize(at);
      }
      if (text.empty())
        break;
    }
    if (Result<StepTimetable> read = parseTimetable(text))
      (void)simulateStep(*read, ClusterPrices(read->cluster));
  }
}

} // namespace
