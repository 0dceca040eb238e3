// The proof that no wait is circular. See Timetable.h.
//
// All ranks of a stage walk one list, so collectives inside a stage are issued in one order and never wait for one
// another; only those that join stages can. Collectives and receives with a handle are executed as if they ended where
// they start, which is the strictest reading: a device that lets them run on orders less.
#include "galvatron/Schedule/Timetable.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Sequence.h"

#include <map>

using namespace mlir;
using namespace galvatron;

static const std::vector<int64_t> &stagesOf(const Timetable &timetable, const AllReduce &reduce) {
  return timetable.groups[reduce.group].stages;
}

/// Stages that share a communicator issue the same operations on it, in the same order.
static LogicalResult verifyOrders(ModuleOp module, ArrayRef<Timetable> timetables) {
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
        return module.emitOpError("expects stages that share a communicator to issue the same collectives in one ")
               << "order, but number " << number << " is \"" << nameOf(first) << "\" on stage " << stages.front()
               << " and \"" << nameOf(own) << "\" on stage " << stage;
    }
  }
  return success();
}

namespace {

/// Bytes of the arena.
struct ByteRange {
  int64_t begin, end;
  bool overlaps(const ByteRange &other) const { return begin < other.end && other.begin < end; }
};

/// What nothing may touch from an entry until the wait of its handle.
struct Kept {
  int64_t handle;
  llvm::SmallVector<ByteRange, 2> ranges;
};

} // namespace

/// From the place that is referred to until the end of its buffer, or for `bytes` if that is longer: a bucket reaches
/// over several buffers.
static ByteRange rangeOf(const Timetable &timetable, BufferReference reference, int64_t bytes = 0) {
  const Buffer &buffer = timetable.buffers[reference.buffer];
  int64_t begin = buffer.offset + reference.offset;
  return {begin, std::max(begin + bytes, buffer.offset + buffer.bytes)};
}

/// A send only reads: until its wait its buffer may be read by others. So may the piece that is gathered.
static std::optional<Kept> startedKeeping(const Timetable &timetable, const TimetableEntry &entry) {
  if (auto *reduce = entry.getIf<AllReduce>(); reduce && reduce->handle)
    return Kept{*reduce->handle, {rangeOf(timetable, reduce->buffer, reduce->count * 4)}};
  if (auto *receive = entry.getIf<Receive>(); receive && receive->handle)
    return Kept{*receive->handle, {rangeOf(timetable, receive->buffer)}};
  if (auto *scatter = entry.getIf<ReduceScatter>(); scatter && scatter->handle)
    return Kept{*scatter->handle, {rangeOf(timetable, scatter->from), rangeOf(timetable, scatter->to)}};
  if (auto *gather = entry.getIf<AllGather>(); gather && gather->handle)
    return Kept{*gather->handle, {rangeOf(timetable, gather->whole)}};
  return std::nullopt;
}

/// What is being reduced or received is left alone until its wait, and every start has one.
static LogicalResult verifyLeftAlone(ModuleOp module, const Timetable &timetable) {
  std::map<int64_t, std::pair<const TimetableEntry *, Kept>> underWay; // by handle
  for (const TimetableEntry &entry : timetable.entries) {
    if (auto *wait = entry.getIf<Wait>())
      underWay.erase(wait->handle);
    for (BufferReference buffer : buffersOf(entry.action)) {
      if (!buffer)
        continue;
      ByteRange touched = rangeOf(timetable, buffer);
      for (auto &[handle, started] : underWay)
        if (llvm::any_of(started.second.ranges, [&](const ByteRange &range) { return touched.overlaps(range); }))
          return module.emitOpError("expects nothing to touch what \"")
                 << started.first->name << "\" writes before its wait, but \"" << entry.name << "\" does";
    }
    std::optional<Kept> kept = startedKeeping(timetable, entry);
    if (kept && !underWay.insert({kept->handle, {&entry, *kept}}).second)
      return module.emitOpError("expects a handle of its own for \"") << entry.name << "\"";
  }
  if (!underWay.empty())
    return module.emitOpError("expects a wait for \"") << underWay.begin()->second.first->name << "\"";
  return success();
}

/// Every send has its receive: counted, without regard to order.
static LogicalResult verifyMatches(ModuleOp module, ArrayRef<Timetable> timetables) {
  using Key = std::tuple<int64_t, int64_t, int64_t>; // from, to, tag
  std::map<Key, std::pair<int64_t, int64_t>> counts; // sent, received
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries) {
      if (auto *send = entry.getIf<Send>())
        ++counts[{timetable.stage, send->channel.stage, send->channel.tag()}].first;
      if (auto *receive = entry.getIf<Receive>())
        ++counts[{receive->channel.stage, timetable.stage, receive->channel.tag()}].second;
    }
  for (auto [key, count] : counts)
    if (count.first != count.second)
      return module.emitOpError("expects every send to be received, but stage ")
             << std::get<1>(key) << " receives " << count.second << " of " << count.first << " from stage "
             << std::get<0>(key) << " with tag " << std::get<2>(key);
  return success();
}

