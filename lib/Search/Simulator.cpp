//===- Simulator.cpp - A step on all devices, event by event --------------===//

#include "galvatron/Search/Simulator.h"

#include "PlanPrice.h"
#include "galvatron/Search/Timetable.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <queue>

namespace galvatron::search {

namespace {
/// A value arrives at a device, or a device finishes an entry.
struct Event {
  double at;
  std::int32_t device;
  std::int32_t entry; ///< of the device's timetable: the one it feeds or ends
  bool arrival;
  bool operator>(const Event &other) const { return at > other.at; }
};

struct Device {
  std::int32_t next = 0; ///< entry to start
  bool busy = false;
  double clock = 0; ///< end of the last entry
  double linkFree[2] = {0, 0};
};

class Machine {
public:
  Machine(const Plan &plan, const PlanPrice &price) : plan(plan), price(price) {
    stageRanks = int(plan.ranksPerStage());
    devices.resize(plan.ranks);
    for (int stage = 0; stage < plan.pipeline; ++stage) {
      timetables.push_back(stageTimetable(plan.schedule, plan.pipeline, stage, plan.microBatches));
      std::vector<int> forward(plan.microBatches), backward(plan.microBatches);
      for (int i = 0; i < int(timetables[stage].size()); ++i)
        (timetables[stage][i].backward ? backward : forward)[timetables[stage][i].microBatch] = i;
      position[0].push_back(std::move(forward));
      position[1].push_back(std::move(backward));
    }
    arrived.resize(std::size_t(plan.ranks) * 2 * plan.microBatches, false);
  }

  void run(Simulation &out) {
    for (int device = 0; device < int(devices.size()); ++device)
      tryStart(device, 0, out);
    while (!queue.empty()) {
      Event event = queue.top();
      queue.pop();
      ++out.events;
      Device &device = devices[event.device];
      if (event.arrival) {
        arrived[slot(event.device, event.entry)] = true;
      } else {
        device.busy = false;
        device.clock = event.at;
        finish(event, out);
      }
      tryStart(event.device, event.at, out);
    }
  }

  /// Gradient sums per stage, then the update, which waits for all.
  void finishStep(Simulation &out) {
    double end = 0, busy = 0;
    for (int stage = 0; stage < plan.pipeline; ++stage) {
      double last = 0;
      for (int local = 0; local < stageRanks; ++local)
        last = std::max(last, devices[stage * stageRanks + local].clock);
      end = std::max(end, last);
      const StageTimes &times = price.times[stage];
      busy += (times.forward + times.backward) * plan.microBatches + times.tail;
    }
    double tail = 0;
    for (int stage = 0; stage < plan.pipeline; ++stage) {
      tail = std::max(tail, price.times[stage].tail);
      out.spans.push_back({stage, 0, end, price.times[stage].tail, false, true, 0});
    }
    out.stepSeconds = end + tail;
    out.bubble = out.stepSeconds > 0 ? 1 - busy / (out.stepSeconds * plan.pipeline) : 0;
  }

private:
  std::size_t slot(int device, int entry) const { return std::size_t(device) * 2 * plan.microBatches + entry; }
  int stageOf(int device) const { return device / stageRanks; }

  void tryStart(int number, double now, Simulation &out) {
    Device &device = devices[number];
    int stage = stageOf(number);
    const std::vector<TimetableEntry> &entries = timetables[stage];
    if (device.busy || device.next >= int(entries.size()))
      return;
    const TimetableEntry &entry = entries[device.next];
    int from = entry.backward ? stage + 1 : stage - 1;
    bool waits = from >= 0 && from < plan.pipeline;
    if (waits && !arrived[slot(number, device.next)])
      return;
    const StageTimes &times = price.times[stage];
    double start = std::max(now, device.clock);
    double seconds = entry.backward ? times.backward : times.forward;
    device.busy = true;
    queue.push({start + seconds, number, device.next, false});
    if (number % stageRanks == 0)
      out.spans.push_back({stage, 0, start, seconds, entry.backward, false, entry.microBatch});
    ++device.next;
  }

  /// Sends the result of an entry on.
  void finish(const Event &event, Simulation &out) {
    int stage = stageOf(event.device);
    const TimetableEntry &entry = timetables[stage][event.entry];
    int to = entry.backward ? stage - 1 : stage + 1;
    if (to < 0 || to >= plan.pipeline)
      return;
    double seconds = price.times[std::min(stage, to)].transfer;
    double &free = devices[event.device].linkFree[entry.backward];
    double start = std::max(event.at, free);
    free = start + seconds;
    int peer = event.device + (to - stage) * stageRanks;
    int target = position[entry.backward][to][entry.microBatch];
    queue.push({free, peer, target, true});
    if (event.device % stageRanks == 0)
      out.spans.push_back({stage, 1, start, seconds, entry.backward, false, entry.microBatch});
  }

