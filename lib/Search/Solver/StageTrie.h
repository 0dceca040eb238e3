//===- StageTrie.h - Best ways to run a run of layers on a stage -*- C++ -*-===//
//
// Private to lib/Search. What a stage costs depends on the types of its layers,
// not on where they stand in the model, so runs of layers are paths of a trie
// and equal runs are solved once. A node holds, per layout of the last layer's
// boundary, the labels that no other label beats in forward, backward, tail,
// memory and scratch.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_STAGETRIE_H
#define GALVATRON_SEARCH_SOLVER_STAGETRIE_H

#include "KnapsackBound.h"
#include "StageCosts.h"

#include <map>
#include <memory>
#include <vector>

namespace galvatron::search {

struct Label {
  double forward = 0, backward = 0, tail = 0;
  double weight = 0;        ///< of `backward`, what zero bubble puts off
  std::int64_t memory = 0;  ///< states and saved activations
  std::int64_t scratch = 0; ///< largest so far
  int option = -1;          ///< of the last layer, in its type's list
  int parent = -1;          ///< label in the node before
  double time() const { return forward + backward; }
};

struct TrieNode {
  const TrieNode *before = nullptr;
  int type = -1;
  double leastTime = 0; ///< sum of the layers' least times
  std::vector<Label> labels;
  /// Per layout, those undominated in times and tail alone.
  std::vector<int> ends;
  std::map<int, std::unique_ptr<TrieNode>> children;
};

/// Where a stage stands and what it may cost so that the plan can still beat
/// the best one.
struct StageLimits {
  double best = 0;     ///< seconds of a step to stay below
  double leastSum = 0; ///< of all stages' times
  int microBatches = 1;
  std::int64_t memory = 0; ///< for memory + scratch
  /// Give up beyond so many labels; the caller tries again less exactly.
  std::int64_t labelBudget = 0;
  std::int64_t *labelsMade = nullptr;
  bool exhausted() const { return *labelsMade > labelBudget; }
  /// For a single stage: what the layers after each prefix need at least, as
  /// m · time + tail against memory. Indexed by layers done.
  const std::vector<KnapsackBound> *rest = nullptr;
};

/// What tries differ in.
struct TrieKey {
  int inFlight = 1;                  ///< micro-batches kept
  int warmUp = 0;                    ///< forwards before the first backward
  std::int64_t extraBytes = 0;       ///< taken whatever the layers
  int stageClass = 0;                ///< of Setting::options
  int incoming = -1;                 ///< layout of the stage's input; -1 for the first stage
  bool split = false;                ///< forward and backward count apart
  bool weights = false;              ///< and of backward, what zero bubble puts off
  std::int64_t incomingBoundary = 0; ///< bytes
  auto operator<=>(const TrieKey &) const = default;
};

class StageTrie {
public:
  StageTrie(const Setting &setting, const OptionLists &options, const std::vector<double> &leastTimeOfType,
            const TrieKey &key);

  const TrieNode *root() const { return &start; }
  /// The node one layer further. Solved on first use.
  const TrieNode *extend(const TrieNode *node, int type, const StageLimits &limits, int layersDone);
  const Option &option(const TrieNode &node, int label) const { return options[node.type][node.labels[label].option]; }

private:
  void solve(TrieNode &node, const StageLimits &limits, int layersDone);
  void solveLayout(TrieNode &node, int layout, const std::vector<int> &choices, const StageLimits &limits,
                   const KnapsackBound *rest);
  /// Returns the work, in labels.
  std::int64_t keepUndominated(std::vector<Label> &labels) const;

  const Setting &setting;
  const OptionLists &options;
  const std::vector<double> &leastTimeOfType;
  TrieKey key;
  TrieNode start;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_STAGETRIE_H
