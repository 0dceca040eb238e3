//===- TraceClock.h - one clock for all ranks ----------------------------------------------------===//
//
// Each rank exchanges its time with rank 0 before the traced steps and after them. Of the fastest of many exchanges,
//
//   rank 0   t0 ───────────── t1        offset = (t0 + t1) / 2 - t
//   rank r        ╲── t ──╱             error  = (t1 - t0) / 2
//
// the true offset cannot be further from it than the error, whichever way took longer. Between the two exchanges the
// offset moves evenly, by the drift of the clocks.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TRACECLOCK_H
#define GALVATRON_RUNTIME_CORE_TRACECLOCK_H

#include "runtime/core/World.h"

namespace galvatron {

/// Nanoseconds of this machine's steady clock.
int64_t traceTime();

/// What an exchange says of this rank's clock.
struct ClockReading {
  int64_t at = 0;    // of it
  double offset = 0; // to rank 0's, in nanoseconds
  double error = 0;  // that the offset may have either way
};

/// Collective.
ClockReading exchangeClocks(const World &world);

/// A time of this rank's clock between two exchanges, by rank 0's.
double alignTime(int64_t time, const ClockReading &before, const ClockReading &after);

} // namespace galvatron

#endif
