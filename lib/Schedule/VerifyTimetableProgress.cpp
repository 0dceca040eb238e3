// That the timetables end: no wait is circular. See VerifyTimetable.h.
//
// All ranks of a stage walk one list, so collectives inside a stage are issued in one order and never wait for one
// another; only those that join stages can. As every list is straight, one execution of all that ends means that all
// do. Collectives and receives with a handle are executed as if they ended where they start, which is the strictest
// reading: a device that lets them run on orders less.
#include "StageProver.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

static const std::vector<int64_t> &stagesOf(const Timetable &timetable, const AllReduce &reduce) {
  return timetable.groups[reduce.group].stages;
}

/// Stages that share a communicator issue the same operations on it, in the same order.
static LogicalResult verifyOrders(const ProvedModel &model, ArrayRef<Timetable> timetables) {
  using Operations = std::vector<const TimetableEntry *>;
  std::map<std::vector<int64_t>, std::map<int64_t, Operations>> byGroup; // stages joined → stage → in order
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries)
      if (auto *reduce = entry.getIf<AllReduce>(); reduce && !stagesOf(timetable, *reduce).empty())
        byGroup[stagesOf(timetable, *reduce)][timetable.stage].push_back(&entry);
  auto sameOperation = [](const TimetableEntry *a, const TimetableEntry *b) {
    return a->name == b->name && a->getIf<AllReduce>()->count == b->getIf<AllReduce>()->count;
  };
  for (auto &[stages, operations] : byGroup) {
    const Operations &first = operations[stages.front()];
    for (int64_t stage : stages) {
      const Operations &own = operations[stage];
      size_t number = 0;
      while (number < own.size() && number < first.size() && sameOperation(own[number], first[number]))
        ++number;
      auto nameOf = [&](const Operations &list) { return number < list.size() ? list[number]->name : "nothing"; };
      if (number < own.size() || number < first.size())
        return reportUnproved(model.module,
                              "expects stages that share a communicator to issue the same collectives in one order, "
                              "but number " +
                                  llvm::Twine(number) + " is \"" + nameOf(first) + "\" on stage " +
                                  llvm::Twine(stages.front()) + " and \"" + nameOf(own) + "\" on stage " +
                                  llvm::Twine(stage));
    }
  }
  return success();
}

namespace {

/// A way that values take in one order: from a stage, to a stage.
using Route = std::pair<int64_t, int64_t>;

/// A send that is under way or done: `number` others were sent before it on its route.
struct SendPlace {
  Route route;
  int64_t number;
};

/// How far a stage has come in the execution of all timetables together.
struct Progress {
  /// The entry that it stands at: all before are done.
  size_t next = 0;
  /// How many values it has sent and received so far, by route.
  std::map<Route, int64_t> sent, received;
  /// Where its sends stand on their routes, by handle: a wait is over when so many are received there.
  std::map<int64_t, SendPlace> sends;
  /// How many collectives over several stages it has started, by the stages that they join. One ends when all of them
  /// have started as many.
  std::map<std::vector<int64_t>, int64_t> joined;
  /// Whether the collective at `next`, where it waits for other stages, is counted in `joined` already.
  bool isCounted = false;
};

/// Runs all timetables together, each as far as it gets. A send starts without blocking and is over when it is
/// received; a receive blocks.
class Execution {
public:
  explicit Execution(ArrayRef<Timetable> timetables) : timetables(timetables), stages(timetables.size()) {}

  /// Where the stages that do not end wait; empty: all end.
  std::string run();

private:
  /// Moves one stage as far as it gets; whether it moved.
  bool advance(int64_t stage);
  /// Whether the stage gets beyond this entry now.
  bool passes(int64_t stage, const TimetableEntry &entry);
  bool receives(int64_t stage, const Channel &channel);
  bool joins(int64_t stage, const std::vector<int64_t> &joined);

  ArrayRef<Timetable> timetables;
  std::vector<Progress> stages;
};

} // namespace

bool Execution::receives(int64_t stage, const Channel &channel) {
  Route route = {channel.stage, stage};
  int64_t &count = stages[stage].received[route];
  bool isThere = stages[channel.stage].sent[route] > count;
  count += isThere;
  return isThere;
}

bool Execution::joins(int64_t stage, const std::vector<int64_t> &joined) {
  Progress &own = stages[stage];
  own.joined[joined] += !own.isCounted;
  own.isCounted =
      llvm::any_of(joined, [&](int64_t other) { return stages[other].joined[joined] < own.joined[joined]; });
  return !own.isCounted;
}

bool Execution::passes(int64_t stage, const TimetableEntry &entry) {
  Progress &own = stages[stage];
  if (auto *send = entry.getIf<Send>()) {
    Route route = {stage, send->channel.stage};
    own.sends[send->handle] = {route, own.sent[route]++};
  } else if (auto *wait = entry.getIf<Wait>()) {
    auto send = own.sends.find(wait->handle);
    if (send == own.sends.end()) // of what ended where it started
      return true;
    auto [route, number] = send->second;
    return stages[route.second].received[route] > number;
  } else if (auto *receive = entry.getIf<Receive>()) {
    return receives(stage, receive->channel);
  } else if (auto *reduce = entry.getIf<AllReduce>(); reduce && !stagesOf(timetables[stage], *reduce).empty()) {
    return joins(stage, stagesOf(timetables[stage], *reduce));
  }
  return true;
}

bool Execution::advance(int64_t stage) {
  ArrayRef<TimetableEntry> entries = timetables[stage].entries;
  size_t begin = stages[stage].next, next = begin;
  while (next < entries.size() && passes(stage, entries[next]))
    ++next;
  stages[stage].next = next;
  return next != begin;
}

std::string Execution::run() {
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t stage = 0; stage < stages.size(); ++stage)
      moved |= advance(stage);
  }
  std::string waiting;
  for (size_t stage = 0; stage < stages.size(); ++stage)
    if (size_t next = stages[stage].next; next < timetables[stage].entries.size())
      waiting += (waiting.empty() ? "stage " : ", stage ") + std::to_string(stage) + " in \"" +
                 timetables[stage].entries[next].name + "\"";
  return waiting;
}

LogicalResult galvatron::verifyProgress(const ProvedModel &model, ArrayRef<Timetable> timetables) {
  if (failed(verifyOrders(model, timetables)))
    return failure();
  std::string waiting = Execution(timetables).run();
  if (waiting.empty())
    return success();
  return reportUnproved(model.module,
                        "expects every wait to end, but the stages wait for one another: " + llvm::Twine(waiting));
}
