//===- NotFinite.h - where a loss or a gradient that is not finite comes from ------------------===//
//
// One NaN makes everything NaN that is computed from it, on every rank, so the number at the end says nothing. After a
// step has failed, and only then, what it computed with is looked at: parameters first, in the order of the model;
// where all are finite the step is done again, and what each layer hands on is looked at entry by entry.
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_NOTFINITE_H
#define GALVATRON_RUNTIME_CORE_NOTFINITE_H

#include "runtime/checkpoint/Tensors.h"
#include "runtime/core/Timetable.h"

namespace galvatron {

/// What was found first; the earliest kind of those that were found.
struct NotFiniteOrigin {
  enum Kind { Parameter, Forward, Backward, Gradient, Nowhere } kind = Nowhere;
  /// "parameter head.weight (stage 1) is nan at [3, 5]"; empty for Nowhere.
  std::string text;
  /// Of a parameter: its moments are not finite, either.
  bool areMoments = false;
};

/// Collective; the same on every rank. `repeat` does the step's timetable again and calls what it is given after every
/// entry, once all it computes is there.
NotFiniteOrigin findNotFinite(const World &world, const ModelState &state,
                              const std::function<void(const EntryVisitor &)> &repeat);

/// Collective: a sentence that names parameters that are not finite, up to eight; empty where all are.
std::string describeNotFiniteParameters(const World &world, const ModelState &state);

/// For messages: nan, inf, -inf, or a few digits.
std::string numberText(double value);

/// Collective: "the largest, 3e+20, is in head.weight", of all parameters.
std::string describeLargestParameter(const World &world, const ModelState &state);

} // namespace galvatron

#endif
