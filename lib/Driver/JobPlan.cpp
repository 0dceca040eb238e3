// A plan by hand goes through the phase plan as the file says; a searched one is what BudgetSearch answers there.
#include "JobPlan.h"

#include "BudgetSearch.h"
#include "ProgramDiagnostics.h"
#include "StepPrediction.h"

#include "dialects/Graph/GraphInputs.h"
#include "galvatron/Costs/LayerHash.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Costs/ProgramCosts.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Solver/ProfileReason.h"
#include "galvatron/Support/Files.h"

using namespace mlir;
using namespace galvatron;

FailureOr<search::Cluster> galvatron::readJobCluster(const MainJobOptions &options, const ClusterInput &input) {
  search::Result<search::Cluster> cluster = readCluster(input);
  if (!cluster)
    return reportError(cluster.error().message);
  bool isProcessor = cluster->device.name == "cpu";
  if (isProcessor != (options.target == "cpu"))
    return reportError("expects a cluster of devices that --target " + llvm::Twine(options.target) +
                       " runs on, but got devices of kind " + cluster->device.name);
  const std::shared_ptr<const search::MachineTables> &tables = cluster->device.tables;
  if (tables && tables->precision() != options.getPrecision())
    return reportError("expects a profile of precision " + llvm::Twine(options.getPrecision()) + ", but '" +
                       tables->file() + "' is of " + tables->precision() +
                       "; take one with galvatron-profile --precision");
  return std::move(*cluster);
}

/// Ranks that were asked for; 0: any.
static int64_t getAskedRanks(const MainJobOptions &options, const search::Cluster &cluster) {
  bool isOfProfile = options.cluster.file.empty() && !options.cluster.profile.empty() && options.search;
  return options.cluster.file.empty() && !isOfProfile ? options.cluster.ranks : cluster.ranks();
}

/// The plan file, against the model's layers and what was asked for; `globalBatch` 0: the plan's, or else the model's.
static FailureOr<search::Plan> readPlanFile(const ModelLayers &model, const MainJobOptions &options, int64_t ranks,
                                            int64_t globalBatch) {
  std::string error;
  std::optional<std::string> text = readTextFile(options.plan, error, kMaxTextBytes, "the plan ");
  if (!text)
    return reportError(error);
  search::PlanTarget target{.layers = model.layers,
                            .ranks = ranks,
                            .globalBatch = globalBatch,
                            .supportedOnly = true,
                            .defaultGlobalBatch = model.globalBatch};
  search::Result<search::Plan> plan = search::parsePlan(*text, target);
  if (!plan)
    return reportError(options.plan + ": " + plan.error().message +
                       (plan.error().missingKey == "world_size" ? "; add it, or pass --ranks" : ""));
  return std::move(*plan);
}

std::vector<std::string> galvatron::readUnits(const MainJobOptions &options) {
  std::string ignored; // it is read again, and then told
  std::optional<std::string> text = options.plan.empty() ? std::nullopt : readTextFile(options.plan, ignored);
  return text ? search::readLayerNames(*text) : std::vector<std::string>();
}

FailureOr<bool> galvatron::namesHalves(ModuleOp module, llvm::ArrayRef<std::string> units) {
  FailureOr<ModelLayers> model = collectLayers(module);
  if (failed(model))
    return failure();
  return llvm::any_of(units,
                      [&](const std::string &unit) { return search::findPart(unit, model->layers).has_value(); });
}

FailureOr<int64_t> galvatron::readGlobalBatch(ModuleOp module, const MainJobOptions &options,
                                              const search::Cluster &cluster) {
  int64_t asked = options.globalBatch.value_or(0);
  if (options.plan.empty())
    return asked;
  FailureOr<ModelLayers> model = collectLayers(module);
  if (failed(model))
    return failure();
  FailureOr<search::Plan> plan = readPlanFile(*model, options, getAskedRanks(options, cluster), asked);
  return failed(plan) ? FailureOr<int64_t>() : plan->globalBatch;
}

