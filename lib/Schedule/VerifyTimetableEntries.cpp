// What every entry of a stage should read, and what it leaves. See VerifyTimetable.h.
#include "StageProver.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

static int64_t sizeOf(Type type) {
  auto shaped = cast<ShapedType>(type);
  return shaped.getNumElements() * llvm::divideCeil(shaped.getElementTypeBitWidth(), 8);
}

/// What one device holds of a value of the stage.
static int64_t localSizeOf(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  auto placement = dyn_cast_or_null<dist::PlacementAttr>(type.getEncoding());
  return placement ? sizeOf(RankedTensorType::get(placement.getLocalShape(), type.getElementType())) : sizeOf(type);
}

//===--------------------------------------------------------------------===//
// Words
//===--------------------------------------------------------------------===//

std::string StageProver::describe(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto call = dyn_cast<graph::CallOp>(op))
    return "output of " + call.getPath().str();
  if (auto receive = dyn_cast<dist::ReceiveOp>(op))
    return "value " + std::to_string(receive.getTag()) + " from stage " + std::to_string(receive.getStage());
  if (auto input = dyn_cast<dist::InputOp>(op))
    return input.getName().str();
  return cast<graph::TotalOp>(op).getCallee().str();
}

std::string StageProver::describe(const Content &content) const {
  using Kind = Content::Kind;
  std::string of = content.microBatch < 0 ? "" : " micro-batch " + std::to_string(content.microBatch);
  switch (content.kind) {
  case Kind::Nothing:
    return "nothing";
  case Kind::Value:
    return describe(Value::getFromOpaquePointer(content.what)) + of;
  case Kind::Saved:
    return "value " + std::to_string(content.index) + " saved by " +
           graph::CallOp::getFromOpaquePointer(content.what).getPath().str() + of;
  case Kind::Parameter:
    return parameterName(content.index);
  case Kind::Copy:
    return "copy of " + parameterName(content.index);
  case Kind::FirstMoment:
    return "first moment of " + parameterName(content.index);
  case Kind::SecondMoment:
    return "second moment of " + parameterName(content.index);
  case Kind::ParameterPiece:
    return "this rank's piece of parameters of " + table.buckets[content.index].path;
  case Kind::CopyPiece:
    return "this rank's piece of the copy of " + table.buckets[content.index].path;
  case Kind::FirstMomentPiece:
    return "this rank's piece of first moments of " + table.buckets[content.index].path;
  case Kind::SecondMomentPiece:
    return "this rank's piece of second moments of " + table.buckets[content.index].path;
  case Kind::StaleParameters:
  case Kind::StaleCopies:
    return (content.kind == Kind::StaleCopies ? "the copy of " : "parameters of ") + table.buckets[content.index].path +
           " as the step before gathered them";
  case Kind::Gathered:
    return parameterName(content.index) + " as gathered";
  case Kind::GatheredCopy:
    return "copy of " + parameterName(content.index) + " as gathered";
  case Kind::Zero:
    return "zeros";
  case Kind::One:
    return "gradient of the loss";
  case Kind::TotalPart:
    return "part of " + graph::TotalOp::getFromOpaquePointer(content.what).getCallee().str() + of;
  case Kind::Sum:
    break;
  }
  const Sum &sum = sums[content.index];
  switch (sum.kind) {
  case Sum::Kind::ValueGradient:
    return "gradient of " + describe(Value::getFromOpaquePointer(sum.of)) + " micro-batch " +
           std::to_string(sum.microBatch);
  case Sum::Kind::ParameterGradient:
    return "gradient of " + parameterName(sum.index);
  case Sum::Kind::GradientPiece:
    return "this rank's piece of gradients of " + table.buckets[sum.index].path;
  case Sum::Kind::Loss:
    return "loss";
  case Sum::Kind::Total:
    return graph::TotalOp::getFromOpaquePointer(sum.of).getCallee().str();
  }
  llvm_unreachable("a kind of sum without words");
}

std::string StageProver::describe(const Term &term) const {
  auto name = useNames.find(term.first);
  return (name == useNames.end() ? "a term" : name->second) + " micro-batch " + std::to_string(term.second);
}

std::string StageProver::here() const {
  std::string entry = now < table.entries.size() ? "\"" + table.entries[now].name + "\"" : "the end of the step";
  return entry + " on stage " + std::to_string(table.stage);
}

