//===- KnapsackBound.cpp - Least cost of many choices in a budget ---------===//

#include "KnapsackBound.h"

#include <algorithm>
#include <limits>

namespace galvatron::search {

std::vector<std::pair<double, double>> lowerHull(std::vector<std::pair<double, double>> points) {
  std::sort(points.begin(), points.end());
  std::vector<std::pair<double, double>> hull;
  for (const auto &point : points) {
    if (!hull.empty() && point.second >= hull.back().second)
      continue;
    while (hull.size() > 1) {
      auto [ax, ay] = hull[hull.size() - 2];
      auto [bx, by] = hull.back();
      if ((bx - ax) * (point.second - ay) - (by - ay) * (point.first - ax) > 0)
        break;
      hull.pop_back();
    }
    hull.push_back(point);
  }
  return hull;
}

KnapsackBound KnapsackBound::add(const KnapsackBound &after, std::vector<std::pair<double, double>> points, int count) {
  KnapsackBound result = after;
  if (count < 1)
    return result;
  std::vector<std::pair<double, double>> hull = lowerHull(std::move(points));
  // Equal layers trade alike, so that their edges are one.
  result.baseMemory += count * hull.front().first;
  result.baseCost += count * hull.front().second;
  for (std::size_t i = 1; i < hull.size(); ++i) {
    Edge edge{count * (hull[i].first - hull[i - 1].first), count * (hull[i - 1].second - hull[i].second)};
    result.edges.insert(std::upper_bound(result.edges.begin(), result.edges.end(), edge,
                                         [](const Edge &a, const Edge &b) { return a.slope() > b.slope(); }),
                        edge);
  }
  result.cumulative.clear();
  double memory = 0, cost = 0;
  for (const Edge &edge : result.edges) {
    memory += edge.memory;
    cost += edge.cost;
    result.cumulative.emplace_back(memory, cost);
  }
  return result;
}

double KnapsackBound::at(double memory) const {
  double room = memory - baseMemory;
  if (room < 0)
    return std::numeric_limits<double>::infinity();
  auto next = std::upper_bound(cumulative.begin(), cumulative.end(), std::pair{room, 1e300});
  double saved = next == cumulative.begin() ? 0 : std::prev(next)->second;
  double used = next == cumulative.begin() ? 0 : std::prev(next)->first;
  if (next != cumulative.end())
    saved += edges[next - cumulative.begin()].slope() * (room - used);
  return baseCost - saved;
}

} // namespace galvatron::search
