// What a stage consists of: its order, layers, data and parameters, and the groups that its collectives join. See
// Timetable.h.
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace galvatron;

/// Orders may say more than entries are made for yet.
LogicalResult TimetableBuilder::readOrder() {
  if (!stage.getOrder())
    return stage.emitOpError("expects an order; run galvatron-schedule-microbatches first");
  order = stage.getOrder()->getInstructions();
  for (const dist::Instruction &instruction : order)
    if (instruction.computation == dist::Computation::Weight)
      return stage.emitOpError("expects forwards and whole backwards, but got ")
             << llvm::formatv("{0}", instruction).str() << "; zero-bubble schedules are not lowered yet";
  // Of several parts each is a list of its own; the stage has data and sums over the batch once.
  parts.resize(pipeline.getVirtualStages());
  for (Operation &op : stage.getBody().front()) {
    int64_t chunk = plan::getChunk(&op);
    if (chunk < 0 || chunk >= pipeline.getVirtualStages())
      return op.emitOpError("expects an attribute plan.chunk below the ")
             << pipeline.getVirtualStages() << " parts of a stage, but got " << chunk;
    if (isa<graph::CallOp, dist::ReceiveOp, dist::SendOp, dist::LossOp>(op))
      parts[chunk].push_back(&op);
  }
  for (const dist::Instruction &instruction : order)
    if (instruction.chunk >= pipeline.getVirtualStages())
      return stage.emitOpError("expects parts below the ")
             << pipeline.getVirtualStages() << " of a stage, but got " << llvm::formatv("{0}", instruction).str()
             << "; give plan.pipeline its virtual_stages";
  lastBackward.assign(parts.size(), -1);
  lastForward.assign(parts.size(), -1);
  return success();
}

void TimetableBuilder::keepForwards() {
  llvm::copy_if(order, std::back_inserter(forwards), [](const dist::Instruction &instruction) {
    return instruction.computation == dist::Computation::Forward;
  });
  order = forwards;
}

//===--------------------------------------------------------------------===//
// Parameters and layers
//===--------------------------------------------------------------------===//

/// The name by which calls know a parameter, then those that it is tied to.
std::vector<std::string> galvatron::namesOf(ModuleOp module, StringRef canonical) {
  std::vector<std::string> names = {canonical.str()};
  if (auto tied = module->getAttrOfType<DictionaryAttr>(graph::kTiedAttr))
    for (NamedAttribute other : tied)
      if (cast<StringAttr>(other.getValue()) == canonical)
        names.push_back(other.getName().str());
  return names;
}

LogicalResult TimetableBuilder::addParameters(Call &call) {
  for (auto [index, name] : llvm::enumerate(call.op.getParameters().getAsValueRange<StringAttr>())) {
    auto home = cast<dist::PlacementAttr>(call.layer.getHomes()[index]);
    dist::PlacementAttr gradient = call.layer.getGradient(index);
    auto known = llvm::find_if(table.parameters,
                               [&](const StageParameter &parameter) { return parameter.names.front() == name; });
    bool readsCopy = call.readsCopy(index);
    auto setGradient = [&](StageParameter &parameter) {
      parameter.gradient = gradient;
      parameter.partialAxes = partialAxesOf(gradient);
    };
    if (known != table.parameters.end()) {
      known->hasCopy |= readsCopy;
      known->isReadAsF32 |= !readsCopy;
      if (gradient && !known->gradient)
        setGradient(*known);
      if (known->home != home || (gradient && known->gradient != gradient))
        return call.op.emitOpError("expects one placement of the tied parameter ")
               << name << ", but it is used as " << known->home << " and as " << home
               << "; give its layers the same strategy";
      call.parameters.push_back(known - table.parameters.begin());
      continue;
    }
    StageParameter parameter;
    parameter.names = namesOf(module, name);
    parameter.home = home;
    if (gradient)
      setGradient(parameter);
    parameter.count = call.parameterType(index).getNumElements();
    parameter.init =
        call.forward.getArgAttrOfType<DictionaryAttr>(call.op.getInputs().size() + index, graph::kInitAttr);
    parameter.padding =
        call.forward.getArgAttrOfType<graph::PaddingAttr>(call.op.getInputs().size() + index, graph::kPaddingAttr);
    parameter.hasCopy = readsCopy;
    parameter.isReadAsF32 = !readsCopy;
    call.parameters.push_back(table.parameters.size());
    table.parameters.push_back(std::move(parameter));
  }
  return success();
}