std::string StageProver::writerOf(const Cell *cell) const {
  if (!cell)
    return "nothing";
  std::string what = cell->isWhole() ? describe(cell->content) : "a piece of " + describe(cell->content);
  return cell->writer < 0 ? what : what + ", written by \"" + table.entries[cell->writer].name + "\"";
}

//===--------------------------------------------------------------------===//
// What the program says
//===--------------------------------------------------------------------===//

std::vector<int64_t> galvatron::meshAxesOf(dist::PlacementAttr partial) {
  std::vector<int64_t> axes;
  llvm::copy_if(partial.getPartialAxes(), std::back_inserter(axes),
                [](int64_t axis) { return axis != dist::PlacementAttr::kTime; });
  return axes;
}

LogicalResult StageProver::collectParameter(Call &call, size_t position, StringRef name) {
  auto found = parameterOf.find(name.str());
  if (found == parameterOf.end())
    return fail("expects stage " + llvm::Twine(table.stage) + " to hold the parameter " + name + " of " +
                call.op.getPath() + ", but it does not");
  int index = found->second;
  call.parameters.push_back(index);
  auto home = cast<dist::PlacementAttr>(call.layer.getHomes()[position]);
  dist::PlacementAttr gradient = call.layer.getGradient(position);
  if (table.parameters[index].home != home || (gradient && gradient.withPartials({}) != home))
    return fail("expects norm, files and gradient of " + name + " to have the elements that " + call.op.getPath() +
                " reads, but on stage " + llvm::Twine(table.stage) + " they are cut otherwise");
  if (!gradient || !call.backward)
    return success();
  std::vector<int64_t> axes = meshAxesOf(gradient);
  if (!parameterUses[index].empty() && partialAxes[index] != axes)
    return fail("expects all layers to leave the gradient of " + name + " partial on the same mesh axes, but " +
                call.op.getPath() + " does not; give them the same strategy");
  partialAxes[index] = axes;
  const void *use = &usePaths.emplace_back(call.op.getPath().str());
  useNames[use] = usePaths.back();
  call.trained.push_back(position);
  call.uses.push_back(use);
  parameterUses[index].push_back(use);
  return success();
}

LogicalResult StageProver::checkAdjacent(Call &call) {
  auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName);
  for (Attribute group : groups ? groups.getValue() : ArrayRef<Attribute>()) {
    ArrayRef<int64_t> positions = cast<DenseI64ArrayAttr>(group).asArrayRef();
    for (size_t i = 1; i < positions.size(); ++i) {
      const StageParameter &one = table.parameters[call.parameters[positions[i - 1]]],
                           &next = table.parameters[call.parameters[positions[i]]];
      if (one.bucket >= 0 || next.bucket >= 0) {
        if (one.bucket != next.bucket || one.bucketOffset + countOf(one) != next.bucketOffset)
          return fail("expects " + next.names.front() + " to lie right behind " + one.names.front() +
                      " in one list of states that ranks share, since " + call.op.getPath() +
                      " has both as one, but it does not");
        continue;
      }
      for (int StageParameter::*buffer :
           {&StageParameter::parameterBuffer, &StageParameter::copyBuffer, &StageParameter::gradientBuffer})
        if (one.*buffer >= 0 && next.*buffer >= 0 && placeOf(one.*buffer).end != placeOf(next.*buffer).begin)
          return fail("expects " + table.buffers[next.*buffer].name + " to lie right behind " +
                      table.buffers[one.*buffer].name + ", since " + call.op.getPath() +
                      " has both as one, but it does not");
    }
  }
  return success();
}

