//===- StepSimulator.h - A lowered step, entry by entry ---------*- C++ -*-===//
//
// Walks the timetables of all stages at once over streams and links: each stage's compute takes one entry after
// another; on a device that overlaps, collectives run beside it, those of a group one after another; values between two
// stages travel one after another, each once both sides have come to it; a collective of several stages begins when the
// last of them has come. What works while its device also communicates is slower, and the other way round, at every
// moment: two that take a ≥ b alone take a + (s - 1) b together, for a slow-down s.
//
// Then all ranks add up loss and gradient norm, and each stage updates its parameters.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_CHECK_STEPSIMULATOR_H
#define GALVATRON_SEARCH_CHECK_STEPSIMULATOR_H

#include "galvatron/Search/Check/StepPrices.h"

#include <string>

namespace galvatron::search {

struct SimulatedStep {
  double stepSeconds = 0;
  std::vector<std::vector<StepSpan>> entries; ///< [stage][entry]
  /// What follows the entries of a stage: sums over all ranks, then the update.
  std::vector<StepSpan> sums, updates;
};

/// Error: a timetable in which stages wait for one another for ever, with the entry that each has come to.
Result<SimulatedStep> simulateStep(const StepTimetable &step, const StepPrices &prices);

/// Notes in the timetable when each entry runs and what the step takes.
void noteSimulation(StepTimetable &step, const SimulatedStep &simulated);

/// Notes what each collective of a body takes alone, in the first stage that runs the body.
void noteCollectives(StepTimetable &step, const StepPrices &prices);

/// A predicted trace in the form of measured ones (docs/timetable.md). Of very many ranks only the first of each stage,
/// as the others do the same.
std::string writeStepTrace(const StepTimetable &step, const SimulatedStep &simulated);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_CHECK_STEPSIMULATOR_H
