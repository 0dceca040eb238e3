// Chooses the plan: the model's units, costs read from the program and the cluster go to lib/Search; its
// answer comes back as attributes.
#include "galvatron/Transforms/SearchPlan.h"

#include "dialects/Plan/Plan.h"
#include "galvatron/Analysis/ClusterInput.h"
#include "galvatron/Analysis/ModelUnits.h"
#include "galvatron/Analysis/ProgramCosts.h"
#include "galvatron/Search/Solver.h"

#include "llvm/ADT/StringSet.h"

namespace galvatron {
#define GEN_PASS_DEF_SEARCHPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

/// Costs in which tied units have one given tp: they share a parameter, which has one placement. As the
/// ranks of all stages are as many, equal tp means equal dp too.
class TiedCosts final : public search::CostSource {
public:
  TiedCosts(const search::CostSource &costs, const ModelUnits &model, int tp) : costs(costs), tp(tp) {
    for (const search::TiedParameter &tie : model.ties)
      for (int unit : {tie.firstUnit, tie.secondUnit})
        layerTypes.insert(model.units[unit].layerType);
  }

  search::Result<search::UnitCost> cost(const search::CostQuery &query) const override {
    if (query.strategy.tp != tp && layerTypes.contains(query.unit->layerType))
      return search::Error{"layers that share a parameter have tp " + std::to_string(tp)};
    return costs.cost(query);
  }

private:
  const search::CostSource &costs;
  int tp;
  llvm::StringSet<> layerTypes;
};

struct SearchPlanPass : galvatron::impl::SearchPlanPassBase<SearchPlanPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<ModelUnits> model = collectUnits(module);
    if (failed(model) || failed(verifyDifferentiated(*model)))
      return signalPassFailure();
    search::Result<search::Cluster> cluster = readCluster({clusterFile, ranks, memory, deviceKind});
    if (!cluster) {
      module.emitError(cluster.error().message);
      return signalPassFailure();
    }
    cluster->device.reservedBytes += reserve;
    ProgramCosts costs(module, *cluster, model->globalBatch);
    search::Problem problem{.cluster = *cluster,
                            .globalBatch = model->globalBatch,
                            .units = model->units,
                            .ties = model->ties,
                            .space = search::SearchSpace::supported(),
                            .costs = &costs};
    search::Result<search::Solution> solution = solve(problem, *model);
    if (!solution) {
      module.emitError(solution.error().message);
      return signalPassFailure();
    }
    if (solution->plan)
      annotatePlan(*model, *solution->plan);
    else if (!searched)
      module.emitError(solution->infeasible.message);
    if (!solution->plan)
      signalPassFailure();
    if (searched)
      *searched = std::move(*solution);
  }

  search::Result<search::Solution> solveOnce(const search::Problem &problem) {
    search::Result<search::Solution> solution = search::solve(problem);
    if (solution) {
      numCandidates += solution->candidates;
      numOpened += solution->candidatesOpened;
    }
    return solution;
  }

  /// Where parameters are tied, the best over the degrees that the tied layers may have in common.
  search::Result<search::Solution> solve(const search::Problem &problem, const ModelUnits &model) {
    if (model.ties.empty())
      return solveOnce(problem);
    search::Result<search::Solution> best = search::Error{""};
    for (int64_t tp = 1; tp <= problem.ranks(); ++tp) {
      if (problem.ranks() % tp)
        continue;
      TiedCosts costs(*problem.costs, model, int(tp));
      search::Problem tied = problem;
      tied.costs = &costs;
      search::Result<search::Solution> solution = solveOnce(tied);
      if (tp == 1 || (solution && (!best || isBetter(*solution, *best))))
        best = std::move(solution);
    }
    return best;
  }

  static bool isBetter(const search::Solution &a, const search::Solution &b) {
    if (a.plan && b.plan)
      return a.plan->predictedStepSeconds < b.plan->predictedStepSeconds;
    if (a.plan || b.plan)
      return a.plan.has_value();
    int64_t needed = a.infeasible.smallestBudgetBytes, other = b.infeasible.smallestBudgetBytes;
    return needed && (!other || needed < other);
  }

  LogicalResult verifyDifferentiated(const ModelUnits &model) {
    for (graph::CallOp call : model.calls) {
      auto layer = SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
      if (!layer)
        return call.emitOpError("expects a graph.layer to price, but got ") << call.getCalleeAttr();
      if (layer.getBody().getOps<graph::BackwardOp>().empty())
        return layer.emitOpError("expects a graph.backward to price; run the phase differentiate first");
    }
    return success();
  }

  std::shared_ptr<search::Solution> searched;
};

} // namespace

std::unique_ptr<Pass> galvatron::createSearchPlanPass(const SearchPlanPassOptions &options,
                                                      std::shared_ptr<search::Solution> searched) {
  auto pass = std::make_unique<SearchPlanPass>(options);
  pass->searched = std::move(searched);
  return pass;
}
