// One clone of each layer type for each strategy in use, with a placement on every tensor, and the
// redistributions between calls as layers of their own. The rules for one layer are in
// lib/Placement/PlacementsBody.cpp; this file deals with the step: which clones there are, where each
// parameter lives, and what stands between two calls.
#include "galvatron/Transforms/AssignPlacements.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Placement/PlacementsBody.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace galvatron {
#define GEN_PASS_DEF_ASSIGNPLACEMENTSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;

namespace {

class StepAssigner {
public:
  StepAssigner(ModuleOp module, func::FuncOp step, plan::PipelineAttr pipeline)
      : module(module), step(step), pipeline(pipeline), axes(module), symbols(module), builder(module.getContext()) {}

  LogicalResult run();
  unsigned getNumClones() const { return clones.size(); }
  unsigned getNumRedistributions() const { return redistributions.size(); }

private:
  LogicalResult agreeOnTiedHomes(ArrayRef<graph::CallOp> calls);
  LogicalResult agreeOnTiedGradients(ArrayRef<graph::CallOp> calls);
  void forgetClones();
  LogicalResult assignCall(graph::CallOp call);
  FailureOr<graph::LayerOp> getClone(graph::CallOp call);
  FailureOr<const LayerSubAxes *> getSubAxes(graph::LayerOp layer, plan::StrategyAttr strategy, Location loc);
  FailureOr<graph::LayerOp> assign(const BodyRequest &request, plan::StrategyAttr strategy, Location loc);
  Value getInput(graph::CallOp call, Value original, Type type, bool hasGradient);
  FailureOr<Value> getTotal(graph::CallOp call, graph::TotalOp total);
  graph::LayerOp getRedistribution(Type from, Type to, bool hasGradient);
  int64_t getStage(Operation *call) { return call->getAttrOfType<IntegerAttr>(plan::kStageAttrName).getInt(); }
  /// Stage and chunk: what a call runs in one go with.
  std::pair<int64_t, int64_t> getPart(Operation *call) { return {getStage(call), plan::getChunk(call)}; }

  ModuleOp module;
  func::FuncOp step;
  plan::PipelineAttr pipeline;
  Axes axes;
  SymbolTable symbols;
  OpBuilder builder;
  /// (layer type, strategy, decided homes and gradients) → clone.
  using CloneKey = std::pair<std::pair<Operation *, Attribute>, ArrayAttr>;
  DenseMap<CloneKey, graph::LayerOp> clones;
  std::map<std::pair<Operation *, const void *>, std::unique_ptr<LayerSubAxes>> subAxes;
  /// Of parameters that several calls use.
  llvm::StringMap<PlacementAttr> homes, gradients;
  llvm::StringMap<unsigned> uses;
  /// What stands for a value of the old step, by type.
  DenseMap<Value, SmallVector<Value, 2>> copies;
  DenseMap<std::tuple<Type, Type, unsigned>, graph::LayerOp> redistributions; // with a gradient or without
  /// A total as the calls of one strategy and stage read it.
  DenseMap<std::pair<Value, std::pair<Attribute, int64_t>>, Value> totals;
};

} // namespace

/// decoder.dp2tp2: the layer and what its strategy uses.
static std::string getCloneName(StringRef layer, plan::StrategyAttr strategy) {
  return layer.str() + "." + plan::getCloneSuffix(strategy.getValues());
}

FailureOr<const LayerSubAxes *> StepAssigner::getSubAxes(graph::LayerOp layer, plan::StrategyAttr strategy,
                                                         Location loc) {
  std::unique_ptr<LayerSubAxes> &entry = subAxes[{layer, strategy.getAsOpaquePointer()}];
  if (!entry) {
    FailureOr<LayerSubAxes> dealt = LayerSubAxes::get(axes, layer, strategy, pipeline, loc);
    if (failed(dealt))
      return failure();
    entry = std::make_unique<LayerSubAxes>(std::move(*dealt));
  }
  return entry.get();
}