/// Says to how many positions a program has been padded for its plan.
static void notePadding(ModuleOp module, search::Plan &plan) {
  auto padded = module->getAttrOfType<IntegerAttr>(graph::kPaddedSeqAttr);
  if (padded)
    plan.reasons.notes.push_back(
        "positions: " + std::to_string(module->getAttrOfType<IntegerAttr>(graph::kSeqAttr).getInt()) + ", padded to " +
        std::to_string(padded.getInt()));
}

/// Costs of the problem's layers on another cluster.
static search::MakeCosts makeCostsOf(ModuleOp module, const search::Problem &problem) {
  return [module, batch = problem.globalBatch](const search::Cluster &cluster) {
    return std::make_shared<ProgramCosts>(module, cluster, batch, Priced::All);
  };
}

FailureOr<JobPlan> galvatron::readJobPlan(ModuleOp module, const MainJobOptions &options) {
  FailureOr<ModelLayers> model = collectLayers(module);
  if (failed(model))
    return failure();
  FailureOr<search::Plan> plan = readAnnotatedPlan(*model);
  if (failed(plan))
    return failure();
  ClusterInput input = options.cluster;
  if (input.file.empty() && !input.ranks)
    input.ranks = plan->ranks;
  FailureOr<search::Cluster> cluster = readJobCluster(options, input);
  if (failed(cluster))
    return failure();
  if (cluster->ranks() != plan->ranks)
    return reportError("expects a plan for the " + llvm::Twine(cluster->ranks()) +
                       " ranks asked for, but got one for " + llvm::Twine(plan->ranks));
  ProgramCosts costs(module, *cluster, model->globalBatch, Priced::All);
  search::Problem problem{.cluster = *cluster,
                          .globalBatch = model->globalBatch,
                          .layers = model->layers,
                          .ties = model->ties,
                          .space = search::SearchSpace::supported(),
                          .costs = &costs};
  // A plan that the model cannot price may still run: phase shard has the last word on what divides.
  search::Result<search::Plan> priced = search::evaluatePlan(problem, *plan);
  llvm::StringMap<std::string> hashes = hashLayers(module);
  if (!priced) {
    notePadding(module, *plan);
    return JobPlan{std::move(*plan), std::move(*cluster), {}, false, std::move(hashes)};
  }
  if (std::optional<search::Error> error = search::checkGivenPlan(problem, *priced).error())
    return reportError(error->message);
  search::addProfileReason(problem, *priced, makeCostsOf(module, problem));
  notePadding(module, *priced);
  return JobPlan{std::move(*priced), std::move(*cluster), {}, false, std::move(hashes)};
}

/// A copy of `module` with `plan` on it.
static OwningOpRef<ModuleOp> copyUnder(const search::Plan &plan, ModuleOp module) {
  OwningOpRef<ModuleOp> copy = module.clone();
  annotatePlan(*collectLayers(*copy), plan);
  return copy;
}

/// Seconds of a step of `module` under `plan`, simulated; nothing where it cannot be lowered.
static std::optional<double> simulate(ModuleOp module, const search::Plan &plan, const search::Cluster &cluster,
                                      const llvm::StringMap<std::string> &hashes, const MainJobOptions &options,
                                      PhaseRunner &phases) {
  OwningOpRef<ModuleOp> copy = copyUnder(plan, module);
  auto timetables = std::make_shared<std::vector<Timetable>>();
  if (failed(phases.tryLower(*copy, timetables)))
    return std::nullopt;
  FailureOr<StepPrediction> prediction =
      predictStep(*copy, *timetables, JobPlan{plan, cluster, {}, false, hashes}, options);
  return failed(prediction) ? std::nullopt : std::optional(prediction->simulated.stepSeconds);
}