  const Plan &plan;
  const PlanPrice &price;
  int stageRanks = 1;
  std::vector<Device> devices;
  std::vector<std::vector<TimetableEntry>> timetables;
  std::vector<std::vector<int>> position[2]; ///< [backward][stage][micro-batch]
  std::vector<bool> arrived;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue;
};

/// Memory of the first device of each stage along its spans.
void followMemory(Simulation &out, const Plan &plan, const PlanPrice &price) {
  std::vector<std::int64_t> perMicroBatch(plan.pipeline, 0), now(plan.pipeline, 0);
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    const StageMemory &memory = price.memory[stage];
    int kept = inFlight(plan.schedule, plan.pipeline, stage, plan.microBatches);
    perMicroBatch[stage] = memory.activationBytes / std::max(1, kept);
    now[stage] = memory.stateBytes + memory.reservedBytes;
    out.peakBytesPerStage.push_back(now[stage]);
    out.memory.push_back({stage, 0, now[stage]});
  }
  for (const Span &span : out.spans) {
    if (span.stream || span.update)
      continue;
    std::int64_t scratch = price.memory[span.stage].scratchBytes;
    std::int64_t &bytes = now[span.stage];
    if (!span.backward)
      bytes += perMicroBatch[span.stage];
    out.peakBytesPerStage[span.stage] = std::max(out.peakBytesPerStage[span.stage], bytes + scratch);
    out.memory.push_back({span.stage, span.start, bytes + scratch});
    if (span.backward)
      bytes -= perMicroBatch[span.stage];
    out.memory.push_back({span.stage, span.start + span.seconds, bytes});
  }
}
} // namespace

Result<Simulation> simulate(const Problem &problem, const Plan &plan) {
  auto begin = std::chrono::steady_clock::now();
  if (plan.schedule != Schedule::GPipe && plan.schedule != Schedule::OneFOneB)
    return Error{"no timetable for the schedule '" + std::string(scheduleName(plan.schedule)) +
                 "' yet; use gpipe or 1f1b"};
  if (Result<bool> valid = validatePlan(plan); !valid)
    return valid.error();
  if (plan.units.size() != problem.units.size() || plan.ranks != problem.ranks())
    return Error{"expects a plan of the problem's units and ranks"};
  Setting setting = Setting::bare(problem, plan.pipeline, plan.microBatches);
  std::map<std::tuple<int, Strategy, int>, std::unique_ptr<Option>> priced;
  std::vector<const Option *> chosen;
  std::vector<int> stageOf;
  for (std::size_t unit = 0; unit < plan.units.size(); ++unit) {
    const PlannedUnit &planned = plan.units[unit];
    auto &option = priced[{setting.typeOf[unit], planned.strategy, planned.dp}];
    if (!option) {
      Result<Option> cost = setting.price(int(unit), planned.strategy, planned.dp);
      if (!cost)
        return cost.error();
      option = std::make_unique<Option>(std::move(*cost));
    }
    chosen.push_back(option.get());
    stageOf.push_back(planned.stage);
  }
  PlanPrice price = pricePlan(setting, plan.schedule, chosen, stageOf);
  Simulation out;
  out.devices = plan.ranks;
  Machine machine(plan, price);
  machine.run(out);
  followMemory(out, plan, price);
  machine.finishStep(out);
  out.wallSeconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return out;
}

std::string writeTrace(const Simulation &simulation, const Plan &plan) {
  std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  char line[256];
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    std::snprintf(line, sizeof line,
                  "{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"stage "
                  "%d, rank %lld\"}},\n",
                  stage, stage, (long long)(stage * plan.ranksPerStage()));
    text += line;
    for (int stream = 0; stream < 2; ++stream) {
      std::snprintf(line, sizeof line,
                    "{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{"
                    "\"name\":\"%s\"}},\n",
                    stage, stream, stream ? "send" : "compute");
      text += line;
    }
  }
  for (const Span &span : simulation.spans) {
    const char *name = span.update ? "gradient sums and update" : span.backward ? "backward" : "forward";
    std::snprintf(line, sizeof line,
                  "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s %d\",\"cat\":\"%s\",\"ts\":"
                  "%.3f,\"dur\":%.3f},\n",
                  span.stage, span.stream, name, span.microBatch, span.stream ? "send" : "compute", span.start * 1e6,
                  span.seconds * 1e6);
    text += line;
  }
  for (const Simulation::MemoryPoint &point : simulation.memory) {
    std::snprintf(line, sizeof line,
                  "{\"ph\":\"C\",\"pid\":%d,\"name\":\"MiB\",\"ts\":%.3f,\"args\":{\"MiB\":%.1f}},"
                  "\n",
                  point.stage, point.at * 1e6, double(point.bytes) / (1 << 20));
    text += line;
  }
  // The format has no trailing comma.
  if (text.ends_with(",\n"))
    text.erase(text.size() - 2, 1);
  return text + "]}\n";
}

} // namespace galvatron::search
