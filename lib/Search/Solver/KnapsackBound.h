//===- KnapsackBound.h - Least cost of many choices in a budget -*- C++ -*-===//
//
// Private to lib/Search. The multiple-choice knapsack: each layer takes one of its
// options, which cost seconds and bytes, and the bytes have a budget. Its LP
// relaxation lets a layer take shares of options, and is solved by greed: of a
// layer's options those on the lower convex hull of seconds against bytes count,
// and their edges are bought by falling gain per byte (Sinha and Zoltners 1979,
// "The Multiple-Choice Knapsack Problem").
//
//   seconds │ x                       x  on the hull
//           │  \     o                o  off it: a mix of two others is better
//           │   x_  o
//           │      ‾-x___
//           └──────────────‾x── bytes
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_KNAPSACKBOUND_H
#define GALVATRON_SEARCH_SOLVER_KNAPSACKBOUND_H

#include <utility>
#include <vector>

namespace galvatron::search {

/// Of (bytes, seconds) points those on the lower convex hull, from the least bytes to the least seconds.
std::vector<std::pair<double, double>> lowerHull(std::vector<std::pair<double, double>> points);

/// Lower bound of Σ cost of some layers against the memory they may take.
class KnapsackBound {
public:
  /// From the bound of the layers after, adding `count` equal layers with their
  /// (memory, cost) points.
  static KnapsackBound add(const KnapsackBound &after, std::vector<std::pair<double, double>> points, int count = 1);
  double at(double memory) const; ///< infinite when the smallest do not fit

private:
  double baseMemory = 0, baseCost = 0; ///< all layers at their smallest
  struct Edge {
    double memory, cost; ///< more memory, less cost
    double slope() const { return cost / memory; }
  };
  std::vector<Edge> edges;                           ///< steepest first
  std::vector<std::pair<double, double>> cumulative; ///< memory, cost after each
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_KNAPSACKBOUND_H
