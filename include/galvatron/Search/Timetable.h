//===- Timetable.h - What every stage does, in order ------------*- C++ -*-===//
//
// The schedules as straight lists, one per stage, and the longest path through
// them. A stage runs its entries one after another; a forward waits for the
// same micro-batch's forward on the stage before, a backward for the one after,
// each plus the time of the transfer.
//
//   1F1B, 3 stages, 4 micro-batches (capital: backward)
//   stage 0   0 1 2 A . 3 B . . C . D
//   stage 1     0 1 A 2 B 3 C   D
//   stage 2       0 A 1 B 2 C 3 D
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_TIMETABLE_H
#define GALVATRON_SEARCH_TIMETABLE_H

#include "galvatron/Search/Strategy.h"

#include <cstdint>
#include <vector>

namespace galvatron::search {

struct TimetableEntry {
  bool backward = false;
  int microBatch = 0;
};

/// The entries of one stage under GPipe or 1F1B.
std::vector<TimetableEntry> stageTimetable(Schedule schedule, int stages, int stage, int microBatches);

/// What a stage takes, seconds.
struct StageTimes {
  double forward = 0, backward = 0;
  /// Transfer to the next stage of one micro-batch, one direction.
  double transfer = 0;
  /// After its last backward: gradient sums, clipping, update.
  double tail = 0;
};

struct TimetableResult {
  double seconds = 0;            ///< until every stage has finished
  double busySeconds = 0;        ///< of all stages together
  std::vector<int> peakInFlight; ///< micro-batches, by stage
  /// Start of every entry of every stage.
  std::vector<std::vector<double>> start;
  double bubble() const {
    double whole = seconds * double(peakInFlight.size());
    return whole > 0 ? 1 - busySeconds / whole : 0;
  }
};

/// Longest path. Transfers occupy neither stage.
TimetableResult runTimetable(Schedule schedule, const std::vector<StageTimes> &stages, int microBatches);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TIMETABLE_H
