// Layers of a model from the calls of `@step`, and plans to and from attributes.
#include "galvatron/Costs/ModelLayers.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Placement/Placements.h"
#include "galvatron/Placement/Recomputation.h"

#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace galvatron;

/// On the module, in seconds: kept so that a plan that went through text is still complete.

static bool readsDataOnly(graph::CallOp call) {
  return llvm::none_of(call.getInputs().getTypes(), graph::isFloatTensor);
}

/// The last call ends in the loss; other layers may add terms to it.
static bool computesResult(graph::CallOp call, func::FuncOp step) {
  Operation *terminator = step.getBody().front().getTerminator();
  return terminator->getPrevNode() == call.getOperation();
}

static search::LayerRole getRole(graph::CallOp call, func::FuncOp step) {
  if (computesResult(call, step))
    return search::LayerRole::Head;
  return readsDataOnly(call) ? search::LayerRole::Embedding : search::LayerRole::Block;
}

static graph::LayerOp layerOf(graph::CallOp call) {
  return SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
}

/// As plans call it: of a layer that was padded for the plan, what it was before.
static std::string getLayerType(graph::CallOp call) {
  graph::LayerOp layer = layerOf(call);
  auto original = layer ? layer->getAttrOfType<StringAttr>(kLayerTypeAttrName) : StringAttr();
  return original ? original.str() : call.getCallee().str();
}

/// Names of parameters that some layer gives a gradient.
static llvm::StringSet<> findTrained(ArrayRef<graph::CallOp> calls) {
  llvm::StringSet<> trained;
  for (graph::CallOp call : calls)
    if (graph::LayerOp layer = layerOf(call))
      for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>()))
        if (layer.hasGradient(layer.getNumInputs() + index))
          trained.insert(name);
  return trained;
}

/// Of parameters that are trained, as frozen ones have no gradient to be summed.
static std::vector<search::TiedParameter> findTies(ArrayRef<graph::CallOp> calls) {
  std::vector<search::TiedParameter> ties;
  llvm::StringSet<> trained = findTrained(calls);
  llvm::StringMap<int> firstLayer;
  for (int number = 0; number < int(calls.size()); ++number) {
    graph::CallOp call = calls[number];
    for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
      if (!trained.contains(name))
        continue;
      auto [at, isNew] = firstLayer.try_emplace(name, number);
      graph::LayerOp layer = layerOf(call);
      if (isNew || at->second == number)
        continue;
      auto type = cast<RankedTensorType>(layer.getArgumentTypes()[layer.getNumInputs() + index]);
      ties.push_back({at->second, number, type.getNumElements() * 4}); // bytes of the gradient: f32
    }
  }
  return ties;
}

FailureOr<ModelLayers> galvatron::collectLayers(ModuleOp module) {
  ModelLayers model;
  model.step = graph::getStep(module);
  if (!model.step || model.step.isExternal())
    return module.emitError("expects a function @step with the model's layers; run the phase import first"), failure();
  auto batch = module->getAttrOfType<IntegerAttr>(graph::kBatchAttr);
  if (!batch || batch.getInt() < 1)
    return module.emitError("expects the module attribute graph.batch, the samples of a step"), failure();
  model.globalBatch = batch.getInt();

  llvm::StringMap<graph::CallOp> byPath;
  llvm::StringMap<std::vector<std::string>> valuesOfType;
  for (auto call : model.step.getOps<graph::CallOp>()) {
    if (auto [at, isNew] = byPath.try_emplace(call.getPath(), call); !isNew) {
      InFlightDiagnostic error = call.emitOpError("expects a path of its own, but got '")
                                 << call.getPath() << "' a second time";
      error.attachNote(at->second.getLoc()) << "first used here";
      return failure();
    }
    auto [values, isNewType] = valuesOfType.try_emplace(call.getCallee());
    if (graph::LayerOp layer = isNewType ? layerOf(call) : graph::LayerOp())
      values->second = getRecomputableValues(layer);
    model.calls.push_back(call);
    auto block = call->getAttrOfType<StringAttr>(graph::kBlockAttr);
    model.layers.push_back({call.getPath().str(), getLayerType(call), getRole(call, model.step), values->second,
                            block ? block.str() : ""});
  }
  if (model.calls.empty())
    return model.step.emitOpError("expects at least one graph.call to plan, but has none; run the phase import first"),
           failure();
  model.ties = findTies(model.calls);
  return model;
}

plan::StrategyAttr galvatron::getStrategyAttr(MLIRContext *context, const search::Strategy &strategy, int dp) {
  return plan::StrategyAttr::get(context, search::valuesOf(strategy, dp));
}

