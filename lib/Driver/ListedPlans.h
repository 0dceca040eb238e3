// A list of plans with a guess of what each takes, so that likely ones are lowered first.
#ifndef GALVATRON_DRIVER_LISTEDPLANS_H
#define GALVATRON_DRIVER_LISTEDPLANS_H

#include "galvatron/Search/Formats/PlanFile.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <optional>
#include <vector>

namespace galvatron {

/// A stage of a listed plan takes as many times its estimate as a lowered stage most of whose layers are the same:
///
///   lowered   stage 0: dp=2, dp=2, tp=2, dp=2    estimate 10 GiB, takes 9 GiB
///   listed    stage 0: dp=2, dp=2, tp=2, tp=2    estimate 12 GiB, guess 12 * 9/10 = 10.8 GiB
class ListedPlans {
public:
  /// Plans by rising time, with estimates.
  explicit ListedPlans(std::vector<search::Plan> listed);

  /// Learns from `lowered`, which has exact bytes and its estimates.
  void learn(const search::Plan &lowered);

  /// Drops the next plan to lower and returns it: the fastest that should fit `memory`, else the one that is least over
  /// it. Passes over what `isOver` knows to take too much, and what is as good as known to. Nothing when no plan below
  /// `limit` seconds is left.
  std::optional<search::Plan> take(double limit, int64_t memory, llvm::function_ref<bool(const search::Plan &)> isOver);

private:
  struct Stage {
    int alike = -1;   ///< layers as on the lowered stage; -1: none of this shape was lowered
    double ratio = 1; ///< of bytes to the estimate there
  };
  /// Of the rank that should need the most.
  double guessBytes(size_t index) const;
  /// Whether all stages are nearly as others that were lowered.
  bool isSure(size_t index) const;

  std::vector<search::Plan> plans;
  std::vector<std::vector<Stage>> stages; ///< of each plan
  double guessed = 0;                     ///< bytes of the plan taken last; 0: nothing like it was known
  double error = 0;                       ///< largest of all guesses, as a share
  /// What those that are unlike any lowered one took, as a share of the guess: the last ones count most. And the guess
  /// of the one taken last, if it is unlike any; 0: it is not.
  double bias = 1, picked = 0;
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_LISTEDPLANS_H
