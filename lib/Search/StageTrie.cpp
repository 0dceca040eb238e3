//===- StageTrie.cpp - Best ways to run a run of units on a stage ---------===//

#include "StageTrie.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace galvatron::search {

RestBound RestBound::add(const RestBound &after, std::vector<std::pair<double, double>> points) {
  RestBound result = after;
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
  result.baseMemory += hull.front().first;
  result.baseCost += hull.front().second;
  for (std::size_t i = 1; i < hull.size(); ++i) {
    Segment segment{hull[i].first - hull[i - 1].first, hull[i - 1].second - hull[i].second};
    result.segments.insert(std::upper_bound(result.segments.begin(), result.segments.end(), segment,
                                            [](const Segment &a, const Segment &b) { return a.slope() > b.slope(); }),
                           segment);
  }
  result.cumulative.clear();
  double memory = 0, cost = 0;
  for (const Segment &segment : result.segments) {
    memory += segment.memory;
    cost += segment.cost;
    result.cumulative.emplace_back(memory, cost);
  }
  return result;
}

double RestBound::at(double memory) const {
  double room = memory - baseMemory;
  if (room < 0)
    return std::numeric_limits<double>::infinity();
  auto next = std::upper_bound(cumulative.begin(), cumulative.end(), std::pair{room, 1e300});
  double saved = next == cumulative.begin() ? 0 : std::prev(next)->second;
  double used = next == cumulative.begin() ? 0 : std::prev(next)->first;
  if (next != cumulative.end())
    saved += segments[next - cumulative.begin()].slope() * (room - used);
  return baseCost - saved;
}

StageTrie::StageTrie(const Setting &setting, const std::vector<double> &leastTimeOfType, int inFlight, int incoming,
                     std::int64_t boundary)
    : setting(setting), leastTimeOfType(leastTimeOfType), inFlight(inFlight), incoming(incoming),
      incomingBoundary(boundary) {
  start.labels.emplace_back();
}

const TrieNode *StageTrie::extend(const TrieNode *node, int type, const StageLimits &limits, int unitsDone) {
  // Nodes are handed out as const; this class owns them.
  auto &child = const_cast<TrieNode *>(node)->children[type];
  if (!child) {
    child = std::make_unique<TrieNode>();
    child->before = node;
    child->type = type;
    child->leastTime = node->leastTime + leastTimeOfType[type];
    solve(*child, limits, unitsDone);
  }
  return child.get();
}

namespace {
bool beats(const Label &a, const Label &b) {
  return a.time <= b.time && a.tail <= b.tail && a.memory <= b.memory && a.scratch <= b.scratch;
}

/// Keeps the undominated ones, by rising time.
void keepUndominated(std::vector<Label> &labels) {
  std::sort(labels.begin(), labels.end(), [](const Label &a, const Label &b) {
    return std::tie(a.time, a.memory, a.tail, a.scratch) < std::tie(b.time, b.memory, b.tail, b.scratch);
  });
  std::vector<Label> kept;
  // Most labels are beaten by the kept one with the least memory: look there
  // first, then through the rest from the back (similar times).
  std::size_t smallest = 0;
  for (const Label &label : labels) {
    bool beaten = !kept.empty() && beats(kept[smallest], label);
    for (std::size_t i = kept.size(); !beaten && i-- > 0;)
      beaten = beats(kept[i], label);
    if (beaten)
      continue;
    kept.push_back(label);
    if (label.memory < kept[smallest].memory)
      smallest = kept.size() - 1;
  }
  labels = std::move(kept);
}
} // namespace

void StageTrie::solve(TrieNode &node, const StageLimits &limits, int unitsDone) {
  const TrieNode &before = *node.before;
  const std::vector<Option> &options = setting.options[node.type];
  const std::vector<Option> *previous = before.type >= 0 ? &setting.options[before.type] : nullptr;
  std::size_t layouts = setting.layouts.size();
  std::vector<std::vector<int>> optionsOf(layouts);
  for (int i = 0; i < int(options.size()); ++i)
    optionsOf[options[i].layout].push_back(i);
  double m = limits.microBatches;
  const RestBound *rest = limits.rest ? &(*limits.rest)[unitsDone] : nullptr;
  for (std::size_t layout = 0; layout < layouts; ++layout) {
    if (optionsOf[layout].empty())
      continue;
    // Arrive in this layout first, whatever the option will be.
    std::vector<Label> arrived;
    for (int i = 0; i < int(before.labels.size()); ++i) {
      Label label = before.labels[i];
      int from = previous ? (*previous)[label.option].layout : incoming;
      std::int64_t boundary = previous ? (*previous)[label.option].boundary : incomingBoundary;
      label.time += setting.redistribution(from, int(layout), boundary);
      label.parent = i;
      arrived.push_back(label);
    }
    keepUndominated(arrived);
    std::vector<Label> labels;
    for (const Label &label : arrived)
      for (int i : optionsOf[layout]) {
        const Option &option = options[i];
        Label next = label;
        next.time += option.time();
        next.tail += option.tail;
        next.memory += option.state + option.saved * inFlight;
        next.scratch = std::max(next.scratch, option.scratch);
        next.option = i;
        std::int64_t used = next.memory + next.scratch;
        if (used > limits.memory)
          continue;
        double bound = rest ? m * next.time + next.tail + rest->at(double(limits.memory - used))
                            : limits.leastSum + (next.time - node.leastTime) + (m - 1) * next.time + next.tail;
        if (!(bound < limits.best))
          continue;
        labels.push_back(next);
      }
    *limits.labelsMade += std::int64_t(labels.size());
    if (limits.exhausted())
      return;
    keepUndominated(labels);
    std::size_t first = node.labels.size();
    node.labels.insert(node.labels.end(), labels.begin(), labels.end());
    // Memory no longer matters where a stage ends.
    double leastTail = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < labels.size(); ++i)
      if (labels[i].tail < leastTail) {
        leastTail = labels[i].tail;
        node.ends.push_back(int(first + i));
      }
  }
}

} // namespace galvatron::search
