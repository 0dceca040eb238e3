// Phases in order and the output folder. The way from plan to lower and back is in MainJobSearch.cpp.
//
//   import ─▶ differentiate ─▶ plan ─▶ shard ─▶ stage ─▶ lower ─▶ folder
#include "MainJob.h"

#include "galvatron/Target/DeviceCode.h"
#include "OutputFolder.h"
#include "PlanSummary.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ModelUnits.h"
#include "galvatron/Costs/ProgramCosts.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Target/StageBinaries.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/ToolOutputFile.h"
#include "llvm/Support/WithColor.h"

using namespace mlir;
using namespace galvatron;

LogicalResult MainJob::fail(const llvm::Twine &message) {
  llvm::WithColor::error(llvm::errs(), "galvatron-opt") << message << "\n";
  return failure();
}

std::string MainJob::getModelName() const { return llvm::sys::path::stem(options.input).str(); }

std::string MainJob::getOutputFolder() const { return options.output.empty() ? "./" + getModelName() : options.output; }

LogicalResult MainJob::checkOptions(Phase start) {
  if (options.search && !options.plan.empty())
    return fail("expects --search or --plan, but got both");
  if (options.target != "cpu" && options.target != "cuda")
    return fail("expects --target cpu or cuda, but got '" + llvm::Twine(options.target) + "'");
  if (options.target == "cuda" && !isKnownGpuArchitecture(options.architecture))
    return fail("expects --arch to name a GPU that LLVM generates code for, such as sm_90a, but got '" +
                llvm::Twine(options.architecture) + "'");
  if (!options.precision.empty() && options.precision != "fp32" && options.precision != "bf16")
    return fail("expects --precision fp32 or bf16, but got '" + llvm::Twine(options.precision) + "'");
  if (!options.precision.empty() && start >= Phase::Differentiate)
    return fail("expects --precision before phase differentiate, but the module is after phase " +
                llvm::Twine(getPhaseName(start)));
  if (options.globalBatch && *options.globalBatch < 1)
    return fail("expects --global-batch of at least 1, but got " + llvm::Twine(*options.globalBatch));
  if (options.microBatches && *options.microBatches < 1)
    return fail("expects --micro-batches of at least 1, but got " + llvm::Twine(*options.microBatches));
  if (options.microBatches && !options.search)
    return fail("expects --micro-batches with --search; a plan has them as its key micro_batches");
  stop = options.compileTo.value_or(options.lower ? Phase::Lower : Phase::Plan);
  bool hasPlan = options.search || !options.plan.empty();
  if (stop >= Phase::Plan && start < Phase::Plan && !hasPlan)
    return fail("expects --search or --plan=FILE, since the module has no plan yet");
  if (hasPlan && start > Phase::Plan)
    return fail("expects a module before phase shard to plan, but it is after phase " +
                llvm::Twine(getPhaseName(start)));
  if (options.compileTo && stop < start)
    return fail("expects a phase after " + llvm::Twine(getPhaseName(start)) +
                ", where the module is already, but got --compile-to=" + getPhaseName(stop));
  if (options.globalBatch && start >= Phase::Differentiate)
    return fail("expects --global-batch before phase differentiate, but the module is after phase " +
                llvm::Twine(getPhaseName(start)));
  if (!options.compileTo && options.lower && start > Phase::Plan)
    return fail("expects a module before phase shard for stage binaries and their plan.json, but it is after phase " +
                llvm::Twine(getPhaseName(start)) + "; start from an earlier phase, or print it with --compile-to");
  if (!options.compileTo && options.lower && options.output.empty() && options.input == "-")
    return fail("expects -o DIR, since a model read from standard input has no name");
  return success();
}

