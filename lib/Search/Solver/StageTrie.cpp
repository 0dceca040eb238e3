//===- StageTrie.cpp - Best ways to run a run of layers on a stage ---------===//

#include "StageTrie.h"

#include <algorithm>
#include <tuple>

namespace galvatron::search {

StageTrie::StageTrie(const Setting &setting, const OptionLists &options, const std::vector<double> &leastTimeOfType,
                     const TrieKey &key)
    : setting(setting), options(options), leastTimeOfType(leastTimeOfType), key(key) {
  start.labels.emplace_back().memory = key.extraBytes;
}

const TrieNode *StageTrie::extend(const TrieNode *node, int type, const StageLimits &limits, int layersDone) {
  // Nodes are handed out as const; this class owns them.
  auto &child = const_cast<TrieNode *>(node)->children[type];
  if (!child) {
    child = std::make_unique<TrieNode>();
    child->before = node;
    child->type = type;
    child->leastTime = node->leastTime + leastTimeOfType[type];
    solve(*child, limits, layersDone);
  }
  return child.get();
}

namespace {
/// The numbers of labels side by side, so that many are compared at once.
class Front {
public:
  Front(bool split, bool weights) : split(split), weights(weights) {}

  bool beats(const Label &label) {
    std::size_t count = memory.size();
    if (count && beatsAt(smallest, label))
      return true; // most are beaten by the one with the least memory
    double first = split ? label.forward : label.time(), then = afterwards(label);
    // From the back: those take about as long.
    for (std::size_t end = count; end > 0;) {
      std::size_t begin = end > kBlock ? end - kBlock : 0;
      ++blocks;
      unsigned any = 0;
      for (std::size_t i = begin; i < end; ++i)
        any |= unsigned(time[i] <= first) & unsigned(!split || backward[i] <= then) &
               unsigned(!weights || weight[i] <= label.weight) & unsigned(tail[i] <= label.tail) &
               unsigned(memory[i] <= label.memory) & unsigned(scratch[i] <= label.scratch);
      if (any)
        return true;
      end = begin;
    }
    return false;
  }

  void add(const Label &label) {
    if (memory.empty() || label.memory < memory[smallest])
      smallest = memory.size();
    time.push_back(split ? label.forward : label.time());
    backward.push_back(afterwards(label));
    weight.push_back(label.weight);
    tail.push_back(label.tail);
    memory.push_back(label.memory);
    scratch.push_back(label.scratch);
  }

  /// In labels: comparing this much takes about as long as making so many.
  std::int64_t work() const { return blocks / 4; }

private:
  static constexpr std::size_t kBlock = 64;
  /// What a stage before waits for.
  double afterwards(const Label &label) const { return label.backward - (weights ? label.weight : 0); }
  bool beatsAt(std::size_t i, const Label &label) const {
    return time[i] <= (split ? label.forward : label.time()) && (!split || backward[i] <= afterwards(label)) &&
           (!weights || weight[i] <= label.weight) && tail[i] <= label.tail && memory[i] <= label.memory &&
           scratch[i] <= label.scratch;
  }

  bool split, weights;
  std::int64_t blocks = 0; ///< compared
  std::size_t smallest = 0;
  std::vector<double> time, backward, weight, tail;
  std::vector<std::int64_t> memory, scratch;
};
} // namespace

/// Keeps the undominated ones, by rising time.
std::int64_t StageTrie::keepUndominated(std::vector<Label> &labels) const {
  std::sort(labels.begin(), labels.end(), [](const Label &a, const Label &b) {
    return std::tuple(a.time(), a.memory, a.tail, a.scratch, a.forward, a.weight, a.option, a.parent) <
           std::tuple(b.time(), b.memory, b.tail, b.scratch, b.forward, b.weight, b.option, b.parent);
  });
  Front front(key.split, key.weights);
  std::vector<Label> kept;
  for (const Label &label : labels) {
    if (front.beats(label))
      continue;
    front.add(label);
    kept.push_back(label);
  }
  labels = std::move(kept);
  return front.work();
}

void StageTrie::solve(TrieNode &node, const StageLimits &limits, int layersDone) {
  std::vector<std::vector<int>> choices(setting.layouts.size());
  const std::vector<Option> &list = options[node.type];
  for (int i = 0; i < int(list.size()); ++i)
    choices[list[i].layout].push_back(i);
  const KnapsackBound *rest = limits.rest ? &(*limits.rest)[layersDone] : nullptr;
  for (int layout = 0; layout < int(choices.size()) && !limits.exhausted(); ++layout)
    if (!choices[layout].empty())
      solveLayout(node, layout, choices[layout], limits, rest);
}

void StageTrie::solveLayout(TrieNode &node, int layout, const std::vector<int> &choices, const StageLimits &limits,
                            const KnapsackBound *rest) {
  const TrieNode &before = *node.before;
  // Arrive in this layout first, whatever the option will be.
  std::vector<Label> arrived;
  for (int i = 0; i < int(before.labels.size()); ++i) {
    Label label = before.labels[i];
    bool first = before.type < 0;
    int from = first ? key.incoming : options[before.type][label.option].layout;
    std::int64_t boundary = first ? key.incomingBoundary : options[before.type][label.option].boundary;
    double moved = setting.redistribution(key.stageClass, from, layout, boundary);
    label.forward += moved / 2;
    label.backward += moved / 2;
    label.parent = i;
    arrived.push_back(label);
  }
  *limits.labelsMade += keepUndominated(arrived);
  double m = limits.microBatches;
  std::vector<Label> labels;
  for (const Label &label : arrived)
    for (int i : choices) {
      const Option &option = options[node.type][i];
      Label next = label;
      next.forward += option.forward;
      next.backward += option.backward;
      next.weight += option.weight;
      next.tail += option.tail;
      next.memory += option.state + option.saved * key.inFlight;
      next.scratch = std::max(next.scratch, option.scratch);
      next.option = i;
      std::int64_t used = next.memory + next.scratch;
      if (used > limits.memory)
        continue;
      double time = next.time();
      double bound = key.weights ? m * time + next.tail
                     : rest      ? m * time + next.tail + rest->at(double(limits.memory - used))
                                 : std::max(m * time, limits.leastSum + (time - node.leastTime) + (m - 1) * time -
                                                          key.warmUp * next.forward) +
                                       next.tail;
      if (bound < limits.best)
        labels.push_back(next);
    }
  *limits.labelsMade += std::int64_t(labels.size());
  if (limits.exhausted())
    return;
  *limits.labelsMade += keepUndominated(labels);
  // Memory no longer matters where a stage ends.
  auto beatsAtEnd = [&](const Label &a, const Label &b) {
    if (key.weights && (a.weight > b.weight || a.backward - a.weight > b.backward - b.weight))
      return false;
    return (key.split ? a.forward <= b.forward && a.backward <= b.backward : a.time() <= b.time()) && a.tail <= b.tail;
  };
  std::size_t first = node.ends.size();
  for (const Label &label : labels) {
    bool beaten = false;
    for (std::size_t i = first; i < node.ends.size() && !beaten; ++i)
      beaten = beatsAtEnd(node.labels[node.ends[i]], label);
    if (!beaten)
      node.ends.push_back(int(node.labels.size()));
    node.labels.push_back(label);
  }
}

} // namespace galvatron::search
