// Expansion of a stage into entries: calls of layers, and the memory that they touch. See Timetable.h.
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

int64_t galvatron::bytesOf(Type type) {
  auto shaped = cast<ShapedType>(type);
  return shaped.getNumElements() * llvm::divideCeil(shaped.getElementTypeBitWidth(), 8);
}

static gvrt_type typeOf(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isBF16() ? GVRT_BF16 : element.isF16() ? GVRT_F16 : isa<FloatType>(element) ? GVRT_F32 : GVRT_I64;
}

int TimetableBuilder::addBuffer(std::string name, int64_t bytes, bool persistent) {
  Buffer buffer;
  buffer.name = std::move(name);
  buffer.bytes = bytes;
  buffer.persistent = persistent;
  table.buffers.push_back(std::move(buffer));
  return table.buffers.size() - 1;
}

void TimetableBuilder::addEntry(Action action, std::string name, int64_t microBatch, int64_t layerIndex) {
  int64_t now = table.entries.size();
  for (BufferReference reference : buffersOf(action)) {
    if (!reference)
      continue;
    Buffer &buffer = table.buffers[reference.buffer];
    if (buffer.first < 0)
      buffer.first = now;
    buffer.last = now;
  }
  table.entries.push_back({std::move(action), std::move(name), microBatch, layerIndex});
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

/// Named after the layer that computes it, or the stage that it comes from.
static std::string nameOf(Value value) {
  if (auto call = value.getDefiningOp<graph::CallOp>())
    return "output of " + call.getPath().str();
  if (auto receive = value.getDefiningOp<dist::ReceiveOp>())
    return "value from stage " + std::to_string(receive.getStage());
  return "value";
}

int TimetableBuilder::valueBuffer(Value value, int64_t microBatch) {
  auto [known, isNew] = places.values.try_emplace({value.getAsOpaquePointer(), microBatch}, -1);
  if (isNew)
    known->second = addBuffer(nameOf(value) + " micro-batch " + std::to_string(microBatch), bytesOf(localType(value)));
  return known->second;
}

BufferReference TimetableBuilder::inputReference(Value value, int64_t microBatch) {
  if (auto total = contents.totals.find(value); total != contents.totals.end())
    return {total->second, 0};
  auto input = contents.inputs.find(value);
  if (input == contents.inputs.end())
    return {valueBuffer(value, microBatch), 0};
  const StageInput &data = table.inputs[input->second];
  return {data.buffer, data.bytesPerMicroBatch * microBatch};
}

/// Layers that read a parameter in 16 bits get its copy; a tied one may be read in both types.
BufferReference TimetableBuilder::parameterReference(Call &call, unsigned index) {
  const StageParameter &parameter = table.parameters[call.parameters[index]];
  bool isCopy = call.readsCopy(index);
  int buffer = isCopy ? parameter.copyBuffer : parameter.parameterBuffer;
  if (parameter.bucket < 0)
    return {buffer, 0};
  // At level 3 where it was gathered.
  if (table.buckets[parameter.bucket].level == 3)
    buffer = shards.gathered.at({parameter.bucket, isCopy}).buffer.buffer;
  return {buffer, parameter.bucketOffset * (isCopy ? 2 : 4)};
}

namespace {
/// Values of one layer and micro-batch that live and die together: one buffer, each value on a cache line.
struct SavedTogether {
  std::vector<size_t> values; // in the order of their offsets
  int64_t bytes = 0;
  BufferReference add(Type type, size_t value) {
    BufferReference reference = {-1, bytes};
    values.push_back(value);
    bytes += llvm::alignTo(bytesOf(type), exec::kBufferAlignment);
    return reference;
  }
};
} // namespace

std::vector<BufferReference> TimetableBuilder::savedReferences(Call &call, int64_t microBatch) {
  SavedTogether saved, savedForWeights;
  std::vector<BufferReference> references;
  for (Type type : call.forward.getArgumentTypes().drop_back().take_back(call.layer.getNumSaved())) {
    size_t number = references.size();
    bool isForWeights = call.weights && !call.weights.getBody().getArgument(call.firstSaved() + number).use_empty();
    references.push_back((isForWeights ? savedForWeights : saved).add(type, number));
  }
  auto addBuffer = [&](StringRef what, PerMicroBatch &known, const SavedTogether &together) {
    if (together.values.empty())
      return;
    auto [place, isNew] = known.try_emplace({call.op.getOperation(), microBatch}, -1);
    if (isNew)
      place->second = this->addBuffer(label(what, call.op.getPath(), microBatch), together.bytes);
    for (size_t value : together.values)
      references[value].buffer = place->second;
  };
  addBuffer("saved by", places.saved, saved);
  addBuffer("saved for weights by", places.savedForWeights, savedForWeights);
  return references;
}

std::vector<BufferReference> TimetableBuilder::keptReferences(Call &call, int64_t microBatch) {
  std::vector<BufferReference> references;
  SavedTogether kept;
  if (call.weights)
    for (Type type :
         call.weights.getArgumentTypes().drop_back(1 + call.trainedInWeights.size()).take_back(call.layer.getNumKept()))
      references.push_back(kept.add(type, references.size()));
  if (references.empty())
    return references;
  auto [place, isNew] = places.kept.try_emplace({call.op.getOperation(), microBatch}, -1);
  if (isNew)
    place->second = addBuffer(label("kept by", call.op.getPath(), microBatch), kept.bytes);
  for (BufferReference &reference : references)
    reference.buffer = place->second;
  return references;
}

BufferReference TimetableBuilder::addScratch(exec::FunctionOp function) {
  int64_t bytes = function->getAttrOfType<IntegerAttr>(exec::kScratchBytes).getInt();
  return {bytes ? addBuffer("scratch", bytes) : -1, 0};
}

//===--------------------------------------------------------------------===//
// Entries
//===--------------------------------------------------------------------===//

void TimetableBuilder::accumulate(std::string name, Value value, int addend, int sum, int64_t microBatch,
                                  int64_t layerIndex) {
  ShapedType type = localType(value);
  addEntry(Accumulate{{addend, 0}, {sum, 0}, typeOf(type), type.getNumElements()}, std::move(name), microBatch,
           layerIndex);
}

/// Appends what a body writes, of which floats are results.
static void addWrite(Compute &compute, BufferReference reference, Type type) {
  if (isa<FloatType>(getElementTypeOrSelf(type)))
    compute.results.push_back(
        {int64_t(compute.reads.size() + compute.writes.size()), typeOf(type), cast<ShapedType>(type).getNumElements()});
  compute.writes.push_back(reference);
}

void TimetableBuilder::callForward(Call &call, int64_t microBatch, const Use &next) {
  graph::CallOp op = call.op;
  gatherFor({&call, dist::Computation::Forward}, next, microBatch);
  Compute compute{.kind = Compute::Kind::Forward, .function = call.forward.getSymName().str()};
  compute.scratch = addScratch(call.forward);
  for (Value input : op.getInputs())
    compute.reads.push_back(inputReference(input, microBatch));
  for (unsigned index = 0; index < call.parameters.size(); ++index)
    compute.reads.push_back(parameterReference(call, index));
  for (Value output : op.getOutputs())
    addWrite(compute, {valueBuffer(output, microBatch), 0}, localType(output));
  llvm::append_range(compute.writes, savedReferences(call, microBatch));
  addEntry(std::move(compute), label("forward", op.getPath(), microBatch), microBatch, call.layerIndex);
  forgetGathered(next);
}

FailureOr<std::vector<BufferReference>> TimetableBuilder::outputGradients(Call &call, int64_t microBatch) {
  std::vector<BufferReference> references;
  for (auto [index, output] : llvm::enumerate(call.op.getOutputs())) {
    if (!call.layer.getOutputGradient(index))
      continue;
    auto gradient = places.gradients.find({output.getAsOpaquePointer(), microBatch});
    if (gradient == places.gradients.end())
      return call.op.emitOpError("expects every result to be read, but one has no gradient");
    references.push_back({gradient->second, 0});
  }
  return references;
}

void TimetableBuilder::addForwardReads(Compute &compute, Call &call, exec::FunctionOp function, int64_t microBatch) {
  Block &block = function.getBody().front();
  auto isNextRead = [&] { return !block.getArgument(compute.reads.size()).use_empty(); };
  auto addIfRead = [&](BufferReference reference) {
    compute.reads.push_back(isNextRead() ? reference : BufferReference{});
  };
  for (Value input : call.op.getInputs())
    addIfRead(inputReference(input, microBatch));
  for (unsigned parameter = 0; parameter < call.parameters.size(); ++parameter)
    compute.reads.push_back(isNextRead() ? parameterReference(call, parameter) : BufferReference{});
  llvm::for_each(savedReferences(call, microBatch), addIfRead);
}

void TimetableBuilder::addParameterGradients(Compute &compute, Call &call, ArrayRef<unsigned> trained,
                                             int64_t microBatch) {
  for (unsigned index : trained) {
    int parameter = call.parameters[index];
    addWrite(compute, gradientReference(parameter, microBatch),
             MemRefType::get(table.parameters[parameter].count, Float32Type::get(module.getContext())));
  }
}

LogicalResult TimetableBuilder::callBackward(Call &call, int64_t microBatch, const Use &next) {
  graph::CallOp op = call.op;
  if (!call.backward)
    return success();
  gatherFor({&call, dist::Computation::Backward}, next, microBatch);
  Compute compute{.kind = Compute::Kind::Backward, .function = call.backward.getSymName().str()};
  compute.scratch = addScratch(call.backward);
  // A value read by several layers: the first contribution is written, later ones added.
  SmallVector<std::tuple<Value, int, int>> additions; // (value, addend, sum)
  SmallVector<std::pair<BufferReference, Type>> inputGradients;
  for (auto [index, input] : llvm::enumerate(op.getInputs())) {
    if (!call.layer.getInputGradient(index))
      continue;
    int buffer = addBuffer("gradient of " + nameOf(input) + " micro-batch " + std::to_string(microBatch),
                           bytesOf(localType(input)));
    auto [known, isNew] = places.gradients.insert({{input.getAsOpaquePointer(), microBatch}, buffer});
    if (!isNew)
      additions.push_back({input, buffer, known->second});
    inputGradients.push_back({{buffer, 0}, localType(input)});
  }
  compute.adds = addOrWrite(call, dist::Computation::Backward, microBatch);
  FailureOr<std::vector<BufferReference>> outputs = outputGradients(call, microBatch);
  if (failed(outputs))
    return failure();
  compute.reads = std::move(*outputs);
  addForwardReads(compute, call, call.backward, microBatch);
  for (auto [gradient, type] : inputGradients)
    addWrite(compute, gradient, type);
  llvm::append_range(compute.writes, keptReferences(call, microBatch));
  addParameterGradients(compute, call, call.trainedInBackward, microBatch);
  addEntry(std::move(compute), label("backward", op.getPath(), microBatch), microBatch, call.layerIndex);
  forgetGathered(next);
  for (auto [value, addend, sum] : additions)
    accumulate(label("sum gradient into", op.getPath(), microBatch), value, addend, sum, microBatch, call.layerIndex);
  return success();
}

LogicalResult TimetableBuilder::callWeights(Call &call, int64_t microBatch, const Use &next) {
  if (!call.weights)
    return success();
  gatherFor({&call, dist::Computation::Weight}, next, microBatch);
  Compute compute{.kind = Compute::Kind::Weights, .function = call.weights.getSymName().str()};
  compute.scratch = addScratch(call.weights);
  compute.adds = addOrWrite(call, dist::Computation::Weight, microBatch);
  FailureOr<std::vector<BufferReference>> outputs = outputGradients(call, microBatch);
  if (failed(outputs))
    return failure();
  Block &block = call.weights.getBody().front();
  for (BufferReference gradient : *outputs)
    compute.reads.push_back(block.getArgument(compute.reads.size()).use_empty() ? BufferReference{} : gradient);
  addForwardReads(compute, call, call.weights, microBatch);
  llvm::append_range(compute.reads, keptReferences(call, microBatch));
  addParameterGradients(compute, call, call.trainedInWeights, microBatch);
  addEntry(std::move(compute), label("backward weights", call.op.getPath(), microBatch), microBatch, call.layerIndex);
  forgetGathered(next);
  return success();
}

LogicalResult TimetableBuilder::addTotal(graph::TotalOp op) {
  auto layer = symbols.lookup<dist::LayerOp>(op.getCallee());
  auto function = layer ? symbols.lookup<exec::FunctionOp>(layer.getForward()) : exec::FunctionOp();
  if (!function)
    return op.emitOpError("expects a dist.layer with an exec.function named ") << op.getCallee();
  std::string name = op.getCallee().str();
  int64_t bytes = bytesOf(localType(op.getResult()));
  int total = contents.totals[op.getResult()] = addBuffer(name, bytes, /*persistent=*/true);
  table.totals.push_back(total);
  addEntry(FillZero{{total, 0}, bytes}, "zero " + name);
  for (int64_t microBatch = 0; microBatch < pipeline.getMicroBatches(); ++microBatch) {
    int part = addBuffer("part of " + name, bytes);
    Compute compute{.kind = Compute::Kind::Total, .function = function.getSymName().str(), .writes = {{part, 0}}};
    compute.scratch = addScratch(function);
    for (Value input : op.getInputs())
      compute.reads.push_back(inputReference(input, microBatch));
    addEntry(std::move(compute), label("sum", name, microBatch), microBatch);
    accumulate(label("add up", name, microBatch), op.getResult(), part, total, microBatch, /*layerIndex=*/-1);
  }
  std::vector<int64_t> axes = partialAxesOf(cast<dist::PlacementAttr>(layer.getOutputs()[0]));
  if (!axes.empty())
    addEntry(AllReduce{{total, 0}, groupIndex({axes, {}}), bytes / 4, std::nullopt},
             "add up " + name + " over devices");
  return success();
}

void TimetableBuilder::zeroUnwritten() {
  // The first backward of a step writes a gradient, unless there is none.
  for (unsigned parameter = 0; parameter < table.parameters.size(); ++parameter)
    if (const StageParameter &held = table.parameters[parameter];
        held.trained && held.bucket < 0 && !gradients.completedBy[parameter].call)
      zeroGradient(parameter, /*microBatch=*/-1);
  zeroUnwrittenBuckets();
}

void TimetableBuilder::beginLosses() {
  for (auto loss : stage.getBody().front().getOps<dist::LossOp>()) {
    auto placement = cast<dist::PlacementAttr>(cast<RankedTensorType>(loss.getX().getType()).getEncoding());
    auto known = llvm::find_if(table.losses, [&](const StageLoss &other) { return other.placement == placement; });
    if (known != table.losses.end()) {
      contents.lossOfOps[loss] = known->buffer;
      continue;
    }
    int buffer = contents.lossOfOps[loss] = addBuffer("loss", 4, true);
    table.losses.push_back({buffer, placement});
    addEntry(FillZero{{buffer, 0}, 4}, "zero loss");
    if (contents.lossGradient >= 0)
      continue;
    contents.lossGradient = addBuffer("gradient of the loss", 4, true);
    if (!table.isEvaluation)
      addEntry(StartBackward{{contents.lossGradient, 0}, table.isLossScaled}, "gradient of the loss");
  }
}

void TimetableBuilder::begin() {
  if (!table.isEvaluation)
    zeroUnwritten();
  gatherForStep();
  beginLosses();
}

void TimetableBuilder::forward(size_t index) {
  auto [computation, chunk, microBatch] = order[index];
  for (Operation *op : partOf(index)) {
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (op == early.beforeForward[chunk])
        receiveEarly(index + 1);
      callForward(contents.calls[call], microBatch, useAfter(index, call));
    } else if (auto receive = dyn_cast<dist::ReceiveOp>(op)) {
      receiveActivation(receive, microBatch, /*isEarly=*/false);
    } else if (auto sendOp = dyn_cast<dist::SendOp>(op)) {
      // Training waits where the backward takes over; without one, at most one is under way.
      if (table.isEvaluation)
        waitForSend(Lane::Activation, sendOp.getTag(), lastForward[chunk]);
      send(sendOp, inputReference(sendOp.getX(), microBatch),
           {int64_t(sendOp.getStage()), Lane::Activation, int64_t(sendOp.getTag()), bytesOf(localType(sendOp.getX()))},
           microBatch);
    } else if (auto loss = dyn_cast<dist::LossOp>(op)) {
      accumulate(label("add up", "loss", microBatch), loss.getX(), valueBuffer(loss.getX(), microBatch),
                 contents.lossOfOps[loss], microBatch, /*layerIndex=*/-1);
    }
  }
  lastForward[chunk] = microBatch;
}

