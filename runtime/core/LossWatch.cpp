//===- LossWatch.cpp - losses that are not finite, or far outside the last steps' -----------------===//
#include "runtime/core/LossWatch.h"

#include <algorithm>
#include <cmath>

namespace galvatron {

NotFiniteRule::Action NotFiniteRule::decide(int64_t step) {
  furthest = std::max(furthest, step);
  return ++inRow >= limit ? Stop : action;
}

void NotFiniteRule::finish(int64_t step) {
  if (step >= furthest)
    inRow = 0;
}

std::optional<Spikes::Spike> Spikes::add(double loss) {
  double sum = 0, squares = 0, count = losses.size();
  for (double value : losses)
    sum += value;
  Spike last{sum / count, 0};
  for (double value : losses)
    squares += (value - last.mean) * (value - last.mean);
  last.deviation = std::sqrt(squares / count);
  bool isSpike = losses.size() >= kNeeded &&
                 loss > last.mean + std::max(kDeviations * last.deviation, kShare * std::fabs(last.mean));
  losses.push_back(loss);
  if (losses.size() > kKept)
    losses.pop_front();
  return isSpike ? std::optional(last) : std::nullopt;
}

} // namespace galvatron