/// Beside the model: its weights and its buffers, if it has any.
std::vector<std::string> MainJob::getFilesBeside() {
  std::vector<std::string> files;
  for (StringRef attribute : {graph::kWeightsAttr, graph::kBuffersAttr})
    if (auto name = (*module)->getAttrOfType<StringAttr>(attribute)) {
      llvm::SmallString<256> path(llvm::sys::path::parent_path(options.input));
      llvm::sys::path::append(path, name.getValue());
      files.push_back(std::string(path));
    }
  return files;
}

LogicalResult MainJob::runPhase(ModuleOp target, Phase phase, llvm::function_ref<void(OpPassManager &)> build) {
  PassManager passes(context);
  if (!isTrial && failed(applyPassManagerCLOptions(passes)))
    return failure();
  TimingScope scope = timing->nest(getPhaseName(phase));
  passes.enableTiming(scope);
  build(passes);
  return passes.run(target);
}

/// A plan file may have another global batch than the trace: the model follows it while it can, unless the user
/// asked for a third.
LogicalResult MainJob::readPlanBatch(bool isBatchFree) {
  globalBatch = options.globalBatch.value_or(0);
  if (options.plan.empty())
    return success();
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model))
    return failure();
  auto file = llvm::MemoryBuffer::getFile(options.plan);
  if (!file)
    return fail("cannot read the plan '" + llvm::Twine(options.plan) + "': " + file.getError().message());
  llvm::StringRef text = (*file)->getBuffer();
  if (!isBatchFree)
    globalBatch = model->globalBatch;
  search::PlanTarget target{model->units, ranks, globalBatch, /*supportedOnly=*/true};
  search::Result<search::Plan> plan = search::parsePlan({text.data(), text.size()}, target);
  auto lacks = [&](llvm::StringRef key) {
    return !plan && llvm::StringRef(plan.error().message).contains(("lacks the key '" + key + "'").str());
  };
  if (lacks("global_batch") || lacks("global_bsz")) {
    // A file without its own batch means the model's.
    target.globalBatch = model->globalBatch;
    plan = search::parsePlan({text.data(), text.size()}, target);
  }
  if (!plan)
    return fail(options.plan + ": " + plan.error().message +
                (!ranks && lacks("world_size") ? "; add it, or pass --ranks" : ""));
  globalBatch = plan->globalBatch;
  return success();
}

LogicalResult MainJob::planOnce(llvm::StringRef memory, int64_t reserve) {
  PlanPhaseOptions phase;
  phase.plan = options.plan;
  phase.ranks = options.plan.empty() ? options.cluster.ranks : ranks;
  phase.cluster = options.cluster.file;
  phase.deviceKind = options.cluster.device;
  phase.memory = memory.str();
  phase.reserve = reserve;
  phase.microBatches = options.microBatches.value_or(0);
  phase.searched = searched;
  return runPhase(*module, Phase::Plan, [&](OpPassManager &passes) { buildPlanPhase(passes, phase); });
}

/// From the phase that `planned` is after to `last`.
LogicalResult MainJob::lowerPlanned(ModuleOp planned, Phase last) {
  Phase start = detectPhase(planned);
  auto run = [&](Phase phase, auto build) {
    return phase <= start || phase > last ? success() : runPhase(planned, phase, build);
  };
  if (failed(run(Phase::Shard, [](OpPassManager &passes) { buildShardPhase(passes, {}); })) ||
      failed(run(Phase::Stage, [](OpPassManager &passes) { buildStagePhase(passes, {}); })))
    return failure();
  LowerPhaseOptions lower;
  lower.device = options.target;
  return run(Phase::Lower, [&](OpPassManager &passes) { buildLowerPhase(passes, lower); });
}