LogicalResult TimetableBuilder::backwardOp(Operation &op, int64_t microBatch) {
  if (auto loss = dyn_cast<dist::LossOp>(op)) {
    places.gradients[{loss.getX().getAsOpaquePointer(), microBatch}] = contents.lossGradient;
  } else if (auto sendOp = dyn_cast<dist::SendOp>(op)) {
    waitForSend(Lane::Activation, sendOp.getTag(), microBatch);
    if (!sendOp.hasGradient())
      return success();
    int buffer = receiveGradient(sendOp, microBatch, /*isEarly=*/false);
    auto [known, isNew] = places.gradients.insert({{sendOp.getX().getAsOpaquePointer(), microBatch}, buffer});
    if (!isNew)
      accumulate(label("sum gradient of", "a sent activation", microBatch), sendOp.getX(), buffer, known->second,
                 microBatch, /*layerIndex=*/-1);
  } else if (auto receive = dyn_cast<dist::ReceiveOp>(op)) {
    auto gradient = places.gradients.find({receive.getResult().getAsOpaquePointer(), microBatch});
    if (!receive.hasGradient() || gradient == places.gradients.end())
      return success();
    // At most one gradient is under way: its buffer is free again before the next is sent.
    int64_t value = receive.getTag();
    waitForSend(Lane::Gradient, value, lastBackward[plan::getChunk(&op)]);
    send(receive, {gradient->second, 0},
         {int64_t(receive.getStage()), Lane::Gradient, value, bytesOf(localType(receive.getResult()))}, microBatch);
  }
  return success();
}

