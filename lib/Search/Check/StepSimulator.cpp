//===- StepSimulator.cpp - A lowered step, entry by entry -----------------===//

#include "galvatron/Search/Check/StepSimulator.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <map>
#include <set>

namespace galvatron::search {

namespace {

constexpr double kNotYet = -1;

/// Work that goes on: what is left of it, in seconds alone.
struct Work {
  double left = kNotYet; ///< kNotYet: it has not begun
  bool isActive() const { return left != kNotYet; }
};

/// Entries of one stage that wait for a stream, the first of which is under way.
struct Queue {
  std::deque<int> entries;
  Work head;
};

/// Values from one stage to another, in the order in which both sides have them.
struct Channel {
  int from = 0, to = 0;
  std::deque<int> sends, receives; ///< entries that the sides have come to
  Work head;
};

/// A collective of several stages, the k-th of these that they do together.
struct Meeting {
  std::map<int, int> entryOf; ///< by stage that has come
  Work work;
};

struct Stage {
  std::size_t next = 0;                     ///< the entry to come to
  Work compute;                             ///< of the entry before, if it computes
  int blockedBy = -1;                       ///< an entry that must be done first; -1: none
  std::map<int, Queue> queues;              ///< by group
  std::map<std::vector<int>, int> meetings; ///< so far, by stages
};

class StepMachine {
public:
  StepMachine(const StepTimetable &step, const StepPrices &prices)
      : step(step), prices(prices), stages(step.stages.size()) {
    for (const StageTimetable &stage : step.stages) {
      out.entries.emplace_back(stage.entries.size());
      isDone.emplace_back(stage.entries.size(), false);
    }
  }

  Result<SimulatedStep> run();

private:
  void proceed(int stage);
  void begin(int stage, int entry);
  double secondsOf(int stage, const StepEntry &entry) const;
  double secondsOfAdding(const StepEntry &entry) const;
  void enqueue(int stage, int entry);
  void meet(int stage, int entry);
  void post(int stage, int entry, bool isSend);
  void startReady();
  bool isCommunicating(int stage) const;
  double nextEvent() const;
  void pass(double seconds);
  void finish(int stage, int entry);
  void finishStep();
  Error describeDeadlock() const;

  const StepEntry &entryOf(int stage, int entry) const { return step.stages[stage].entries[entry]; }
  bool isComputing(int stage) const { return stages[stage].compute.isActive(); }
  /// Of compute, and of what its device communicates beside it.
  double rateBeside(bool isBeside) const { return isBeside ? 1 / prices.slowdown() : 1; }
  template <typename Visit> void forEachWork(Visit visit);

