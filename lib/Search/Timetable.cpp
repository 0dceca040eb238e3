//===- Timetable.cpp - What every stage does, in order --------------------===//

#include "galvatron/Search/Timetable.h"

#include <algorithm>

namespace galvatron::search {

std::vector<TimetableEntry> stageTimetable(Schedule schedule, int stages, int stage, int microBatches) {
  std::vector<TimetableEntry> entries;
  int warmUp = schedule == Schedule::GPipe ? microBatches : std::min(stages - 1 - stage, microBatches);
  for (int m = 0; m < warmUp; ++m)
    entries.push_back({false, m});
  for (int m = warmUp; m < microBatches; ++m) {
    entries.push_back({false, m});
    entries.push_back({true, m - warmUp});
  }
  for (int m = microBatches - warmUp; m < microBatches; ++m)
    entries.push_back({true, m});
  return entries;
}

TimetableResult runTimetable(Schedule schedule, const std::vector<StageTimes> &stages, int microBatches) {
  int count = int(stages.size());
  TimetableResult result;
  result.peakInFlight.assign(count, 0);
  result.start.resize(count);
  std::vector<std::vector<TimetableEntry>> entries;
  for (int stage = 0; stage < count; ++stage)
    entries.push_back(stageTimetable(schedule, count, stage, microBatches));
  // When a value is there for its consumer; negative: not yet.
  std::vector<std::vector<double>> forwardAt(count, std::vector<double>(microBatches, -1)), backwardAt = forwardAt;
  std::vector<std::size_t> next(count, 0);
  std::vector<double> clock(count, 0);
  std::vector<int> inFlight(count, 0);
  for (bool moved = true; moved;) {
    moved = false;
    // Stages in both orders: each sweep carries forwards down and backwards up.
    for (int sweep = 0; sweep < 2 * count; ++sweep) {
      int stage = sweep < count ? sweep : 2 * count - 1 - sweep;
      while (next[stage] < entries[stage].size()) {
        TimetableEntry entry = entries[stage][next[stage]];
        int from = entry.backward ? stage + 1 : stage - 1;
        double ready = 0;
        if (from >= 0 && from < count) {
          double done = (entry.backward ? backwardAt : forwardAt)[from][entry.microBatch];
          if (done < 0)
            break;
          ready = done + stages[std::min(from, stage)].transfer;
        }
        double start = std::max(ready, clock[stage]);
        double seconds = entry.backward ? stages[stage].backward : stages[stage].forward;
        result.start[stage].push_back(start);
        clock[stage] = start + seconds;
        result.busySeconds += seconds;
        (entry.backward ? backwardAt : forwardAt)[stage][entry.microBatch] = clock[stage];
        inFlight[stage] += entry.backward ? -1 : 1;
        result.peakInFlight[stage] = std::max(result.peakInFlight[stage], inFlight[stage]);
        ++next[stage];
        moved = true;
      }
    }
  }
  for (int stage = 0; stage < count; ++stage) {
    result.seconds = std::max(result.seconds, clock[stage] + stages[stage].tail);
    result.busySeconds += stages[stage].tail;
  }
  return result;
}

} // namespace galvatron::search
