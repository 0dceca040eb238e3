//===- StageMultisets.h - Equal layers shared out to strategies -*- C++ -*-===//
//
// Private to lib/Search. k equal layers each take one of several options with
// cost (compute, exposed sync, whole MB). Enumerates the multisets that fit a
// budget and that no other one beats in both compute and sync.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_STAGEMULTISETS_H
#define GALVATRON_SEARCH_REFERENCE_STAGEMULTISETS_H

#include "lib/Search/Solver/KnapsackBound.h"

#include <cstddef>
#include <vector>

namespace galvatron::search {

struct LayerOption {
  double compute = 0, sync = 0; ///< seconds
  int megabytes = 0;
  int index = 0; ///< caller's number
};

struct StagePoint {
  double compute = 0, sync = 0;
  std::vector<std::pair<int, int>> counts; ///< (caller's number, layers)
};

class StageMultisets {
public:
  /// Drops options that another one beats in all three.
  StageMultisets(std::vector<LayerOption> options, int layers);

  /// Lower bound of the compute of all layers within `budget` MB: convex
  /// relaxation; infinity when not even the smallest options fit.
  double computeBound(int budget) const;
  /// MB of the smallest choice.
  long smallestMegabytes() const;

  /// What a stage may cost: compute <= limit, and
  /// slope · compute + sync <= sumLimit.
  struct Limits {
    double compute, slope, sum;
  };

  /// Undominated points within the limits, by rising compute and falling sync.
  /// `nodes` counts the work.
  std::vector<StagePoint> frontier(int budget, const Limits &limits, std::size_t &nodes) const;

private:
  /// Of one layer out of options[i..]: seconds · slope of compute and weight · sync, against MB.
  std::vector<KnapsackBound> suffixBounds(double slope, double weight) const;

  struct Walk;
  void visit(Walk &walk, std::size_t option, int left, int budget, double compute, double sync) const;

  std::vector<LayerOption> options;  ///< by rising compute
  std::vector<KnapsackBound> bounds; ///< of compute
  std::vector<double> leastSync;     ///< of options[i..]
  int layers;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_STAGEMULTISETS_H
