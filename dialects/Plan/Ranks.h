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

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace galvatron::plan {

/// Sizes of a mesh's axes, slowest first.
using Mesh = std::vector<std::int64_t>;

/// 12 is 2, 2, 3.
inline Mesh getPrimeFactors(std::int64_t number) {
  Mesh primes;
  for (std::int64_t prime = 2; prime * prime <= number; ++prime)
    for (; number % prime == 0; number /= prime)
      primes.push_back(prime);
  if (number > 1)
    primes.push_back(number);
  return primes;
}

/// The ranks that one dimension has to itself: of dp, those that none of its parts takes.
inline std::int64_t getOwnDegree(DimensionId id, const StrategyValues &values) {
  std::int64_t degree = values.*kDimensions[int(id)].value;
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, ...)                                                                \
  if (id == DimensionId::OF)                                                                                           \
    degree /= values.FIELD;
#include "dialects/Plan/Strategy.def"
  return degree;
}

/// The dimensions that are degrees, slowest first.
inline std::vector<DimensionId> getRankOrder(bool strided) {
  std::vector<DimensionId> order;
  for (int id = 0; id < int(std::size(kDimensions)); ++id)
    if (kDimensions[id].isDegree())
      order.push_back(DimensionId(id));
  auto place = [&](DimensionId id) { return strided && id == DimensionId::Tp ? -1 : kDimensions[int(id)].order; };
  std::sort(order.begin(), order.end(), [&](DimensionId a, DimensionId b) { return place(a) < place(b); });
  return order;
}

/// The axes of a mesh that a strategy's dimensions take.
struct MeshAxes {
  /// By `DimensionId`; empty for one that has no ranks.
  std::vector<std::vector<int>> of = std::vector<std::vector<int>>(std::size(kDimensions));
  /// A dimension whose own degree the free axes do not give, if there is one.
  const Dimension *failed = nullptr;
  /// No axis is left over.
  bool usesAll = false;
};

inline MeshAxes dealMeshAxes(const Mesh &mesh, const StrategyValues &values) {
  MeshAxes result;
  std::vector<bool> taken(mesh.size(), false);
  for (DimensionId id : getRankOrder(values.strided)) {
    std::int64_t degree = getOwnDegree(id, values);
    for (std::size_t axis = 0; axis < mesh.size() && degree > 1; ++axis)
      if (!taken[axis] && degree % mesh[axis] == 0) {
        taken[axis] = true;
        result.of[int(id)].push_back(int(axis));
        degree /= mesh[axis];
      }
    if (degree != 1 && !result.failed)
      result.failed = &kDimensions[int(id)];
  }
  result.usesAll = std::find(taken.begin(), taken.end(), false) == taken.end();
  return result;
}

/// The axes of `to` that a strategy uses for what it uses `axes` of `from` for: of the same dimension and prime, the
/// same in order. The strategies differ in the order of ranks at most.
inline std::vector<int> translateAxes(const std::vector<int> &axes, const Mesh &from, const StrategyValues &ofFrom,
                                      const Mesh &to, const StrategyValues &ofTo) {
  MeshAxes there = dealMeshAxes(from, ofFrom), here = dealMeshAxes(to, ofTo);
  std::vector<int> result;
  for (std::size_t id = 0; id < there.of.size(); ++id) {
    std::map<std::int64_t, std::size_t> before; // of the same prime
    for (int axis : there.of[id]) {
      std::size_t place = before[from[axis]]++;
      if (std::find(axes.begin(), axes.end(), axis) == axes.end())
        continue;
      for (int other : here.of[id])
        if (to[other] == from[axis] && place-- == 0)
          result.push_back(other);
    }
  }
  return result;
}

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
  std::vector<std::int64_t> members() const {
    std::vector<std::int64_t> ranks = {0};
    for (const Loop &loop : loops) {
      std::size_t inner = ranks.size();
      for (std::int64_t k = 1; k < loop.size; ++k)
        for (std::size_t i = 0; i < inner; ++i)
          ranks.push_back(ranks[i] + k * loop.stride);
    }
    return ranks;
  }
};

/// The ranks that differ along some of a mesh's axes.
inline GroupShape getGroup(const Mesh &mesh, std::vector<int> axes) {
  std::sort(axes.begin(), axes.end());
  GroupShape group;
  std::int64_t stride = 1;
  for (int axis = int(mesh.size()) - 1; axis >= 0; stride *= mesh[axis--]) {
    if (axes.empty() || axes.back() != axis)
      continue;
    axes.pop_back();
    if (!group.loops.empty() && group.span() == stride)
      group.loops.back().size *= mesh[axis]; // goes on where the last loop ends
    else
      group.loops.push_back({mesh[axis], stride});
  }
  return group;
}

/// How many ranks of a strategy lie in groups that the mesh does not lay out in the strategy's own order, each counted
/// less one: a stage of N ranks moves (g - 1) / N of a layer's value through every rank of a group of g that gathers or
/// reduces it. The slowest dimension does not count: it is meant to be far.
inline std::int64_t getDisorder(const Mesh &mesh, const StrategyValues &values) {
  MeshAxes axes = dealMeshAxes(mesh, values);
  std::int64_t disorder = 0, stride = 1;
  for (const Dimension &row : kDimensions)
    stride *= row.kind <= DimensionKind::Degree ? values.*row.value : 1;
  bool slowest = true;
  for (DimensionId id : getRankOrder(values.strided)) {
    std::int64_t degree = getOwnDegree(id, values);
    if (degree == 1)
      continue;
    stride /= degree;
    if (!slowest && getGroup(mesh, axes.of[int(id)]) != GroupShape(degree, stride))
      disorder += degree - 1;
    slowest = false;
  }
  return disorder;
}

/// The order of a mesh's axes that follows from the strategies on it: that of least disorder, of several the first in
/// the order of the sizes. `strategies`: each with the number of layers that have it.
inline Mesh chooseMesh(std::int64_t ranks, const std::map<StrategyValues, std::int64_t> &strategies) {
  Mesh mesh = getPrimeFactors(ranks), best = mesh;
  std::int64_t least = -1;
  do {
    std::int64_t disorder = 0;
    for (const auto &[values, layers] : strategies)
      disorder += layers * getDisorder(mesh, values);
    if (least < 0 || disorder < least) {
      least = disorder;
      best = mesh;
    }
  } while (least > 0 && std::next_permutation(mesh.begin(), mesh.end()));
  return best;
}

} // namespace galvatron::plan

#endif // GALVATRON_DIALECTS_PLAN_RANKS_H