namespace {

/// A way that values take in one order: from a stage, to a stage.
using Route = std::pair<int64_t, int64_t>;

/// A send that is under way or done: `number` others were sent before it on its route.
struct SendPlace {
  Route route;
  size_t number;
};

/// How far a stage has come in the execution of all timetables together.
struct Progress {
  /// The entry that it stands at: all before are done.
  size_t next = 0;
  /// All that it has sent so far, by route, in order; how much it has received by route.
  std::map<Route, std::vector<Channel>> sent;
  std::map<Route, size_t> received;
  /// Where its sends stand on their routes, by handle: a wait is over when so many are received there.
  std::map<int64_t, SendPlace> sends;
  /// How many collectives over several stages it has started, by the stages that they join. One ends when all of them
  /// have started as many.
  std::map<std::vector<int64_t>, int64_t> joined;
  /// Whether the collective at `next`, where it waits for other stages, is counted in `joined` already.
  bool isCounted = false;
};

/// Runs all timetables together, each as far as it gets.
class Execution {
public:
  Execution(ModuleOp module, ArrayRef<Timetable> timetables)
      : module(module), timetables(timetables), stages(timetables.size()) {}

  LogicalResult run();

private:
  /// Moves one stage as far as it gets; whether it moved.
  FailureOr<bool> advance(int64_t stage);
  /// Whether the stage gets beyond this entry now.
  FailureOr<bool> passes(int64_t stage, const TimetableEntry &entry);
  FailureOr<bool> receives(int64_t stage, const TimetableEntry &entry, const Channel &expected);
  bool joins(int64_t stage, const std::vector<int64_t> &joined);

  ModuleOp module;
  ArrayRef<Timetable> timetables;
  std::vector<Progress> stages;
};

} // namespace

FailureOr<bool> Execution::receives(int64_t stage, const TimetableEntry &entry, const Channel &expected) {
  Route route = {expected.stage, stage};
  size_t &count = stages[stage].received[route];
  const std::vector<Channel> &sent = stages[expected.stage].sent[route];
  if (sent.size() <= count)
    return false;
  const Channel &channel = sent[count];
  if (channel.tag() != expected.tag())
    return module.emitOpError("expects stage ")
           << stage << " to receive values in the order they are sent, but stage " << expected.stage << " sends value "
           << channel.tag() << " where value " << expected.tag() << " is expected (" << entry.name << ")";
  if (channel.bytes != expected.bytes)
    return module.emitOpError("expects stage ")
           << stage << " to receive the " << channel.bytes << " bytes that stage " << expected.stage
           << " sends, but it expects " << expected.bytes << " (" << entry.name << ")";
  ++count;
  return true;
}

bool Execution::joins(int64_t stage, const std::vector<int64_t> &joined) {
  Progress &own = stages[stage];
  own.joined[joined] += !own.isCounted;
  own.isCounted =
      llvm::any_of(joined, [&](int64_t other) { return stages[other].joined[joined] < own.joined[joined]; });
  return !own.isCounted;
}

FailureOr<bool> Execution::passes(int64_t stage, const TimetableEntry &entry) {
  Progress &own = stages[stage];
  if (auto *send = entry.getIf<Send>()) {
    Route route = {stage, send->channel.stage};
    own.sends[send->handle] = {route, own.sent[route].size()};
    own.sent[route].push_back(send->channel);
  } else if (auto *wait = entry.getIf<Wait>()) {
    auto send = own.sends.find(wait->handle);
    if (send == own.sends.end()) // of what ended where it started
      return true;
    auto [route, number] = send->second;
    return stages[route.second].received[route] > number;
  } else if (auto *receive = entry.getIf<Receive>()) {
    return receives(stage, entry, receive->channel);
  } else if (auto *reduce = entry.getIf<AllReduce>(); reduce && !stagesOf(timetables[stage], *reduce).empty()) {
    return joins(stage, stagesOf(timetables[stage], *reduce));
  }
  return true;
}

FailureOr<bool> Execution::advance(int64_t stage) {
  size_t begin = stages[stage].next;
  for (size_t &next = stages[stage].next; next < timetables[stage].entries.size(); ++next) {
    FailureOr<bool> passed = passes(stage, timetables[stage].entries[next]);
    if (failed(passed))
      return failure();
    if (!*passed)
      break;
  }
  return stages[stage].next != begin;
}

LogicalResult Execution::run() {
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t stage = 0; stage < stages.size(); ++stage) {
      FailureOr<bool> result = advance(stage);
      if (failed(result))
        return failure();
      moved |= *result;
    }
  }
  auto waits = [&](size_t stage) { return stages[stage].next < timetables[stage].entries.size(); };
  if (llvm::none_of(llvm::seq<size_t>(stages.size()), waits))
    return success();
  InFlightDiagnostic error = module.emitOpError("expects every wait to end, but the stages wait for one another");
  for (size_t stage = 0; stage < stages.size(); ++stage)
    if (waits(stage))
      error.attachNote() << "stage " << stage << " waits in \"" << timetables[stage].entries[stages[stage].next].name
                         << "\"";
  return error;
}

LogicalResult galvatron::verifyTransfers(ModuleOp module, ArrayRef<Timetable> timetables) {
  if (failed(verifyMatches(module, timetables)) || failed(verifyOrders(module, timetables)))
    return failure();
  for (const Timetable &timetable : timetables)
    if (failed(verifyLeftAlone(module, timetable)))
      return failure();
  return Execution(module, timetables).run();
}
