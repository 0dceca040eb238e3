// Expansion of a stage into entries. See Timetable.h.
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "runtime/api/ElementType.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

#include <set>

using namespace mlir;
using namespace galvatron;

int64_t galvatron::bytesOf(Type type) {
  auto shaped = cast<ShapedType>(type);
  return shaped.getNumElements() * llvm::divideCeil(shaped.getElementTypeBitWidth(), 8);
}

/// Code of an element type in a runtime function's attributes.
static int64_t typeOf(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isBF16() ? GVRT_BF16 : isa<FloatType>(element) ? GVRT_F32 : GVRT_I64;
}

int TimetableBuilder::addSlot(std::string name, int64_t bytes, bool persistent) {
  Slot slot;
  slot.name = std::move(name);
  slot.bytes = bytes;
  slot.persistent = persistent;
  table.slots.push_back(std::move(slot));
  return table.slots.size() - 1;
}

TimetableEntry &TimetableBuilder::addEntry(std::string function, std::string name, int64_t microBatch, int64_t unit) {
  TimetableEntry entry;
  entry.function = std::move(function);
  entry.name = std::move(name);
  entry.microBatch = microBatch;
  entry.unit = unit;
  table.entries.push_back(std::move(entry));
  return table.entries.back();
}

void TimetableBuilder::use(TimetableEntry &entry, SlotReference reference) {
  entry.buffers.push_back(reference);
  if (reference.slot < 0)
    return;
  Slot &slot = table.slots[reference.slot];
  int64_t now = table.entries.size() - 1;
  if (slot.first < 0)
    slot.first = now;
  slot.last = now;
}

void TimetableBuilder::useResult(TimetableEntry &entry, SlotReference reference, Type type) {
  if (isa<FloatType>(getElementTypeOrSelf(type)))
    entry.results.push_back({(int64_t)entry.buffers.size(), typeOf(type), cast<ShapedType>(type).getNumElements()});
  use(entry, reference);
}

int TimetableBuilder::groupIndex(RankGroup group) {
  auto found = llvm::find(table.groups, group);
  if (found == table.groups.end()) {
    table.groups.push_back(std::move(group));
    return table.groups.size() - 1;
  }
  return found - table.groups.begin();
}

//===--------------------------------------------------------------------===//
// What there is: parameters, inputs, layers
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
  for (auto [position, name] : llvm::enumerate(call.op.getParameters().getAsValueRange<StringAttr>())) {
    auto home = cast<dist::PlacementAttr>(call.layer.getHomes()[position]);
    dist::PlacementAttr gradient = call.layer.getGradient(position);
    auto known = llvm::find_if(table.parameters,
                               [&](const StageParameter &parameter) { return parameter.names.front() == name; });
    bool isBf16 = call.parameterType(position).getElementType().isBF16();
    auto setGradient = [&](StageParameter &parameter) {
      parameter.gradient = gradient;
      for (int64_t owner : gradient.getPartialAxes())
        if (owner != dist::PlacementAttr::kTime) // micro-batches add up in place
          parameter.partialAxes.push_back(owner);
    };
    if (known != table.parameters.end()) {
      known->hasCopy |= isBf16;
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
    parameter.count = call.parameterType(position).getNumElements();
    parameter.init = call.forward.getArgAttrOfType<DictionaryAttr>(call.op.getInputs().size() + position, "graph.init");
    parameter.hasCopy = isBf16;
    call.parameters.push_back(table.parameters.size());
    table.parameters.push_back(std::move(parameter));
  }
  return success();
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
  if (auto unit = op->getAttrOfType<IntegerAttr>("dist.unit"))
    call.unit = unit.getInt();
  call.trained = call.layer.getTrained();
  if (failed(addParameters(call)))
    return failure();
  calls[op] = std::move(call);
  return success();
}