int64_t galvatron::getTriangularPositions(func::FuncOp step) {
  auto ids = step.getNumArguments() ? cast<ShapedType>(step.getArgumentTypes()[0]) : ShapedType();
  if (!ids || ids.getRank() != 2)
    return 0;
  int64_t positions = ids.getDimSize(1);
  bool any = false;
  WalkResult result = step->getParentOfType<ModuleOp>().walk([&](graph::AttentionOp op) {
    any = true;
    int64_t queries = cast<ShapedType>(op.getQ().getType()).getDimSize(2);
    bool isWhole = op.getCausal() && op.getWindow() == 0 && queries == positions &&
                   cast<ShapedType>(op.getK().getType()).getDimSize(2) == positions;
    return isWhole ? WalkResult::advance() : WalkResult::interrupt();
  });
  return any && !result.wasInterrupted() ? positions : 0;
}

int64_t galvatron::getMirrorablePositions(func::FuncOp step) {
  auto ids = step.getNumArguments() ? cast<ShapedType>(step.getArgumentTypes()[0]) : ShapedType();
  if (!ids || ids.getRank() != 2)
    return 0;
  WalkResult result = step->getParentOfType<ModuleOp>().walk([&](graph::AttentionOp op) {
    return op.getCausal() && op.getWindow() == 0 ? WalkResult::interrupt() : WalkResult::advance();
  });
  return result.wasInterrupted() ? ids.getDimSize(1) : 0;
}

void galvatron::chooseContextLayout(int64_t triangularPositions, search::Strategy &strategy) {
  if (strategy.cp > 1 && !strategy.cpZigzag && triangularPositions > 0 &&
      triangularPositions % (2 * strategy.sequenceCut()) == 0)
    strategy.cpZigzag = int(CpZigzag::Yes);
}

void galvatron::annotatePlan(const ModelLayers &model, const search::Plan &plan) {
  func::FuncOp step = model.step;
  MLIRContext *context = step.getContext();
  Builder builder(context);
  auto module = step->getParentOfType<ModuleOp>();
  // Ascending sizes go without saying.
  plan::Mesh mesh = plan.rankMesh();
  bool isSaid = mesh != plan::getPrimeFactors(plan.ranksPerStage());
  module->setAttr(plan::kPipelineAttrName,
                  plan::PipelineAttr::get(context, plan.pipeline, plan.ranksPerStage(), plan.microBatches,
                                          *plan::symbolizeSchedule(search::scheduleName(plan.schedule)),
                                          plan.virtualStages,
                                          isSaid ? builder.getDenseI64ArrayAttr(mesh) : DenseI64ArrayAttr()));
  if (plan.predictedStepSeconds > 0)
    module->setAttr(kPredictedSecondsAttr, builder.getF64FloatAttr(plan.predictedStepSeconds));
  else
    module->removeAttr(kPredictedSecondsAttr);
  int64_t triangularPositions = getTriangularPositions(step);
  std::vector<int> parts = plan.partOfLayers();
  for (auto [planned, layer, known, part] : llvm::zip_equal(model.calls, plan.layers, model.layers, parts)) {
    graph::CallOp call = planned;
    plan::setChunk(call, plan.shape().chunkOf(part));
    search::Strategy strategy = layer.strategy;
    search::Result<uint32_t> values = search::getValueBits(layer, known.recomputableValues);
    assert(values && "the plan has been checked");
    strategy.values = *values;
    chooseContextLayout(triangularPositions, strategy);
    if (strategy.values)
      tagRecomputableValues(layerOf(call));
    call->setAttr(plan::kStageAttrName, builder.getI64IntegerAttr(layer.stage));
    if (layer.splitBackward)
      call->setAttr(plan::kSplitBackwardAttrName, builder.getBoolAttr(*layer.splitBackward));
    else
      call->removeAttr(plan::kSplitBackwardAttrName);
    call->setAttr(plan::kStrategyAttrName, getStrategyAttr(context, strategy, layer.dp));
  }
}