static bool isCollective(StringRef function) {
  return llvm::is_contained({"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute"}, function);
}

void TimetableBuilder::noteExchanges(exec::FunctionOp body) {
  int64_t collectives = 0;
  body.walk([&](exec::CallOp call) {
    collectives += isCollective(call.getFunction());
    if (call.getFunction() == "all_to_all")
      table.groups[*call.getGroup()].exchangesWithAll = true;
    if (call.getFunction() == "permute") {
      const exec::RuntimeConstant *constant = exec::RuntimeFunction::find("permute")->findConstant("sources");
      SmallVector<int64_t> sources = *constant->wordsOf(call.getConstants().get("sources"));
      table.groups[*call.getGroup()].permutations.emplace(sources.begin(), sources.end());
    }
  });
  if (collectives)
    table.collectivesOf[body.getSymName()] = collectives;
}

LogicalResult TimetableBuilder::collectCall(graph::CallOp op) {
  Call call;
  call.op = op;
  call.layer = symbols.lookup<dist::LayerOp>(op.getCallee());
  if (!call.layer)
    return op.emitOpError("expects a dist.layer named ") << op.getCallee();
  call.forward = symbols.lookup<exec::FunctionOp>(call.layer.getForward());
  if (!call.forward)
    return op.emitOpError("expects an exec.function named ") << call.layer.getForward();
  if (call.layer.getBackward())
    call.backward = symbols.lookup<exec::FunctionOp>(*call.layer.getBackward());
  if (auto index = op->getAttrOfType<IntegerAttr>(dist::kLayerIndexAttrName))
    call.layerIndex = index.getInt();
  noteExchanges(call.forward);
  if (call.backward)
    noteExchanges(call.backward);
  call.trained = call.layer.getTrained();
  if (failed(addParameters(call)))
    return failure();
  contents.calls[op] = std::move(call);
  return success();
}

LogicalResult TimetableBuilder::collect() {
  table.stage = stage.getIndex();
  table.isLossScaled = graph::getPrecision(module) == "fp16";
  table.copyType = table.isLossScaled ? GVRT_F16 : GVRT_BF16;
  if (auto device = module->getAttrOfType<StringAttr>(exec::kDevice))
    table.device = device.str();
  // First, so that it is aligned as the arena is.
  if (auto bytes = module->getAttrOfType<IntegerAttr>(exec::kWorkspaceBytes))
    table.workspaceBuffer = addBuffer("workspace", bytes.getInt(), true);
  if (auto groups = module->getAttrOfType<ArrayAttr>(exec::kGroups))
    for (Attribute group : groups) {
      ArrayRef<int64_t> axes = cast<DenseI64ArrayAttr>(group).asArrayRef();
      table.groups.push_back({std::vector<int64_t>(axes.begin(), axes.end()), {}});
    }
  if (auto paths = module->getAttrOfType<ArrayAttr>(dist::kLayerPathsAttrName))
    for (StringRef path : paths.getAsValueRange<StringAttr>())
      table.layerPaths.push_back(path.str());
  for (Operation &op : stage.getBody().front()) {
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (failed(collectCall(call)))
        return failure();
    } else if (auto input = dyn_cast<dist::InputOp>(op)) {
      auto type = cast<RankedTensorType>(input.getResult().getType());
      auto placement = cast<dist::PlacementAttr>(type.getEncoding());
      int64_t bytes = bytesOf(RankedTensorType::get(placement.getLocalShape(), type.getElementType()));
      contents.inputs[input.getResult()] = table.inputs.size();
      int buffer = addBuffer(input.getName().str(), bytes * pipeline.getMicroBatches(), true);
      table.inputs.push_back({input.getName().str(), buffer, bytes, placement});
    }
  }
  if (failed(collectHolders()))
    return failure();
  collectCompletions();
  return addParameterBuffers();
}

namespace {
/// What all stages say of one parameter.
struct Holders {
  std::vector<int64_t> stages;
  bool isTrained = false;
  std::vector<int64_t> partialAxes; // of the first gradient
  int64_t zero = 0, lowestZero = 3; // levels
  bool reducesOnce = false, reducesEveryMicroBatch = false, isPartialAlike = true;

