//===- Simulator.cpp - A step on all devices, event by event --------------===//

#include "galvatron/Search/Check/Simulator.h"

#include "galvatron/Search/Model/Timetable.h"
#include "lib/Search/Solver/PlanPrice.h"

#include <algorithm>
#include <cmath>
#include <chrono>
#include <cstdio>
#include <queue>

namespace galvatron::search {

namespace {
/// A device finishes an entry, or a value arrives at one.
struct Event {
  double at;
  std::int32_t device;
  std::int32_t entry; ///< of the device's timetable: the one it ends or feeds
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
  Machine(const Plan &plan, const Timetable &timetable, const PlanPrice &price)
      : timetable(timetable), price(price), stages(plan.pipeline), stageRanks(int(plan.ranksPerStage())),
        devices(plan.ranks), arrived(plan.ranks) {
    const PipelineShape &shape = timetable.shape();
    for (auto &list : entryOf)
      list.assign(shape.parts(), std::vector<std::int32_t>(shape.microBatches, -1));
    for (int stage = 0; stage < stages; ++stage) {
      const std::vector<Instruction> &entries = timetable.entries(stage);
      for (std::size_t i = 0; i < entries.size(); ++i)
        if (entries[i].phase != Computation::Weight)
          entryOf[entries[i].phase == Computation::Backward][part(stage, entries[i])][entries[i].microBatch] =
              std::int32_t(i);
      for (int local = 0; local < stageRanks; ++local)
        arrived[stage * stageRanks + local].assign(entries.size(), false);
    }
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
        arrived[event.device][event.entry] = true;
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
    double end = 0, busy = out.busySeconds, tail = 0;
    for (const Device &device : devices)
      end = std::max(end, device.clock);
    for (int stage = 0; stage < stages; ++stage) {
      tail = std::max(tail, price.tailSeconds[stage]);
      busy += price.tailSeconds[stage];
      out.spans.push_back({stage, 0, end, price.tailSeconds[stage], Computation::Backward, true, 0, 0});
    }
    out.stepSeconds = end + tail;
    out.bubble = out.stepSeconds > 0 ? 1 - busy / (out.stepSeconds * stages) : 0;
  }

private:
  int stageOf(int device) const { return device / stageRanks; }
  int part(int stage, const Instruction &entry) const { return timetable.shape().partOf(stage, entry.chunk); }

  double secondsOf(const PartTimes &times, Computation phase) const {
    bool split = splitsBackward(timetable.shape().schedule);
    switch (phase) {
    case Computation::Forward:
      return times.forward;
    case Computation::Backward:
      return times.backward - (split ? times.weight : 0);
    case Computation::Weight:
      return times.weight;
    }
    return 0;
  }

  void tryStart(int number, double now, Simulation &out) {
    Device &device = devices[number];
    int stage = stageOf(number);
    const std::vector<Instruction> &entries = timetable.entries(stage);
    if (device.busy || device.next >= int(entries.size()))
      return;
    const Instruction &entry = entries[device.next];
    int here = part(stage, entry);
    bool first = entry.phase == Computation::Forward ? here == 0 : here + 1 == timetable.shape().parts();
    if (entry.phase != Computation::Weight && !first && !arrived[number][device.next])
      return;
    double start = std::max(now, device.clock), seconds = secondsOf(price.times[here], entry.phase);
    device.busy = true;
    queue.push({start + seconds, number, device.next, false});
    if (number % stageRanks == 0) {
      out.busySeconds += seconds;
      out.spans.push_back({stage, 0, start, seconds, entry.phase, false, entry.chunk, entry.microBatch});
    }
    ++device.next;
  }

