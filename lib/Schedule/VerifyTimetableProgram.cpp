// What the program says of a stage: its calls, parameters and data, and where they lie at the start. See
// VerifyTimetable.h.
#include "StageProver.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

int64_t StageProver::localSizeOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  auto placement = dyn_cast_or_null<dist::PlacementAttr>(type.getEncoding());
  return placement ? sizeOf(RankedTensorType::get(placement.getLocalShape(), type.getElementType())) : sizeOf(type);
}

std::vector<int64_t> galvatron::meshAxesOf(dist::PlacementAttr partial) {
  std::vector<int64_t> axes;
  llvm::copy_if(partial.getPartialAxes(), std::back_inserter(axes),
                [](int64_t axis) { return axis != dist::PlacementAttr::kTime; });
  return axes;
}

LogicalResult StageProver::collectParameter(Call &call, size_t index, StringRef name) {
  auto found = parameterOf.find(name.str());
  if (found == parameterOf.end())
    return fail("expects stage " + llvm::Twine(table.stage) + " to hold the parameter " + name + " of " +
                call.op.getPath() + ", but it does not");
  int parameter = found->second;
  call.parameters.push_back(parameter);
  auto home = cast<dist::PlacementAttr>(call.layer.getHomes()[index]);
  dist::PlacementAttr gradient = call.layer.getGradient(index);
  if (table.parameters[parameter].home != home || (gradient && gradient.withPartials({}) != home))
    return fail("expects norm, files and gradient of " + name + " to have the elements that " + call.op.getPath() +
                " reads, but on stage " + llvm::Twine(table.stage) + " they are cut otherwise");
  if (!gradient || !call.backward)
    return success();
  std::vector<int64_t> axes = meshAxesOf(gradient);
  if (!parameterUses[parameter].empty() && partialAxes[parameter] != axes)
    return fail("expects all layers to leave the gradient of " + name + " partial on the same mesh axes, but " +
                call.op.getPath() + " does not; give them the same strategy");
  partialAxes[parameter] = axes;
  const void *use = &usePaths.emplace_back(call.op.getPath().str());
  useNames[use] = usePaths.back();
  call.trained.push_back(index);
  call.uses.push_back(use);
  parameterUses[parameter].push_back(use);
  return success();
}

LogicalResult StageProver::checkAdjacent(Call &call) {
  auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName);
  for (Attribute group : groups ? groups.getValue() : ArrayRef<Attribute>()) {
    ArrayRef<int64_t> indices = cast<DenseI64ArrayAttr>(group).asArrayRef();
    for (size_t i = 1; i < indices.size(); ++i) {
      const StageParameter &one = table.parameters[call.parameters[indices[i - 1]]],
                           &next = table.parameters[call.parameters[indices[i]]];
      if (one.bucket >= 0 || next.bucket >= 0) {
        if (one.bucket != next.bucket || one.bucketOffset + countOf(one) != next.bucketOffset)
          return fail("expects " + next.names.front() + " to lie right after " + one.names.front() +
                      " in one list of states that ranks share, since " + call.op.getPath() +
                      " has both as one, but it does not");
        continue;
      }
      for (int StageParameter::*buffer :
           {&StageParameter::parameterBuffer, &StageParameter::copyBuffer, &StageParameter::gradientBuffer})
        if (one.*buffer >= 0 && next.*buffer >= 0 && placeOf(one.*buffer).end != placeOf(next.*buffer).begin)
          return fail("expects " + table.buffers[next.*buffer].name + " to lie right after " +
                      table.buffers[one.*buffer].name + ", since " + call.op.getPath() +
                      " has both as one, but it does not");
    }
  }
  return success();
}

LogicalResult StageProver::checkAdjacentGradients(const Call &call, ArrayRef<unsigned> trained,
                                                  ArrayRef<BufferReference> gradients) {
  auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName);
  for (Attribute group : groups ? groups.getValue() : ArrayRef<Attribute>()) {
    const BufferReference *before = nullptr;
    int64_t end = 0, one = 0;
    for (int64_t index : cast<DenseI64ArrayAttr>(group).asArrayRef()) {
      auto found = llvm::find(trained, index);
      if (found == trained.end())
        continue;
      const BufferReference &gradient = gradients[found - trained.begin()];
      int parameter = call.parameters[index];
      Bytes place = rangeOf(gradient, countOf(table.parameters[parameter]) * 4);
      if (before && place.begin != end)
        return fail("expects " + here() + " to leave the gradient of " + parameterName(parameter) +
                    " right after that of " + parameterName(one) + ", since it writes both as one, but it does not");
      before = &gradient;
      end = place.end;
      one = parameter;
    }
  }
  return success();
}

LogicalResult StageProver::collectParameters(Call &call) {
  for (auto [index, name] : llvm::enumerate(call.op.getParameters().getAsValueRange<StringAttr>()))
    if (failed(collectParameter(call, index, name)))
      return failure();
  return checkAdjacent(call);
}