/// The clone for a call. A tied parameter's home is decided by its first use in the step, so a layer
/// that uses it later may need a clone of its own.
FailureOr<graph::LayerOp> StepAssigner::getClone(graph::CallOp call) {
  auto layer = symbols.lookup<graph::LayerOp>(call.getCallee());
  auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
  if (!layer || !strategy || !call->hasAttr(plan::kStageAttrName))
    return call.emitOpError("expects a layer, '") << plan::kStrategyAttrName << "' and '" << plan::kStageAttrName
                                                  << "', but one is missing; run annotate-plan or search-plan";
  BodyRequest request{layer,
                      getCloneName(layer.getSymName(), strategy),
                      {},
                      {},
                      {},
                      bool(strategy.getKeepGathered()),
                      plan::isRing(strategy.getValues())};
  SmallVector<Attribute> decided;
  for (StringRef name : call.getParameters().getAsValueRange<StringAttr>()) {
    request.homes.push_back(homes.lookup(name));
    request.gradients.push_back(gradients.lookup(name));
    for (PlacementAttr placement : {homes.lookup(name), gradients.lookup(name)})
      decided.push_back(placement ? Attribute(placement) : builder.getUnitAttr());
  }
  graph::LayerOp &clone = clones[{{layer, strategy}, builder.getArrayAttr(decided)}];
  if (clone)
    return clone;
  for (Value output : call.getOutputs())
    request.isLoss.push_back(llvm::any_of(output.getUsers(), llvm::IsaPred<func::ReturnOp>));
  FailureOr<graph::LayerOp> assigned = assign(request, strategy, call.getLoc());
  if (succeeded(assigned))
    clone = *assigned;
  return assigned;
}

/// The clone that `request` asks for, in the module; its name is another where that one is taken.
FailureOr<graph::LayerOp> StepAssigner::assign(const BodyRequest &request, plan::StrategyAttr strategy, Location loc) {
  FailureOr<const LayerSubAxes *> dealt = getSubAxes(request.layer, strategy, loc);
  if (failed(dealt))
    return failure();
  FailureOr<graph::LayerOp> clone = assignBody(request, axes, **dealt);
  if (failed(clone))
    return failure();
  (*clone)->setAttr(plan::kStrategyAttrName, strategy);
  symbols.insert(*clone);
  return clone;
}

/// The gradient of a parameter, as the layer's backward leaves it; null where it has none.
static PlacementAttr getGradient(graph::LayerOp layer, unsigned parameter) {
  graph::BackwardOp backward = layer.getBackward();
  if (!backward)
    return {};
  ValueRange gradients = backward.getBody().front().getTerminator()->getOperands();
  for (auto [argument, gradient] : llvm::zip(layer.getDifferentiated(), gradients))
    if (argument.getArgNumber() == layer.getNumInputs() + parameter)
      return dist::getPlacement(gradient.getType());
  return {};
}

/// The first use decides where a tied parameter lives. Where another use cannot read it from there (a table
/// cut over the vocabulary, and a layer that is not cut), it lives whole on every device.
LogicalResult StepAssigner::agreeOnTiedHomes(ArrayRef<graph::CallOp> calls) {
  SmallVector<StringRef> apart;
  for (graph::CallOp call : calls)
    for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
      if (uses.lookup(name) < 2)
        continue;
      FailureOr<graph::LayerOp> clone = getClone(call);
      if (failed(clone))
        return failure();
      Type type = clone->getArgumentTypes()[clone->getNumInputs() + index];
      PlacementAttr home = dist::getPlacement(type);
      auto [found, isFirst] = homes.try_emplace(name, home);
      if (found->second != home)
        apart.push_back(name);
      if (llvm::is_contained(apart, name))
        found->second = PlacementAttr::getReplicated(cast<RankedTensorType>(type));
    }
  forgetClones();
  return success();
}

/// Clones that were made to see what they hold and leave; their names are free again.
void StepAssigner::forgetClones() {
  for (auto &[key, clone] : clones)
    symbols.erase(clone);
  clones.clear();
}

