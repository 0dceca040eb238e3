// Chooses the plan: the model's units, costs read from the program and the cluster go to lib/Search; its
// answer comes back as attributes.
#include "galvatron/Transforms/SearchPlan.h"

#include "dialects/Plan/Plan.h"
#include "galvatron/Analysis/ClusterInput.h"
#include "galvatron/Analysis/ModelUnits.h"
#include "galvatron/Analysis/ProgramCosts.h"
#include "galvatron/Search/Solver.h"

namespace galvatron {
#define GEN_PASS_DEF_SEARCHPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

/// What the estimate leaves free: `reserve`, and on an accelerator what its runtime takes. On the CPU
/// the budget is for the arena alone, which is all that a rank allocates.
int64_t getReservedBytes(const search::DeviceKind &device, int64_t reserve) {
  return reserve + (device.name == "cpu" ? 0 : device.reservedBytes);
}

struct SearchPlanPass : galvatron::impl::SearchPlanPassBase<SearchPlanPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<ModelUnits> model = collectUnits(module);
    if (failed(model) || failed(verifyDifferentiated(*model)))
      return signalPassFailure();
    search::Result<search::Cluster> cluster = readCluster({clusterFile, ranks, memory});
    if (!cluster) {
      module.emitError(cluster.error().message);
      return signalPassFailure();
    }
    cluster->device.reservedBytes = getReservedBytes(cluster->device, reserve);
    ProgramCosts costs(module, *cluster, model->globalBatch);
    search::Problem problem{.cluster = *cluster,
                            .globalBatch = model->globalBatch,
                            .units = model->units,
                            .ties = model->ties,
                            .space = search::SearchSpace::supported(),
                            .costs = &costs};
    search::Result<search::Solution> solution = search::solve(problem);
    if (!solution) {
      module.emitError(solution.error().message);
      return signalPassFailure();
    }
    numCandidates += solution->candidates;
    numOpened += solution->candidatesOpened;
    if (!solution->plan) {
      module.emitError(solution->infeasible.message);
      return signalPassFailure();
    }
    annotatePlan(*model, *solution->plan);
    if (searched)
      *searched = std::move(*solution->plan);
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

  std::shared_ptr<search::Plan> searched;
};

} // namespace

std::unique_ptr<Pass> galvatron::createSearchPlanPass(const SearchPlanPassOptions &options,
                                                      std::shared_ptr<search::Plan> searched) {
  auto pass = std::make_unique<SearchPlanPass>(options);
  pass->searched = std::move(searched);
  return pass;
}
