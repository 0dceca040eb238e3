// What the stages agree on: which of them holds and counts a parameter, and what travels between them. See
// VerifyTimetable.h.
#include "StageProver.h"

#include "dialects/Plan/Plan.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

LogicalResult galvatron::reportUnproved(ModuleOp module, const llvm::Twine &message) {
  InFlightDiagnostic error = module.emitOpError(message);
  error.attachNote() << "the compiler made this list: report it with the program and its plan; another strategy for "
                        "the layer may do until then";
  return error;
}

static std::string textOf(Attribute attribute) {
  std::string text;
  llvm::raw_string_ostream(text) << attribute;
  return text;
}

static LogicalResult collectParameters(ProvedModel &model) {
  for (auto stage : model.module.getOps<dist::StageOp>())
    for (auto call : stage.getBody().front().getOps<graph::CallOp>()) {
      auto layer = model.symbols.lookup<dist::LayerOp>(call.getCallee());
      for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
        ModelParameter &parameter = model.parameters[name.str()];
        if (!llvm::is_contained(parameter.stages, int64_t(stage.getIndex())))
          parameter.stages.push_back(stage.getIndex());
        if (dist::PlacementAttr gradient = layer.getGradient(index)) {
          parameter.isTrained = true;
          parameter.partialAxes = meshAxesOf(gradient);
        }
        if (auto strategy = layer->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName))
          parameter.add(strategy.getValues());
        auto home = cast<dist::PlacementAttr>(layer.getHomes()[index]);
        if (parameter.home && parameter.home != home)
          return reportUnproved(model.module, "expects tied " + name + " to be cut alike wherever it is, but " +
                                                  call.getPath() + " on stage " + llvm::Twine(stage.getIndex()) +
                                                  " has it as " + textOf(home) + " and a layer before as " +
                                                  textOf(parameter.home) + "; give both the same strategy");
        parameter.home = home;
      }
    }
  return success();
}

/// Norm and checkpoints count each parameter in one stage.
static LogicalResult verifyCounted(const ProvedModel &model, ArrayRef<Timetable> timetables, TimetableProof &proof) {
  std::map<std::string, int64_t> counted;
  for (const Timetable &timetable : timetables)
    for (const StageParameter &parameter : timetable.parameters)
      counted[parameter.names.front()] += parameter.counted;
  for (auto &[name, parameter] : model.parameters)
    if (counted[name] != 1)
      return reportUnproved(model.module, "expects the gradient norm to count " + llvm::Twine(name) +
                                              " in one stage, but " + llvm::Twine(counted[name]) + " of " +
                                              llvm::Twine(parameter.stages.size()) + " stages that hold it do");
  proof.counted = model.parameters.size();
  return success();
}

/// How a stage cuts the list that a parameter is in.
static std::string cutOf(const Timetable &timetable, const StageParameter &parameter) {
  if (parameter.bucket < 0)
    return "whole";
  const StateBucket &bucket = timetable.buckets[parameter.bucket];
  return "from element " + std::to_string(parameter.bucketOffset) + " on of pieces of " +
         std::to_string(bucket.pieceElements()) + " along " + axesText(bucket.axes);
}

/// Stages that hold a parameter sum its gradient piece by piece, and update it alike.
static LogicalResult verifyCuts(const ProvedModel &model, ArrayRef<Timetable> timetables) {
  std::map<std::string, std::pair<int64_t, std::string>> cuts;
  for (const Timetable &timetable : timetables)
    for (const StageParameter &parameter : timetable.parameters) {
      const std::string &name = parameter.names.front();
      std::string cut = cutOf(timetable, parameter);
      auto [known, isNew] = cuts.insert({name, {timetable.stage, cut}});
      if (!isNew && known->second.second != cut)
        return reportUnproved(model.module, "expects the states of tied " + llvm::Twine(name) +
                                                " to be cut alike in its stages, but stage " +
                                                llvm::Twine(known->second.first) + " has them " + known->second.second +
                                                " and stage " + llvm::Twine(timetable.stage) + " " + cut);
    }
  return success();
}

/// Values arrive as they are sent: from a stage to another in one order.
static LogicalResult verifyArrivals(const ProvedModel &model, std::vector<StageProver> &stages, TimetableProof &proof) {
  for (size_t from = 0; from < stages.size(); ++from)
    for (size_t to = 0; to < stages.size(); ++to) {
      const std::vector<ProvedTransfer> &sent = stages[from].sent[to], &received = stages[to].received[from];
      for (size_t number = 0; number < std::max(sent.size(), received.size()); ++number) {
        auto nameOf = [&](const std::vector<ProvedTransfer> &list) {
          return number < list.size()
                     ? "\"" + list[number].name + "\" of " + std::to_string(list[number].bytes) + " bytes"
                     : std::string("nothing");
        };
        if (number >= sent.size() || number >= received.size() || sent[number].key() != received[number].key())
          return reportUnproved(model.module, "expects stage " + llvm::Twine(to) + " to receive what stage " +
                                                  llvm::Twine(from) + " sends, but number " + llvm::Twine(number) +
                                                  " is " + nameOf(sent) + " there and " + nameOf(received) + " here");
      }
      proof.transfers += sent.size();
    }
  return success();
}