  void add(int64_t stage, plan::StrategyAttr strategy, dist::PlacementAttr gradient) {
    int64_t level = strategy ? strategy.getZero() : 0;
    zero = std::max(zero, level);
    lowestZero = std::min(lowestZero, level);
    bool isOften = strategy && plan::reducesEveryMicroBatch(strategy.getValues());
    (isOften ? reducesEveryMicroBatch : reducesOnce) = true;
    if (!llvm::is_contained(stages, stage))
      stages.push_back(stage);
    if (!gradient)
      return;
    std::vector<int64_t> axes = partialAxesOf(gradient);
    isPartialAlike &= !isTrained || axes == partialAxes;
    partialAxes = axes;
    isTrained = true;
  }
};
} // namespace

LogicalResult TimetableBuilder::collectHolders() {
  std::map<std::string, Holders> holders;
  for (auto other : module.getOps<dist::StageOp>())
    for (auto call : other.getBody().front().getOps<graph::CallOp>()) {
      auto layer = symbols.lookup<dist::LayerOp>(call.getCallee());
      for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
        auto strategy = layer ? layer->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName) : nullptr;
        holders[name.str()].add(other.getIndex(), strategy, layer ? layer.getGradient(index) : dist::PlacementAttr());
      }
    }
  for (StageParameter &parameter : table.parameters) {
    const std::string &name = parameter.names.front();
    Holders &all = holders[name];
    llvm::sort(all.stages);
    parameter.stages = all.stages;
    parameter.counted = parameter.stages.front() == table.stage;
    parameter.trained = all.isTrained;
    parameter.reducesEveryMicroBatch = all.reducesEveryMicroBatch;
    if (all.zero != all.lowestZero)
      return stage.emitOpError("expects one level of ZeRO of the tied parameter ")
             << name << ", but its layers have zero " << all.lowestZero << " and " << all.zero
             << "; give them the same one";
    if (all.reducesOnce && all.reducesEveryMicroBatch)
      return stage.emitOpError("expects the gradient of the tied parameter ")
             << name << " to be reduced once a step or after each micro-batch, but its layers say both; give them the "
             << "same reduce_every_micro_batch";
    if (all.zero && !all.isPartialAlike)
      return stage.emitOpError("expects the gradient of the tied parameter ")
             << name << " to be partial on the same mesh axes in all its stages, as ZeRO shares it among their ranks; "
             << "give its layers the same strategy, or zero 0";
    // A stage that leaves no gradient shares the states as the others do.
    if (all.zero && parameter.trained)
      parameter.partialAxes = all.partialAxes;
    parameter.zero = parameter.partialAxes.empty() ? 0 : all.zero;
  }
  return success();
}

//===--------------------------------------------------------------------===//
// Groups
//===--------------------------------------------------------------------===//

std::vector<int64_t> galvatron::partialAxesOf(dist::PlacementAttr placement) {
  std::vector<int64_t> axes;
  for (int64_t meshAxis : placement.getPartialAxes())
    if (meshAxis != dist::PlacementAttr::kTime)
      axes.push_back(meshAxis);
  return axes;
}

int TimetableBuilder::groupIndex(RankGroup group) {
  auto found = llvm::find(table.groups, group);
  if (found == table.groups.end()) {
    table.groups.push_back(std::move(group));
    return table.groups.size() - 1;
  }
  return found - table.groups.begin();
}

void TimetableBuilder::forgetUnusedGroups() {
  llvm::DenseSet<int64_t> used;
  llvm::StringSet<> seen;
  for (const TimetableEntry &entry : table.entries) {
    if (std::optional<int64_t> group = groupOf(entry.action))
      used.insert(*group);
    auto *compute = entry.getIf<Compute>();
    if (!compute || !seen.insert(compute->function).second)
      continue;
    if (auto function = symbols.lookup<exec::FunctionOp>(compute->function))
      for (auto call : function.getBody().getOps<exec::CallOp>())
        if (std::optional<int64_t> group = call.getGroup())
          used.insert(*group);
  }
  for (auto [index, group] : llvm::enumerate(table.groups))
    if (!used.contains(index))
      group = {};
}
