//===- Pass.h - one walk through a list of entries, and what it leaves ---------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_PASS_H
#define GALVATRON_RUNTIME_CORE_PASS_H

#include "runtime/core/Device.h"
#include "runtime/core/Timetable.h"

namespace galvatron {

/// Issues all entries, with this learning rate where they read one.
void runPass(gvrt_context &context, const Device &device, const Timetable &timetable, char *arena, double rate);
/// The same for what looks after each of them.
void runPass(gvrt_context &context, const Device &device, const Timetable &timetable, char *arena, double rate,
             const EntryVisitor &visit);

/// This rank's share of the loss; where it is not finite, on every rank that has it.
double ownLoss(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena);
/// Σ |total| over what the batch's labels decide; 0 of a batch without labels, negative where there is none.
double ownLabels(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena);

} // namespace galvatron

#endif
