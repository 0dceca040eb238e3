//===- BordersBound.h - What a candidate takes at least ---------*- C++ -*-===//
//
// Private to lib/Search. A lower bound of all plans of a candidate that knows where stages may end: every stage holds
// whole layers, in its own memory, and the path through the schedule's timetable that turns at it is within a limit.
// Only what a stage's layers take is relaxed: options by shares (the multiple-choice knapsack of KnapsackBound.h, with
// the stage's own micro-batches in flight, for sizes that its largest scratch may have), without redistribution.
//
// A path turns at stage j (f forward, g backward without w, the weights' gradients that zero bubble puts off, t tail, h
// to the next stage; m micro-batches, u of them forward before the first backward, v sums of weights after the last):
//
//   its first forward comes at   Σ_{i<j} (f_i + h_i)                                                   before
//   or its first backward at     Σ_i (f_i + h_i) + Σ_{i>j} g_i + Σ_{i≥j} h_i, after u of its forwards   before, after
//   all that it has to do takes  m (f_j + g_j + w_j)
//   after the last backward come Σ_{i<j} (g_i + h_i), during which it does v sums of weights           before
//   or only what is left of its own
//
// So on the way a stage counts f + g + 2h (where nothing is put off, g is all of backward), and where a path turns
// (m - u + 1) f + m g + (m - v) w + t at most, m (f + g + w) + t at least.
//
//   layers done │            ┌ after: what the layers left take on the way, if every stage of theirs is within the
//   limit
//               │        ·───● 9
//               │    ·───●     own: what the path takes where it turns
//               │ ●──●   └ before: the same of the layers done
//               └──────────── stages done
//
// A run of layers may be a stage if before + own + after is below the limit. `before` and `after` go through such runs
// alone, so they grow as runs fall; where none is left from end to end, no plan is below the limit.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_BORDERSBOUND_H
#define GALVATRON_SEARCH_SOLVER_BORDERSBOUND_H

#include "Candidate.h"

#include <map>
#include <memory>
#include <tuple>
#include <vector>

namespace galvatron::search {

/// The runs of a model's layers, each with the number of those that it equals but for the order of its layers.
class LayerRuns {
public:
  explicit LayerRuns(const std::vector<int> &typeOf);
  int layers() const { return count; }
  /// Of the layers [begin, end), which are some.
  int kind(int begin, int end) const { return kindOf[std::size_t(begin) * (count + 1) + end]; }
  /// Layers by type.
  const std::vector<std::vector<int>> &kinds() const { return counts; }

private:
  int count;
  std::vector<std::vector<int>> counts;
  std::vector<int> kindOf;
};

class BordersBound {
public:
  /// `runs`: of the candidate's layers; they and it outlive this.
  BordersBound(const Candidate &candidate, const LayerRuns &runs);
  ~BordersBound();

  /// Whether every plan takes `limit` seconds or more. Infinite: whether none fits.
  bool excludes(double limit);
  /// The largest limit known to be excluded: `most`, or by halves between the candidate's own bound and it.
  double floor(double most);

private:
  /// What a second of an option counts.
  struct Weights {
    double forward = 0, input = 0, weight = 0, tail = 0;
    auto operator<=>(const Weights &) const = default;
  };
  /// Options as one stage sees them, by layer type and rising bytes.
  struct Offer;
  /// The least weighted seconds of some layers on a stage.
  class Relaxed;
  /// Where a path turns.
  struct Turn {
    Relaxed *own;
    bool before, after; ///< what is added
  };
  struct Stage {
    Relaxed *passed = nullptr; ///< on the way
    double transfers = 0;      ///< to the next stage and back
    std::vector<Turn> turns;
  };

  void makeStages();
  Relaxed *relaxed(int stage, const Weights &weights);
  double leastTransfer(int stage) const;
  double longest(int stage, int kind, double before, double after);
  bool goForwards(double limit);
  bool goBackwards(double limit);

  const Candidate &candidate;
  const Setting &setting;
  const LayerRuns &runs;
  using StageKind = std::tuple<int, int, std::int64_t>; ///< class, micro-batches in flight, extra bytes
  std::map<StageKind, std::unique_ptr<Offer>> offers;
  std::map<std::pair<StageKind, Weights>, std::unique_ptr<Relaxed>> known;
  std::vector<Stage> line;
  std::vector<std::vector<double>> before, after; ///< by stages done, layers done
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_BORDERSBOUND_H
