//===- LossWatch.h - losses that are not finite, or far outside the last steps' -------------------===//
//
// Pure rules over what all ranks know together, so every rank decides the same.
//
//===----------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_LOSSWATCH_H
#define GALVATRON_RUNTIME_CORE_LOSSWATCH_H

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

namespace galvatron {

/// What becomes of a step whose loss or gradients are not finite: --on-nan, until there are --nan-limit in a row. After
/// a rewind these are in a row until a step beyond the furthest bad one is done.
class NotFiniteRule {
public:
  enum Action { Stop, Skip, Rewind };

  NotFiniteRule(const std::string &onNan, int64_t limit)
      : action(onNan == "skip"     ? Skip
               : onNan == "rewind" ? Rewind
                                   : Stop),
        limit(limit) {}

  /// Of a bad step.
  Action decide(int64_t step);
  /// Of a good one.
  void finish(int64_t step);
  /// So far, the last one among them.
  int64_t numInRow() const { return inRow; }

private:
  Action action;
  int64_t limit, inRow = 0, furthest = 0;
};

/// A spike is a loss above mean + max(6 · deviation, |mean| / 100) of the last 100 finite losses of this run, of which
/// there must be 20; it is one of them from then on. deviation = √(Σ (loss - mean)² / n).
class Spikes {
public:
  static constexpr size_t kKept = 100, kNeeded = 20;
  static constexpr double kDeviations = 6, kShare = 0.01;

  struct Spike {
    double mean, deviation;
  };
  std::optional<Spike> add(double loss);
  void forget() { losses.clear(); }

private:
  std::deque<double> losses;
};

} // namespace galvatron

#endif