LogicalResult TimetableBuilder::backward(size_t index, bool isLast) {
  auto [computation, chunk, microBatch] = order[index];
  const Part &part = partOf(index);
  bool sendsGradients = llvm::any_of(part, [](Operation *op) {
    auto receive = dyn_cast<dist::ReceiveOp>(op);
    return receive && receive.hasGradient();
  });
  for (Operation *op : llvm::reverse(part)) {
    auto call = dyn_cast<graph::CallOp>(op);
    if (!call) {
      if (failed(backwardOp(*op, microBatch)))
        return failure();
      continue;
    }
    if (op == early.beforeBackward[chunk])
      receiveEarly(index + 1);
    if (failed(callBackward(contents.calls[call], microBatch, useAfter(index, call))))
      return failure();
    startReductions(contents.calls[call], computation, microBatch);
    if (isLast && !sendsGradients)
      startReductions(contents.calls[call], computation, /*microBatch=*/-1);
  }
  // Earlier stages wait for the last gradient: what would slow it down waits, and runs while they do theirs.
  if (isLast && sendsGradients)
    for (Operation *op : llvm::reverse(part))
      if (auto call = dyn_cast<graph::CallOp>(op))
        startReductions(contents.calls[call], computation, /*microBatch=*/-1);
  lastBackward[chunk] = microBatch;
  return success();
}

