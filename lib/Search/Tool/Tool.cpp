//===- Tool.cpp - What galvatron-search does ------------------------------===//
//
// From options to a problem, from its solution to one JSON object. Messages go
// to standard error, the object to standard output.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Tool/Tool.h"

#include "Explain.h"
#include "Options.h"
#include "Predict.h"
#include "SpaceArguments.h"
#include "galvatron/Search/Check/CheckPlan.h"
#include "galvatron/Search/Check/Simulator.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Formats/ModelFile.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Model/TransformerModel.h"
#include "galvatron/Search/Reference/ProfiledCosts.h"
#include "galvatron/Search/Reference/ReferenceSearch.h"
#include "galvatron/Search/Solver/ProfileReason.h"
#include "galvatron/Search/Solver/Solver.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace galvatron::search {

namespace {
using OrderedJson = nlohmann::ordered_json;

std::atomic<bool> interrupted = false;

void onInterrupt(int) {
  // A second Ctrl-C ends the tool at once.
  if (interrupted.exchange(true))
    std::_Exit(130);
}

/// Whether standard error is a terminal, with what the standard library has.
bool showsToAPerson() {
  std::error_code code;
  std::string target = std::filesystem::read_symlink("/proc/self/fd/2", code).string();
  return target.starts_with("/dev/pts/") || target.starts_with("/dev/tty") || target == "/dev/console";
}

/// The line that shows the best plan so far.
void showProgress(double seconds, std::size_t done, std::size_t total, const std::string &best) {
  std::fprintf(stderr, "\r%7.1f s  %zu of %zu candidates  %s\033[K", seconds, done, total, best.c_str());
}

std::optional<Error> writeFile(const std::string &path, const std::string &text) {
  std::string error;
  return writeOutputFile(path, text, error) ? std::nullopt : std::optional(Error{error});
}

class Tool {
public:
  Tool(ToolOptions options, bool terminal) : options(std::move(options)), terminal(terminal) {}

  int run() {
    std::optional<Error> error = work();
    if (showsProgress())
      std::fputs("\r\033[K", stderr);
    if (error) {
      std::fprintf(stderr, "galvatron-search: %s\n", error->message.c_str());
      return 1;
    }
    std::printf("%s\n", output.dump(2).c_str());
    return infeasible ? 2 : 0;
  }

private:
  bool showsProgress() const { return !options.quiet && terminal; }
  /// Reasons take time: they are for --explain and for plan files.
  bool wantsReasons() const { return options.explain || !options.outputFile.empty(); }
  std::optional<Error> work();
  std::optional<Error> workReference(const ReferenceModel &model);
  std::optional<Error> evaluateNative(Problem &problem);
  SolveOptions makeSolveOptions() const;
  std::optional<Error> workNative(Problem &problem, const std::vector<std::int64_t> &batches);
  std::optional<Error> evaluateReference(const ReferenceModel &model);
  std::optional<Error> finishNative(const Problem &problem, Plan plan, const Solution *solution);
  std::optional<Error> fromShape();
  std::optional<Error> predict();
  Result<Cluster> clusterByProfile(const MachineProfile &profile, Cluster given) const;
  std::optional<Error> simulatePlan(const Problem &problem, const Plan &plan);
  void reportInfeasible(const std::string &reason);

  Plan inReferenceWords(Plan plan) const;