LogicalResult TimetableBuilder::collect() {
  table.stage = stage.getIndex();
  if (auto device = module->getAttrOfType<StringAttr>(exec::kDevice))
    table.device = device.str();
  // First, so that it is aligned as the arena is.
  if (auto bytes = module->getAttrOfType<IntegerAttr>(exec::kWorkspaceBytes))
    table.workspaceSlot = addSlot("workspace", bytes.getInt(), true);
  if (auto groups = module->getAttrOfType<ArrayAttr>(exec::kGroups))
    for (Attribute group : groups) {
      ArrayRef<int64_t> axes = cast<DenseI64ArrayAttr>(group).asArrayRef();
      table.groups.push_back({std::vector<int64_t>(axes.begin(), axes.end()), {}});
    }
  if (auto units = module->getAttrOfType<ArrayAttr>("dist.units"))
    for (StringRef path : units.getAsValueRange<StringAttr>())
      table.units.push_back(path.str());
  for (Operation &op : stage.getBody().front()) {
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (failed(collectCall(call)))
        return failure();
    } else if (auto input = dyn_cast<dist::InputOp>(op)) {
      auto type = cast<RankedTensorType>(input.getResult().getType());
      auto placement = cast<dist::PlacementAttr>(type.getEncoding());
      int64_t bytes = bytesOf(RankedTensorType::get(placement.getLocalShape(), type.getElementType()));
      inputs[input.getResult()] = table.inputs.size();
      int slot = addSlot(input.getName().str(), bytes * pipeline.getMicroBatches(), true);
      table.inputs.push_back({input.getName().str(), slot, bytes, placement});
    }
  }
  collectHolders();
  return addParameterSlots();
}

