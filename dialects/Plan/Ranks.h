//===- Ranks.h - the order of ranks in a stage ----------------------------===//
//
// A stage's ranks form a mesh of axes of prime size, slowest first. A strategy's degrees take axes of it, and the ranks
// that differ along the axes of one degree are a group. Slowest first the degrees come in the order of Strategy.def:
//
//   dp, ep, cp, ulysses, tp        strided: tp, dp, ep, cp, ulysses
//
// Of each prime a degree takes the slowest axes that are free. So the groups of a strategy are as this order says where
// the mesh is, for 12 ranks:
//
//   dp 3 x tp 4   [3, 2, 2]   tp {0 1 2 3} {4 5 6 7} {8 9 10 11}    dp {0 4 8} {1 5 9} {2 6 10} {3 7 11}
//   dp 4 x tp 3   [2, 2, 3]   tp {0 1 2} {3 4 5} {6 7 8} {9 10 11}  dp {0 3 6 9} {1 4 7 10} {2 5 8 11}
//
// A pipeline's stages have one mesh, as values go from a rank to that of the same number in the next stage. Where not
// every layer can have its own order, the one that moves less is laid out with a stride: dp 3 x tp 4 in the second mesh
// has tp {0 3 6 9} {1 4 7 10} {2 5 8 11}.
//
// Without MLIR: placements and prices have their groups from here.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_PLAN_RANKS_H
#define GALVATRON_DIALECTS_PLAN_RANKS_H

#include "dialects/Plan/Strategy.h"

#include <map>
#include <utility>
#include <vector>

namespace galvatron::plan {

/// Sizes of a mesh's axes, slowest first.
using Mesh = std::vector<std::int64_t>;

/// 12 is 2, 2, 3.
Mesh getPrimeFactors(std::int64_t number);

/// The ranks that one dimension has to itself: of dp, those that none of its parts takes.
std::int64_t getOwnDegree(DimensionId id, const StrategyValues &values);

/// The dimensions that are degrees, slowest first.
std::vector<DimensionId> getRankOrder(bool strided);

/// The axes of a mesh that a strategy's dimensions take.
struct MeshAxes {
  /// By `DimensionId`; empty for one that has no ranks.
  std::vector<std::vector<int>> of = std::vector<std::vector<int>>(std::size(kDimensions));
  /// A dimension whose own degree the free axes do not give, if there is one.
  const Dimension *failed = nullptr;
  /// No axis is left over.
  bool usesAll = false;
};

MeshAxes dealMeshAxes(const Mesh &mesh, const StrategyValues &values);

/// The axes of `to` that a strategy uses for what it uses `axes` of `from` for: of the same dimension and prime, the
/// same in order. The strategies differ in the order of ranks at most.
std::vector<int> translateAxes(const std::vector<int> &axes, const Mesh &from, const StrategyValues &ofFrom,
                               const Mesh &to, const StrategyValues &ofTo);

/// Ranks of a stage that join a collective, given by how their numbers differ: loops, fastest first, each of `size`
/// ranks that are `stride` apart. All groups of a stage have one shape.
struct GroupShape {
  struct Loop {
    std::int64_t size = 1, stride = 1;
    auto operator<=>(const Loop &) const = default;
  };
  std::vector<Loop> loops;

  GroupShape() = default;
  GroupShape(std::int64_t size, std::int64_t stride) {
    if (size > 1)
      loops.push_back({size, stride});
  }

  auto operator<=>(const GroupShape &) const = default;

  std::int64_t size() const {
    std::int64_t product = 1;
    for (const Loop &loop : loops)
      product *= loop.size;
    return product;
  }
  /// How far apart neighbours are at least; 1: as near as ranks can be.
  std::int64_t stride() const { return loops.empty() ? 1 : loops.front().stride; }
  /// Ranks from the first up to where the next loop would begin.
  std::int64_t span() const { return loops.empty() ? 1 : loops.back().size * loops.back().stride; }
  bool isAdjacent() const { return loops.empty() || (loops.size() == 1 && stride() == 1); }

  /// The members of the group of rank 0.
  std::vector<std::int64_t> members() const;
};

/// The ranks that differ along some of a mesh's axes.
GroupShape getGroup(const Mesh &mesh, std::vector<int> axes);

/// How many ranks of a strategy lie in groups that the mesh does not lay out in the strategy's own order, each counted
/// less one: a stage of N ranks moves (g - 1) / N of a layer's value through every rank of a group of g that gathers or
/// reduces it. The slowest dimension does not count: it is meant to be far.
std::int64_t getDisorder(const Mesh &mesh, const StrategyValues &values);

/// The order of a mesh's axes that follows from the strategies on it: that of least disorder, of several the first in
/// the order of the sizes. `strategies`: each with the number of layers that have it.
Mesh chooseMesh(std::int64_t ranks, const std::map<StrategyValues, std::int64_t> &strategies);

} // namespace galvatron::plan

#endif // GALVATRON_DIALECTS_PLAN_RANKS_H
