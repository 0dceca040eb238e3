// The list of what is measured: made alike on every rank, coarse sizes first, so that a time limit leaves a coarser
// grid and no gap.
#ifndef GALVATRON_LIB_PROFILE_WORK_H
#define GALVATRON_LIB_PROFILE_WORK_H

#include "Bodies.h"
#include "Options.h"

#include "galvatron/Search/Model/MachineProfile.h"

#include <string>
#include <variant>
#include <vector>

namespace galvatron::profile {

/// One measurement, its figures still to come.
struct Work {
  std::variant<search::MeasuredMessage, search::MeasuredKernel, search::MeasuredOverlap, BodyGroup> what;
  int level = 0; ///< 0: of the coarsest grid
  /// Bytes that a rank needs for operands and for results.
  std::int64_t operandBytes = 0, resultBytes = 0;
  /// Of one call, guessed: only ratios between sizes of a kind count, as the first ones measured scale the rest.
  double guessedSeconds = 0;

  const std::string &kind() const;
  /// "all_reduce of 4 ranks, stride 1, 2 groups, 65536 bytes": also tells it from all others.
  std::string name() const;
  /// Of all entries of a profile that come of it: one, but of bodies.
  std::vector<std::string> entryNames() const;
};

/// Of `ranks` ranks; those of one level in the order of the kinds, level by level.
std::vector<Work> listWork(const Options &options, std::int64_t ranks);

/// Bytes of scratch that a device which computes in 16 bits wants for one call of attention; else none.
std::int64_t attentionScratchBytes(bool isIssued, const search::KernelShape &shape);

/// The bodies of a prepared model, shortest first by the work of their kernels.
std::vector<Work> listBodies(std::vector<BodyGroup> groups, bool isGpu);

/// Bodies at the pace of the fastest product that `profile` has; of the device's guess where it has none.
void guessBodies(const search::MachineProfile &profile, bool isGpu, std::vector<Work> &works);

/// What a profile already has of these.
std::vector<std::string> namesIn(const search::MachineProfile &profile);

} // namespace galvatron::profile

#endif
