//===- StageTrie.h - Best ways to run a run of units on a stage -*- C++ -*-===//
//
// Private to lib/Search. What a stage costs depends on the types of its units,
// not on where they stand in the model, so runs of units are paths of a trie
// and equal runs are solved once. A node holds, per layout of the last unit's
// boundary, the labels that no other label beats in time, tail, memory and
// scratch.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_LIB_SEARCH_STAGETRIE_H
#define GALVATRON_LIB_SEARCH_STAGETRIE_H

#include "StageCosts.h"

#include <map>
#include <memory>
#include <vector>

namespace galvatron::search {

struct Label {
  double time = 0, tail = 0;
  std::int64_t memory = 0;  ///< states and saved activations
  std::int64_t scratch = 0; ///< largest so far
  int option = -1;          ///< of the last unit, in its type's list
  int parent = -1;          ///< label in the node before
};

struct TrieNode {
  const TrieNode *before = nullptr;
  int type = -1;
  double leastTime = 0; ///< sum of the units' least times
  std::vector<Label> labels;
  /// Per layout, those undominated in time and tail alone.
  std::vector<int> ends;
  std::map<int, std::unique_ptr<TrieNode>> children;
};

/// What a stage may cost so that the plan can still beat the best one.
struct StageLimits {
  double best = 0;     ///< seconds of a step to stay below
  double leastSum = 0; ///< of all stages' times
  int microBatches = 1;
  std::int64_t memory = 0; ///< for memory + scratch
  /// Give up beyond so many labels; the caller tries again less exactly.
  std::int64_t labelBudget = 0;
  std::int64_t *labelsMade = nullptr;
  bool exhausted() const { return *labelsMade > labelBudget; }
  /// For a single stage: what the units after each prefix need at least, as
  /// m · time + tail against memory. Indexed by units done.
  const std::vector<class RestBound> *rest = nullptr;
};

/// Lower bound of Σ cost of some units against the memory they may take: the
/// convex relaxation of choosing one option each.
class RestBound {
public:
  /// From the bound of the units after, adding one unit's (memory, cost) points.
  static RestBound add(const RestBound &after, std::vector<std::pair<double, double>> points);
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

class StageTrie {
public:
  /// For a stage that keeps `inFlight` micro-batches and receives its input in
  /// `incoming` (a layout, or -1 for the first stage) of `boundary` bytes.
  StageTrie(const Setting &setting, const std::vector<double> &leastTimeOfType, int inFlight, int incoming,
            std::int64_t boundary);

  const TrieNode *root() const { return &start; }
  /// The node one unit further. Solved on first use.
  const TrieNode *extend(const TrieNode *node, int type, const StageLimits &limits, int unitsDone);

private:
  void solve(TrieNode &node, const StageLimits &limits, int unitsDone);

  const Setting &setting;
  const std::vector<double> &leastTimeOfType;
  int inFlight, incoming;
  std::int64_t incomingBoundary;
  TrieNode start;
};

} // namespace galvatron::search

#endif // GALVATRON_LIB_SEARCH_STAGETRIE_H
