// Union-find over lists of factors: two lists are made equal from the major end, uniting factors of
// equal extent and splitting the larger of two unequal ones.
#include "galvatron/Axes/AxesFactors.h"

#include <cassert>
#include <utility>

using namespace galvatron;

FactorList FactorUnion::create(int64_t extent) {
  if (extent == 1)
    return {};
  unsigned factor = factors.size();
  factors.push_back({extent, factor});
  return {factor};
}

unsigned FactorUnion::find(unsigned factor) const {
  while (factors[factor].parent != factor)
    factor = factors[factor].parent = factors[factors[factor].parent].parent;
  return factor;
}

FactorList FactorUnion::expand(llvm::ArrayRef<unsigned> list) const {
  FactorList expanded;
  llvm::SmallVector<unsigned> pending(llvm::reverse(list));
  while (!pending.empty()) {
    unsigned factor = find(pending.pop_back_val());
    if (factors[factor].major < 0) {
      expanded.push_back(factor);
      continue;
    }
    pending.push_back(factors[factor].minor);
    pending.push_back(factors[factor].major);
  }
  return expanded;
}

void FactorUnion::split(unsigned factor, int64_t majorExtent) {
  int64_t minorExtent = factors[factor].extent / majorExtent;
  unsigned major = create(majorExtent)[0], minor = create(minorExtent)[0];
  factors[factor].major = major;
  factors[factor].minor = minor;
}

bool FactorUnion::canMatch(llvm::ArrayRef<unsigned> a, llvm::ArrayRef<unsigned> b) const {
  size_t i = 0, j = 0;
  int64_t left = 1, right = 1;
  while (true) {
    if (left == 1 && i < a.size())
      left = factors[a[i++]].extent;
    if (right == 1 && j < b.size())
      right = factors[b[j++]].extent;
    if (left == 1 || right == 1)
      return left == right;
    if (std::max(left, right) % std::min(left, right) != 0)
      return false;
    int64_t common = std::min(left, right);
    left /= common;
    right /= common;
  }
}

bool FactorUnion::match(llvm::ArrayRef<unsigned> a, llvm::ArrayRef<unsigned> b) {
  if (!canMatch(expand(a), expand(b)))
    return false;
  // Each round unites or splits one pair, then looks again: a split may have changed either list.
  while (true) {
    FactorList left = expand(a), right = expand(b);
    size_t i = 0;
    while (i < left.size() && i < right.size() && left[i] == right[i])
      ++i;
    if (i == left.size() || i == right.size())
      return i == left.size() && i == right.size();
    Factor &x = factors[left[i]], &y = factors[right[i]];
    if (x.extent == y.extent)
      x.parent = right[i];
    else if (std::max(x.extent, y.extent) % std::min(x.extent, y.extent) != 0)
      return false; // a factor that occurs in both lists was split on the way
    else if (x.extent > y.extent)
      split(left[i], y.extent);
    else
      split(right[i], x.extent);
  }
}
