// Chooses the plan: the model's layers, costs read from the program and the cluster go to lib/Search; its
// answer comes back as attributes.
#include "galvatron/Transforms/SearchPlan.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ClusterInput.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Costs/ProgramCosts.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Transforms/AssignPlacements.h"

#include "mlir/Dialect/Math/IR/Math.h"

namespace galvatron {
#define GEN_PASS_DEF_SEARCHPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

/// Why a differentiated step cannot be cut into micro-batches, as the phase shard would say it; nothing where it can.
/// What is cut only over time shows it: a plan of one device on a copy. Layers of a kind are placed once, so this takes
/// no longer for a deep model.
static std::optional<Diagnostic> findWholeBatchOp(ModuleOp module) {
  FailureOr<ModelLayers> model = collectLayers(module);
  if (failed(model) || model->globalBatch < 2)
    return std::nullopt;
  search::Plan plan;
  plan.ranks = plan.pipeline = 1;
  plan.globalBatch = model->globalBatch;
  plan.microBatches = 2;
  while (plan.globalBatch % plan.microBatches)
    ++plan.microBatches;
  for (const search::Layer &layer : model->layers)
    plan.layers.push_back({layer.path, layer.layerType, layer.role, {}, /*dp=*/1, /*stage=*/0});
  OwningOpRef<ModuleOp> copy = module.clone();
  std::optional<Diagnostic> reason;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (!reason && diagnostic.getSeverity() == DiagnosticSeverity::Error)
      reason = std::move(diagnostic);
  });
  annotatePlan(*collectLayers(*copy), plan);
  return succeeded(assignPlacements(*copy)) ? std::nullopt : std::move(reason);
}

/// What may be chosen for a differentiated program: what the lowering supports, of `microBatches` micro-batches; 0: of
/// all counts that the program can be cut into.
static search::SearchSpace getSearchSpace(ModuleOp module, int64_t microBatches) {
  search::SearchSpace space = search::SearchSpace::supported();
  space.microBatches = int(microBatches);
  if (!microBatches && findWholeBatchOp(module))
    space.microBatches = 1;
  return space;
}

namespace {

struct SearchPlanPass : galvatron::impl::SearchPlanPassBase<SearchPlanPass> {
  using Base::Base;

  /// Rings are unrolled to be priced.
  void getDependentDialects(DialectRegistry &registry) const override {
    Base::getDependentDialects(registry);
    registry.insert<math::MathDialect>();
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<ModelLayers> model = collectLayers(module);
    if (failed(model) || failed(verifyDifferentiated(*model)))
      return signalPassFailure();
    for (const search::Layer &layer : model->layers)
      if (!layer.block.empty()) {
        module.emitError() << "expects whole layers to search a plan for, but got '" << layer.path << "', half of '"
                           << layer.block << "'; search from the model as it was imported";
        return signalPassFailure();
      }
    search::Result<search::Cluster> cluster = readCluster({clusterFile, ranks, memory, profileFile, deviceKind});
    if (!cluster) {
      module.emitError(cluster.error().message);
      return signalPassFailure();
    }
    cluster->device.overheadBytes += overhead;
    ProgramCosts costs(module, *cluster, model->globalBatch);
    search::Problem problem{.cluster = *cluster,
                            .globalBatch = model->globalBatch,
                            .layers = model->layers,
                            .ties = model->ties,
                            .space = getSearchSpace(module, microBatches),
                            .costs = &costs};
    FailureOr<search::Solution> solution = solver ? solver(module, problem) : solveByEstimate(module, problem);
    if (failed(solution))
      return signalPassFailure();
    numCandidates += solution->candidates;
    numOpened += solution->candidatesOpened;
    if (!solution->plan) {
      reportInfeasible(module, solution->infeasible);
      return signalPassFailure();
    }
    annotatePlan(*model, *solution->plan);
  }

  static FailureOr<search::Solution> solveByEstimate(ModuleOp module, const search::Problem &problem) {
    search::SolveOptions options;
    options.threads = int(module.getContext()->getNumThreads());
    search::Result<search::Solution> solution = search::solve(problem, options);
    if (!solution)
      return module.emitError(solution.error().message), failure();
    if (!solution->plan)
      return std::move(*solution);
    if (std::optional<search::Error> error = search::checkPlan(problem, *solution->plan).error())
      return module.emitError(error->message), failure();
    return std::move(*solution);
  }

  void reportInfeasible(ModuleOp module, const search::Infeasible &infeasible) {
    InFlightDiagnostic error = module.emitError(infeasible.message);
    if (std::optional<Diagnostic> whole = microBatches ? std::nullopt : findWholeBatchOp(module))
      error.attachNote(whole->getLocation()) << whole->str();
  }

  LogicalResult verifyDifferentiated(const ModelLayers &model) {
    for (graph::CallOp call : model.calls) {
      auto layer = SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
      if (!layer)
        return call.emitOpError("expects a graph.layer to price, but got ") << call.getCalleeAttr();
      if (layer.getBody().getOps<graph::BackwardOp>().empty() && !layer.getGradientTypes().empty())
        return layer.emitOpError("expects a graph.backward to price; run the phase differentiate first");
    }
    return success();
  }

  PlanSolver solver; ///< null: search::solve
};

} // namespace

std::unique_ptr<Pass> galvatron::createSearchPlanPass(const SearchPlanPassOptions &options, PlanSolver solver) {
  auto pass = std::make_unique<SearchPlanPass>(options);
  pass->solver = std::move(solver);
  return pass;
}
