// The same passes that stage binaries go through, on a shorter model: import ─▶ one layer of each type ─▶
// differentiate ─▶ for each strategy plan, shard, stage, lower, proof, library.
#include "LayerBodies.h"

#include "PhaseRunner.h"
#include "ProgramDiagnostics.h"

#include "galvatron/Costs/LayerHash.h"
#include "galvatron/Costs/LoweredStep.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Schedule/VerifyTimetable.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Formats/PreparedModel.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Target/StageBinaries.h"
#include "runtime/core/Version.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace galvatron;

/// What a call's results may be instead: of its inputs those of their types. None where a type has no input of its own.
static std::optional<SmallVector<Value>> findWayAround(graph::CallOp call) {
  SmallVector<Value> values;
  for (Value result : call.getOutputs()) {
    auto isAlike = [&](Value input) { return input.getType() == result.getType(); };
    if (llvm::count_if(call.getInputs(), isAlike) != 1)
      return std::nullopt;
    values.push_back(*llvm::find_if(call.getInputs(), isAlike));
  }
  return values;
}

void galvatron::keepOneOfEach(ModuleOp module) {
  llvm::StringMap<bool> seen;
  for (auto call : llvm::make_early_inc_range(graph::getStep(module).getOps<graph::CallOp>())) {
    if (seen.try_emplace(call.getCallee(), true).second)
      continue;
    if (auto values = findWayAround(call)) {
      call->replaceAllUsesWith(*values);
      call->erase();
    }
  }
  // Values of the whole model, which nobody starts from here.
  for (StringRef name : {graph::kWeightsAttr, graph::kBuffersAttr})
    module->removeAttr(name);
}

static search::ProfiledModel describeModel(const ModelLayers &model, const llvm::StringMap<std::string> &hashes,
                                           int64_t seq, StringRef name) {
  search::ProfiledModel described;
  described.name = name.str(), described.seq = seq;
  std::string all;
  for (auto [layer, call] : llvm::zip_equal(model.layers, model.calls)) {
    StringRef role = layer.role == search::LayerRole::Embedding ? "embedding"
                     : layer.role == search::LayerRole::Head    ? "head"
                                                                : "layer";
    graph::CallOp callee = call;
    std::string hash = hashes.lookup(callee.getCallee());
    described.units.push_back({layer.path, layer.layerType, role.str(), hash});
    all += hash + "\n";
  }
  described.hash = hashText(all);
  return described;
}

namespace {

/// Bytes of one layer of a planned program with one micro-batch.
class LayerBytes {
public:
  explicit LayerBytes(const Timetable &timetable) : timetable(timetable) {}

  /// Of calls in order.
  void measure(graph::CallOp call, search::PreparedLayer &layer) {
    llvm::StringSet<> names;
    names.insert_range(call.getParameters().getAsValueRange<StringAttr>());
    for (const StageParameter &parameter : timetable.parameters)
      if (llvm::any_of(parameter.names, [&](const std::string &name) { return names.contains(name); })) {
        layer.parameters.push_back(parameter.names.front());
        layer.parameterBytes += 4 * parameter.count;
        if (!seen.insert(parameter.names.front()).second)
          layer.sharedBytes += 4 * parameter.count;
        // The parameter, its gradient and two moments, in f32; the copy that bodies read.
        layer.stateBytes +=
            parameter.count * ((parameter.trained ? 16 : 4 * parameter.hasMaster()) + (parameter.hasCopy ? 2 : 0));
      }
    std::set<int> ofForward, kept;
    for (const TimetableEntry &entry : timetable.entries) {
      auto *compute = entry.getIf<Compute>();
      if (!compute || entry.layerIndex < 0 || timetable.layerPaths[entry.layerIndex] != layer.path ||
          compute->kind == Compute::Kind::Total)
        continue;
      if (compute->scratch)
        layer.scratchBytes = std::max(layer.scratchBytes, timetable.buffers[compute->scratch.buffer].bytes);
      for (const std::vector<BufferReference> *references : {&compute->reads, &compute->writes})
        for (BufferReference reference : *references)
          if (reference && compute->kind == Compute::Kind::Forward)
            ofForward.insert(reference.buffer);
          else if (reference && references == &compute->reads && ofForward.count(reference.buffer))
            kept.insert(reference.buffer);
    }
    for (int buffer : kept)
      if (!timetable.buffers[buffer].persistent)
        layer.savedBytes += timetable.buffers[buffer].bytes;
  }

private:
  const Timetable &timetable;
  llvm::StringSet<> seen; ///< parameters of layers before
};

class BodiesJob {
public:
  BodiesJob(const MainJobOptions &options, TimingScope &timing, std::string folder)
      : options(options), phases(timing, options.target), folder(std::move(folder)) {}

