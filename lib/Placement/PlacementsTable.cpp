// The table of parallelisms. A new kind of parallelism is a row here (and a degree in
// `#plan.strategy`); no pass knows any of them.
#include "galvatron/Placement/Placements.h"

using namespace galvatron;

llvm::SmallVector<Parallelism> galvatron::getParallelisms(plan::StrategyAttr strategy) {
  using Strategy = plan::StrategyAttr;
  using Wants = llvm::SmallVector<Preference>;

  // Experts are spread over devices that dp would otherwise give samples alone: `ep` of the `dp`.
  Parallelism dp{"dp", [](Strategy s) { return s.getDp() / s.getEp(); }, Wants{{AxisRole::Batch}}};
  Parallelism ep{"ep", [](Strategy s) { return s.getEp(); }, Wants{{AxisRole::Expert}, {AxisRole::Batch}}};
  // Ops that mix positions keep their queries cut; their keys are gathered.
  Parallelism cp{"cp", [](Strategy s) { return s.getCp(); }, Wants{{AxisRole::Seq}}};
  // Positions where ops do not mix them, heads where they do: the borders become all-to-alls.
  Parallelism ulysses{"ulysses", [](Strategy s) { return s.getUlysses(); },
                      Wants{{AxisRole::Seq, When::NotMixing}, {AxisRole::Internal}}};
  Parallelism tp{"tp", [](Strategy s) { return s.getTp(); }, Wants{{AxisRole::Internal}}};
  if (strategy.getMegatronSp())
    tp.wants.push_back({AxisRole::Seq, When::NoInternalLoop});

  return {dp, ep, cp, ulysses, tp};
}
