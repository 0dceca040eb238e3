// Meshes, the axes of them that strategies take, and the groups of ranks that come out.
#include "dialects/Plan/Ranks.h"

#include <algorithm>

namespace galvatron::plan {

Mesh getPrimeFactors(std::int64_t number) {
  Mesh primes;
  for (std::int64_t prime = 2; prime * prime <= number; ++prime)
    for (; number % prime == 0; number /= prime)
      primes.push_back(prime);
  if (number > 1)
    primes.push_back(number);
  return primes;
}

std::int64_t getOwnDegree(DimensionId id, const StrategyValues &values) {
  std::int64_t degree = values.*kDimensions[int(id)].value;
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, ...)                                                                \
  if (id == DimensionId::OF)                                                                                           \
    degree /= values.FIELD;
#include "dialects/Plan/Strategy.def"
  return degree;
}

std::vector<DimensionId> getRankOrder(bool strided) {
  std::vector<DimensionId> order;
  for (int id = 0; id < int(std::size(kDimensions)); ++id)
    if (kDimensions[id].isDegree())
      order.push_back(DimensionId(id));
  auto place = [&](DimensionId id) { return strided && id == DimensionId::Tp ? -1 : kDimensions[int(id)].order; };
  std::sort(order.begin(), order.end(), [&](DimensionId a, DimensionId b) { return place(a) < place(b); });
  return order;
}

MeshAxes dealMeshAxes(const Mesh &mesh, const StrategyValues &values) {
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

std::vector<int> translateAxes(const std::vector<int> &axes, const Mesh &from, const StrategyValues &ofFrom,
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

GroupShape getGroup(const Mesh &mesh, std::vector<int> axes) {
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

std::int64_t getDisorder(const Mesh &mesh, const StrategyValues &values) {
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

Mesh chooseMesh(std::int64_t ranks, const std::map<StrategyValues, std::int64_t> &strategies) {
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

std::vector<std::int64_t> GroupShape::members() const {
  std::vector<std::int64_t> ranks = {0};
  for (const Loop &loop : loops) {
    std::size_t inner = ranks.size();
    for (std::int64_t k = 1; k < loop.size; ++k)
      for (std::size_t i = 0; i < inner; ++i)
        ranks.push_back(ranks[i] + k * loop.stride);
  }
  return ranks;
}

} // namespace galvatron::plan
