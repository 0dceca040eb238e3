// Plans that were lowered to know their bytes.
//
// What a rank takes depends on its stage alone: its layers, their strategies, the schedule and the layers next to it.
// So a stage that several plans have in common is lowered once.
#ifndef GALVATRON_DRIVER_LOWEREDPLANS_H
#define GALVATRON_DRIVER_LOWEREDPLANS_H

#include "PlanBytes.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace galvatron {

/// Lowers a program under a plan: what a rank of each stage then takes, or nothing where a phase after the search
/// refuses the plan.
using LowerFunction = std::function<std::optional<std::vector<RankBytes>>(const search::Plan &)>;

/// All that the bytes of a rank of `stage` depend on, as text.
std::string describeStage(const search::Plan &plan, int stage);

class LoweredPlans {
public:
  explicit LoweredPlans(LowerFunction lower) : lowerPlan(std::move(lower)) {}

  /// Notes in `plan`, which has its estimates, what its ranks take; false: it cannot be lowered.
  bool lower(search::Plan &plan);

  /// The least of their bytes that are more than `memory`; the largest number if there are none.
  int64_t findBytesAbove(int64_t memory) const;

  /// Whether a stage of it was lowered that takes more than `memory`.
  bool isKnownTooLarge(const search::Plan &plan, int64_t memory) const;

  /// The plans by rising time, each with what it lost by against `chosen`, which fits `budget`.
  std::vector<search::LoweredPlan> explain(const search::Plan &chosen, int64_t budget) const;

private:
  bool recall(search::Plan &plan) const;

  LowerFunction lowerPlan;
  std::map<std::string, RankBytes> bytesOfStages; ///< by describeStage
  std::vector<search::LoweredPlan> plans;         ///< in the order of their lowering
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_LOWEREDPLANS_H
