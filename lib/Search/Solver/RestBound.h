//===- RestBound.h - Least cost of many choices in a budget -----*- C++ -*-===//
//
// Private to lib/Search.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_RESTBOUND_H
#define GALVATRON_SEARCH_SOLVER_RESTBOUND_H

#include <utility>
#include <vector>

namespace galvatron::search {

/// Lower bound of Σ cost of some units against the memory they may take: the
/// convex relaxation of choosing one option each.
class RestBound {
public:
  /// From the bound of the units after, adding `count` equal units with their
  /// (memory, cost) points.
  static RestBound add(const RestBound &after, std::vector<std::pair<double, double>> points, int count = 1);
  double at(double memory) const; ///< infinite when the smallest do not fit

private:
  double baseMemory = 0, baseCost = 0; ///< all units at their smallest
  struct Segment {
    double memory, cost; ///< more memory, less cost
    double slope() const { return cost / memory; }
  };
  std::vector<Segment> segments;                     ///< steepest first
  std::vector<std::pair<double, double>> cumulative; ///< memory, cost after each
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_RESTBOUND_H