  const StepTimetable &step;
  const StepPrices &prices;
  double now = 0;
  std::vector<Stage> stages;
  std::map<std::pair<int, int>, Channel> channels;
  std::map<std::pair<std::vector<int>, int>, Meeting> meetings;
  std::vector<std::vector<bool>> isDone;
  SimulatedStep out;
};

/// What an entry reads besides where it adds to gradients. A table's rows are added to in place, and the others left.
double StepMachine::secondsOfAdding(const StepEntry &entry) const {
  const std::vector<BodyCall> &calls = step.bodies[entry.body].calls;
  bool isOfTable =
      std::any_of(calls.begin(), calls.end(), [](const BodyCall &c) { return c.function == "embedding_backward"; });
  return entry.addedBytes && !isOfTable ? prices.touchSeconds(double(entry.addedBytes)) : 0;
}

/// Entries that compute, in seconds alone.
double StepMachine::secondsOf(int stage, const StepEntry &entry) const {
  switch (entry.kind) {
  case EntryKind::Forward:
  case EntryKind::Backward:
  case EntryKind::Total:
    return prices.bodySeconds(step, stage, step.bodies[entry.body]) + secondsOfAdding(entry);
  case EntryKind::Accumulate: // two operands, one result
    return prices.touchSeconds(3 * double(entry.bytes));
  default:
    return prices.touchSeconds(double(entry.bytes));
  }
}

/// Behind what the group's stream does. Whoever cannot overlap waits for it at once.
void StepMachine::enqueue(int stage, int entry) {
  const StepEntry &collective = entryOf(stage, entry);
  stages[stage].queues[collective.group].entries.push_back(entry);
  if (collective.endedBy < 0 || !prices.overlaps())
    stages[stage].blockedBy = entry;
}

void StepMachine::meet(int stage, int entry) {
  const std::vector<int> &all = step.stages[stage].groups[entryOf(stage, entry).group].stages;
  int number = stages[stage].meetings[all]++;
  meetings[{all, number}].entryOf[stage] = entry;
  if (entryOf(stage, entry).endedBy < 0 || !prices.overlaps())
    stages[stage].blockedBy = entry;
}

void StepMachine::post(int stage, int entry, bool isSend) {
  int peer = entryOf(stage, entry).peer, from = isSend ? stage : peer, to = isSend ? peer : stage;
  Channel &channel = channels[{from, to}];
  channel.from = from, channel.to = to;
  (isSend ? channel.sends : channel.receives).push_back(entry);
  if (entryOf(stage, entry).endedBy < 0)
    stages[stage].blockedBy = entry;
}

void StepMachine::begin(int stage, int entry) {
  const StepEntry &what = entryOf(stage, entry);
  out.entries[stage][entry].start = now;
  if (what.kind == EntryKind::Wait) {
    if (!isDone[stage][what.ends])
      stages[stage].blockedBy = what.ends;
  } else if (isCollective(what.kind)) {
    step.stages[stage].groups[what.group].stages.size() > 1 ? meet(stage, entry) : enqueue(stage, entry);
  } else if (what.kind == EntryKind::Send || what.kind == EntryKind::Receive) {
    post(stage, entry, what.kind == EntryKind::Send);
  } else {
    stages[stage].compute.left = secondsOf(stage, what);
  }
}

/// Comes to entries until one of them takes time.
void StepMachine::proceed(int stage) {
  Stage &own = stages[stage];
  while (!own.compute.isActive()) {
    if (own.blockedBy >= 0 && !isDone[stage][own.blockedBy])
      return;
    if (own.blockedBy >= 0 && own.next > 0 && entryOf(stage, int(own.next) - 1).kind == EntryKind::Wait) {
      StepSpan &wait = out.entries[stage][own.next - 1];
      wait.seconds = now - wait.start;
    }
    own.blockedBy = -1;
    if (own.next == step.stages[stage].entries.size())
      return;
    begin(stage, int(own.next++));
  }
}

/// What both sides, all stages or its stream are ready for.
void StepMachine::startReady() {
  for (std::size_t stage = 0; stage < stages.size(); ++stage)
    for (auto &[group, queue] : stages[stage].queues)
      if (!queue.entries.empty() && !queue.head.isActive()) {
        int entry = queue.entries.front();
        const StepEntry &collective = entryOf(int(stage), entry);
        queue.head.left = prices.collectiveSeconds(collectiveOf(collective.kind), double(collective.bytes),
                                                   step.stages[stage].groups[group].shape);
        out.entries[stage][entry].start = now;
      }
  for (auto &[sides, channel] : channels)
    if (!channel.sends.empty() && !channel.receives.empty() && !channel.head.isActive())
      channel.head.left = prices.sendSeconds(step, channel.from, channel.to,
                                             double(entryOf(channel.from, channel.sends.front()).bytes));
  for (auto &[key, meeting] : meetings)
    if (meeting.entryOf.size() == key.first.size() && !meeting.work.isActive()) {
      auto [stage, entry] = *meeting.entryOf.begin();
      const StepEntry &collective = entryOf(stage, entry);
      meeting.work.left = prices.collectiveSeconds(collectiveOf(collective.kind), double(collective.bytes),
                                                   step.stages[stage].groups[collective.group].shape);
    }
}

bool StepMachine::isCommunicating(int stage) const {
  for (const auto &[group, queue] : stages[stage].queues)
    if (queue.head.isActive())
      return true;
  for (const auto &[sides, channel] : channels)
    if (channel.head.isActive() && (channel.from == stage || channel.to == stage))
      return true;
  return false;
}

/// Calls visit(work, rate) for all that goes on.
template <typename Visit> void StepMachine::forEachWork(Visit visit) {
  for (int stage = 0; stage < int(stages.size()); ++stage) {
    if (isComputing(stage))
      visit(stages[stage].compute, prices.overlaps() ? rateBeside(isCommunicating(stage)) : 1);
    for (auto &[group, queue] : stages[stage].queues)
      if (queue.head.isActive())
        visit(queue.head, rateBeside(isComputing(stage)));
  }
  for (auto &[sides, channel] : channels) {
    if (!channel.head.isActive())
      continue;
    bool isBeside = isComputing(channel.from) || isComputing(channel.to);
    if (prices.overlaps())
      visit(channel.head, rateBeside(isBeside));
    else if (!isComputing(channel.to)) // the receiver moves it
      visit(channel.head, 1);
  }
  for (auto &[key, meeting] : meetings)
    if (meeting.work.isActive())
      visit(meeting.work, 1);
}

void StepMachine::finish(int stage, int entry) {
  isDone[stage][entry] = true;
  StepSpan &span = out.entries[stage][entry];
  span.seconds = now - span.start;
}

/// Lets time pass, and ends what is done then.
void StepMachine::pass(double seconds) {
  now += seconds;
  forEachWork([&](Work &work, double rate) {
    double left = work.left - seconds * rate;
    work.left = left <= 1e-12 * (seconds + work.left) ? 0 : left;
  });
  for (int stage = 0; stage < int(stages.size()); ++stage) {
    if (stages[stage].compute.left == 0) {
      stages[stage].compute.left = kNotYet;
      finish(stage, int(stages[stage].next) - 1);
    }
    for (auto &[group, queue] : stages[stage].queues)
      if (queue.head.left == 0) {
        queue.head.left = kNotYet;
        finish(stage, queue.entries.front());
        queue.entries.pop_front();
      }
  }
  for (auto &[sides, channel] : channels)
    if (channel.head.left == 0) {
      channel.head.left = kNotYet;
      finish(channel.from, channel.sends.front());
      finish(channel.to, channel.receives.front());
      channel.sends.pop_front();
      channel.receives.pop_front();
    }
  for (auto at = meetings.begin(); at != meetings.end();) {
    if (at->second.work.left != 0) {
      ++at;
      continue;
    }
    for (auto [stage, entry] : at->second.entryOf)
      finish(stage, entry);
    at = meetings.erase(at);
  }
}

/// A device that does not overlap only hands a value to its transport, which the receiver fetches.
static void shortenSends(const StepTimetable &step, SimulatedStep &out) {
  for (std::size_t stage = 0; stage < step.stages.size(); ++stage)
    for (std::size_t entry = 0; entry < step.stages[stage].entries.size(); ++entry)
      if (step.stages[stage].entries[entry].kind == EntryKind::Send && step.stages[stage].entries[entry].endedBy >= 0)
        out.entries[stage][entry].seconds = 0;
}

void StepMachine::finishStep() {
  double sums = prices.collectiveSeconds(CollectiveKind::AllGather, double(step.ranks() * sizeof(double)),
                                         plan::GroupShape(step.ranks(), 1));
  out.stepSeconds = now + sums;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    double end = 0;
    for (const StepSpan &span : out.entries[stage])
      end = std::max(end, span.start + span.seconds);
    out.sums.push_back({end, now + sums - end});
    double update = prices.updateSeconds(double(step.stages[stage].updateBytes));
    out.updates.push_back({now + sums, update});
    out.stepSeconds = std::max(out.stepSeconds, now + sums + update);
  }
  if (!prices.overlaps())
    shortenSends(step, out);
}

Error StepMachine::describeDeadlock() const {
  std::string places;
  for (std::size_t stage = 0; stage < stages.size(); ++stage)
    if (std::size_t next = stages[stage].next; stages[stage].blockedBy >= 0 && next > 0)
      places += (places.empty() ? "stage " : ", stage ") + std::to_string(stage) + " in '" +
                entryOf(int(stage), int(next) - 1).name + "'";
  return Error{"expects a timetable that ends, but its stages wait for one another: " + places +
               "; lower the plan again"};
}

Result<SimulatedStep> StepMachine::run() {
  while (true) {
    for (int stage = 0; stage < int(stages.size()); ++stage)
      proceed(stage);
    startReady();
    double soonest = std::numeric_limits<double>::infinity();
    forEachWork([&](Work &work, double rate) { soonest = std::min(soonest, work.left / rate); });
    if (soonest == std::numeric_limits<double>::infinity())
      break;
    pass(soonest);
  }
  for (std::size_t stage = 0; stage < stages.size(); ++stage)
    if (stages[stage].blockedBy >= 0 || stages[stage].next < step.stages[stage].entries.size())
      return describeDeadlock();
  finishStep();
  return std::move(out);
}

} // namespace