/// What layers that share a parameter must say alike, as it has one place, and one gradient that is reduced at once.
static std::optional<search::Error> findTieDifference(StringRef name, const search::PlannedLayer &first,
                                                      const search::PlannedLayer &second) {
  std::string layers = "its layers '" + first.path + "' and '" + second.path + "' ";
  if (first.strategy.zero != second.strategy.zero)
    return search::Error{"plan expects one level of ZeRO of the tied parameter " + name.str() + ", but " + layers +
                         "have zero " + std::to_string(first.strategy.zero) + " and " +
                         std::to_string(second.strategy.zero) + "; give them the same one"};
  auto reducesOften = [](const search::PlannedLayer &layer) {
    return plan::reducesEveryMicroBatch(search::valuesOf(layer.strategy, layer.dp));
  };
  if (reducesOften(first) != reducesOften(second))
    return search::Error{"plan expects the gradient of the tied parameter " + name.str() +
                         " to be reduced once a step or after each micro-batch, but " + layers +
                         "say both; give them the same reduce_every_micro_batch"};
  return std::nullopt;
}

search::Result<bool> galvatron::checkPlannedLayers(const ModelLayers &model, const search::Plan &plan) {
  llvm::StringMap<const search::PlannedLayer *> firstLayer;
  for (auto [layer, known, planned] : llvm::zip_equal(plan.layers, model.layers, model.calls)) {
    if (search::Result<uint32_t> values = search::getValueBits(layer, known.recomputableValues); !values)
      return values.error();
    graph::CallOp call = planned;
    for (StringRef name : call.getParameters().getAsValueRange<StringAttr>()) {
      auto [first, isNew] = firstLayer.try_emplace(name, &layer);
      if (isNew)
        continue;
      if (std::optional<search::Error> error = findTieDifference(name, *first->second, layer))
        return *error;
    }
  }
  return true;
}

static search::PlannedLayer readLayer(const search::Layer &layer, plan::StrategyAttr strategy, int64_t stage) {
  std::vector<std::string> values;
  for (auto [bit, name] : llvm::enumerate(layer.recomputableValues))
    if (strategy.getValues().values >> bit & 1)
      values.push_back(name);
  return {layer.path, layer.layerType, layer.role, search::strategyOf(strategy.getValues()), int(strategy.getDp()),
          int(stage), values,          layer.block};
}

/// The names that a strategy's bits stand for are on the layer.
static LogicalResult checkTags(graph::CallOp call, plan::StrategyAttr strategy) {
  auto names = layerOf(call)->getAttrOfType<ArrayAttr>(plan::kValuesAttrName);
  size_t count = names ? names.size() : 0;
  if (uint64_t(strategy.getValues().values) >> count == 0)
    return success();
  return call.emitOpError("expects '") << plan::kValuesAttrName << "' of its layer to name each value of "
                                       << "'recompute_values', but it has " << count << " names; run annotate-plan";
}

FailureOr<search::Plan> galvatron::readAnnotatedPlan(const ModelLayers &model) {
  func::FuncOp step = model.step;
  auto module = step->getParentOfType<ModuleOp>();
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  if (!pipeline)
    return module.emitError("expects the module attribute plan.pipeline; run the phase plan first"), failure();
  search::Plan plan;
  plan.pipeline = int(pipeline.getStages());
  plan.ranks = pipeline.getStages() * pipeline.getDevices();
  plan.microBatches = int(pipeline.getMicroBatches());
  plan.globalBatch = model.globalBatch;
  plan.schedule = *search::parseSchedule(plan::stringifySchedule(pipeline.getSchedule()));
  plan.virtualStages = int(pipeline.getVirtualStages());
  if (auto seconds = module->getAttrOfType<FloatAttr>(kPredictedSecondsAttr))
    plan.predictedStepSeconds = seconds.getValueAsDouble();
  for (auto [planned, layer] : llvm::zip_equal(model.calls, model.layers)) {
    graph::CallOp call = planned;
    auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    auto stage = call->getAttrOfType<IntegerAttr>(plan::kStageAttrName);
    if (!strategy || !stage)
      return call.emitOpError("expects plan.strategy and plan.stage for '")
                 << layer.path << "', but lacks " << (strategy ? "plan.stage" : "plan.strategy"),
             failure();
    if (failed(checkTags(call, strategy)))
      return failure();
    if (!layer.recomputableValues.empty())
      plan.recomputableValues[layer.layerType] = layer.recomputableValues;
    plan.layers.push_back(readLayer(layer, strategy, stage.getInt()));
    plan.layers.back().chunk = int(plan::getChunk(call));
    if (auto split = call->getAttrOfType<BoolAttr>(plan::kSplitBackwardAttrName))
      plan.layers.back().splitBackward = split.getValue();
  }
  SmallVector<int64_t> mesh = plan::getMesh(pipeline);
  if (plan::Mesh order(mesh.begin(), mesh.end()); order != plan.rankMesh())
    plan.mesh = order;
  return plan;
}