/// Notes the exact bytes of every rank's arena in `chosen`, and what it will take beside.
LogicalResult MainJob::measure(ModuleOp lowered) {
  chosen.peakBytesPerRank.clear();
  chosen.reservedBytesPerRank.clear();
  auto groupsOf = [](dist::StageOp stage) {
    auto sizes = stage->getAttrOfType<DenseI64ArrayAttr>(dist::kGroupSizesAttrName);
    return sizes ? sizes.asArrayRef() : ArrayRef<int64_t>();
  };
  bool worldIsGroup = llvm::any_of(lowered.getOps<dist::StageOp>(), [&](dist::StageOp stage) {
    return llvm::is_contained(groupsOf(stage), chosen.ranks);
  });
  for (auto stage : lowered.getOps<dist::StageOp>()) {
    auto bytes = stage->getAttrOfType<IntegerAttr>(dist::kArenaBytesAttrName);
    assert(bytes && "set by plan-memory");
    chosen.peakBytesPerRank.insert(chosen.peakBytesPerRank.end(), chosen.ranksPerStage(), bytes.getInt());
    search::RankCommunicators communicators;
    communicators.groups.assign(groupsOf(stage).begin(), groupsOf(stage).end());
    if (auto directions = stage->getAttrOfType<IntegerAttr>(dist::kDirectionsAttrName))
      communicators.directions = directions.getInt();
    communicators.isForSums = chosen.ranks > 1 && !worldIsGroup;
    chosen.reservedBytesPerRank.insert(chosen.reservedBytesPerRank.end(), chosen.ranksPerStage(),
                                       reserved.of(communicators, bytes.getInt()));
  }
  return success();
}

/// Takes the plan that is on the program, with the search's reasons. A plan by hand is priced, so that its
/// plan.json has a prediction too.
LogicalResult MainJob::readChosen() {
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model))
    return failure();
  FailureOr<search::Plan> plan = readAnnotatedPlan(*model);
  if (failed(plan))
    return failure();
  chosen = *plan;
  if (options.search) {
    chosen.reasons = searched->plan->reasons;
    chosen.stageMemory = searched->plan->stageMemory;
    return success();
  }
  ClusterInput input = options.cluster;
  if (input.file.empty() && !input.ranks)
    input.ranks = chosen.ranks;
  search::Result<search::Cluster> cluster = readCluster(input);
  if (!cluster)
    return fail(cluster.error().message);
  if (failed(takeBudget(*cluster)))
    return failure();
  if (cluster->ranks() != chosen.ranks)
    return fail("expects a plan for the " + llvm::Twine(cluster->ranks()) + " ranks asked for, but got one for " +
                llvm::Twine(chosen.ranks));
  ProgramCosts costs(*module, *cluster, model->globalBatch, Priced::All);
  search::Problem problem{.cluster = *cluster,
                          .globalBatch = model->globalBatch,
                          .units = model->units,
                          .ties = model->ties,
                          .space = search::SearchSpace::supported(),
                          .costs = &costs};
  // A plan that the model cannot price may still run: phase shard has the last word on what divides.
  if (search::Result<search::Plan> priced = search::evaluatePlan(problem, chosen))
    chosen = *priced;
  return success();
}

int64_t MainJob::mostBytes() const {
  int64_t most = 0;
  for (size_t rank = 0; rank < chosen.peakBytesPerRank.size(); ++rank)
    most = std::max(most, bytesOfRank(rank));
  return most;
}

LogicalResult MainJob::takeBudget(const search::Cluster &cluster) {
  bool isProcessor = cluster.device.name == "cpu";
  if (isProcessor != (options.target == "cpu"))
    return fail("expects a cluster of devices that --target " + llvm::Twine(options.target) +
                " runs on, but got devices of kind " + cluster.device.name);
  budget = cluster.memoryBytesPerDevice;
  reserved = cluster.device.reserved;
  return success();
}

LogicalResult MainJob::plan() {
  if (options.search)
    return searchWithinBudget();
  if (failed(readPlanBatch(/*isBatchFree=*/false)) || failed(planOnce(options.cluster.memory, /*reserve=*/0)))
    return failure();
  return readChosen();
}