LogicalResult TimetableBuilder::weights(size_t index, bool isLast) {
  auto [computation, chunk, microBatch] = order[index];
  for (Operation *op : llvm::reverse(partOf(index))) {
    auto call = dyn_cast<graph::CallOp>(op);
    if (!call)
      continue;
    if (op == early.beforeWeights[chunk])
      receiveEarly(index + 1);
    if (failed(callWeights(contents.calls[call], microBatch, useAfter(index, call))))
      return failure();
    startReductions(contents.calls[call], computation, microBatch);
    if (isLast)
      startReductions(contents.calls[call], computation, /*microBatch=*/-1);
  }
  return success();
}

FailureOr<Timetable> TimetableBuilder::run() {
  if (!pipeline)
    return module.emitOpError("expects the attribute ") << plan::kPipelineAttrName;
  if (failed(readOrder()) || failed(collect()))
    return failure();
  collectBuckets();
  collectArrivals();
  collectEarly();
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>())
    if (failed(addTotal(total)))
      return failure();
  begin();
  std::map<std::pair<dist::Computation, int64_t>, int64_t> left; // instructions to come, by chunk
  for (const dist::Instruction &instruction : order)
    ++left[{instruction.computation, instruction.chunk}];
  for (size_t index = 0; index < order.size(); ++index) {
    bool isLast = --left[{order[index].computation, order[index].chunk}] == 0;
    LogicalResult expanded = success();
    switch (order[index].computation) {
    case dist::Computation::Forward:
      forward(index);
      break;
    case dist::Computation::Backward:
      expanded = backward(index, isLast);
      break;
    case dist::Computation::Weight:
      expanded = weights(index, isLast);
      break;
    }
    if (failed(expanded))
      return failure();
  }
  finish();
  forgetUnusedGroups();
  return std::move(table);
}

FailureOr<Timetable> TimetableBuilder::runEvaluation(const Timetable &training) {
  table.isEvaluation = true;
  if (failed(readOrder()) || failed(collect()))
    return failure();
  keepForwards();
  collectArrivals();
  early.instructions.assign(order.size(), false);
  early.beforeForward.assign(parts.size(), nullptr);
  table.groups = training.groups; // as bodies name them
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>())
    if (failed(addTotal(total)))
      return failure();
  begin();
  for (size_t index = 0; index < order.size(); ++index)
    forward(index);
  for (auto &[key, started] : pending.sends)
    addWait(started);
  assert(table.groups.size() == training.groups.size() && "a group that training does not join");
  return std::move(table);
}

FailureOr<Timetable> galvatron::buildTimetable(ModuleOp module, dist::StageOp stage) {
  FailureOr<Timetable> training = TimetableBuilder(module, stage).run();
  if (failed(training))
    return failure();
  FailureOr<Timetable> evaluation = TimetableBuilder(module, stage).runEvaluation(*training);
  if (failed(evaluation))
    return failure();
  training->evaluation.push_back(std::move(*evaluation));
  return training;
}
