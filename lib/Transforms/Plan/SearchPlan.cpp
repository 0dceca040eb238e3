// Chooses the plan: the model's units, costs read from the program and the cluster go to lib/Search; its
// answer comes back as attributes.
#include "galvatron/Transforms/SearchPlan.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ClusterInput.h"
#include "galvatron/Costs/ModelUnits.h"
#include "galvatron/Costs/ProgramCosts.h"
#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Transforms/AssignPlacements.h"

namespace galvatron {
#define GEN_PASS_DEF_SEARCHPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

// What is cut only over time shows it: a plan of one device on a copy. Layers of a kind are placed once, so this takes
// no longer for a deep model.
std::optional<Diagnostic> galvatron::findWholeBatchOp(ModuleOp module) {
  FailureOr<ModelUnits> model = collectUnits(module);
  if (failed(model) || model->globalBatch < 2)
    return std::nullopt;
  search::Plan plan;
  plan.ranks = plan.pipeline = 1;
  plan.globalBatch = model->globalBatch;
  plan.microBatches = 2;
  while (plan.globalBatch % plan.microBatches)
    ++plan.microBatches;
  for (const search::Unit &unit : model->units)
    plan.units.push_back({unit.path, unit.layerType, unit.role, {}, /*dp=*/1, /*stage=*/0});
  OwningOpRef<ModuleOp> copy = module.clone();
  std::optional<Diagnostic> reason;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (!reason && diagnostic.getSeverity() == DiagnosticSeverity::Error)
      reason = std::move(diagnostic);
  });
  annotatePlan(*collectUnits(*copy), plan);
  return succeeded(assignPlacements(*copy)) ? std::nullopt : std::move(reason);
}

search::SearchSpace galvatron::getSearchSpace(ModuleOp module, int64_t microBatches) {
  search::SearchSpace space = search::SearchSpace::supported();
  space.microBatches = int(microBatches);
  if (!microBatches && findWholeBatchOp(module))
    space.microBatches = 1;
  return space;
}

namespace {

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
                            .space = getSearchSpace(module, microBatches),
                            .costs = &costs};
    search::Result<search::Solution> solution = search::solve(problem);
    if (!solution) {
      module.emitError(solution.error().message);
      return signalPassFailure();
    }
    numCandidates += solution->candidates;
    numOpened += solution->candidatesOpened;
    if (solution->plan)
      annotatePlan(*model, *solution->plan);
    else if (!searched)
      reportInfeasible(module, solution->infeasible);
    if (!solution->plan)
      signalPassFailure();
    if (searched)
      *searched = std::move(*solution);
  }

  void reportInfeasible(ModuleOp module, const search::Infeasible &infeasible) {
    InFlightDiagnostic error = module.emitError(infeasible.message);
    if (std::optional<Diagnostic> whole = microBatches ? std::nullopt : findWholeBatchOp(module))
      error.attachNote(whole->getLocation()) << whole->str();
  }

  LogicalResult verifyDifferentiated(const ModelUnits &model) {
    for (graph::CallOp call : model.calls) {
      auto layer = SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
      if (!layer)
        return call.emitOpError("expects a graph.layer to price, but got ") << call.getCalleeAttr();
      if (layer.getBody().getOps<graph::BackwardOp>().empty() && !layer.getGradientTypes().empty())
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