  LogicalResult run(ModuleOp module);

private:
  LogicalResult prepare(ModuleOp module);
  FailureOr<OwningOpRef<ModuleOp>> differentiate(ModuleOp module, int64_t samples);
  void addWork(ModuleOp lowered, ArrayRef<Timetable> timetables, const search::Plan &plan,
               search::PreparedBodies &bodies) const;
  LogicalResult build(ModuleOp module, int64_t samples, const std::string &strategy, bool isWanted,
                      search::PreparedBodies &bodies);
  void add(ModuleOp module, int64_t samples, const std::string &strategy, bool recomputes, bool isWanted = true);
  FailureOr<search::BodiesRequest> readRequest() const;

  const MainJobOptions &options;
  PhaseRunner phases;
  std::string folder;
  llvm::StringMap<std::string> hashes; ///< by layer
  search::PreparedModel prepared;
};

} // namespace

FailureOr<search::BodiesRequest> BodiesJob::readRequest() const {
  std::string error;
  std::optional<std::string> text = readTextFile(options.bodies, error, kMaxTextBytes, "the request ");
  if (!text)
    return reportError(error);
  search::Result<search::BodiesRequest> request = search::parseBodiesRequest(*text);
  if (!request)
    return reportError(options.bodies + ": " + request.error().message);
  return std::move(*request);
}

FailureOr<OwningOpRef<ModuleOp>> BodiesJob::differentiate(ModuleOp module, int64_t samples) {
  OwningOpRef<ModuleOp> copy(module.clone());
  DifferentiatePhaseOptions phase;
  phase.globalBatch = samples;
  phase.precision = options.getPrecision();
  if (failed(phases.run(*copy, Phase::Differentiate,
                        [&](OpPassManager &passes) { buildDifferentiatePhase(passes, phase); })))
    return failure();
  return copy;
}

/// Imports the model, remembers what it is made of, and cuts it.
LogicalResult BodiesJob::prepare(ModuleOp module) {
  Phase start = detectPhase(module);
  if (start >= Phase::Differentiate)
    return reportError("expects a module before phase differentiate for --bodies, but it is after phase " +
                       getPhaseName(start));
  if (start < Phase::Import &&
      failed(phases.run(module, Phase::Import, [](OpPassManager &passes) { buildImportPhase(passes, {}); })))
    return failure();
  // As the model was traced, where samples are an axis if they ever are.
  FailureOr<OwningOpRef<ModuleOp>> whole = differentiate(module, 0);
  if (failed(whole))
    return failure();
  hashes = hashLayers(**whole);
  FailureOr<ModelLayers> model = collectLayers(module);
  auto seq = module->getAttrOfType<IntegerAttr>(graph::kSeqAttr);
  if (failed(model))
    return failure();
  prepared.version = std::string("galvatron-opt ") + kVersion;
  prepared.target = options.target, prepared.precision = options.getPrecision();
  prepared.model = describeModel(*model, hashes, seq ? seq.getInt() : 1, llvm::sys::path::stem(options.input));
  keepOneOfEach(module);
  return success();
}

/// What each layer's bodies call.
void BodiesJob::addWork(ModuleOp lowered, ArrayRef<Timetable> timetables, const search::Plan &plan,
                        search::PreparedBodies &bodies) const {
  search::StepTimetable step =
      makeStepTimetable(lowered, timetables, plan, *search::hostCluster(bodies.ranks), /*program=*/"", hashes);
  const search::StageTimetable &stage = step.stages.front();
  for (const search::StepEntry &entry : stage.entries) {
    bool isForward = entry.kind == search::EntryKind::Forward, isBackward = entry.kind == search::EntryKind::Backward;
    for (search::PreparedLayer &layer : bodies.layers)
      if ((isForward || isBackward) && entry.body >= 0 && entry.unit == layer.path)
        (isForward ? layer.forwardWork : layer.backwardWork) =
            search::workOf(step.bodies[std::size_t(entry.body)], stage);
  }
}

