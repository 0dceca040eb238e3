//===- Solver.h - Problem in, best plan out ---------------------*- C++ -*-===//
//
// The search over pipeline degree × schedule × virtual stages × micro-batches ×
// stage borders × a strategy per layer. Objective: the timetable of the schedule
// (Timetable.h) with the plan's own, uneven times, then the longest tail of a
// stage: gradient sums, clipping (which waits for all), update.
//
// GPipe, 1F1B and zero bubble are searched exactly: dynamic programming over
// (layer, layout of its boundary) with sets of labels that no other label beats in
// (forward, backward, step tail, memory), candidates visited by lower bound, so
// that most are never opened. Interleaved plans and those of zb-v are searched
// among regular ones and, from these, by moving layers from part to part
// (lib/Search/Solver/RegularPlans.cpp); where there are few, all of them
// (SmallPlans.cpp).
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_SOLVER_H
#define GALVATRON_SEARCH_SOLVER_SOLVER_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Problem.h"
#include "galvatron/Search/Solver/PricedSettings.h"

#include <atomic>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

struct Progress {
  double seconds = 0; ///< since the search began
  std::int64_t candidatesDone = 0, candidatesTotal = 0;
  double bestStepSeconds = 0; ///< 0: none yet
  std::string best;           ///< "pp=2 mb=8 …"
};

struct SolveOptions {
  /// Called when a better plan is found, and about every 0.2 s.
  std::function<void(const Progress &)> progress;
  /// Set from a signal handler: stop and return the best plan so far.
  const std::atomic<bool> *stop = nullptr;
  /// Give up improving after this many seconds; 0: never.
  double timeLimitSeconds = 0;
  /// Only plans that take less are looked for. Where there are none, nothing says what would fit.
  double limitSeconds = std::numeric_limits<double>::infinity();
  /// Fill Plan::reasons (alternatives of every layer).
  bool explain = true;
  /// Threads of the search, the caller's included. The answer is the same for any
  /// number. More than one asks the cost source and the communication model from
  /// several threads.
  int threads = 1;
  /// Labels that one pass over a candidate may take. Its plans are looked for near
  /// its bound first, then further off; beyond the budget it is left at what the
  /// pass before has proven (see Solution::provenWithin).
  std::int64_t labelBudget = 300000;
  /// Of searches of one problem that differ in memory; not owned. Null: of this one alone.
  PricedSettings *settings = nullptr;
};

/// Why nothing fits.
struct Infeasible {
  /// Smallest memory per device with which some plan exists; 0 if none does
  /// at any size (then `message` says why).
  std::int64_t smallestBudgetBytes = 0;
  int stage = 0;        ///< of the plan that needs the least
  std::string layer;    ///< path of the layer that needs the most on it
  std::string strategy; ///< its strategy there
  std::string message;  ///< one sentence with remedy
};

struct Solution {
  std::optional<Plan> plan;
  Infeasible infeasible; ///< meaningful without a plan
  bool interrupted = false;
  /// No plan of one part a stage is better by more than this share of the step: 0 when the search
  /// was exact to the end. Larger only where exactness would have needed more
  /// labels than `SolveOptions::labelBudget`.
  double provenWithin = 0;
  double searchSeconds = 0;
  /// Processor seconds of all that was done, and of the longest chain of what waits for each other: on n processors n
  /// threads take at most work / n + chain (Graham 1969).
  double workSeconds = 0, chainSeconds = 0;
  std::int64_t candidates = 0, candidatesOpened = 0, labels = 0;
};

/// Best plan of the problem. Error: an inconsistent problem (no layers, a cost
/// source that refuses every strategy of a layer, a batch of 0).
Result<Solution> solve(const Problem &problem, const SolveOptions &options = {});

/// Prices a given plan with the problem's costs: fills predicted time, memory
/// and reasons. Error: a strategy the cost source refuses, a plan of other
/// layers. A plan over the budget is priced, not refused.
Result<Plan> evaluatePlan(const Problem &problem, const Plan &plan);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_SOLVER_H
