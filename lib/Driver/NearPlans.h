// Plans that take about as little time as the best by estimate, which a simulation of what they are lowered to can tell
// apart; and as many of the next ones as a user asks for.
#ifndef GALVATRON_DRIVER_NEARPLANS_H
#define GALVATRON_DRIVER_NEARPLANS_H

#include "LoweredPlans.h"

#include "galvatron/Search/Solver/RankedPlans.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace galvatron {

struct NearPlansOptions {
  /// Seconds of a step of the lowered plan, entry by entry; nothing where it cannot be had. Null: the best by estimate
  /// is the best, and there is no list.
  std::function<std::optional<double>(const search::Plan &)> simulate;
  int64_t listed = 1; ///< plans that are wanted
};

/// All that tells a plan from others but which of the equal layers of a stage do what, as text.
std::string describeUnordered(const search::Plan &plan);

class NearPlans {
public:
  /// All outlive it. `settings` may be null.
  NearPlans(const search::Problem &problem, search::PricedSettings *settings, LoweredPlans &lowered, int64_t memory,
            const NearPlansOptions &options)
      : problem(problem), settings(settings), lowered(lowered), memory(memory), options(options) {}

  /// `found`, which was lowered, fits and is the best by estimate that was found, with the best of other kinds (shape,
  /// degrees) within 2 % of it, and of all plans the fastest by estimate: `listed` in all, or as many as there are. All
  /// fit by their lowered bytes, and rise by their simulated seconds; of equals the one of the lower estimate is first.
  /// More than `listed` where other kinds are among them. None that takes the same time and bytes as another.
  search::Result<std::vector<search::Plan>> find(search::Plan found);

  /// Whether `find` looked at every plan of the space.
  bool lookedAtAll() const { return isWhole; }
  /// Whether plans were so many that from some time on only those of one stage with layers alike were looked at.
  bool lookedAtAlikeOnly() const { return areAlike; }

private:
  std::optional<search::Error> addOtherKinds();
  std::optional<search::Error> addFastest(size_t count);
  std::optional<search::Error> addAlike(size_t count);
  std::optional<search::Error> addListed(std::vector<search::Plan> plans, size_t count);
  std::optional<search::Error> take(search::Plan plan);
  bool simulate(search::Plan &plan) const;
  double getLimit(size_t count) const;
  search::Result<search::RankedPlans> rank(double limitSeconds, int64_t mostWork) const;

  const search::Problem &problem;
  search::PricedSettings *settings;
  LoweredPlans &lowered;
  int64_t memory; ///< bytes of a device
  const NearPlansOptions &options;
  std::vector<search::Plan> plans; ///< so far, the one found first
  std::vector<std::string> seen;   ///< descriptions of all that were lowered here
  double least = 0;                ///< seconds of the one found
  size_t left = 0;                 ///< that may still be lowered
  bool isWhole = false, areAlike = false;
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_NEARPLANS_H
