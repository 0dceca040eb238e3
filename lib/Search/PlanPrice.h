//===- PlanPrice.h - The objective of one complete plan ---------*- C++ -*-===//
//
// Private to lib/Search. Adds up a plan whose units have their options: what
// the dynamic programming adds up label by label, once more from the front.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_LIB_SEARCH_PLANPRICE_H
#define GALVATRON_LIB_SEARCH_PLANPRICE_H

#include "StageCosts.h"
#include "galvatron/Search/Plan.h"
#include "galvatron/Search/Timetable.h"

#include <vector>

namespace galvatron::search {

struct PlanPrice {
  double seconds = 0; ///< the objective
  std::vector<double> stageSeconds, tailSeconds;
  std::vector<StageMemory> memory;
  std::vector<double> redistribution; ///< by unit, on entering it
  std::vector<double> handOver;       ///< by stage, on leaving it
  std::vector<StageTimes> times;      ///< for the timetable
  std::int64_t peak() const;
};

/// `chosen` has an option for every unit, `stageOf` its stage.
PlanPrice pricePlan(const Setting &setting, Schedule schedule, const std::vector<const Option *> &chosen,
                    const std::vector<int> &stageOf);

/// The plan in words and numbers, reasons not yet filled.
Plan assemblePlan(const Setting &setting, Schedule schedule, const std::vector<const Option *> &chosen,
                  const std::vector<int> &stageOf, const PlanPrice &price);

/// Fills reasons: causes and alternatives per unit, and notes.
void explainPlan(Plan &plan, const Setting &setting, const std::vector<const Option *> &chosen,
                 const std::vector<int> &stageOf, const PlanPrice &price);

} // namespace galvatron::search

#endif // GALVATRON_LIB_SEARCH_PLANPRICE_H
