//===- PlanPrice.h - The objective of one complete plan ---------*- C++ -*-===//
//
// Private to lib/Search. Adds up a plan whose layers have their options: what
// the dynamic programming adds up label by label, once more from the front.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_PLANPRICE_H
#define GALVATRON_SEARCH_SOLVER_PLANPRICE_H

#include "StageCosts.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Timetable.h"

#include <limits>
#include <vector>

namespace galvatron::search {

struct PlanPrice {
  double seconds = 0;                            ///< the objective: timetable, then the longest tail
  double pipeline = 0;                           ///< of these, the timetable
  std::vector<PartTimes> times;                  ///< by part
  std::vector<double> stageSeconds, tailSeconds; ///< by stage, all its parts
  std::vector<StageMemory> memory;               ///< by stage
  std::vector<double> redistribution;            ///< by layer, on entering it
  std::int64_t peak() const;
};

/// The layers' options and the parts that they are on (PipelineShape::stageOf).
struct Choice {
  std::vector<const Option *> options;
  std::vector<int> partOf;
};

/// Whether a layer shares parameters with others of its stage alone, which then keeps them once and sums nothing with
/// another: where the model comes back, under zb-v. Elsewhere its ends are as good as always apart.
bool isReunited(const Setting &setting, const PipelineShape &shape, const std::vector<int> &partOf, std::size_t layer);

/// One direction, from a part whose last layer is `last` to the next.
double secondsBetween(const Setting &setting, const PipelineShape &shape, int part, const Option &last);

/// `timetable` fits the setting. A plan that takes more than `limit` may come out
/// as infinitely slow.
PlanPrice pricePlan(const Setting &setting, const Timetable &timetable, const Choice &choice,
                    double limit = std::numeric_limits<double>::infinity());

/// The plan in words and numbers, reasons not yet filled.
Plan assemblePlan(const Setting &setting, const Timetable &timetable, const Choice &choice, const PlanPrice &price);

/// Fills reasons: causes and alternatives per layer, and notes.
void explainPlan(Plan &plan, const Setting &setting, const Timetable &timetable, const Choice &choice,
                 const PlanPrice &price);

/// A given plan in the search's terms. Owns its options, which may lie outside
/// of the space.
struct GivenPlan {
  Setting setting;
  Timetable timetable;
  std::vector<std::unique_ptr<Option>> owned;
  Choice choice;
};

/// Error: a plan that is not valid or of other layers, a strategy that the cost
/// source refuses. `alternatives`: price the whole space beside it.
Result<GivenPlan> readGivenPlan(const Problem &problem, const Plan &plan, bool alternatives);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_PLANPRICE_H