LogicalResult StageProver::collectCall(graph::CallOp op) {
  Call call;
  call.op = op;
  call.layer = symbols.lookup<dist::LayerOp>(op.getCallee());
  call.forward = symbols.lookup<exec::FunctionOp>(call.layer.getForward());
  if (call.layer.getBackward())
    call.backward = symbols.lookup<exec::FunctionOp>(*call.layer.getBackward());
  if (call.layer.getWeights())
    call.weights = symbols.lookup<exec::FunctionOp>(*call.layer.getWeights());
  for (auto kind : {Compute::Kind::Forward, Compute::Kind::Backward, Compute::Kind::Weights})
    call.ran[kind].resize(microBatches);
  if (failed(collectParameters(call)))
    return failure();
  callsOf[call.forward.getSymName().str()].push_back(calls.size());
  if (call.backward) {
    callsOf[call.backward.getSymName().str()].push_back(calls.size());
    if (call.weights)
      callsOf[call.weights.getSymName().str()].push_back(calls.size());
    for (auto [index, operand] : llvm::enumerate(op->getOpOperands()))
      if (call.layer.getInputGradient(index)) {
        gradientUses[operand.get()].push_back(&operand);
        useNames[&operand] = op.getPath().str();
      }
  }
  calls.push_back(std::move(call));
  return success();
}

LogicalResult StageProver::collect() {
  for (auto [index, parameter] : llvm::enumerate(table.parameters))
    parameterOf[parameter.names.front()] = index;
  parameterUses.resize(table.parameters.size());
  partialAxes.resize(table.parameters.size());
  for (Operation &op : stage.getBody().front()) {
    auto addUse = [&](StringRef name) {
      OpOperand &operand = op.getOpOperand(0);
      gradientUses[operand.get()].push_back(&operand);
      useNames[&operand] = name.str();
    };
    if (auto call = dyn_cast<graph::CallOp>(op)) {
      if (failed(collectCall(call)))
        return failure();
    } else if (auto send = dyn_cast<dist::SendOp>(op); send && send.hasGradient()) {
      addUse("stage " + std::to_string(send.getStage()));
    } else if (isa<dist::LossOp>(op)) {
      addUse("loss");
    } else if (auto total = dyn_cast<graph::TotalOp>(op)) {
      useNames[total.getAsOpaquePointer()] = total.getCallee().str();
    }
  }
  return success();
}

LogicalResult StageProver::layOut(int buffer, int64_t bytes, const Content &content) {
  if (buffer < 0)
    return success();
  if (table.buffers[buffer].bytes < bytes)
    return fail("expects " + llvm::Twine(bytes) + " bytes for " + table.buffers[buffer].name + " on stage " +
                llvm::Twine(table.stage) + ", but its buffer has " + llvm::Twine(table.buffers[buffer].bytes));
  int64_t begin = table.buffers[buffer].offset;
  for (ByteMap *map : {&memory, &state})
    map->write({begin, begin + bytes}, content, /*writer=*/-1);
  return success();
}

int64_t StageProver::sizeOf(Type type) {
  auto shaped = cast<ShapedType>(type);
  return shaped.getNumElements() * llvm::divideCeil(shaped.getElementTypeBitWidth(), 8);
}

int64_t StageProver::countOf(const StageParameter &parameter) {
  int64_t count = 1;
  for (int64_t extent : parameter.home.getLocalShape())
    count *= extent;
  return count;
}

LogicalResult StageProver::layOutInputs() {
  std::set<size_t> taken;
  for (auto op : stage.getBody().front().getOps<dist::InputOp>())
    for (auto [index, input] : llvm::enumerate(table.inputs)) {
      if (input.name != op.getName() || !taken.insert(index).second)
        continue;
      int64_t bytes = localSizeOf(op.getResult()), begin = table.buffers[input.buffer].offset;
      inputs[op.getResult()] = {input.buffer, bytes};
      for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch, begin += input.bytesPerMicroBatch)
        memory.write({begin, begin + bytes}, {Content::Kind::Value, op.getResult().getAsOpaquePointer(), microBatch, 0},
                     -1);
      break;
    }
  return success();
}

LogicalResult StageProver::layOutState() {
  using Kind = Content::Kind;
  std::vector<int> owners;
  for (auto [index, buffer] : llvm::enumerate(table.buffers))
    if (buffer.persistent && buffer.bytes)
      owners.push_back(index);
  llvm::sort(owners, [&](int a, int b) { return table.buffers[a].offset < table.buffers[b].offset; });
  for (size_t i = 1; i < owners.size(); ++i)
    if (placeOf(owners[i - 1]).overlaps(placeOf(owners[i])))
      return fail("expects every byte to have one owner, but \"" + table.buffers[owners[i - 1]].name + "\" and \"" +
                  table.buffers[owners[i]].name + "\" of stage " + llvm::Twine(table.stage) + " overlap");
  proof.owners += owners.size();
  for (auto [index, parameter] : llvm::enumerate(table.parameters)) {
    if (failed(checkShared(parameter)))
      return failure();
    if (parameter.bucket >= 0)
      continue;
    int64_t count = countOf(parameter);
    for (auto [buffer, kind, bytes] : {std::tuple(parameter.parameterBuffer, Kind::Parameter, 4),
                                       {parameter.copyBuffer, Kind::Copy, 2},
                                       {parameter.firstMomentBuffer, Kind::FirstMoment, 4},
                                       {parameter.secondMomentBuffer, Kind::SecondMoment, 4}})
      if (failed(layOut(buffer, count * bytes, {kind, nullptr, -1, int64_t(index)})))
        return failure();
  }
  if (failed(layOutBuckets()))
    return failure();
  return layOutInputs();
}
