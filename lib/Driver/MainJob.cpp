// Phases in order and what comes of them.
//
//   import ─▶ differentiate ─▶ plan (JobPlan.h, BudgetSearch.h) ─▶ shard ─▶ stage ─▶ lower ─▶ folder (JobOutput.h)
#include "MainJob.h"

#include "JobOutput.h"
#include "JobPlan.h"
#include "LayerBodies.h"
#include "PlanBytes.h"
#include "ProgramDiagnostics.h"
#include "StepPrediction.h"

#include "galvatron/Costs/ModelFlops.h"
#include "galvatron/Search/Formats/TimetableFile.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Transforms/PlanMemory.h"

using namespace mlir;
using namespace galvatron;

/// Takes a module after phase `start` to the end of `differentiate`, or to the last phase where that is sooner.
static LogicalResult differentiate(ModuleOp module, Phase start, const MainJobOptions &options,
                                   const search::Cluster &cluster, PhaseRunner &phases) {
  ImportPhaseOptions import;
  import.units = readUnits(options);
  auto build = start < Phase::Import ? buildImportPhase : buildImportPhaseEnd;
  FailureOr<bool> isDue = start < Phase::Import;
  if (start == Phase::Import && !import.units.empty() && failed(isDue = namesHalves(module, import.units)))
    return failure();
  if (*isDue && failed(phases.run(module, Phase::Import, [&](OpPassManager &passes) { build(passes, import); })))
    return failure();
  if (start >= Phase::Differentiate || options.getLastPhase() < Phase::Differentiate)
    return success();
  FailureOr<int64_t> globalBatch = readGlobalBatch(module, options, cluster);
  if (failed(globalBatch))
    return failure();
  DifferentiatePhaseOptions phase;
  phase.globalBatch = *globalBatch;
  phase.precision = options.getPrecision();
  return phases.run(module, Phase::Differentiate,
                    [&](OpPassManager &passes) { buildDifferentiatePhase(passes, phase); });
}

/// The plan that the options ask for, or that the module has; without either none, of the default cluster.
static FailureOr<JobPlan> planModule(ModuleOp module, const MainJobOptions &options, const search::Cluster &cluster,
                                     PhaseRunner &phases) {
  if (options.hasPlan() && options.getLastPhase() >= Phase::Plan)
    return makeJobPlan(module, options, cluster, phases);
  if (detectPhase(module) == Phase::Plan)
    return readJobPlan(module, options);
  return JobPlan{{}, cluster};
}

/// Notes the exact bytes of every rank.
static FailureOr<std::vector<RankBytes>> noteBytes(JobPlan &job, ModuleOp lowered) {
  FailureOr<std::vector<RankBytes>> ofStages = measureStages(lowered, job.plan.ranks, job.cluster.device.overhead);
  if (succeeded(ofStages))
    setBytes(job.plan, *ofStages);
  return ofStages;
}

/// Those that are noted have to fit: a plan by hand need not.
static LogicalResult takeBytes(JobPlan &job, ModuleOp lowered) {
  FailureOr<std::vector<RankBytes>> ofStages = noteBytes(job, lowered);
  if (failed(ofStages))
    return failure();
  int64_t budget = job.cluster.memoryBytesPerDevice;
  for (auto [stage, bytes] : llvm::enumerate(*ofStages))
    if (bytes.total() > budget)
      return reportError("expects at most " + llvm::Twine(search::formatBytes(double(budget))) +
                         " of memory per device, but stage " + llvm::Twine(stage) + " of this plan needs " +
                         llvm::Twine(bytes.total()) + " bytes; raise the budget to --memory=" +
                         search::formatBudget(bytes.total()) + ", recompute layers, or use more stages or tp");
  return success();
}

/// From the phase that `module` is after to the last; the timetables of its stages, if that is phase lower.
static FailureOr<std::vector<Timetable>> lowerModule(ModuleOp module, const MainJobOptions &options,
                                                     PhaseRunner &phases) {
  auto timetables = std::make_shared<std::vector<Timetable>>();
  // A program that was lowered before holds all that its timetables are made of.
  auto plan = [&](OpPassManager &passes) { passes.addPass(createPlanMemoryPass(timetables)); };
  bool isLowered = detectPhase(module) == Phase::Lower;
  if (failed(isLowered && options.asksForTimetable() ? phases.run(module, Phase::Lower, plan)
                                                     : phases.lower(module, options.getLastPhase(), timetables)))
    return failure();
  return std::move(*timetables);
}