void TimetableBuilder::collectHolders() {
  std::map<std::string, std::vector<int64_t>> holders;
  llvm::StringSet<> trained;
  for (auto other : module.getOps<dist::StageOp>())
    for (auto call : other.getBody().front().getOps<graph::CallOp>()) {
      auto layer = symbols.lookup<dist::LayerOp>(call.getCallee());
      for (auto [position, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
        std::vector<int64_t> &stages = holders[name.str()];
        int64_t index = other.getIndex();
        if (!llvm::is_contained(stages, index))
          stages.push_back(index);
        if (layer && layer.getGradient(position))
          trained.insert(name);
      }
    }
  for (StageParameter &parameter : table.parameters) {
    parameter.stages = holders[parameter.names.front()];
    llvm::sort(parameter.stages);
    parameter.counted = parameter.stages.front() == table.stage;
    parameter.trained = trained.contains(parameter.names.front());
  }
}

//===--------------------------------------------------------------------===//
// Memory of one micro-batch
//===--------------------------------------------------------------------===//

RankedTensorType galvatron::localType(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  if (auto placement = dyn_cast_or_null<dist::PlacementAttr>(type.getEncoding()))
    return RankedTensorType::get(placement.getLocalShape(), type.getElementType());
  return type;
}

int TimetableBuilder::valueSlot(Value value, int64_t microBatch) {
  auto key = std::make_pair(value.getAsOpaquePointer(), microBatch);
  auto found = valueSlots.find(key);
  if (found != valueSlots.end())
    return found->second;
  return valueSlots[key] = addSlot("activation micro-batch " + std::to_string(microBatch), bytesOf(localType(value)));
}

SlotReference TimetableBuilder::inputReference(Value value, int64_t microBatch) {
  if (auto total = totals.find(value); total != totals.end())
    return {total->second, 0};
  auto input = inputs.find(value);
  if (input == inputs.end())
    return {valueSlot(value, microBatch), 0};
  const StageInput &data = table.inputs[input->second];
  return {data.slot, data.bytesPerMicroBatch * microBatch};
}

/// Layers that read a parameter in bf16 get its copy; a tied one may be read in both types.
SlotReference TimetableBuilder::parameterReference(Call &call, unsigned position) {
  const StageParameter &parameter = table.parameters[call.parameters[position]];
  bool isCopy = call.parameterType(position).getElementType().isBF16();
  return {isCopy ? parameter.copySlot : parameter.parameterSlot, 0};
}

void TimetableBuilder::accumulate(std::string name, Value value, int contribution, int sum, int64_t microBatch,
                                  int64_t unit) {
  TimetableEntry &entry = addEntry("gvrt_accumulate", std::move(name), microBatch, unit);
  use(entry, {contribution, 0});
  use(entry, {sum, 0});
  ShapedType type = localType(value);
  entry.attributes = {typeOf(type), typeOf(type), type.getNumElements()};
}

/// Saved values of one layer and micro-batch live and die together: one slot, each on a cache line.
int64_t TimetableBuilder::savedBytes(Call &call) {
  int64_t bytes = 0, numSaved = call.layer.getNumSaved();
  for (Type type : call.forward.getArgumentTypes().drop_back().take_back(numSaved))
    bytes += llvm::alignTo(bytesOf(type), kSlotAlignment);
  return bytes;
}

int TimetableBuilder::savedSlot(Call &call, int64_t microBatch) {
  auto key = std::make_pair(call.op.getOperation(), microBatch);
  auto found = savedSlots.find({key.first, key.second});
  if (found != savedSlots.end())
    return found->second;
  int slot =
      addSlot("saved by " + call.op.getPath().str() + " micro-batch " + std::to_string(microBatch), savedBytes(call));
  return savedSlots[{key.first, key.second}] = slot;
}

//===--------------------------------------------------------------------===//
// Entries
//===--------------------------------------------------------------------===//

static int64_t scratchBytes(exec::FunctionOp function) {
  return function->getAttrOfType<IntegerAttr>(exec::kScratchBytes).getInt();
}

void TimetableBuilder::callForward(Call &call, int64_t microBatch) {
  graph::CallOp op = call.op;
  int64_t scratch = scratchBytes(call.forward);
  int scratchIndex = scratch ? addSlot("scratch", scratch) : -1;
  TimetableEntry &entry =
      addEntry(call.forward.getSymName().str(), label("forward", op.getPath(), microBatch), microBatch, call.unit);
  for (Value input : op.getInputs())
    use(entry, inputReference(input, microBatch));
  for (unsigned position = 0; position < call.parameters.size(); ++position)
    use(entry, parameterReference(call, position));
  for (Value output : op.getOutputs())
    useResult(entry, {valueSlot(output, microBatch), 0}, localType(output));
  int64_t offset = 0;
  for (Type type : call.forward.getArgumentTypes().drop_back().take_back(call.layer.getNumSaved())) {
    use(entry, {savedSlot(call, microBatch), offset});
    offset += llvm::alignTo(bytesOf(type), kSlotAlignment);
  }
  use(entry, {scratchIndex, 0});
}

LogicalResult TimetableBuilder::callBackward(Call &call, int64_t microBatch) {
  graph::CallOp op = call.op;
  if (!call.backward)
    return success();
  int64_t scratch = scratchBytes(call.backward);
  int scratchIndex = scratch ? addSlot("scratch", scratch) : -1;
  // A value read by several layers: the first contribution is written, later ones added.
  SmallVector<std::tuple<Value, int, int>> additions; // (value, contribution, sum)
  SmallVector<std::pair<SlotReference, Type>> inputGradients;
  for (auto [position, input] : llvm::enumerate(op.getInputs())) {
    if (!call.layer.getInputGradient(position))
      continue;
    auto key = std::make_pair(input.getAsOpaquePointer(), microBatch);
    int slot = addSlot("gradient micro-batch " + std::to_string(microBatch), bytesOf(localType(input)));
    auto known = gradientSlots.find(key);
    if (known == gradientSlots.end())
      gradientSlots[key] = slot;
    else
      additions.push_back({input, slot, known->second});
    inputGradients.push_back({{slot, 0}, localType(input)});
  }
  std::vector<int64_t> flags = addOrWrite(call, microBatch);
  TimetableEntry &entry =
      addEntry(call.backward.getSymName().str(), label("backward", op.getPath(), microBatch), microBatch, call.unit);
  entry.attributes = std::move(flags);
  for (auto [index, output] : llvm::enumerate(op.getOutputs())) {
    if (!call.layer.getOutputGradient(index))
      continue;
    auto gradient = gradientSlots.find({output.getAsOpaquePointer(), microBatch});
    if (gradient == gradientSlots.end())
      return op.emitOpError("expects every result to be read, but one has no gradient");
    use(entry, {gradient->second, 0});
  }
  exec::FunctionOp function = call.backward;
  Block &block = function.getBody().front();
  unsigned position = entry.buffers.size();
  // What the body does not read is not kept alive for it.
  auto useIfRead = [&](SlotReference reference) {
    use(entry, block.getArgument(position++).use_empty() ? SlotReference{} : reference);
  };
  for (Value input : op.getInputs())
    useIfRead(inputReference(input, microBatch));
  for (unsigned parameter = 0; parameter < call.parameters.size(); ++parameter)
    useIfRead(parameterReference(call, parameter));
  int64_t offset = 0;
  for (Type type : call.forward.getFunctionType().getInputs().drop_back().take_back(call.layer.getNumSaved())) {
    useIfRead({savedSlot(call, microBatch), offset});
    offset += llvm::alignTo(bytesOf(type), kSlotAlignment);
  }
  for (auto [gradient, type] : inputGradients)
    useResult(entry, gradient, type);
  for (unsigned trained : call.trained) {
    const StageParameter &parameter = table.parameters[call.parameters[trained]];
    useResult(entry, {parameter.gradientSlot, 0},
              MemRefType::get(parameter.count, Float32Type::get(module.getContext())));
  }
  use(entry, {scratchIndex, 0});
  for (auto [value, contribution, sum] : additions)
    accumulate(label("sum gradient into", op.getPath(), microBatch), value, contribution, sum, microBatch, call.unit);
  return success();
}

void TimetableBuilder::send(SlotReference value, int64_t bytes, int64_t toStage, int64_t tag, int64_t microBatch,
                            StringRef what) {
  std::string name = (what + " to stage " + Twine(toStage) + " micro-batch " + Twine(microBatch)).str();
  TimetableEntry &entry = addEntry("gvrt_send", name, microBatch);
  use(entry, value);
  int64_t handle = numHandles++;
  entry.attributes = {toStage, tag, bytes, handle};
  transfers[(what + Twine(tag) + ":" + Twine(microBatch)).str()] = {handle, value, name};
}

void TimetableBuilder::waitFor(StringRef key) {
  auto found = transfers.find(key.str());
  if (found == transfers.end())
    return;
  addWait(found->second);
  transfers.erase(found);
}

void TimetableBuilder::addWait(const Transfer &transfer) {
  TimetableEntry &entry = addEntry("gvrt_wait", "end of " + transfer.name);
  use(entry, transfer.value); // the slot lives until here
  entry.attributes = {transfer.handle};
}

LogicalResult TimetableBuilder::addTotal(graph::TotalOp op) {
  auto layer = symbols.lookup<dist::LayerOp>(op.getCallee());
  auto function = layer ? symbols.lookup<exec::FunctionOp>(layer.getForward()) : exec::FunctionOp();
  if (!function)
    return op.emitOpError("expects a dist.layer with an exec.function named ") << op.getCallee();
  std::string name = op.getCallee().str();
  int slot = totals[op.getResult()] = addSlot(name, bytesOf(localType(op.getResult())), /*persistent=*/true);
  table.totals.push_back(slot);
  TimetableEntry &zero = addEntry("gvrt_fill_zero", "zero " + name);
  use(zero, {slot, 0});
  zero.attributes = {table.slots[slot].bytes};
  int64_t scratch = function->getAttrOfType<IntegerAttr>(exec::kScratchBytes).getInt();
  for (int64_t microBatch = 0; microBatch < pipeline.getMicroBatches(); ++microBatch) {
    int part = addSlot("part of " + name, table.slots[slot].bytes);
    int scratchIndex = scratch ? addSlot("scratch", scratch) : -1;
    TimetableEntry &entry = addEntry(function.getSymName().str(), label("sum", name, microBatch), microBatch);
    for (Value input : op.getInputs())
      use(entry, inputReference(input, microBatch));
    use(entry, {part, 0});
    use(entry, {scratchIndex, 0});
    accumulate(label("add up", name, microBatch), op.getResult(), part, slot, microBatch, /*unit=*/-1);
  }
  llvm::SmallVector<int64_t> axes;
  for (int64_t owner : cast<dist::PlacementAttr>(layer.getOutputs()[0]).getPartialAxes())
    if (owner != dist::PlacementAttr::kTime)
      axes.push_back(owner);
  if (axes.empty())
    return success();
  TimetableEntry &reduce = addEntry("gvrt_all_reduce", "add up " + name + " over devices");
  use(reduce, {slot, 0});
  use(reduce, {slot, 0});
  reduce.attributes = {groupIndex({std::vector<int64_t>(axes.begin(), axes.end()), {}}), GVRT_F32, kSum,
                       table.slots[slot].bytes / 4, kAtOnce};
  return success();
}

void TimetableBuilder::begin() {
  // The first backward of a step writes a gradient, unless there is none.
  for (unsigned parameter = 0; parameter < table.parameters.size(); ++parameter)
    if (table.parameters[parameter].trained && !completedBy[parameter])
      zeroGradient(parameter, /*microBatch=*/-1);
  for (auto loss : stage.getBody().front().getOps<dist::LossOp>()) {
    auto placement = cast<dist::PlacementAttr>(cast<RankedTensorType>(loss.getX().getType()).getEncoding());
    auto known = llvm::find_if(table.losses, [&](const StageLoss &other) { return other.placement == placement; });
    if (known != table.losses.end()) {
      lossSlots[loss] = known->slot;
      continue;
    }
    int slot = lossSlots[loss] = addSlot("loss", 4, true);
    table.losses.push_back({slot, placement});
    TimetableEntry &zero = addEntry("gvrt_fill_zero", "zero loss");
    use(zero, {slot, 0});
    zero.attributes = {4};
    if (oneSlot >= 0)
      continue;
    oneSlot = addSlot("gradient of the loss", 4, true);
    TimetableEntry &one = addEntry("loss_gradient", "gradient of the loss");
    use(one, {oneSlot, 0});
    use(one, {});
  }
}

void TimetableBuilder::forward(size_t item) {
  int64_t microBatch = order[item].microBatch;
  for (Operation &op : stage.getBody().front()) {
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (&op == lastForward)
        receiveEarly(item + 1);
      callForward(calls[call], microBatch);
    } else if (auto receive = dyn_cast<dist::ReceiveOp>(op)) {
      receiveActivation(receive, microBatch, /*isEarly=*/false);
    } else if (auto sendOp = dyn_cast<dist::SendOp>(op)) {
      send(inputReference(sendOp.getX(), microBatch), bytesOf(localType(sendOp.getX())), sendOp.getStage(),
           sendOp.getTag(), microBatch, "send activation");
    } else if (auto loss = dyn_cast<dist::LossOp>(op)) {
      accumulate(label("add up", "loss", microBatch), loss.getX(), valueSlot(loss.getX(), microBatch), lossSlots[loss],
                 microBatch, /*unit=*/-1);
    }
  }
}

