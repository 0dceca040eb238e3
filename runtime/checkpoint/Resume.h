//===- Resume.h - whether a run may go on from a checkpoint --------------------------------------------===//
//
// A run that goes on has the numbers that one run would have had: what changes them must be as it was, or be accepted
// with --override. Plan and ranks are free, and so is what is only reported.
//
//===--------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_RESUME_H
#define GALVATRON_RUNTIME_CHECKPOINT_RESUME_H

#include "runtime/checkpoint/Tensors.h"
#include "runtime/checkpoint/TrainingState.h"

namespace galvatron {

ModelIdentity identify(const Catalog &catalog);

/// Another model, under the word "model". What the checkpoint does not say is not compared, here and below.
std::vector<Difference> findOtherModel(const TrainingState &saved, const TrainingState &now);

/// All else: data, options by their names, "seed", "precision", "batch" and "seq".
std::vector<Difference> findDifferences(const TrainingState &saved, const TrainingState &now);

/// An error that names every difference with both values, and the words that accept them, unless `overrides` has these;
/// then they are noted in `now`. `checkpoint` is how messages call where `saved` is from.
Status checkDifferences(const std::string &checkpoint, const std::vector<Difference> &differences,
                        const std::set<std::string> &overrides, int64_t step, TrainingState &now);

} // namespace galvatron

#endif