/// Gradients of a tied parameter are added before they are reduced, which is right only if all its uses
/// leave them partial on the same axes. What not every use leaves partial is reduced in the bodies of the
/// others.
LogicalResult StepAssigner::agreeOnTiedGradients(ArrayRef<graph::CallOp> calls) {
  llvm::StringMap<PlacementAttr> agreed;
  for (graph::CallOp call : calls) {
    auto names = call.getParameters().getAsValueRange<StringAttr>();
    if (llvm::none_of(names, [&](StringRef name) { return uses.lookup(name) > 1; }))
      continue;
    FailureOr<graph::LayerOp> clone = getClone(call);
    if (failed(clone))
      return failure();
    for (auto [index, name] : llvm::enumerate(names)) {
      PlacementAttr gradient = getGradient(*clone, index);
      if (uses.lookup(name) < 2 || !gradient)
        continue;
      auto [found, isFirst] = agreed.try_emplace(name, gradient);
      SmallVector<dist::Partial> common = found->second.getPartials();
      llvm::erase_if(common,
                     [&](dist::Partial partial) { return !llvm::is_contained(gradient.getPartials(), partial); });
      found->second = found->second.withPartials(common);
    }
  }
  for (auto &entry : agreed)
    gradients[entry.getKey()] = entry.getValue();
  forgetClones();
  return success();
}

/// A layer that only redistributes: forward the value, backward its gradient, if it has one.
graph::LayerOp StepAssigner::getRedistribution(Type from, Type to, bool hasGradient) {
  graph::LayerOp &layer = redistributions[{from, to, unsigned(hasGradient)}];
  if (layer)
    return layer;
  OpBuilder::InsertionGuard guard(builder);
  Location loc = step.getLoc();
  builder.setInsertionPoint(step);
  layer = graph::LayerOp::create(builder, loc, "redistribute." + std::to_string(redistributions.size() - 1),
                                 builder.getFunctionType(from, to), StringAttr(), ArrayAttr(), ArrayAttr());
  Block *block = builder.createBlock(&layer.getBody(), {}, {from}, {loc});
  Value forward = dist::RedistributeOp::create(builder, loc, to, block->getArgument(0));
  if (graph::isFloatTensor(from) && !hasGradient) {
    layer.setArgAttr(0, graph::kFrozenAttr, builder.getUnitAttr());
    layer.setResultAttr(0, graph::kFrozenAttr, builder.getUnitAttr());
  }
  if (hasGradient) {
    auto backward = graph::BackwardOp::create(builder, loc);
    OpBuilder::InsertionGuard guard(builder);
    Block *region = builder.createBlock(&backward.getBody(), {}, {to}, {loc});
    Value gradient = dist::RedistributeOp::create(builder, loc, from, region->getArgument(0));
    graph::ReturnOp::create(builder, loc, gradient);
  }
  graph::ReturnOp::create(builder, loc, forward);
  symbols.insert(layer);
  return layer;
}

/// The call's operand in the placement that its callee wants. Between stages the redistribution is
/// done where a device holds less.
Value StepAssigner::getInput(graph::CallOp call, Value original, Type type, bool hasGradient) {
  if (auto argument = dyn_cast<BlockArgument>(original); argument && copies[original].empty()) {
    argument.setType(type); // the first reader of the step's input decides
    copies[original].push_back(argument);
  }
  for (Value copy : copies[original])
    if (copy.getType() == type)
      return copy;
  Value from = copies[original].front();
  graph::LayerOp layer = getRedistribution(from.getType(), type, hasGradient);
  Operation *reader = call;
  OpBuilder::InsertionGuard guard(builder);
  if (Operation *producer = from.getDefiningOp())
    if (getPart(producer) != getPart(call) && dist::getLocalBytes(type) <= dist::getLocalBytes(from.getType())) {
      reader = producer;
      builder.setInsertionPointAfter(producer); // calls of later stages may stand between the two
    }
  auto redistribute = graph::CallOp::create(builder, call.getLoc(), type, layer.getSymName(), from,
                                            builder.getStrArrayAttr({}), (call.getPath() + ":input").str());
  redistribute->setAttr(plan::kStageAttrName, builder.getI64IntegerAttr(getStage(reader)));
  plan::setChunk(redistribute, plan::getChunk(reader));
  copies[original].push_back(redistribute.getResult(0));
  return redistribute.getResult(0);
}