/// All stages' lists of one kind: training or evaluation.
static LogicalResult verifyLists(const ProvedModel &model, ArrayRef<Timetable> timetables, TimetableProof &proof) {
  ModuleOp module = model.module;
  std::vector<StageProver> stages;
  stages.reserve(timetables.size());
  for (auto [stage, timetable] : llvm::zip_equal(module.getOps<dist::StageOp>(), timetables))
    stages.emplace_back(model, stage, timetable, proof);
  for (StageProver &stage : stages)
    if (failed(stage.run()))
      return failure();
  return success(succeeded(verifyArrivals(model, stages, proof)) && succeeded(verifyProgress(model, timetables)));
}

/// Evaluation finds what training keeps between steps, and no more memory than that has.
static LogicalResult verifySameArena(const ProvedModel &model, const Timetable &training, const Timetable &evaluation) {
  auto keptOf = [](const Timetable &timetable) {
    std::vector<std::tuple<std::string, int64_t, int64_t>> kept;
    for (const Buffer &buffer : timetable.buffers)
      if (buffer.persistent)
        kept.push_back({buffer.name, buffer.offset, buffer.bytes});
    return kept;
  };
  if (evaluation.arenaBytes != training.arenaBytes || keptOf(evaluation) != keptOf(training))
    return reportUnproved(model.module, "expects evaluation to find on stage " + llvm::Twine(training.stage) +
                                            " what training keeps there, at the same places of the same arena, but " +
                                            "it does not");
  return success();
}

static LogicalResult verifyEvaluation(const ProvedModel &model, ArrayRef<Timetable> timetables, TimetableProof &proof) {
  std::vector<Timetable> evaluations = evaluationsOf(timetables);
  if (evaluations.size() != timetables.size())
    return reportUnproved(model.module, "expects every stage to have an evaluation, but " +
                                            llvm::Twine(evaluations.size()) + " of " + llvm::Twine(timetables.size()) +
                                            " do");
  for (auto [training, evaluation] : llvm::zip_equal(timetables, evaluations))
    if (failed(verifySameArena(model, training, evaluation)))
      return failure();
  TimetableProof own;
  if (failed(verifyLists(model, evaluations, own)))
    return failure();
  proof.evaluationEntries = own.entries;
  proof.evaluationReads = own.reads;
  return success();
}

FailureOr<TimetableProof> galvatron::verifyTimetables(ModuleOp module, ArrayRef<Timetable> timetables) {
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  ProvedModel model = {module, SymbolTable(module), int64_t(pipeline.getMicroBatches()), {}, plan::getMesh(pipeline)};
  TimetableProof proof;
  if (failed(collectParameters(model)) || failed(verifyCounted(model, timetables, proof)) ||
      failed(verifyCuts(model, timetables)) || failed(verifyLists(model, timetables, proof)) ||
      failed(verifyEvaluation(model, timetables, proof)))
    return failure();
  proof.stages = timetables.size();
  return proof;
}

void galvatron::printProof(const TimetableProof &proof, llvm::raw_ostream &out) {
  out << "proved of " << proof.stages << " stages with " << proof.entries << " entries:\n"
      << "  " << proof.reads << " reads find what the program says, at the planned offsets\n"
      << "  " << proof.transfers << " transfers arrive as they are sent\n"
      << "  " << proof.waits << " waits end one start each, and nothing touches what is under way\n"
      << "  " << proof.gradients << " gradients are whole before the update, " << proof.reducedOverAxes
      << " reduced over mesh axes, " << proof.reducedOverStages << " summed over stages\n"
      << "  " << proof.owners << " buffers of state and data own their bytes alone\n"
      << "  " << proof.lists << " lists of states are shared, each element in one piece; " << proof.gathers
      << " gathers find what the last update left, " << proof.scatters << " reductions leave pieces\n"
      << "  " << proof.counted << " parameters are counted once in the gradient norm\n"
      << "  " << proof.lossTerms << " terms of the loss are added once, " << proof.totals
      << " sums over the batch are whole before they are read\n"
      << "  evaluation, " << proof.evaluationEntries << " entries without gradients, does the same in " << proof.evaluationReads
      << " reads and keeps state where it is\n";
}