/// Simulates the step, of a program that is not lowered itself on a copy, and writes what of that is asked for.
static FailureOr<std::optional<StepPrediction>> predict(ModuleOp module, ArrayRef<Timetable> timetables, JobPlan &job,
                                                        const MainJobOptions &options, PhaseRunner &phases) {
  if (!options.writesFolder() && options.simulate.empty())
    return std::optional<StepPrediction>();
  OwningOpRef<ModuleOp> copy;
  auto ofCopy = std::make_shared<std::vector<Timetable>>();
  if (timetables.empty()) {
    copy = module.clone();
    if (failed(phases.lower(*copy, Phase::Lower, ofCopy)))
      return failure();
    module = *copy;
    timetables = *ofCopy;
  }
  FailureOr<StepPrediction> prediction = predictStep(module, timetables, job, options);
  if (failed(prediction) || failed(writePredictedTrace(*prediction, options)))
    return failure();
  job.plan.simulatedStepSeconds = prediction->simulated.stepSeconds;
  return std::optional(std::move(*prediction));
}

/// Notes in its plans what a step computes, what a device could, and how many devices a host has.
static void noteForRuntime(JobPlan &job, const ModelFlops &flops) {
  const search::DeviceKind &device = job.cluster.device;
  auto note = [&](search::Plan &plan) {
    plan.modelFlopsPerStep = flops.perStep;
    plan.devicesPerNode = job.cluster.devicesPerNode;
    plan.peakFlopsPerSecond = flops.areNarrow ? device.peakNarrowFlopsPerSecond : device.peakFloatFlopsPerSecond;
  };
  note(job.plan);
  llvm::for_each(job.listed, note);
}

/// Notes in its plans how the cluster's ranks run NCCL.
static LogicalResult noteNccl(JobPlan &job) {
  std::optional<search::Error> error = search::recordNccl(job.cluster, job.plan);
  for (search::Plan &plan : job.listed)
    if (!error)
      error = search::recordNccl(job.cluster, plan);
  return error ? reportError(error->message) : success();
}

LogicalResult galvatron::runMainJob(ModuleOp module, const MainJobOptions &options, TimingScope &timing) {
  Phase start = detectPhase(module);
  if (std::string wrong = findWrongOption(options, start); !wrong.empty())
    return reportError(wrong);
  if (!options.bodies.empty())
    return runBodiesJob(module, options, timing);
  if (options.writesFolder() && failed(checkFilesBeside(module, options)))
    return failure();
  FailureOr<search::Cluster> cluster = readJobCluster(options, options.cluster);
  if (failed(cluster))
    return failure();
  if (cluster->device.tables)
    for (const std::string &warning : cluster->device.tables->warnings())
      reportWarning(warning);
  PhaseRunner phases(timing, options.target, options.keepBodies);
  if (failed(differentiate(module, start, options, *cluster, phases)))
    return failure();
  ModelFlops flops = countModelFlops(module);
  FailureOr<JobPlan> job = planModule(module, options, *cluster, phases);
  if (failed(job))
    return failure();
  noteForRuntime(*job, flops);
  if (failed(noteNccl(*job)))
    return failure();
  FailureOr<std::vector<Timetable>> timetables = lowerModule(module, options, phases);
  if (failed(timetables))
    return failure();
  // Whoever asks for it or not: it takes less than a tenth of lowering.
  FailureOr<TimetableProof> proof = TimetableProof();
  if (!timetables->empty() && failed(proof = verifyTimetables(module, *timetables)))
    return failure();
  if (options.writesFolder() && failed(takeBytes(*job, module)))
    return failure();
  FailureOr<std::optional<StepPrediction>> prediction = predict(module, *timetables, *job, options, phases);
  if (failed(prediction))
    return failure();
  if (options.asksForTimetable() && !options.writesFolder())
    return printTimetable(module, *timetables, *proof, options);
  if (options.writesPlansOnly())
    return writeListedPlans(*job, options);
  if (!options.writesFolder()) {
    bool isExplained = options.explain && detectPhase(module) == Phase::Lower && !job->plan.layers.empty();
    if (isExplained && failed(noteBytes(*job, module)))
      return failure();
    return printProgram(module, job->plan, options);
  }
  if (options.verifyTimetable)
    printProof(*proof, llvm::outs());
  return writeStageFolder(module, *timetables, *job, search::writeTimetable((*prediction)->step), options);
}