/// The total, summed by the stage that reads it over the pieces of the batch that its reader's strategy makes: each
/// device adds up its own, and `graph.total` adds up devices and micro-batches. Its layer reads the step's inputs in
/// placements of its own, whatever other layers make of them.
FailureOr<Value> StepAssigner::getTotal(graph::CallOp call, graph::TotalOp total) {
  auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
  Value &known = totals[{total.getResult(), {strategy, getStage(call)}}];
  if (known)
    return known;
  auto layer = symbols.lookup<graph::LayerOp>(total.getCallee());
  graph::LayerOp &clone = clones[{{layer, strategy}, builder.getArrayAttr({})}];
  if (!clone) {
    BodyRequest request{layer, getCloneName(layer.getSymName(), strategy), {}, {}, {true}};
    FailureOr<graph::LayerOp> assigned = assign(request, strategy, total.getLoc());
    if (failed(assigned))
      return failure();
    clone = *assigned;
  }
  auto type = cast<RankedTensorType>(total.getType());
  auto placed =
      graph::TotalOp::create(builder, total.getLoc(), dist::withPlacement(type, PlacementAttr::getReplicated(type)),
                             clone.getSymName(), total.getInputs());
  return known = placed.getResult();
}

LogicalResult StepAssigner::assignCall(graph::CallOp call) {
  FailureOr<graph::LayerOp> clone = getClone(call);
  if (failed(clone))
    return failure();
  ArrayRef<Type> types = clone->getArgumentTypes();
  builder.setInsertionPoint(call);
  SmallVector<Value> inputs;
  for (auto [index, input] : llvm::enumerate(call.getInputs())) {
    if (auto total = input.getDefiningOp<graph::TotalOp>()) {
      FailureOr<Value> placed = getTotal(call, total);
      if (failed(placed))
        return failure();
      inputs.push_back(*placed);
      continue;
    }
    inputs.push_back(getInput(call, input, types[index], clone->hasGradient(index)));
  }
  auto placed = graph::CallOp::create(builder, call.getLoc(), clone->getResultTypes(), clone->getSymName(), inputs,
                                      call.getParameters(), call.getPath());
  placed->setDiscardableAttrs(call->getDiscardableAttrDictionary());
  for (auto [output, result] : llvm::zip(call.getOutputs(), placed.getOutputs()))
    copies[output].push_back(result);
  return success();
}

LogicalResult StepAssigner::run() {
  SmallVector<graph::CallOp> calls(step.getOps<graph::CallOp>());
  for (graph::CallOp call : calls)
    for (StringRef name : call.getParameters().getAsValueRange<StringAttr>())
      ++uses[name];
  SmallVector<graph::LayerOp> layers(module.getOps<graph::LayerOp>());
  if (failed(agreeOnTiedHomes(calls)) || failed(agreeOnTiedGradients(calls)))
    return failure();
  for (graph::CallOp call : calls)
    if (failed(assignCall(call)))
      return failure();

  Operation *terminator = step.getBody().front().getTerminator();
  for (OpOperand &operand : terminator->getOpOperands())
    if (auto &list = copies[operand.get()]; !list.empty())
      operand.set(list.front());
  for (graph::CallOp call : llvm::reverse(calls))
    call.erase();
  for (auto total : llvm::make_early_inc_range(step.getOps<graph::TotalOp>()))
    if (!dist::getPlacement(total.getType()))
      total.erase();
  for (graph::LayerOp layer : layers)
    symbols.erase(layer);
  for (BlockArgument argument : step.getArguments())
    if (!dist::getPlacement(argument.getType()))
      argument.setType(dist::withPlacement(argument.getType(),
                                           PlacementAttr::getReplicated(cast<RankedTensorType>(argument.getType()))));
  step.setFunctionType(
      builder.getFunctionType(step.getBody().front().getArgumentTypes(), terminator->getOperandTypes()));
  return success();
}

FailureOr<AssignedPlacements> galvatron::assignPlacements(ModuleOp module) {
  func::FuncOp step = graph::getStep(module);
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  if (!step || !pipeline)
    return module.emitOpError("expects a function @step and '")
           << plan::kPipelineAttrName << "', but one is missing; run annotate-plan or search-plan";
  StepAssigner assigner(module, step, pipeline);
  if (failed(assigner.run()))
    return failure();
  return AssignedPlacements{assigner.getNumClones(), assigner.getNumRedistributions()};
}

namespace {
struct AssignPlacementsPass : galvatron::impl::AssignPlacementsPassBase<AssignPlacementsPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<AssignedPlacements> assigned = assignPlacements(getOperation());
    if (failed(assigned))
      return signalPassFailure();
    numLayers += assigned->numLayers;
    numRedistributions += assigned->numRedistributions;
  }
};
} // namespace
