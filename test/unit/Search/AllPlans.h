//===- AllPlans.h - Every plan of a small problem ---------------*- C++ -*-===//

#ifndef GALVATRON_TEST_UNIT_SEARCH_ALLPLANS_H
#define GALVATRON_TEST_UNIT_SEARCH_ALLPLANS_H

#include "galvatron/Search/Solver/Solver.h"

#include <gtest/gtest.h>

#include <functional>

namespace galvatron::search::testing {

/// Calls `visit` with every plan of one schedule over tp, dp and recomputation of
/// layers, whatever it takes, priced by evaluatePlan alone.
inline void forEachPlan(const Problem &problem, Schedule schedule, const std::function<void(const Plan &)> &visit) {
  for (int stages = 1; stages <= problem.ranks() && stages <= int(problem.layers.size()); ++stages)
    for (int count = 1; count <= problem.globalBatch; ++count) {
      if (problem.ranks() % stages || problem.globalBatch % count)
        continue;
      std::int64_t ranks = problem.ranks() / stages, samples = problem.globalBatch / count;
      std::vector<std::pair<Strategy, int>> offered;
      for (int tp = 1; tp <= ranks; ++tp)
        for (bool recompute : {false, true})
          if (ranks % tp == 0 && samples % (ranks / tp) == 0)
            offered.push_back({Strategy{.tp = tp, .recompute = recompute}, int(ranks / tp)});
      Plan plan;
      plan.ranks = problem.ranks();
      plan.pipeline = stages;
      plan.globalBatch = problem.globalBatch;
      plan.microBatches = count;
      plan.schedule = schedule;
      for (const Layer &layer : problem.layers)
        plan.layers.push_back({layer.path, layer.layerType, layer.role, {}, 1, 0});
      std::function<void(std::size_t)> fill = [&](std::size_t at) {
        if (at == plan.layers.size()) {
          if (plan.layers.back().stage != stages - 1)
            return;
          Result<Plan> priced = evaluatePlan(problem, plan);
          ASSERT_TRUE(priced) << priced.error().message;
          return visit(*priced);
        }
        int before = at ? plan.layers[at - 1].stage : 0;
        for (int stage = before; stage <= (at ? std::min(before + 1, stages - 1) : 0); ++stage)
          for (const auto &[strategy, dp] : offered) {
            if (plan.layers[at].role != LayerRole::Block && strategy.recompute)
              continue;
            plan.layers[at].stage = stage;
            plan.layers[at].strategy = strategy;
            plan.layers[at].dp = dp;
            fill(at + 1);
          }
      };
      fill(0);
    }
}

} // namespace galvatron::search::testing

#endif // GALVATRON_TEST_UNIT_SEARCH_ALLPLANS_H
