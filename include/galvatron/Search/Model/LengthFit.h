//===- LengthFit.h - Bodies of lengths that do not fit ----------*- C++ -*-===//
//
// What a body takes of a sequence longer than any that was measured, by what its
// kernels' work grows with: attention's by pairs of positions, the rest's by
// tokens.
//
//   seconds = tokens · t + pairs · p      tokens: samples · s, pairs: samples · s²
//
// t and p, neither below 0, are those of least squares of fit ÷ measured - 1.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_LENGTHFIT_H
#define GALVATRON_SEARCH_MODEL_LENGTHFIT_H

#include <cstdint>
#include <optional>
#include <vector>

namespace galvatron::search {

struct MachineProfile;

struct LengthPoint {
  double samples = 1, seq = 1, seconds = 0;
};

struct LengthFit {
  double secondsPerToken = 0, secondsPerPair = 0;
  double residual = 0; ///< the largest |fit ÷ measured - 1| of the points

  double seconds(double samples, double seq) const { return samples * seq * (secondsPerToken + seq * secondsPerPair); }
};

/// Nothing where the points have fewer than two lengths, or one takes no time.
std::optional<LengthFit> fitLengths(const std::vector<LengthPoint> &points);

/// Gives `profile` a body that is not measured (`isMeasured` false) for each planned one that is longer than all
/// measured bodies of its hash and strategy, where these have two lengths at least; those that were there before go.
void extrapolateLengths(MachineProfile &profile);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_LENGTHFIT_H
