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

namespace {

/// From one stage to another; values are received in the order they are sent.
using Direction = std::pair<int64_t, int64_t>;

struct Sent {
  int64_t tag, bytes;
};

struct Progress {
  size_t next = 0;
  std::map<Direction, std::vector<Sent>> sent;
  std::map<Direction, size_t> received;                  // how many
  std::map<int64_t, std::pair<Direction, size_t>> sends; // by handle: the how-manieth of its direction
  /// Collectives that joined stages so far, by these stages; and whether the one at `next` is counted.
  std::map<std::vector<int64_t>, int64_t> joined;
  bool isCounted = false;
};

struct ByteRange {
  int64_t begin, end; // bytes of the arena
};

} // namespace

/// The timetable's only collective: [group, type, kind, count, handle].
static bool isAllReduce(const TimetableEntry &entry) { return entry.function == "gvrt_all_reduce"; }

static const std::vector<int64_t> &stagesOf(const Timetable &timetable, const TimetableEntry &entry) {
  return timetable.groups[entry.attributes[0]].stages;
}

/// Stages that share a communicator issue the same operations on it, in the same order.
static LogicalResult verifyOrders(ModuleOp module, ArrayRef<Timetable> timetables) {
  using Operations = std::vector<const TimetableEntry *>;
  std::map<std::vector<int64_t>, std::map<int64_t, Operations>> byGroup; // stages joined → stage → in order
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries)
      if (isAllReduce(entry) && !stagesOf(timetable, entry).empty())
        byGroup[stagesOf(timetable, entry)][timetable.stage].push_back(&entry);
  auto sameOperation = [](const TimetableEntry *a, const TimetableEntry *b) {
    return a->name == b->name && ArrayRef(a->attributes).slice(1, 3) == ArrayRef(b->attributes).slice(1, 3);
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

static ByteRange rangeOf(const Timetable &timetable, SlotReference reference, int64_t bytes = 0) {
  const Slot &slot = timetable.slots[reference.slot];
  int64_t begin = slot.offset + reference.offset;
  return {begin, std::max(begin + bytes, slot.offset + slot.bytes)};
}

/// The handle of what is written until its wait; -1 for all else.
static int64_t handleOf(const TimetableEntry &entry) {
  return isAllReduce(entry) ? entry.attributes[4] : entry.function == "gvrt_receive" ? entry.attributes[3] : -1;
}

/// What is being reduced or received is left alone until its wait, and every start has one.
static LogicalResult verifyLeftAlone(ModuleOp module, const Timetable &timetable) {
  std::map<int64_t, std::pair<const TimetableEntry *, ByteRange>> underWay; // by handle
  for (const TimetableEntry &entry : timetable.entries) {
    if (entry.function == "gvrt_wait")
      underWay.erase(entry.attributes[0]);
    for (SlotReference buffer : entry.buffers) {
      if (buffer.slot < 0)
        continue;
      ByteRange touched = rangeOf(timetable, buffer);
      for (auto &[handle, started] : underWay)
        if (touched.begin < started.second.end && started.second.begin < touched.end)
          return module.emitOpError("expects nothing to touch what \"")
                 << started.first->name << "\" writes before its wait, but \"" << entry.name << "\" does";
    }
    int64_t handle = handleOf(entry);
    if (handle < 0)
      continue;
    ByteRange range = rangeOf(timetable, entry.buffers.back(), isAllReduce(entry) ? entry.attributes[3] * 4 : 0);
    if (!underWay.insert({handle, {&entry, range}}).second)
      return module.emitOpError("expects a handle of its own for \"") << entry.name << "\"";
  }
  if (!underWay.empty())
    return module.emitOpError("expects a wait for \"") << underWay.begin()->second.first->name << "\"";
  return success();
}

/// Every send has its receive: counted, without regard to order.
static LogicalResult verifyMatches(ModuleOp module, ArrayRef<Timetable> timetables) {
  using Channel = std::tuple<int64_t, int64_t, int64_t>; // from, to, tag
  std::map<Channel, std::pair<int64_t, int64_t>> counts; // sent, received
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries) {
      if (entry.function == "gvrt_send")
        ++counts[{timetable.stage, entry.attributes[0], entry.attributes[1]}].first;
      if (entry.function == "gvrt_receive")
        ++counts[{entry.attributes[0], timetable.stage, entry.attributes[1]}].second;
    }
  for (auto [channel, count] : counts)
    if (count.first != count.second)
      return module.emitOpError("expects every send to be received, but stage ")
             << std::get<1>(channel) << " receives " << count.second << " of " << count.first << " from stage "
             << std::get<0>(channel) << " with tag " << std::get<2>(channel);
  return success();
}

namespace {

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
  FailureOr<bool> receives(int64_t stage, const TimetableEntry &entry);
  bool joins(int64_t stage, const std::vector<int64_t> &joined);

  ModuleOp module;
  ArrayRef<Timetable> timetables;
  std::vector<Progress> stages;
};

} // namespace

FailureOr<bool> Execution::receives(int64_t stage, const TimetableEntry &entry) {
  Direction direction = {entry.attributes[0], stage};
  size_t &count = stages[stage].received[direction];
  const std::vector<Sent> &sent = stages[entry.attributes[0]].sent[direction];
  if (sent.size() <= count)
    return false;
  auto [tag, bytes] = sent[count];
  if (tag != entry.attributes[1])
    return module.emitOpError("expects stage ")
           << stage << " to receive values in the order they are sent, but stage " << entry.attributes[0]
           << " sends value " << tag << " where value " << entry.attributes[1] << " is expected (" << entry.name << ")";
  if (bytes != entry.attributes[2])
    return module.emitOpError("expects stage ")
           << stage << " to receive the " << bytes << " bytes that stage " << entry.attributes[0]
           << " sends, but it expects " << entry.attributes[2] << " (" << entry.name << ")";
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
  if (entry.function == "gvrt_send") {
    std::vector<Sent> &sent = own.sent[{stage, entry.attributes[0]}];
    own.sends[entry.attributes[3]] = {{stage, entry.attributes[0]}, sent.size()};
    sent.push_back({entry.attributes[1], entry.attributes[2]});
  } else if (entry.function == "gvrt_wait") {
    auto send = own.sends.find(entry.attributes[0]);
    if (send == own.sends.end()) // of what ended where it started
      return true;
    auto [direction, number] = send->second;
    return stages[direction.second].received[direction] > number;
  } else if (entry.function == "gvrt_receive") {
    return receives(stage, entry);
  } else if (isAllReduce(entry) && !stagesOf(timetables[stage], entry).empty()) {
    return joins(stage, stagesOf(timetables[stage], entry));
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
