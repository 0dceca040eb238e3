//===- BlockedRows.h - rows of attention in which every key is blocked by a finite bias -----------------===//
//
// Masks are often the lowest finite number, added to scores: beside a key that is let through, what is blocked has
// probability 0; in a row that lets none through, such as one of left padding, all blocked keys are equal, since the
// number absorbs their scores, and PyTorch gives them 1 / n each. The log of the sum of n exponentials is then the mask
// itself, in any precision, and does not tell n; so for such rows it is made to.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_BLOCKEDROWS_H
#define GALVATRON_RUNTIME_API_BLOCKEDROWS_H

#include "runtime/api/CounterRandom.h" // GALVATRON_HOST_DEVICE

namespace galvatron {

/// A score from here down is a mask.
constexpr float kBlockedScore = -1e30f;

/// What is kept of a row: the log of its sum of exponentials, whose greatest score is `max`, and whose sum relative to
/// that is `sum`; or, of a blocked row, its number of keys.
template <typename T> GALVATRON_HOST_DEVICE T keptLogSum(T max, T sum, T logSum) {
  return max <= T(kBlockedScore) ? T(kBlockedScore) * sum : logSum;
}

/// Whether a row is blocked, by what was kept of it; the probability of each of its keys is then `blockedShare`.
template <typename T> GALVATRON_HOST_DEVICE bool isBlockedRow(T kept) { return kept <= T(kBlockedScore); }
template <typename T> GALVATRON_HOST_DEVICE T blockedShare(T kept) { return T(kBlockedScore) / kept; }

} // namespace galvatron

#endif
