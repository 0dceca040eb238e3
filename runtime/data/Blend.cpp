//===- Blend.cpp - which of several datasets each sample is from --------------------------------===//
#include "runtime/data/Blend.h"

#include <algorithm>

namespace galvatron {

/// NumPy's pairwise sum, whose last bit may differ from that of one after another.
static double pairwiseSum(const double *values, int64_t count) {
  constexpr int64_t kLanes = 8, kBlock = 128;
  if (count > kBlock) {
    int64_t half = count / 2 / kLanes * kLanes;
    return pairwiseSum(values, half) + pairwiseSum(values + half, count - half);
  }
  double sum = 0;
  int64_t i = 0;
  if (count >= kLanes) {
    double lane[kLanes];
    std::copy_n(values, kLanes, lane);
    for (i = kLanes; i + kLanes <= count; i += kLanes)
      for (int64_t j = 0; j < kLanes; ++j)
        lane[j] += values[i + j];
    sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
  }
  for (; i < count; ++i)
    sum += values[i];
  return sum;
}

std::vector<double> normalizeWeights(std::vector<double> weights) {
  double sum = pairwiseSum(weights.data(), weights.size());
  for (double &weight : weights)
    weight /= sum;
  return weights;
}

int64_t Blend::choose() const {
  double k = std::max<double>(next, 1), largest = 0;
  int64_t chosen = -1;
  for (size_t i = 0; i < weights.size(); ++i) {
    double error = weights[i] * k - double(taken[i]);
    if (chosen < 0 || error > largest)
      chosen = i, largest = error;
  }
  return chosen;
}

void Blend::moveTo(int64_t k) {
  while (k < next && !states.empty()) {
    next = states.back().next, taken = states.back().taken;
    if (k < next)
      states.pop_back();
  }
  if (k < next) {
    std::fill(taken.begin(), taken.end(), 0);
    next = 0;
  }
  for (; next < k; ++next) {
    if (next % kSpacing == 0 && (states.empty() || states.back().next < next))
      states.push_back({next, taken});
    if (int64_t(states.size()) > kKept)
      states.pop_front();
    ++taken[choose()];
  }
}

Blend::Place Blend::place(int64_t k) {
  moveTo(k);
  int64_t dataset = choose();
  return {dataset, taken[dataset]};
}

} // namespace galvatron