LogicalResult StageProver::collectParameters(Call &call) {
  for (auto [position, name] : llvm::enumerate(call.op.getParameters().getAsValueRange<StringAttr>()))
    if (failed(collectParameter(call, position, name)))
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
  call.ranForward.resize(microBatches);
  call.ranBackward.resize(microBatches);
  if (failed(collectParameters(call)))
    return failure();
  callsOf[call.forward.getSymName().str()].push_back(calls.size());
  if (call.backward) {
    callsOf[call.backward.getSymName().str()].push_back(calls.size());
    for (auto [position, operand] : llvm::enumerate(op->getOpOperands()))
      if (call.layer.getInputGradient(position)) {
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

//===--------------------------------------------------------------------===//
// Memory
//===--------------------------------------------------------------------===//

LogicalResult StageProver::checkLeftAlone(BufferReference reference, Bytes bytes, bool writes) {
  for (auto &[handle, other] : underWay)
    for (const Held &held : other.held)
      if ((writes || held.writes) && held.bytes.overlaps(bytes))
        return fail("expects what is under way to be left alone until its wait, but " + here() + " touches " +
                    nameOf(reference) + ", which \"" + other.start->name + "\" still holds");
  return success();
}

FailureOr<Bytes> StageProver::reach(BufferReference reference, int64_t bytes, bool writes) {
  Bytes place = placeOf(reference.buffer),
        touched = {place.begin + reference.offset, place.begin + reference.offset + bytes};
  if (!place.contains(touched) || place.begin < 0 || touched.end > table.arenaBytes)
    return fail("expects " + here() + " to stay within the " + llvm::Twine(place.end - place.begin) + " bytes of " +
                nameOf(reference) + ", but it touches bytes " + llvm::Twine(reference.offset) + " to " +
                llvm::Twine(reference.offset + bytes));
  if (failed(checkLeftAlone(reference, touched, writes)))
    return failure();
  return touched;
}

FailureOr<Bytes> StageProver::touch(BufferReference reference, int64_t bytes, bool writes) {
  FailureOr<Bytes> touched = reach(reference, bytes, writes);
  const Cell *owned = succeeded(touched) && writes ? state.find(*touched) : nullptr;
  if (owned)
    return fail("expects the update alone to write " + describe(owned->content) + ", but " + here() + " does as " +
                nameOf(reference));
  return touched;
}

LogicalResult StageProver::read(BufferReference reference, int64_t bytes, const Content &expected) {
  FailureOr<Bytes> touched = touch(reference, bytes, /*writes=*/false);
  if (failed(touched))
    return failure();
  const Cell *cell = memory.find(*touched);
  if (!cell || cell->left != *touched || !cell->isWhole() || cell->content != expected)
    return fail("expects " + here() + " to find " + describe(expected) + " in " + nameOf(reference) +
                ", but there is " + writerOf(cell));
  ++proof.reads;
  return success();
}

LogicalResult StageProver::write(BufferReference reference, int64_t bytes, const Content &content) {
  FailureOr<Bytes> touched = touch(reference, bytes, /*writes=*/true);
  if (failed(touched))
    return failure();
  memory.write(*touched, content, now);
  return success();
}

LogicalResult StageProver::readValue(BufferReference reference, int64_t bytes, Value value) {
  if (auto total = value.getDefiningOp<graph::TotalOp>())
    return readTotal(reference, bytes, total);
  return read(reference, bytes, {Content::Kind::Value, value.getAsOpaquePointer(), microBatch(), 0});
}

LogicalResult StageProver::readParameter(BufferReference reference, Type type, int parameter) {
  bool isCopy = cast<ShapedType>(type).getElementType().isBF16();
  using Kind = Content::Kind;
  bool isShared = table.parameters[parameter].bucket >= 0;
  Kind kind = isShared ? (isCopy ? Kind::GatheredCopy : Kind::Gathered) : (isCopy ? Kind::Copy : Kind::Parameter);
  return read(reference, sizeOf(type), {kind, nullptr, -1, parameter});
}

LogicalResult StageProver::readGradient(BufferReference reference, int64_t bytes, Value value) {
  FailureOr<Bytes> touched = touch(reference, bytes, /*writes=*/false);
  if (failed(touched))
    return failure();
  Terms expected;
  bool isOfLoss = false;
  for (const void *use : gradientUses.lookup(value)) {
    expected.insert({use, microBatch()});
    isOfLoss |= useNames[use] == "loss";
  }
  const Cell *cell = memory.find(*touched);
  bool isThere = cell && cell->left == *touched && cell->isWhole();
  if (isThere && cell->content.kind == Content::Kind::One && isOfLoss && expected.size() == 1)
    return ++proof.reads, success();
  const Sum *sum = isThere && cell->content.kind == Content::Kind::Sum ? &sums[cell->content.index] : nullptr;
  std::string what = "gradient of " + describe(value) + " micro-batch " + std::to_string(microBatch());
  if (!sum || sum->kind != Sum::Kind::ValueGradient || sum->of != value.getAsOpaquePointer() ||
      sum->microBatch != microBatch())
    return fail("expects " + here() + " to find the " + what + " in " + nameOf(reference) + ", but there is " +
                writerOf(cell));
  ++proof.reads;
  return checkTerms(sum->terms, expected, what);
}

//===--------------------------------------------------------------------===//
// Bodies
//===--------------------------------------------------------------------===//

StageProver::Call *StageProver::findCall(const Compute &compute, bool isForward) {
  auto found = callsOf.find(compute.function);
  Call *call = nullptr;
  if (found != callsOf.end() && microBatch() >= 0 && microBatch() < microBatches)
    for (size_t index : found->second) {
      Call &candidate = calls[index];
      StringRef path = candidate.op.getPath();
      auto ran = isForward ? candidate.ranForward : candidate.ranBackward;
      auto named = candidate.op->getAttrOfType<IntegerAttr>(dist::kLayerIndexAttrName);
      bool isLayer = named ? named.getInt() == entry().layerIndex
                           : entry().layerIndex < 0 && StringRef(entry().name).contains(path);
      bool isDue = !ran[microBatch()] && (isForward || candidate.ranForward[microBatch()]);
      // The first in forward, the last in backward.
      if (isLayer && isDue && !(isForward && call))
        call = &candidate;
    }
  if (!call) {
    (void)fail("expects every layer to run forward and then backward once a micro-batch, but not " + here() + ", as @" +
               compute.function);
    return nullptr;
  }
  (isForward ? call->ranForward : call->ranBackward)[microBatch()] = true;
  return call;
}

LogicalResult StageProver::checkArguments(const Compute &compute, exec::FunctionOp function, size_t reads) {
  size_t arguments = compute.reads.size() + compute.writes.size() + 1;
  if (arguments != function.getArgumentTypes().size() || compute.reads.size() != reads)
    return fail("expects " + here() + " to give @" + compute.function + " the buffers of its " +
                llvm::Twine(function.getArgumentTypes().size()) + " arguments, but it gives " + llvm::Twine(arguments));
  auto rangeOf = [&](BufferReference reference, size_t argument) {
    int64_t begin = table.buffers[reference.buffer].offset + reference.offset;
    return Bytes{begin, begin + sizeOf(function.getArgumentTypes()[argument])};
  };
  for (auto [number, written] : llvm::enumerate(compute.writes))
    for (auto [argument, readFrom] : llvm::enumerate(compute.reads))
      if (written && readFrom && rangeOf(written, reads + number).overlaps(rangeOf(readFrom, argument)))
        return fail("expects " + here() + " to write beside what it reads, but " + nameOf(written) + " overlaps " +
                    nameOf(readFrom));
  return success();
}

LogicalResult StageProver::writeScratch(const Compute &compute, exec::FunctionOp function) {
  int64_t bytes = function->getAttrOfType<IntegerAttr>(exec::kScratchBytes).getInt();
  if (!bytes)
    return success();
  if (!compute.scratch)
    return fail("expects a scratch of " + llvm::Twine(bytes) + " bytes for " + here() + ", but there is none");
  FailureOr<Bytes> place = touch(compute.scratch, bytes, /*writes=*/true);
  if (failed(place))
    return failure();
  for (auto [argument, reference] : llvm::enumerate(llvm::concat<const BufferReference>(compute.reads, compute.writes)))
    if (reference) {
      int64_t begin = table.buffers[reference.buffer].offset + reference.offset;
      if (place->overlaps({begin, begin + sizeOf(function.getArgumentTypes()[argument])}))
        return fail("expects the scratch of " + here() + " beside its arguments, but it overlaps " + nameOf(reference));
    }
  memory.write(*place, {}, now);
  return success();
}

LogicalResult StageProver::runForward(const Compute &compute, Call &call) {
  ArrayRef<Type> types = call.forward.getArgumentTypes();
  size_t numInputs = call.op.getInputs().size(), reads = numInputs + call.parameters.size();
  if (failed(checkArguments(compute, call.forward, reads)))
    return failure();
  for (auto [argument, reference] : llvm::enumerate(compute.reads))
    if (failed(argument < numInputs ? readValue(reference, sizeOf(types[argument]), call.op.getInputs()[argument])
                                    : readParameter(reference, types[argument], call.parameters[argument - numInputs])))
      return failure();
  if (failed(writeScratch(compute, call.forward)))
    return failure();
  size_t numOutputs = call.op.getOutputs().size();
  for (auto [number, reference] : llvm::enumerate(compute.writes)) {
    Content content =
        number < numOutputs
            ? Content{Content::Kind::Value, call.op.getOutputs()[number].getAsOpaquePointer(), microBatch(), 0}
            : Content{Content::Kind::Saved, call.op.getAsOpaquePointer(), microBatch(), int64_t(number - numOutputs)};
    if (failed(write(reference, sizeOf(types[reads + number]), content)))
      return failure();
  }
  return success();
}

LogicalResult StageProver::runBackward(const Compute &compute, Call &call) {
  ArrayRef<Type> types = call.backward.getArgumentTypes();
  SmallVector<Value> outputs, inputs(call.op.getInputs());
  for (auto [index, output] : llvm::enumerate(call.op.getOutputs()))
    if (call.layer.getOutputGradient(index))
      outputs.push_back(output);
  size_t firstParameter = outputs.size() + inputs.size(), firstSaved = firstParameter + call.parameters.size(),
         reads = firstSaved + call.layer.getNumSaved();
  if (failed(checkArguments(compute, call.backward, reads)))
    return failure();
  Block &body = call.backward.getBody().front();
  for (auto [argument, reference] : llvm::enumerate(compute.reads)) {
    int64_t bytes = sizeOf(types[argument]);
    if (!reference) {
      if (!body.getArgument(argument).use_empty())
        return fail("expects " + here() + " to give @" + compute.function + " its argument " + llvm::Twine(argument) +
                    ", which it reads, but there is none");
      continue;
    }
    if (failed(argument < outputs.size()   ? readGradient(reference, bytes, outputs[argument])
               : argument < firstParameter ? readValue(reference, bytes, inputs[argument - outputs.size()])
               : argument < firstSaved
                   ? readParameter(reference, types[argument], call.parameters[argument - firstParameter])
                   : read(reference, bytes,
                          {Content::Kind::Saved, call.op.getAsOpaquePointer(), microBatch(),
                           int64_t(argument - firstSaved)})))
      return failure();
  }
  if (failed(writeScratch(compute, call.backward)))
    return failure();
  size_t argument = reads, number = 0;
  for (OpOperand &operand : call.op->getOpOperands()) {
    if (!call.layer.getInputGradient(operand.getOperandNumber()))
      continue;
    Sum sum = {Sum::Kind::ValueGradient, operand.get().getAsOpaquePointer(), -1, microBatch()};
    sum.terms.insert({&operand, microBatch()});
    if (failed(write(compute.writes[number++], sizeOf(types[argument++]), newSum(std::move(sum)))))
      return failure();
  }
  for (size_t trained = 0; trained < call.trained.size(); ++trained)
    if (failed(addParameterGradient(compute.writes[number++], sizeOf(types[argument++]), call, trained,
                                    compute.adds[trained])))
      return failure();
  return success();
}

LogicalResult StageProver::runTotal(const Compute &compute) {
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>()) {
    auto layer = symbols.lookup<dist::LayerOp>(total.getCallee());
    if (layer.getForward() != compute.function)
      continue;
    auto function = symbols.lookup<exec::FunctionOp>(layer.getForward());
    size_t reads = total.getInputs().size();
    if (failed(checkArguments(compute, function, reads)))
      return failure();
    for (auto [argument, input] : llvm::enumerate(total.getInputs()))
      if (failed(readValue(compute.reads[argument], sizeOf(function.getArgumentTypes()[argument]), input)))
        return failure();
    if (failed(writeScratch(compute, function)))
      return failure();
    return write(compute.writes.front(), sizeOf(function.getArgumentTypes()[reads]),
                 {Content::Kind::TotalPart, total.getAsOpaquePointer(), microBatch(), 0});
  }
  return fail("expects a graph.total that calls @" + compute.function + " for " + here() + ", but the stage has none");
}

LogicalResult StageProver::visit(const Compute &compute) {
  if (compute.kind == Compute::Kind::Total)
    return runTotal(compute);
  bool isForward = compute.kind == Compute::Kind::Forward;
  Call *call = findCall(compute, isForward);
  if (!call)
    return failure();
  return isForward ? runForward(compute, *call) : runBackward(compute, *call);
}

//===--------------------------------------------------------------------===//
// Other entries
//===--------------------------------------------------------------------===//

LogicalResult StageProver::visit(const FillZero &fill) { return write(fill.buffer, fill.bytes, {Content::Kind::Zero}); }

LogicalResult StageProver::visit(const StartBackward &start) { return write(start.gradient, 4, {Content::Kind::One}); }

LogicalResult StageProver::visit(const Accumulate &sum) {
  int64_t bytes = sum.count * (sum.type == GVRT_F32 ? 4 : sum.type == GVRT_BF16 ? 2 : 8);
  FailureOr<Bytes> addend = touch(sum.addend, bytes, /*writes=*/false);
  FailureOr<Bytes> target = touch(sum.sum, bytes, /*writes=*/true);
  if (failed(addend) || failed(target))
    return failure();
  const Cell *cell = memory.find(*addend);
  if (cell && cell->left == *addend && cell->isWhole()) {
    const Content content = cell->content;
    if (content.kind == Content::Kind::Value && content.microBatch == microBatch())
      return addLoss(sum, *target, Value::getFromOpaquePointer(content.what));
    if (content.kind == Content::Kind::TotalPart)
      return addTotal(*target, content);
    if (content.kind == Content::Kind::Sum && sums[content.index].kind == Sum::Kind::ValueGradient)
      return addGradients(*target, sums[content.index]);
    if (content.kind == Content::Kind::Sum && sums[content.index].kind == Sum::Kind::GradientPiece)
      return addPiece(*target, sums[content.index]);
  }
  return fail("expects " + here() + " to add a gradient or a term of its micro-batch, but in " + nameOf(sum.addend) +
              " there is " + writerOf(cell));
}

LogicalResult StageProver::visit(const AllReduce &reduce) {
  Bytes bytes = rangeOf(reduce.buffer, reduce.count * 4);
  if (failed(checkLeftAlone(reduce.buffer, bytes, /*writes=*/true)))
    return failure();
  const Cell *first = memory.find(bytes);
  if (first && first->content.kind == Content::Kind::Sum && sums[first->content.index].kind == Sum::Kind::Total) {
    Sum &sum = sums[first->content.index];
    auto total = graph::TotalOp::getFromOpaquePointer(sum.of);
    if (first->left != bytes)
      return fail("expects " + here() + " to reduce all of " + total.getCallee() + " and no more, but it does not");
    if (failed(checkTerms(sum.terms, termsOf({sum.of}), total.getCallee())) ||
        failed(reduceOverAxes(table.groups[reduce.group], axesOf(total), sum, total.getCallee())))
      return failure();
  } else if (int bucket = findPiece(bytes); bucket >= 0) {
    if (failed(reducePiece(table.groups[reduce.group], bucket, bytes)))
      return failure();
  } else {
    // What lies between gradients travels along and is read by nobody.
    int64_t end = bytes.begin;
    for (auto [index, parameter] : llvm::enumerate(table.parameters))
      if (parameter.gradientBuffer >= 0 && placeOf(parameter.gradientBuffer).overlaps(bytes)) {
        if (failed(reduceParameter(reduce, index, bytes)))
          return failure();
        end = std::max(end, placeOf(parameter.gradientBuffer).end);
      }
    const Cell *foreign = nullptr;
    memory.allOf(bytes, [&](const Cell &cell) {
      bool isGradient =
          cell.content.kind == Content::Kind::Sum && sums[cell.content.index].kind == Sum::Kind::ParameterGradient;
      return isGradient ? true : (foreign = &cell, false);
    });
    if (foreign || end == bytes.begin)
      return fail("expects " + here() + " to reduce gradients of parameters alone, but there is " + writerOf(foreign));
  }
  if (!reduce.handle)
    return success();
  return start(*reduce.handle, reduce.buffer, {{bytes, /*writes=*/true}});
}

LogicalResult StageProver::visit(const Send &send) {
  const Channel &channel = send.channel;
  auto fits = [&](auto op) {
    return op.getStage() == uint64_t(channel.stage) && op.getTag() == uint64_t(channel.value);
  };
  Block &block = stage.getBody().front();
  LogicalResult isRead = failure();
  if (channel.lane == Lane::Activation) {
    auto ops = block.getOps<dist::SendOp>();
    auto op = llvm::find_if(ops, fits);
    if (op == ops.end())
      return fail("expects the stage to send what " + here() + " sends, but it has no such value");
    isRead = readValue(send.buffer, channel.bytes, (*op).getX());
  } else {
    auto ops = block.getOps<dist::ReceiveOp>();
    auto op = llvm::find_if(ops, fits);
    if (op == ops.end())
      return fail("expects the stage to send what " + here() + " sends, but it has no such value");
    isRead = readGradient(send.buffer, channel.bytes, (*op).getResult());
  }
  if (failed(isRead))
    return failure();
  sent[channel.stage].push_back({channel.lane, channel.value, microBatch(), entry().name});
  return start(send.handle, send.buffer, {{rangeOf(send.buffer, channel.bytes), /*writes=*/false}});
}

LogicalResult StageProver::visit(const Receive &receive) {
  const Channel &channel = receive.channel;
  auto fits = [&](auto op) {
    return op.getStage() == uint64_t(channel.stage) && op.getTag() == uint64_t(channel.value);
  };
  Block &block = stage.getBody().front();
  auto receives = block.getOps<dist::ReceiveOp>();
  auto sends = block.getOps<dist::SendOp>();
  auto receiveOp = llvm::find_if(receives, fits);
  auto sendOp = llvm::find_if(sends, [&](dist::SendOp op) { return fits(op) && op.hasGradient(); });
  bool isActivation = channel.lane == Lane::Activation;
  if (isActivation ? receiveOp == receives.end() : sendOp == sends.end())
    return fail("expects the stage to receive what " + here() + " receives, but it has no such value");
  Content content = {Content::Kind::Value, nullptr, microBatch(), 0};
  if (isActivation) {
    content.what = Value((*receiveOp).getResult()).getAsOpaquePointer();
  } else {
    OpOperand &operand = (*sendOp)->getOpOperand(0);
    Sum sum = {Sum::Kind::ValueGradient, operand.get().getAsOpaquePointer(), -1, microBatch()};
    sum.terms.insert({&operand, microBatch()});
    content = newSum(std::move(sum));
  }
  if (failed(write(receive.buffer, channel.bytes, content)))
    return failure();
  received[channel.stage].push_back({channel.lane, channel.value, microBatch(), entry().name});
  return receive.handle
             ? start(*receive.handle, receive.buffer, {{rangeOf(receive.buffer, channel.bytes), /*writes=*/true}})
             : success();
}

LogicalResult StageProver::start(int64_t handle, BufferReference reference, ArrayRef<Held> held) {
  auto [other, isNew] = underWay.insert({handle, {&entry(), llvm::to_vector<2>(held), reference}});
  if (!isNew)
    return fail("expects a handle of its own for " + here() + ", but \"" + other->second.start->name + "\" still has " +
                llvm::Twine(handle));
  return success();
}

LogicalResult StageProver::visit(const Wait &wait) {
  auto started = underWay.find(wait.handle);
  if (started == underWay.end())
    return fail("expects one wait for one start, but nothing is under way with the handle " + llvm::Twine(wait.handle) +
                " of " + here());
  if (started->second.buffer.buffer != wait.buffer.buffer || started->second.buffer.offset != wait.buffer.offset)
    return fail("expects " + here() + " to hold " + nameOf(started->second.buffer) + " until then, but it holds " +
                nameOf(wait.buffer));
  underWay.erase(started);
  ++proof.waits;
  return success();
}

LogicalResult StageProver::finish() {
  now = table.entries.size();
  for (auto &[handle, started] : underWay)
    return fail("expects a wait for \"" + started.start->name + "\" on stage " + llvm::Twine(table.stage) +
                ", but the list ends without one");
  for (Call &call : calls)
    for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch)
      if (!call.ranForward[microBatch] || (call.backward && !call.ranBackward[microBatch]))
        return fail("expects " + call.op.getPath() + " to run " +
                    (call.ranForward[microBatch] ? "backward" : "forward") + " for micro-batch " +
                    llvm::Twine(microBatch) + ", but no entry of stage " + llvm::Twine(table.stage) + " does it");
  for (size_t parameter = 0; parameter < table.parameters.size(); ++parameter)
    if (failed(finishParameter(parameter)))
      return failure();
  proof.entries += table.entries.size();
  return success(succeeded(finishLosses()) && succeeded(finishTotals()));
}

LogicalResult StageProver::run() {
  if (failed(collect()) || failed(layOutState()))
    return failure();
  for (now = 0; now < table.entries.size(); ++now)
    if (failed(std::visit([&](const auto &action) { return visit(action); }, entry().action)))
      return failure();
  return finish();
}
