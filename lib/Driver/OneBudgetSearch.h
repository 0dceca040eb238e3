// The fastest plan found that fits one budget by its exact bytes.
//
//   search ─▶ lower ─▶ fits: look for a faster one whose estimate is too high (below)
//     ▲          │ a rank takes more than the budget:
//     └──────────┘ leave as much free, with the least estimate as the last resort
//
// Where more than one round was needed, what is left free is halved towards the round before as long as it pays.
// Plans whose estimate is somewhat over the budget may fit, and be faster than the best by estimate. All that are
// faster are listed and lowered, likely ones first, until none is left that is faster than what fits.
//
//   within 1.3 x budget by estimate:   0.40 s  0.41 s  0.41 s  0.44 s │ 0.46 s, the best by estimate
//   lowered:                           over    over            fits   │
//                                                      └─ not lowered: a stage of it was, and is over
#ifndef GALVATRON_DRIVER_ONEBUDGETSEARCH_H
#define GALVATRON_DRIVER_ONEBUDGETSEARCH_H

#include "LoweredPlans.h"

#include "galvatron/Search/Solver/RankedPlans.h"
#include "galvatron/Search/Solver/Solver.h"

namespace galvatron {

/// What a search for a budget ends with.
struct FoundPlan {
  std::optional<search::Plan> plan;    ///< with exact bytes; none: not even an estimate fits, or see `refused`
  std::optional<search::Plan> refused; ///< the best by estimate, which the lowering refuses
  int64_t smallestEstimate = 0;        ///< without a plan: the least estimate of any, 0 if there is no plan at all
  std::string message;                 ///< without a plan: the search's
  bool fits(int64_t memory) const { return plan && getMostBytes(*plan) <= memory; }
};

/// A search for one budget, run once. `lowered` outlives it and spares lowering a stage again. Decisions, though, rest
/// only on plans that this search asked for itself: a budget has the same answer whatever others were asked before it,
/// so that a budget which is named to the user as sufficient is sufficient in a search of its own.
class OneBudgetSearch {
public:
  /// `options` have settings to share.
  OneBudgetSearch(const search::Problem &problem, const search::SolveOptions &options, LoweredPlans &lowered,
                  int64_t memory)
      : problem(problem), options(options), lowered(lowered), memory(memory) {}

  /// The fastest plan found that takes at most `memory` bytes on every rank; without one, that of the least bytes
  /// found. Error: an inconsistent problem.
  search::Result<FoundPlan> run();

  /// Instead of `run`: only whether some plan fits. Where the answer is no, one may have been missed.
  search::Result<bool> hasPlan();

  int64_t getNumCandidates() const { return candidates; }
  int64_t getNumOpened() const { return candidatesOpened; }

private:
  struct Unsettled;

  search::Result<FoundPlan> searchOnce(int64_t within, int64_t overhead);
  search::Result<FoundPlan> searchByEstimate();
  std::optional<search::Error> halve();
  std::optional<search::Error> searchAbove();
  std::optional<search::Error> searchUnsettled();
  std::optional<search::Error> improve();
  std::optional<search::Error> lowerSmallest();
  std::optional<search::Error> lowerListed(std::vector<search::Plan> plans);
  std::optional<search::Error> searchOneStage();
  std::optional<search::Error> listUniform(search::RankOptions rank);
  void lowerUniform(int most, int64_t within);
  std::optional<search::Error> listFastest(search::RankOptions rank);
  std::optional<search::Error> narrow();
  std::optional<search::Error> narrowShape(int stages, int microBatches);
  std::optional<search::Error> searchShape(search::Problem asked, search::SolveOptions solve);
  std::optional<search::Error> searchAlike(bool byBlocks);
  bool lower(search::Plan &plan);
  void takeIfFits(search::Plan plan);
  bool isKnownTooLarge(const search::Plan &plan) const;

  const search::Problem &problem;
  const search::SolveOptions &options;
  LoweredPlans &lowered;
  bool looksAbove = true;
  /// Where faster plans were too many to list: the share of the step by which some may be faster.
  double mayGain = 0;
  int64_t memory; ///< the budget: bytes of a device that a rank may take

  FoundPlan found;
  /// Bytes left free by searches by estimate: the most of those whose plan took too much, and what the one left free
  /// whose plan fits.
  int64_t freeTooLittle = 0, freeEnough = 0;
  int left = 0; ///< plans of lists that may still be lowered
  /// Plans whose layers are all alike and that may fit, fastest first; those that were lowered are gone.
  std::vector<search::Plan> uniform;
  /// What a rank takes of stages lowered by this search, by describeStage.
  std::map<std::string, int64_t> bytesOfStages;
  /// What each stage of the last plan of a shape (stages, micro-batches) took beyond its estimate.
  std::map<std::pair<int, int>, std::vector<int64_t>> extraBytesOfShapes;
  int64_t candidates = 0, candidatesOpened = 0; ///< of all searches by estimate
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_ONEBUDGETSEARCH_H