  ToolOptions options;
  bool sumsOnce = false; ///< async_grad_reduce of the config
  bool terminal;         ///< a person reads standard error
  OrderedJson output = OrderedJson::object();
  bool infeasible = false;
};

std::optional<Error> Tool::predict() {
  Result<Prediction> prediction = predictFolder(options);
  if (!prediction)
    return prediction.error();
  output = describePrediction(*prediction);
  if (std::string warning = warnOfMemory(prediction->step); !warning.empty())
    std::fprintf(stderr, "galvatron-search: warning: %s\n", warning.c_str());
  if (options.traceFile.empty())
    return std::nullopt;
  return writeFile(options.traceFile, writeStepTrace(prediction->step, prediction->simulated));
}

std::optional<Error> Tool::work() {
  if (!options.predictFolder.empty())
    return predict();
  if (!options.modelFile.empty())
    return fromShape();
  std::string text;
  if (!options.configFile.empty()) {
    Result<std::string> read = readFile(options.configFile);
    if (!read)
      return read.error();
    text = *read;
  }
  if (options.globalBatch)
    options.overrides["batch_size_info"]["settle_bsz"] = options.globalBatch;
  if (options.microBatches)
    options.overrides["batch_size_info"]["settle_chunk"] = options.microBatches;
  if (options.onlySharded)
    options.overrides["parallelism_info"]["default_dp_type"] = "zero3";
  Json parallelism = options.overrides.value("parallelism_info", Json::object());
  if (options.costModel == "native" && parallelism.contains("pipeline_type")) // has more of them than the reference
    options.overrides["parallelism_info"].erase("pipeline_type");
  std::string overrides = options.overrides.empty() ? "" : options.overrides.dump();
  Result<ReferenceArguments> arguments = parseReferenceConfig(text, options.root, overrides);
  if (!arguments)
    return options.configFile.empty() ? arguments.error()
                                      : Error{"'" + options.configFile + "': " + arguments.error().message};
  sumsOnce = arguments->asyncGradReduce;
  Result<ReferenceProfile> profile = loadReferenceProfile(*arguments);
  if (!profile)
    return profile.error();
  if (options.costModel == "galvatron") {
    ReferenceModel model(*arguments, *profile);
    return options.evaluateFile.empty() ? workReference(model) : evaluateReference(model);
  }
  std::vector<std::int64_t> batches = {arguments->settledBatch};
  if (arguments->settledBatch < 0)
    batches = batchRange(arguments->minBatch, arguments->maxBatch, arguments->batchStep);
  if (batches.empty())
    return Error{"no batch lies between min_bsz " + std::to_string(arguments->minBatch) + " and max_bsz " +
                 std::to_string(arguments->maxBatch) + " in steps of bsz_scale " +
                 std::to_string(arguments->batchStep)};
  Result<ProfiledProblem> made = makeProfiledProblem(*arguments, *profile, int(batches[0]));
  if (!made)
    return made.error();
  restrictSpace(options, made->problem.space);
  Json fixed = Json::object();
  if (options.configured)
    fixed = {{"pipeline_type", arguments->pipelineType},
             {"default_dp_type", arguments->defaultDpType},
             {"async_grad_reduce", arguments->asyncGradReduce}};
  fixed.update(parallelism);
  if (auto error = restrictParallelism(fixed, made->problem.space))
    return error;
  if (options.memoryBytes)
    made->problem.cluster.memoryBytesPerDevice = options.memoryBytes;
  return workNative(made->problem, batches);
}

void Tool::reportInfeasible(const std::string &reason) {
  infeasible = true;
  output["status"] = "infeasible";
  output["reason"] = reason;
  std::fprintf(stderr, "%sgalvatron-search: %s\n", showsProgress() ? "\r\033[K" : "", reason.c_str());
}

//===----------------------------------------------------------------------===//
// The reference's cost model
//===----------------------------------------------------------------------===//

std::string planFileName(const ReferenceArguments &a, int batch) {
  std::string name = "galvatron_config_" + a.modelName + "_" + std::to_string(a.nodes) + "nodes_" +
                     std::to_string(a.devicesPerNode) + "gpus_per_node_" + std::to_string(a.memoryGB) + "GB_" +
                     a.mixedPrecision;
  if (a.settledBatch > 0)
    name += "_bsz" + std::to_string(batch);
  std::string off;
  for (auto [disabled, word] : {std::pair{a.disableDp, "dp"},
                                {a.disableTp, "tp"},
                                {a.disablePp, "pp"},
                                {a.disableSp, "sp"},
                                {a.disableFsdp, "fsdp"},
                                {a.disableCheckpoint, "ckpt"}})
    if (disabled)
      off += (off.empty() ? "" : "_") + std::string(word);
  return name + (off.empty() ? "" : "_[" + off + "_off]") + ".json";
}

void putPrice(OrderedJson &output, const ReferencePrice &price) {
  output["iteration_seconds"] = price.iterationSeconds;
  output["throughput_samples_per_s"] = price.throughput;
  output["memory_used_mb_per_stage"] = price.memoryUsedMB;
}

std::optional<Error> Tool::evaluateReference(const ReferenceModel &model) {
  Result<std::string> text = readFile(options.evaluateFile);
  if (!text)
    return text.error();
  PlanTarget target;
  target.layers = transformerLayers(model.args().layers);
  target.ranks = model.args().world();
  target.unevenBatch = target.asSearched = true; // as the reference prices them
  Result<Plan> plan = parsePlan(*text, target);
  if (!plan)
    return Error{"'" + options.evaluateFile + "': " + plan.error().message};
  Result<ReferencePlan> inTerms = model.fromPlan(*plan);
  if (!inTerms)
    return inTerms.error();
  Result<ReferencePrice> price = model.price(*inTerms);
  if (!price)
    return price.error();
  output["status"] = "ok";
  putPrice(output, *price);
  output["fits"] = price->fits;
  return std::nullopt;
}

/// The plan as it is written has the price and the room that the search says.
std::optional<Error> checkReference(const ReferenceModel &model, const ReferenceSolution &solution, const Plan &plan) {
  CheckReport report;
  Result<bool> valid = validatePlan(plan, /*supportedOnly=*/false, /*unevenBatch=*/true);
  Result<ReferencePlan> inTerms = model.fromPlan(plan);
  Result<ReferencePrice> price = inTerms ? model.price(*inTerms) : inTerms.error();
  if (!valid)
    report.complaints.push_back(valid.error().message);
  else if (!price)
    report.complaints.push_back(price.error().message);
  else if (!price->fits)
    report.complaints.push_back("some stage needs more memory than there is");
  else if (std::abs(price->iterationSeconds / solution.price.iterationSeconds - 1) > 1e-9)
    report.complaints.push_back("an iteration takes " + std::to_string(price->iterationSeconds) +
                                " s, the search promises " + std::to_string(solution.price.iterationSeconds) + " s");
  return report.error();
}

std::optional<Error> Tool::workReference(const ReferenceModel &model) {
  ReferenceSearchOptions searchOptions;
  searchOptions.stop = &interrupted;
  searchOptions.timeLimitSeconds = options.timeLimitSeconds;
  searchOptions.referenceDivision = options.referenceDivision;
  if (showsProgress())
    searchOptions.progress = [](const ReferenceProgress &p) {
      char best[96] = "";
      if (p.throughput > 0)
        std::snprintf(best, sizeof best, "%.4f samples/s, %s", p.throughput, p.best.c_str());
      showProgress(p.seconds, p.opened, p.total, best);
    };
  Result<ReferenceSolution> solution = searchReference(model, searchOptions);
  if (!solution)
    return solution.error();
  if (!solution->plan) {
    if (solution->interrupted)
      return Error{"interrupted before any plan was found"};
    reportInfeasible(solution->reason);
    output["smallest_memory_gb"] = solution->smallestMemoryGB;
    output["search_seconds"] = solution->searchSeconds;
    return std::nullopt;
  }
  Plan plan = model.toPlan(*solution->plan);
  if (std::optional<Error> error = checkReference(model, *solution, plan))
    return error;
  Result<std::string> text = writeReferencePlan(plan);
  output["status"] = solution->interrupted ? "interrupted" : "ok";
  if (text) {
    output["plan"] = parseOwnOrderedJson(*text);
    if (output["plan"]["default_dp_type"] == "ddp") // no layer shows it
      output["plan"]["default_dp_type"] = model.args().defaultDpType;
  } else {
    output["plan"] = nullptr;
    output["plan_error"] = text.error().message;
  }
  putPrice(output, solution->price);
  output["search_seconds"] = solution->searchSeconds;
  if (options.explain)
    std::fputs(explainReference(model, *solution).c_str(), stderr);
  std::string folder = model.args().outputPath;
  if (options.outputFile.empty() && !folder.empty())
    options.outputFile = (std::filesystem::path(folder) / planFileName(model.args(), solution->plan->batch)).string();
  if (options.outputFile.empty())
    return std::nullopt;
  return options.format == "own" ? writeFile(options.outputFile, writePlan(plan))
                                 : writeFile(options.outputFile, output["plan"].dump(4) + "\n");
}

//===----------------------------------------------------------------------===//
// The native cost model
//===----------------------------------------------------------------------===//

/// Why the profile that prices it may not hold here.
static void warnOfProfile(const Cluster &cluster) {
  if (cluster.device.tables)
    for (const std::string &warning : cluster.device.tables->warnings())
      std::fprintf(stderr, "galvatron-search: warning: %s\n", warning.c_str());
}

/// `given` of --cluster, priced by --profile; without --cluster the profile's own, of --ranks.
Result<Cluster> Tool::clusterByProfile(const MachineProfile &profile, Cluster given) const {
  if (options.clusterFile.empty()) {
    Result<Cluster> own = clusterOf(profile, options.ranks);
    if (!own)
      return Error{"'" + options.profileFile + "' " + own.error().message};
    given = std::move(*own);
  }
  if (std::optional<Error> error = applyProfile(profile, options.profileFile, given))
    return *error;
  return given;
}

std::optional<Error> Tool::fromShape() {
  Result<std::string> text = readFile(options.modelFile);
  if (!text)
    return text.error();
  std::optional<MachineProfile> profile;
  if (!options.profileFile.empty()) {
    Result<MachineProfile> readProfile = readMachineProfile(options.profileFile);
    if (!readProfile)
      return readProfile.error();
    profile = std::move(*readProfile);
  }
  std::string precision = !options.precision.empty() ? options.precision : profile ? profile->precision : "bf16";
  Json parallelism = options.overrides.value("parallelism_info", Json::object());
  if (const Json given = parallelism.value("mixed_precision", Json()); given.is_string()) {
    if (!options.precision.empty())
      return Error{"--precision and --mixed-precision conflict; give one"};
    precision = given;
    if (precision != "fp32" && precision != "fp16" && precision != "bf16")
      return Error{"option --mixed-precision expects fp32, fp16 or bf16, but got '" + precision + "'"};
  }
  Result<TransformerShape> shape = parseTransformerShape(*text, options.sequence, precision == "fp32" ? 4 : 2);
  if (!shape)
    return Error{"'" + options.modelFile + "': " + shape.error().message};
  Problem problem;
  Result<Cluster> cluster = Error{"no cluster"};
  if (!options.clusterFile.empty()) {
    Result<std::string> read = readFile(options.clusterFile);
    if (!read)
      return read.error();
    cluster = parseCluster(*read, std::filesystem::path(options.clusterFile).parent_path().string());
    if (!cluster)
      return Error{"'" + options.clusterFile + "': " + cluster.error().message};
    if (cluster && options.ranks && cluster->ranks() != options.ranks)
      return Error{"--ranks " + std::to_string(options.ranks) + " conflicts with '" + options.clusterFile +
                   "', whose nodes x devices_per_node is " + std::to_string(cluster->ranks()) + "; drop one of them"};
    if (cluster && !options.device.empty() && cluster->device.name != options.device)
      return Error{"--device " + options.device + " conflicts with '" + options.clusterFile + "', whose device is " +
                   cluster->device.name + "; drop one of them"};
  } else {
    std::int64_t ranks = options.ranks ? options.ranks : std::max(1u, std::thread::hardware_concurrency());
    cluster = hostCluster(ranks, options.memoryBytes, options.device.empty() ? "cpu" : options.device);
  }
  if (cluster && profile)
    cluster = clusterByProfile(*profile, *cluster);
  if (!cluster)
    return cluster.error();
  problem.cluster = *cluster;
  warnOfProfile(*cluster);
  if (cluster->device.tables && cluster->device.tables->precision() != precision)
    return Error{"precision " + precision + " conflicts with '" + cluster->device.tables->file() + "', which is of " +
                 cluster->device.tables->precision() + "; give --precision " + cluster->device.tables->precision() +
                 ", or take a profile with galvatron-profile --precision " + precision};
  if (options.memoryBytes)
    problem.cluster.memoryBytesPerDevice = options.memoryBytes;
  problem.globalBatch = options.globalBatch ? options.globalBatch : 1;
  problem.layers = transformerLayers(shape->layers);
  if (shape->tiedEmbedding)
    problem.ties = {{0, int(shape->layers) + 1, shape->vocab * shape->hidden * shape->bytesPerElement}};
  ShapeCosts costs(*shape, problem.cluster.device);
  problem.costs = &costs;
  // Tensor parallel groups beyond a node only when a node is too small to say.
  problem.space.maxTensor = problem.space.maxUlysses = int(std::max<std::int64_t>(8, problem.cluster.devicesPerNode));
  std::vector<std::int64_t> batches = {problem.globalBatch};
  if (auto error = applyArguments(options, problem.space, batches))
    return error;
  restrictSpace(options, problem.space);
  if (auto error = restrictParallelism(parallelism, problem.space))
    return error;
  return workNative(problem, batches);
}

std::optional<Error> Tool::evaluateNative(Problem &problem) {
  Result<std::string> text = readFile(options.evaluateFile);
  if (!text)
    return text.error();
  PlanTarget target;
  target.layers = problem.layers;
  target.ranks = problem.ranks();
  Result<Plan> plan = parsePlan(*text, target);
  if (!plan)
    return Error{"'" + options.evaluateFile + "': " + plan.error().message};
  problem.globalBatch = plan->globalBatch;
  // The flat format does not say Megatron-SP: it is the model's switch.
  if (text->find("\"pp_deg\"") != std::string::npos && !problem.space.plainTensor)
    for (PlannedLayer &layer : plan->layers)
      layer.strategy.sequenceParallel = layer.strategy.tp > 1;
  Result<Plan> priced = evaluatePlan(problem, *plan);
  if (!priced)
    return priced.error();
  return finishNative(problem, std::move(*priced), nullptr);
}

SolveOptions Tool::makeSolveOptions() const {
  SolveOptions solveOptions;
  solveOptions.stop = &interrupted;
  solveOptions.threads = options.threads ? options.threads : int(std::max(1u, std::thread::hardware_concurrency()));
  solveOptions.timeLimitSeconds = options.timeLimitSeconds;
  solveOptions.explain = wantsReasons();
  if (showsProgress())
    solveOptions.progress = [](const Progress &p) {
      char best[96] = "";
      if (p.bestStepSeconds > 0)
        std::snprintf(best, sizeof best, "%.6g s a step, %s", p.bestStepSeconds, p.best.c_str());
      showProgress(p.seconds, p.candidatesDone, p.candidatesTotal, best);
    };
  return solveOptions;
}

std::optional<Error> Tool::workNative(Problem &problem, const std::vector<std::int64_t> &batches) {
  if (!options.evaluateFile.empty())
    return evaluateNative(problem);
  SolveOptions solveOptions = makeSolveOptions();
  // Of several batches the one with the best throughput.
  std::optional<Solution> best;
  std::int64_t bestBatch = 0;
  double spent = 0;
  for (std::int64_t batch : batches) {
    // Of a range, those that the settled micro-batches divide.
    if (batches.size() > 1 && problem.space.microBatches > 0 && batch % problem.space.microBatches)
      continue;
    problem.globalBatch = batch;
    if (options.timeLimitSeconds > 0)
      solveOptions.timeLimitSeconds = std::max(1e-9, options.timeLimitSeconds - spent);
    Result<Solution> solution = solve(problem, solveOptions);
    if (!solution)
      return solution.error();
    spent += solution->searchSeconds;
    bool late = solution->interrupted;
    auto throughput = [](const Solution &s, std::int64_t samples) {
      return s.plan ? double(samples) / s.plan->predictedStepSeconds : 0;
    };
    if (!best || throughput(*solution, batch) > throughput(*best, bestBatch)) {
      best = std::move(*solution);
      bestBatch = batch;
    }
    if (late) { // what is left of the range is not looked at
      best->interrupted = true;
      break;
    }
  }
  if (!best)
    return Error{"settle_chunk " + std::to_string(problem.space.microBatches) +
                 " divides none of the batches from min_bsz to max_bsz; choose another step or number"};
  problem.globalBatch = bestBatch;
  best->searchSeconds = spent;
  if (!best->plan) {
    if (best->interrupted)
      return Error{"interrupted before any plan was found"};
    reportInfeasible(best->infeasible.message);
    output["smallest_memory_bytes"] = best->infeasible.smallestBudgetBytes;
    output["search_seconds"] = spent;
    return std::nullopt;
  }
  if (!best->interrupted && wantsReasons())
    addWhatMoreBuys(problem, *best->plan, spent, solveOptions);
  Plan plan = std::move(*best->plan);
  return finishNative(problem, std::move(plan), &*best);
}

/// Where gradients are summed once a step, what the reference calls ZeRO-2 shards
/// the optimizer's state alone.
Plan Tool::inReferenceWords(Plan plan) const {
  bool sharded = std::any_of(plan.layers.begin(), plan.layers.end(),
                             [](const PlannedLayer &layer) { return layer.strategy.zero == 2; });
  if (sumsOnce && !sharded)
    for (PlannedLayer &layer : plan.layers)
      layer.strategy.zero += layer.strategy.zero == 1;
  return plan;
}

std::optional<Error> Tool::finishNative(const Problem &problem, Plan plan, const Solution *solution) {
  CheckReport report = solution ? checkPlan(problem, plan) : checkGivenPlan(problem, plan);
  if (std::optional<Error> error = report.error())
    return error;
  if (std::optional<Error> error = recordNccl(problem.cluster, plan))
    return error;
  if (wantsReasons())
    addProfileReason(problem, plan);
  output["status"] = solution && solution->interrupted ? "interrupted" : "ok";
  output["plan"] = parseOwnOrderedJson(writePlan(plan));
  if (!options.explain)
    output["plan"].erase("reasons");
  if (Result<std::string> reference = writeReferencePlan(inReferenceWords(plan)))
    output["reference_plan"] = parseOwnOrderedJson(*reference);
  output["iteration_seconds"] = plan.predictedStepSeconds;
  output["throughput_samples_per_s"] = double(plan.globalBatch) / plan.predictedStepSeconds;
  std::vector<double> used;
  for (const StageMemory &memory : plan.stageMemory)
    used.push_back(double(memory.total()) / (1 << 20));
  output["memory_used_mb_per_stage"] = used;
  if (solution) {
    output["search_seconds"] = solution->searchSeconds;
    output["proven_within"] = solution->provenWithin;
    output["work_seconds"] = solution->workSeconds;
    output["chain_seconds"] = solution->chainSeconds;
  } else
    output["fits"] = std::all_of(plan.stageMemory.begin(), plan.stageMemory.end(), [&](const StageMemory &memory) {
      return memory.total() <= problem.cluster.memoryBytesPerDevice;
    });
  if (options.explain)
    std::fputs(explainText(plan).c_str(), stderr);
  if (options.simulate)
    if (auto error = simulatePlan(problem, plan))
      return error;
  if (options.outputFile.empty())
    return std::nullopt;
  if (options.format != "reference")
    return writeFile(options.outputFile, writePlan(plan));
  Result<std::string> text = writeReferencePlan(inReferenceWords(plan));
  return text ? writeFile(options.outputFile, *text) : std::optional<Error>(text.error());
}

std::optional<Error> Tool::simulatePlan(const Problem &problem, const Plan &plan) {
  Result<Simulation> simulation = simulate(problem, plan);
  if (!simulation)
    return simulation.error();
  output["simulation"] = {{"step_seconds", simulation->stepSeconds},
                          {"bubble", simulation->bubble},
                          {"devices", simulation->devices},
                          {"events", simulation->events},
                          {"peak_bytes_per_stage", simulation->peakBytesPerStage},
                          {"simulation_seconds", simulation->wallSeconds}};
  if (options.traceFile.empty())
    return std::nullopt;
  return writeFile(options.traceFile, writeTrace(*simulation, plan));
}

int runJob(int argc, char **argv) {
  if (std::optional<int> status = options::printAnswer(commandLine(), argc, argv))
    return *status;
  Result<ToolOptions> options = parseOptions(argc, argv);
  if (!options) {
    std::fprintf(stderr, "galvatron-search: %s\n", options.error().message.c_str());
    return 1;
  }
  if (options->help) {
    std::fputs(options::helpText(commandLine()).c_str(), stdout);
    return 0;
  }
  if (options->version) {
    std::puts("galvatron-search 0.1");
    return 0;
  }
  std::signal(SIGINT, onInterrupt);
  std::signal(SIGTERM, onInterrupt);
  return Tool(std::move(*options), showsToAPerson()).run();
}
} // namespace

int runTool(int argc, char **argv) {
  int code = runJob(argc, argv);
  std::string unwritten;
  if (finishStandardOutput(unwritten))
    return code;
  std::fprintf(stderr, "galvatron-search: %s\n", unwritten.c_str());
  return 1;
}

} // namespace galvatron::search