  /// Sends the result of an entry on.
  void finish(const Event &event, Simulation &out) {
    int stage = stageOf(event.device);
    const Instruction &entry = timetable.entries(stage)[event.entry];
    bool backward = entry.phase == Computation::Backward;
    int here = part(stage, entry), to = here + (backward ? -1 : 1);
    if (entry.phase == Computation::Weight || to < 0 || to >= timetable.shape().parts())
      return;
    int toStage = timetable.shape().stageOf(to), peer = toStage * stageRanks + event.device % stageRanks;
    if (toStage == stage) {
      queue.push({event.at, peer, entryOf[backward][to][entry.microBatch], true});
      return;
    }
    double seconds = price.times[std::min(here, to)].transfer;
    // To the next stage, or to the one before; round a ring by what it carries.
    bool isUp = timetable.shape().schedule == Schedule::ZeroBubbleV ? toStage < stage : backward;
    double &free = devices[event.device].linkFree[isUp];
    double start = std::max(event.at, free);
    free = start + seconds;
    queue.push({free, peer, entryOf[backward][to][entry.microBatch], true});
    if (event.device % stageRanks == 0)
      out.spans.push_back({stage, 1, start, seconds, entry.phase, false, entry.chunk, entry.microBatch});
  }

  const Timetable &timetable;
  const PlanPrice &price;
  int stages, stageRanks;
  std::vector<Device> devices;
  std::vector<std::vector<bool>> arrived;            ///< [device][entry]
  std::vector<std::vector<std::int32_t>> entryOf[2]; ///< [backward][part][micro-batch]
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue;
};

/// Memory of the first device of each stage along its spans.
void followMemory(Simulation &out, const Choice &choice, const Timetable &timetable, const PlanPrice &price) {
  const PipelineShape &shape = timetable.shape();
  std::vector<std::int64_t> saved(shape.parts(), 0), now;
  for (std::size_t layer = 0; layer < choice.options.size(); ++layer)
    saved[choice.partOf[layer]] += choice.options[layer]->saved;
  for (int stage = 0; stage < shape.stages; ++stage) {
    now.push_back(price.memory[stage].stateBytes + price.memory[stage].overheadBytes);
    out.peakBytesPerStage.push_back(now[stage]);
    out.memory.push_back({stage, 0, now[stage]});
  }
  Computation last = splitsBackward(shape.schedule) ? Computation::Weight : Computation::Backward;
  for (const Span &span : out.spans) {
    if (span.stream || span.update)
      continue;
    std::int64_t scratch = price.memory[span.stage].scratchBytes, part = shape.partOf(span.stage, span.chunk);
    std::int64_t &bytes = now[span.stage];
    if (span.phase == Computation::Forward)
      bytes += saved[part];
    out.peakBytesPerStage[span.stage] = std::max(out.peakBytesPerStage[span.stage], bytes + scratch);
    out.memory.push_back({span.stage, span.start, bytes + scratch});
    if (span.phase == last)
      bytes -= saved[part];
    out.memory.push_back({span.stage, span.start + span.seconds, bytes});
  }
}
} // namespace

Result<Simulation> simulate(const Problem &problem, const Plan &plan) {
  auto begin = std::chrono::steady_clock::now();
  Result<GivenPlan> given = readGivenPlan(problem, plan, false);
  if (!given)
    return given.error();
  PlanPrice price = pricePlan(given->setting, given->timetable, given->choice);
  Simulation out;
  out.devices = plan.ranks;
  Machine machine(plan, given->timetable, price);
  machine.run(out);
  followMemory(out, given->choice, given->timetable, price);
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
                    stage, stream + 1, stream ? "send" : "compute"); // 0 is none: Perfetto takes it for the process'
      text += line;
    }
  }
  for (const Span &span : simulation.spans) {
    static const char *const kNames[] = {"forward", "backward", "weight gradients"};
    // In nanoseconds, so that none begins before the one before it ends: viewers drop such.
    double begin = std::round(span.start * 1e9), end = std::round((span.start + span.seconds) * 1e9);
    const char *name = span.update ? "gradient sums and update" : kNames[int(span.phase)];
    std::snprintf(line, sizeof line,
                  "{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"name\":\"%s %d\",\"cat\":\"%s\",\"ts\":"
                  "%.3f,\"dur\":%.3f},\n",
                  span.stage, span.stream + 1, name, span.microBatch, span.stream ? "send" : "compute", begin * 1e-3,
                  (end - begin) * 1e-3);
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
