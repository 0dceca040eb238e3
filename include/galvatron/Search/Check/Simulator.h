//===- Simulator.h - A step on all devices, event by event ------*- C++ -*-===//
//
// Discrete events for every device of a plan: its compute stream walks the
// stage's timetable, its two links (to the next and to the previous stage) send
// one message after another, overlapped with compute, the devices of a stage meet for the
// gradient sums, and all meet for the update (clipping needs the global norm).
// Memory is followed entry by entry.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_CHECK_SIMULATOR_H
#define GALVATRON_SEARCH_CHECK_SIMULATOR_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"

#include <string>
#include <vector>

namespace galvatron::search {

/// Something that one stream of one stage did, for the trace.
struct Span {
  int stage = 0;
  int stream = 0; ///< 0 compute, 1 sends
  double start = 0, seconds = 0;
  Computation phase = Computation::Forward;
  bool update = false;
  int chunk = 0, microBatch = 0;
};

struct Simulation {
  double stepSeconds = 0;
  double bubble = 0;      ///< idle share of all compute streams
  double busySeconds = 0; ///< of the first device of every stage, without update
  std::int64_t devices = 0, events = 0;
  std::vector<std::int64_t> peakBytesPerStage;
  /// Of the first device of every stage.
  std::vector<Span> spans;
  struct MemoryPoint {
    int stage;
    double at;
    std::int64_t bytes;
  };
  std::vector<MemoryPoint> memory;
  double wallSeconds = 0; ///< what the simulation itself took
};

/// Error: a plan that is not valid, a strategy that the cost source refuses.
Result<Simulation> simulate(const Problem &problem, const Plan &plan);

/// Chrome's trace event format (also read by Perfetto): one process a stage,
/// one thread a stream, a counter for memory. Times in microseconds.
std::string writeTrace(const Simulation &simulation, const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_CHECK_SIMULATOR_H