LogicalResult TimetableBuilder::backward(size_t item, bool isLast) {
  int64_t microBatch = order[item].microBatch;
  Block &block = stage.getBody().front();
  bool sendsGradients =
      llvm::any_of(block.getOps<dist::ReceiveOp>(), [](dist::ReceiveOp receive) { return receive.hasGradient(); });
  for (Operation &op : llvm::reverse(block)) {
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (&op == lastBackwardCall)
        receiveEarly(item + 1);
      if (failed(callBackward(calls[call], microBatch)))
        return failure();
      if (isLast && !sendsGradients)
        startReductions(calls[call]);
    } else if (auto loss = dyn_cast<dist::LossOp>(op)) {
      gradientSlots[{loss.getX().getAsOpaquePointer(), microBatch}] = oneSlot;
    } else if (auto sendOp = dyn_cast<dist::SendOp>(op)) {
      waitFor(("send activation" + Twine(sendOp.getTag()) + ":" + Twine(microBatch)).str());
      if (!sendOp.hasGradient())
        continue;
      int slot = receiveGradient(sendOp, microBatch, /*isEarly=*/false);
      auto [known, isNew] = gradientSlots.insert({{sendOp.getX().getAsOpaquePointer(), microBatch}, slot});
      if (!isNew)
        accumulate(label("sum gradient of", "a sent activation", microBatch), sendOp.getX(), slot, known->second,
                   microBatch, /*unit=*/-1);
    } else if (auto receive = dyn_cast<dist::ReceiveOp>(op)) {
      auto gradient = gradientSlots.find({receive.getResult().getAsOpaquePointer(), microBatch});
      if (!receive.hasGradient() || gradient == gradientSlots.end())
        continue;
      // At most one gradient is under way: its slot is free again before the next is sent.
      waitFor(("send gradient" + Twine(receive.getTag() + kGradientTag) + ":" + Twine(lastBackward)).str());
      send({gradient->second, 0}, bytesOf(localType(receive.getResult())), receive.getStage(),
           receive.getTag() + kGradientTag, microBatch, "send gradient");
    }
  }
  // Earlier stages wait for the last gradient: what would slow it down waits, and runs while they do theirs.
  if (isLast && sendsGradients)
    for (Operation &op : llvm::reverse(block))
      if (auto call = dyn_cast<graph::CallOp>(op))
        startReductions(calls[call]);
  return success();
}