LogicalResult MainJob::run(OwningOpRef<ModuleOp> input, TimingScope &scope) {
  module = std::move(input);
  timing = &scope;
  Phase start = detectPhase(*module);
  if (failed(checkOptions(start)))
    return failure();
  for (const std::string &file : getFilesBeside())
    if (options.lower && !options.compileTo && !llvm::sys::fs::exists(file))
      return fail("expects the model's weights in '" + llvm::Twine(file) +
                  "', but there is no such file; import the model again, or bring its weights along");
  search::Result<search::Cluster> cluster = readCluster(options.cluster);
  if (!cluster)
    return fail(cluster.error().message);
  if (failed(takeBudget(*cluster)))
    return failure();
  ranks = options.cluster.file.empty() ? options.cluster.ranks : cluster->ranks();

  if (start < Phase::Import &&
      failed(runPhase(*module, Phase::Import, [](OpPassManager &passes) { buildImportPhase(passes, {}); })))
    return failure();
  if (start < Phase::Differentiate && stop >= Phase::Differentiate) {
    if (failed(readPlanBatch(/*isBatchFree=*/true)))
      return failure();
    DifferentiatePhaseOptions phase;
    phase.globalBatch = globalBatch;
    phase.precision = !options.precision.empty() ? options.precision : options.target == "cpu" ? "fp32" : "bf16";
    if (failed(runPhase(*module, Phase::Differentiate,
                        [&](OpPassManager &passes) { buildDifferentiatePhase(passes, phase); })))
      return failure();
  }
  bool isPlanning = stop >= Phase::Plan && (options.search || !options.plan.empty());
  if (isPlanning ? failed(plan()) : start == Phase::Plan && failed(readChosen()))
    return failure();
  if (failed(lowerPlanned(*module, stop)))
    return failure();
  return options.compileTo || !options.lower ? print() : writeFolder();
}

LogicalResult MainJob::print() {
  std::string error;
  auto file = openOutputFile(options.output.empty() ? "-" : options.output, &error);
  if (!file)
    return fail(error);
  module->print(file->os());
  file->os() << "\n";
  file->keep();
  if (options.explain && !chosen.units.empty()) {
    printPlanSummary(chosen, llvm::errs());
    printPlanReasons(chosen, llvm::errs());
  }
  return success();
}

LogicalResult MainJob::writeFolder() {
  if (failed(measure(*module)))
    return failure();
  for (size_t rank = 0; rank < chosen.peakBytesPerRank.size(); ++rank)
    if (int64_t bytes = bytesOfRank(rank); bytes > budget)
      return fail("expects at most " + llvm::Twine(search::formatBytes(double(budget))) +
                  " of memory per device, but stage " + llvm::Twine(rank / chosen.ranksPerStage()) +
                  " of this plan needs " + llvm::Twine(bytes) + " bytes; raise the budget to --memory=" +
                  formatAtLeast(bytes) + ", recompute layers, or use more stages or tp");
  OutputFolder folder(getOutputFolder());
  auto check = [&](const std::string &message) { return message.empty() ? success() : fail(message); };
  if (failed(check(folder.create())))
    return failure();
  StageOutputOptions stages;
  stages.directory = folder.getTemporaryPath();
  stages.modelName = getModelName();
  stages.device = options.target;
  stages.architecture = options.architecture;
  if (failed(emitStageBinaries(*module, stages)))
    return failure();
  for (const std::string &file : getFilesBeside())
    if (failed(check(folder.addFile(llvm::sys::path::filename(file), file))))
      return failure();
  if (failed(check(folder.writeFile("plan.json", search::writePlan(chosen)))) || failed(check(folder.commit())))
    return failure();
  printPlanSummary(chosen, llvm::outs());
  if (options.explain)
    printPlanReasons(chosen, llvm::outs());
  llvm::outs() << "wrote " << folder.getPath() << "; train with " << getOutputFolder() << "/launch --help\n";
  return success();
}
