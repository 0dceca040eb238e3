// The proof that no wait is circular. See Timetable.h.
#include "galvatron/Analysis/Timetable.h"

#include <map>
#include <set>

using namespace mlir;
using namespace galvatron;

namespace {

/// A transfer: (from, to, tag), its n-th occurrence.
using Channel = std::tuple<int64_t, int64_t, int64_t>;

struct Progress {
  size_t next = 0;
  std::map<Channel, int64_t> started, received;
  std::map<int64_t, std::pair<Channel, int64_t>> handles;
};

} // namespace

/// Every send has its receive: counted, without regard to order.
static LogicalResult verifyMatches(ModuleOp module, ArrayRef<Timetable> timetables) {
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

LogicalResult galvatron::verifyTransfers(ModuleOp module, ArrayRef<Timetable> timetables) {
  if (failed(verifyMatches(module, timetables)))
    return failure();
  std::vector<Progress> stages(timetables.size());
  auto bytesOf = std::map<std::pair<Channel, int64_t>, int64_t>();
  /// Moves one stage as far as it gets; returns whether it moved.
  auto advance = [&](size_t index) -> FailureOr<bool> {
    Progress &own = stages[index];
    size_t begin = own.next;
    for (; own.next < timetables[index].entries.size(); ++own.next) {
      const TimetableEntry &entry = timetables[index].entries[own.next];
      int64_t self = index;
      if (entry.function == "gvrt_send") {
        Channel channel = {self, entry.attributes[0], entry.attributes[1]};
        int64_t occurrence = own.started[channel]++;
        own.handles[entry.attributes[3]] = {channel, occurrence};
        bytesOf[{channel, occurrence}] = entry.attributes[2];
      } else if (entry.function == "gvrt_wait") {
        auto [channel, occurrence] = own.handles[entry.attributes[0]];
        if (stages[std::get<1>(channel)].received[channel] <= occurrence)
          break;
      } else if (entry.function == "gvrt_receive") {
        Channel channel = {entry.attributes[0], self, entry.attributes[1]};
        int64_t occurrence = own.received[channel];
        if (stages[entry.attributes[0]].started[channel] <= occurrence)
          break;
        if (bytesOf[{channel, occurrence}] != entry.attributes[2])
          return module.emitOpError("expects stage ")
                 << self << " to receive the " << bytesOf[{channel, occurrence}] << " bytes that stage "
                 << entry.attributes[0] << " sends, but it expects " << entry.attributes[2] << " (" << entry.name
                 << ")";
        ++own.received[channel];
      }
    }
    return own.next != begin;
  };
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t index = 0; index < stages.size(); ++index) {
      FailureOr<bool> result = advance(index);
      if (failed(result))
        return failure();
      moved |= *result;
    }
  }
  for (size_t index = 0; index < stages.size(); ++index) {
    if (stages[index].next < timetables[index].entries.size()) {
      InFlightDiagnostic error = module.emitOpError("expects every wait to end, but the stages wait for one another");
      for (size_t other = 0; other < stages.size(); ++other)
        if (stages[other].next < timetables[other].entries.size())
          error.attachNote() << "stage " << other << " waits in \""
                             << timetables[other].entries[stages[other].next].name << "\"";
      return error;
    }
  }
  return success();
}