void TimetableBuilder::forgetUnusedGroups() {
  llvm::DenseSet<int64_t> used;
  auto joins = [](StringRef function) {
    return llvm::is_contained({"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "shard"}, function);
  };
  llvm::StringSet<> seen;
  for (const TimetableEntry &entry : table.entries) {
    if (StringRef(entry.function).starts_with("gvrt_")) {
      if (joins(StringRef(entry.function).drop_front(StringRef("gvrt_").size())))
        used.insert(entry.attributes[0]);
    } else if (auto function = symbols.lookup<exec::FunctionOp>(entry.function);
               function && seen.insert(entry.function).second) {
      for (auto call : function.getBody().getOps<exec::CallOp>())
        if (std::optional<int64_t> group = call.getGroup())
          used.insert(*group);
    }
  }
  for (auto [index, group] : llvm::enumerate(table.groups))
    if (!used.contains(index))
      group = {};
}

FailureOr<Timetable> TimetableBuilder::run() {
  if (!pipeline)
    return module.emitOpError("expects the attribute plan.pipeline");
  if (!stage.getOrder())
    return stage.emitOpError("expects an order; run galvatron-schedule-microbatches first");
  if (failed(collect()))
    return failure();
  collectMessages();
  if (failed(collectEarly()))
    return failure();
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>())
    if (failed(addTotal(total)))
      return failure();
  begin();
  int64_t backwards = llvm::count_if(order, [](const StageItem &item) { return !item.isForward; });
  for (size_t item = 0; item < order.size(); ++item) {
    if (order[item].isForward) {
      forward(item);
      continue;
    }
    if (failed(backward(item, /*isLast=*/--backwards == 0)))
      return failure();
    lastBackward = order[item].microBatch;
  }
  finishReductions();
  forgetUnusedGroups();
  return std::move(table);
}

FailureOr<Timetable> galvatron::buildTimetable(ModuleOp module, dist::StageOp stage) {
  return TimetableBuilder(module, stage).run();
}

std::vector<std::string> galvatron::functionsOf(const Timetable &timetable) {
  std::vector<std::string> names;
  llvm::StringSet<> seen;
  for (const TimetableEntry &entry : timetable.entries)
    if (seen.insert(entry.function).second)
      names.push_back(entry.function);
  return names;
}

Communicators galvatron::communicatorsOf(const Timetable &timetable, ArrayRef<int64_t> grid) {
  Communicators communicators;
  std::set<std::pair<std::vector<int64_t>, std::vector<int64_t>>> sets; // axes, stages
  for (const RankGroup &group : timetable.groups) {
    std::vector<int64_t> axes = group.axes;
    llvm::sort(axes);
    int64_t size = std::max<int64_t>(group.stages.size(), 1);
    for (int64_t axis : axes)
      size *= grid[axis];
    if (size > 1 && sets.insert({axes, group.stages}).second)
      communicators.groupSizes.push_back(size);
  }
  std::set<int64_t> to, from;
  for (const TimetableEntry &entry : timetable.entries) {
    if (entry.function == "gvrt_send")
      to.insert(entry.attributes[0]);
    if (entry.function == "gvrt_receive")
      from.insert(entry.attributes[0]);
  }
  communicators.directions = to.size() + from.size();
  return communicators;
}