Result<SimulatedStep> simulateStep(const StepTimetable &step, const StepPrices &prices) {
  return StepMachine(step, prices).run();
}

void noteSimulation(StepTimetable &step, const SimulatedStep &simulated) {
  step.predictedStepSeconds = simulated.stepSeconds;
  for (std::size_t stage = 0; stage < step.stages.size(); ++stage) {
    step.stages[stage].sums = simulated.sums[stage];
    step.stages[stage].update = simulated.updates[stage];
    for (std::size_t entry = 0; entry < step.stages[stage].entries.size(); ++entry) {
      step.stages[stage].entries[entry].start = simulated.entries[stage][entry].start;
      step.stages[stage].entries[entry].seconds = simulated.entries[stage][entry].seconds;
    }
  }
}

void noteCollectives(StepTimetable &step, const StepPrices &prices) {
  std::vector<bool> isPriced(step.bodies.size());
  for (const StageTimetable &stage : step.stages)
    for (const StepEntry &entry : stage.entries) {
      if (entry.body < 0 || isPriced[entry.body])
        continue;
      isPriced[entry.body] = true;
      for (BodyCall &call : step.bodies[entry.body].calls)
        if (call.collective)
          call.seconds = prices.collectiveSeconds(*call.collective, call.bytes, stage.groups[call.group].shape);
    }
}

} // namespace galvatron::search