LogicalResult BodiesJob::build(ModuleOp module, int64_t samples, const std::string &strategy, bool isWanted,
                               search::PreparedBodies &bodies) {
  FailureOr<ModelLayers> model = collectLayers(module);
  if (failed(model))
    return failure();
  std::string text = search::writeUniformPlan(model->layers, strategy, bodies.ranks, samples, bodies.recomputes);
  search::PlanTarget target{
      .layers = model->layers, .ranks = bodies.ranks, .globalBatch = samples, .supportedOnly = true};
  search::Result<search::Plan> plan = search::parsePlan(text, target);
  if (!plan)
    return module.emitError(plan.error().message);
  annotatePlan(*model, *plan);
  FailureOr<search::Plan> asCompiled = readAnnotatedPlan(*model);
  if (failed(asCompiled))
    return failure();
  bodies.strategy = search::writeBodyStrategy(asCompiled->layers.front().strategy);
  for (auto [layer, call] : llvm::zip_equal(model->layers, model->calls)) {
    graph::CallOp callee = call;
    bodies.layers.push_back({layer.path, layer.layerType, hashes.lookup(callee.getCallee()), /*parameters=*/{}});
  }
  OwningOpRef<ModuleOp> lowered(module.clone());
  auto timetables = std::make_shared<std::vector<Timetable>>();
  if (failed(phases.lower(*lowered, Phase::Lower, timetables)) || failed(verifyTimetables(*lowered, *timetables)))
    return failure();
  LayerBytes bytes(timetables->front());
  for (auto [layer, call] : llvm::zip_equal(bodies.layers, model->calls))
    bytes.measure(call, layer);
  addWork(*lowered, *timetables, *asCompiled, bodies);
  bodies.arenaBytes = timetables->front().arenaBytes;
  if (!isWanted)
    return success();
  StageOutputOptions output;
  output.directory = folder;
  output.modelName = llvm::sys::path::stem(options.input).str();
  output.device = options.target, output.architecture = options.architecture;
  std::string name = "bodies" + std::to_string(prepared.bodies.size()) + ".so";
  if (failed(emitStageLibrary(*lowered, timetables->front(), output, name)))
    return failure();
  bodies.library = name;
  return success();
}

/// With the first thing that is wrong where it cannot be built.
void BodiesJob::add(ModuleOp differentiated, int64_t samples, const std::string &strategy, bool recomputes,
                    bool isWanted) {
  search::PreparedBodies bodies;
  bodies.strategy = strategy, bodies.samples = samples, bodies.recomputes = recomputes;
  bodies.ranks = search::countStrategyRanks(strategy);
  ScopedDiagnosticHandler listen(differentiated.getContext(), [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error && bodies.why.empty())
      bodies.why = diagnostic.str();
  });
  OwningOpRef<ModuleOp> copy(differentiated.clone());
  if (failed(build(*copy, samples, strategy, isWanted, bodies)) && bodies.why.empty())
    bodies.why = "the compiler refuses it";
  prepared.bodies.push_back(std::move(bodies));
}

LogicalResult BodiesJob::run(ModuleOp module) {
  FailureOr<search::BodiesRequest> request = readRequest();
  if (failed(request))
    return failure();
  if (std::error_code error = llvm::sys::fs::create_directories(folder))
    return reportError("cannot write to the folder '" + folder + "': " + error.message() + "; name another with -o");
  if (failed(prepare(module)))
    return failure();
  for (int64_t samples : request->samples) {
    FailureOr<OwningOpRef<ModuleOp>> differentiated = differentiate(module, samples);
    if (failed(differentiated))
      return failure();
    for (const std::string &strategy : request->strategies)
      for (bool recomputes : {false, true})
        add(**differentiated, samples, strategy, recomputes);
    for (const std::string &strategy :
         samples == request->samples.front() ? request->planned : std::vector<std::string>())
      add(**differentiated, samples, strategy, /*recomputes=*/false, /*isWanted=*/false);
  }
  llvm::SmallString<256> path(folder);
  llvm::sys::path::append(path, "bodies.json");
  std::string error;
  return writeOutputFile(std::string(path), search::writePreparedModel(prepared), error)
             ? success()
             : reportError(error + "; name another with -o");
}

LogicalResult galvatron::runBodiesJob(ModuleOp module, const MainJobOptions &options, TimingScope &timing) {
  if (options.output.empty())
    return reportError("expects -o DIR with --bodies, the folder that they are written to");
  if (options.hasPlan() || options.lower || options.compileTo || options.asksForTimetable())
    return reportError("expects --bodies alone: it has strategies of its own and writes a folder");
  return BodiesJob(options, timing, options.output).run(module);
}