/// The phase's solver: the fastest plan that fits by exact bytes. Leaves what was listed in `job`.
static FailureOr<search::Solution> solveWithinBudget(ModuleOp module, const search::Problem &problem,
                                                     PhaseRunner &phases, const MainJobOptions &options, JobPlan &job) {
  auto lower = [&](const search::Plan &plan) -> std::optional<std::vector<RankBytes>> {
    OwningOpRef<ModuleOp> copy = copyUnder(plan, module);
    if (failed(phases.tryLower(*copy)))
      return std::nullopt;
    FailureOr<std::vector<RankBytes>> bytes = measureStages(*copy, plan.ranks, problem.cluster.device.overhead);
    return failed(bytes) ? std::nullopt : std::optional(std::move(*bytes));
  };
  search::SolveOptions solve;
  solve.threads = int(options.threads.value_or(module.getContext()->getNumThreads()));
  NearPlansOptions near;
  near.listed = options.listPlans.value_or(1);
  near.simulate = [&](const search::Plan &plan) {
    return simulate(module, plan, problem.cluster, job.layerHashes, options, phases);
  };
  search::Result<BudgetAnswer> answer = BudgetSearch(problem, lower, solve, near).run();
  if (!answer)
    return module.emitError(answer.error().message);
  if (answer->refused) {
    // Once more, to say why.
    (void)phases.lower(*copyUnder(*answer->refused, module), Phase::Lower);
    return failure();
  }
  search::Solution solution;
  solution.plan = std::move(answer->plan);
  job.hasListedAll = answer->hasListedAll;
  job.areAlike = answer->areAlike;
  if (options.listPlans)
    job.listed = std::move(answer->listed);
  solution.infeasible.smallestBudgetBytes = answer->smallestBudget;
  solution.infeasible.message = std::move(answer->message);
  solution.candidates = answer->candidates;
  solution.candidatesOpened = answer->candidatesOpened;
  return solution;
}

FailureOr<JobPlan> galvatron::makeJobPlan(ModuleOp module, const MainJobOptions &options,
                                          const search::Cluster &cluster, PhaseRunner &phases) {
  PlanPhaseOptions phase;
  phase.plan = options.plan;
  phase.ranks = options.search ? options.cluster.ranks : getAskedRanks(options, cluster);
  phase.cluster = options.cluster.file;
  phase.profile = options.cluster.profile;
  phase.deviceKind = options.cluster.device;
  phase.memory = options.cluster.memory;
  phase.microBatches = options.microBatches.value_or(0);
  JobPlan searched{{}, cluster};
  searched.layerHashes = hashLayers(module);
  phase.solver = [&](ModuleOp differentiated, const search::Problem &problem) {
    FailureOr<search::Solution> solution = solveWithinBudget(differentiated, problem, phases, options, searched);
    if (succeeded(solution) && solution->plan) {
      searched.plan = *solution->plan;
      search::addProfileReason(problem, searched.plan, makeCostsOf(differentiated, problem));
      for (search::Plan &plan : searched.listed)
        search::addProfileReason(problem, plan, makeCostsOf(differentiated, problem));
    }
    return solution;
  };
  std::optional<search::NcclSettings> nccl; // of the file, as annotations do not hold it
  if (!options.search) {
    // With the file's name in what is wrong with it.
    FailureOr<ModelLayers> model = collectLayers(module);
    if (failed(model))
      return failure();
    FailureOr<search::Plan> plan = readPlanFile(*model, options, getAskedRanks(options, cluster), model->globalBatch);
    if (failed(plan))
      return failure();
    if (search::Result<bool> fits = checkPlannedLayers(*model, *plan); !fits)
      return reportError(options.plan + ": " + fits.error().message);
    nccl = plan->nccl;
  }
  if (failed(phases.run(module, Phase::Plan, [&](OpPassManager &passes) { buildPlanPhase(passes, phase); })))
    return failure();
  if (options.search)
    return searched;
  FailureOr<JobPlan> read = readJobPlan(module, options);
  if (succeeded(read))
    read->plan.nccl = nccl;
  return read;
}
