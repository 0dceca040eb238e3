//===- StepTrace.cpp - A simulated step in the form of measured traces ----===//
//
// runtime/core/Trace.cpp writes the measured ones; docs/timetable.md says what both hold.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Check/StepSimulator.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

namespace galvatron::search {

using OrderedJson = nlohmann::ordered_json;

namespace {

/// Of more events than that, only the first rank of each stage is written.
constexpr std::int64_t kMostEvents = 500000;
/// Of the streams that a rank has whatever it exchanges; those to and from stages follow.
constexpr const char *kStreams[] = {"compute", "collectives", "gradients"};
/// Thread 0 is none: Perfetto takes it for the one with the process' number.
constexpr int kFirstThread = 1, kOfLane = 1 << 20;
/// What an arrow is told from others by: up to so many between two ranks in a step.
constexpr std::int64_t kMostMessages = 1 << 20;

std::string quoted(const std::string &text) {
  return OrderedJson(text).dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

std::int64_t nanosOf(double seconds) { return std::llround(seconds * 1e9); }

/// Microseconds.
std::string micros(std::int64_t nanos) {
  char text[32];
  std::snprintf(text, sizeof text, "%lld.%03d", (long long)(nanos / 1000), int(nanos % 1000));
  return text;
}

class TraceWriter {
public:
  TraceWriter(const StepTimetable &step, const SimulatedStep &simulated) : step(step), simulated(simulated) {}
  std::string run();

private:
  void writeRank(int stage, std::int64_t device);
  void writeNames(int stage, std::int64_t rank);
  void writeSpan(int stage, std::int64_t rank, const StepEntry &entry, int thread, std::int64_t number, StepSpan span);
  std::int64_t endOf(const StepEntry &entry, StepSpan span) const;
  void writeArrow(const char *phase, std::int64_t rank, const StepEntry &entry, std::int64_t from, std::int64_t to,
                  std::int64_t number, std::int64_t at);
  int threadOf(const std::string &stream, int lane = 0) const;
  /// [entry] of a stage.
  std::vector<int> threadsOf(int stage) const;
  void add(const std::string &event) { text += (isFirst ? "\n" : ",\n") + event, isFirst = false; }

  const StepTimetable &step;
  const SimulatedStep &simulated;
  std::string text;
  bool isFirst = true;
};

} // namespace

/// Of a stream's groups, which may be under way at once, each has a lane, in the order in which they come.
int TraceWriter::threadOf(const std::string &stream, int lane) const {
  for (std::size_t i = 0; i < std::size(kStreams); ++i)
    if (stream == kStreams[i])
      return int(i) + kFirstThread + lane * kOfLane;
  int stage = std::atoi(stream.substr(stream.rfind(' ') + 1).c_str());
  return kFirstThread + int(std::size(kStreams)) + 2 * stage + (stream.starts_with("from") ? 1 : 0);
}

std::vector<int> TraceWriter::threadsOf(int stage) const {
  std::vector<int> threads;
  std::map<std::string, std::map<int, int>> lanes; // by stream and group
  for (const StepEntry &entry : step.stages[stage].entries) {
    std::map<int, int> &known = lanes[entry.stream];
    threads.push_back(threadOf(entry.stream, known.try_emplace(entry.group, int(known.size())).first->second));
  }
  return threads;
}

void TraceWriter::writeNames(int stage, std::int64_t rank) {
  std::string pid = std::to_string(rank);
  add("{\"ph\":\"M\",\"pid\":" + pid + ",\"name\":\"process_name\",\"args\":{\"name\":\"rank " + pid + ", stage " +
      std::to_string(stage) + "\"}}");
  std::map<int, std::string> threads = {{threadOf(kStreams[0]), kStreams[0]}, {threadOf(kStreams[1]), kStreams[1]}};
  std::vector<int> ofEntries = threadsOf(stage);
  for (std::size_t number = 0; number < ofEntries.size(); ++number)
    threads[ofEntries[number]] = step.stages[stage].entries[number].stream;
  for (const auto &[thread, name] : threads)
    add("{\"ph\":\"M\",\"pid\":" + pid + ",\"tid\":" + std::to_string(thread) +
        ",\"name\":\"thread_name\",\"args\":{\"name\":" + quoted(name) + "}}");
}

/// Rounded as the next entry's start is, so that none begins before the one before it ends: viewers drop such. What
/// has an arrow is no moment.
std::int64_t TraceWriter::endOf(const StepEntry &entry, StepSpan span) const {
  bool hasArrow = entry.kind == EntryKind::Send || entry.kind == EntryKind::Receive;
  return std::max(nanosOf(span.start + span.seconds), nanosOf(span.start) + hasArrow);
}

void TraceWriter::writeSpan(int stage, std::int64_t rank, const StepEntry &entry, int thread, std::int64_t number,
                            StepSpan span) {
  std::int64_t begin = nanosOf(span.start), length = endOf(entry, span) - begin;
  add("{\"ph\":\"X\",\"pid\":" + std::to_string(rank) + ",\"tid\":" + std::to_string(thread) +
      ",\"name\":" + quoted(entry.name) + ",\"cat\":\"" + entry.category + "\",\"ts\":" + micros(begin) +
      ",\"dur\":" + micros(length) + ",\"args\":{\"entry\":" + std::to_string(number) +
      ",\"stage\":" + std::to_string(stage) + ",\"unit\":" + quoted(entry.unit) + ",\"micro_batch\":" +
      std::to_string(entry.microBatch) + ",\"step\":1,\"bytes\":" + std::to_string(entry.bytes) + "}}");
}

void TraceWriter::writeArrow(const char *phase, std::int64_t rank, const StepEntry &entry, std::int64_t from,
                             std::int64_t to, std::int64_t number, std::int64_t at) {
  std::int64_t id = (from * step.ranks() + to) * kMostMessages + number;
  add("{\"ph\":\"" + std::string(phase) + "\",\"pid\":" + std::to_string(rank) +
      ",\"tid\":" + std::to_string(threadOf(entry.stream)) + ",\"name\":\"message\",\"cat\":\"message\",\"id\":" +
      std::to_string(id) + (*phase == 'f' ? ",\"bp\":\"e\"" : "") + ",\"ts\":" + micros(at) + "}");
}

void TraceWriter::writeRank(int stage, std::int64_t device) {
  const std::vector<StepEntry> &entries = step.stages[stage].entries;
  std::int64_t rank = stage * step.devices + device;
  writeNames(stage, rank);
  std::vector<int> threads = threadsOf(stage);
  std::map<int, std::int64_t> sent, received; // by peer
  for (std::size_t number = 0; number < entries.size(); ++number) {
    const StepEntry &entry = entries[number];
    StepSpan span = simulated.entries[stage][number];
    writeSpan(stage, rank, entry, threads[number], std::int64_t(number), span);
    std::int64_t peer = entry.peer * step.devices + device;
    if (entry.kind == EntryKind::Send)
      writeArrow("s", rank, entry, rank, peer, sent[entry.peer]++, nanosOf(span.start));
    else if (entry.kind == EntryKind::Receive) // inside of the span
      writeArrow("f", rank, entry, peer, rank, received[entry.peer]++, endOf(entry, span) - 1);
  }
  StepEntry sums, update;
  sums.name = "loss and gradient norm";
  sums.stream = "collectives";
  sums.category = "collective";
  update.name = update.category = "update";
  writeSpan(stage, rank, sums, threadOf(sums.stream), -1, simulated.sums[stage]);
  writeSpan(stage, rank, update, threadOf(update.stream), -1, simulated.updates[stage]);
}

std::string TraceWriter::run() {
  std::int64_t events = 0;
  for (const StageTimetable &stage : step.stages)
    events += std::int64_t(stage.entries.size()) * step.devices;
  bool isShort = events > kMostEvents;
  OrderedJson head = {{"kind", "predicted"},
                      {"plan", step.plan},
                      {"clock_error_us", 0},
                      {"step_seconds", simulated.stepSeconds},
                      {"model", step.model},
                      {"ranks", step.ranks()},
                      {"devices_per_stage", step.devices},
                      {"all_ranks", !isShort}};
  head["layer_types"] = OrderedJson::object();
  for (const StepUnit &unit : step.units)
    head["layer_types"][unit.path] = unit.layerType;
  text = "{\"displayTimeUnit\": \"ms\",\n\"galvatron\": " + head.dump() + ",\n\"traceEvents\": [";
  for (std::size_t stage = 0; stage < step.stages.size(); ++stage)
    for (std::int64_t device = 0; device < (isShort ? 1 : step.devices); ++device)
      writeRank(int(stage), device);
  return std::move(text) + "\n]}\n";
}

std::string writeStepTrace(const StepTimetable &step, const SimulatedStep &simulated) {
  return TraceWriter(step, simulated).run();
}

} // namespace galvatron::search
