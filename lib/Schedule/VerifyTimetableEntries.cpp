// What every entry of a stage should read, and what it leaves. See VerifyTimetable.h.
#include "StageProver.h"

#include "dialects/Graph/Precision.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

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

LogicalResult StageProver::checkNoState(BufferReference reference, Bytes bytes) {
  if (const Cell *owned = state.find(bytes))
    return fail("expects the update alone to write " + describe(owned->content) + ", but " + here() + " does as " +
                nameOf(reference));
  return success();
}

FailureOr<Bytes> StageProver::touch(BufferReference reference, int64_t bytes, bool writes) {
  FailureOr<Bytes> touched = reach(reference, bytes, writes);
  if (succeeded(touched) && writes && failed(checkNoState(reference, *touched)))
    return failure();
  return touched;
}

FailureOr<Bytes> StageProver::touchTogether(BufferReference reference, int64_t bytes) {
  Bytes touched = rangeOf(reference, bytes);
  if (touched.begin < 0 || touched.end > table.arenaBytes)
    return fail("expects " + here() + " to stay within the arena of " + llvm::Twine(table.arenaBytes) +
                " bytes, but it touches bytes " + llvm::Twine(touched.begin) + " to " + llvm::Twine(touched.end));
  if (failed(checkLeftAlone(reference, touched, /*writes=*/true)) || failed(checkNoState(reference, touched)))
    return failure();
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
  bool isCopy = graph::isHalf(cast<ShapedType>(type).getElementType());
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

StageProver::Call *StageProver::findCall(const Compute &compute) {
  bool isForward = compute.kind == Compute::Kind::Forward;
  auto before = compute.kind == Compute::Kind::Weights ? Compute::Kind::Backward : Compute::Kind::Forward;
  auto found = callsOf.find(compute.function);
  Call *call = nullptr;
  if (found != callsOf.end() && microBatch() >= 0 && microBatch() < microBatches)
    for (size_t index : found->second) {
      Call &candidate = calls[index];
      StringRef path = candidate.op.getPath();
      auto named = candidate.op->getAttrOfType<IntegerAttr>(dist::kLayerIndexAttrName);
      bool isLayer = named ? named.getInt() == entry().layerIndex
                           : entry().layerIndex < 0 && StringRef(entry().name).contains(path);
      bool isDue = !candidate.ran[compute.kind][microBatch()] && (isForward || candidate.ran[before][microBatch()]);
      // The first in forward, the last in backward.
      if (isLayer && isDue && !(isForward && call))
        call = &candidate;
    }
  if (!call) {
    (void)fail("expects every layer to run forward and then backward" +
               llvm::Twine(compute.kind == Compute::Kind::Weights ? " and then weights" : "") +
               " once a micro-batch, but not " + here() + ", as @" + compute.function);
    return nullptr;
  }
  call->ran[compute.kind][microBatch()] = true;
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

LogicalResult StageProver::readBackward(const Compute &compute, Call &call, exec::FunctionOp function, size_t numKept) {
  ArrayRef<Type> types = function.getArgumentTypes();
  SmallVector<Value> outputs, inputs(call.op.getInputs());
  for (auto [index, output] : llvm::enumerate(call.op.getOutputs()))
    if (call.layer.getOutputGradient(index))
      outputs.push_back(output);
  size_t firstParameter = outputs.size() + inputs.size(), firstSaved = firstParameter + call.parameters.size(),
         firstKept = firstSaved + call.layer.getNumSaved();
  if (failed(checkArguments(compute, function, firstKept + numKept)))
    return failure();
  auto valueOf = [&](Content::Kind kind, size_t index) {
    return Content{kind, call.op.getAsOpaquePointer(), microBatch(), int64_t(index)};
  };
  Block &body = function.getBody().front();
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
               : argument < firstKept ? read(reference, bytes, valueOf(Content::Kind::Saved, argument - firstSaved))
                                      : read(reference, bytes, valueOf(Content::Kind::Kept, argument - firstKept))))
      return failure();
  }
  return writeScratch(compute, function);
}

LogicalResult StageProver::writeGradients(const Compute &compute, Call &call, exec::FunctionOp function,
                                          bool inWeights) {
  SmallVector<size_t> numbers = call.trainedBy(inWeights);
  auto trained = llvm::map_to_vector(numbers, [&](size_t number) { return call.trained[number]; });
  ArrayRef<BufferReference> gradients = ArrayRef(compute.writes).take_back(numbers.size());
  if (failed(checkAdjacentGradients(call, trained, gradients)))
    return failure();
  auto only = function->getAttrOfType<DenseI64ArrayAttr>(exec::kAdds);
  ArrayRef<Type> types = function.getArgumentTypes().drop_back().take_back(numbers.size());
  for (auto [place, number] : llvm::enumerate(numbers)) {
    bool canWrite = !only || !llvm::is_contained(only.asArrayRef(), int64_t(place));
    if (failed(
            addParameterGradient(gradients[place], sizeOf(types[place]), call, number, compute.adds[place], canWrite)))
      return failure();
  }
  return success();
}

LogicalResult StageProver::runBackward(const Compute &compute, Call &call) {
  if (failed(readBackward(compute, call, call.backward, /*numKept=*/0)))
    return failure();
  ArrayRef<Type> types = call.backward.getArgumentTypes().drop_front(compute.reads.size());
  size_t number = 0;
  for (OpOperand &operand : call.op->getOpOperands()) {
    if (!call.layer.getInputGradient(operand.getOperandNumber()))
      continue;
    Sum sum = {Sum::Kind::ValueGradient, operand.get().getAsOpaquePointer(), -1, microBatch()};
    sum.terms.insert({&operand, microBatch()});
    if (failed(write(compute.writes[number], sizeOf(types[number]), newSum(std::move(sum)))))
      return failure();
    ++number;
  }
  for (int64_t kept = 0; kept < int64_t(call.layer.getNumKept()); ++kept, ++number)
    if (failed(write(compute.writes[number], sizeOf(types[number]),
                     {Content::Kind::Kept, call.op.getAsOpaquePointer(), microBatch(), kept})))
      return failure();
  return writeGradients(compute, call, call.backward, /*inWeights=*/false);
}

LogicalResult StageProver::runWeights(const Compute &compute, Call &call) {
  if (failed(readBackward(compute, call, call.weights, call.layer.getNumKept())))
    return failure();
  return writeGradients(compute, call, call.weights, /*inWeights=*/true);
}

/// Of the totals that call this function, the one that reads these buffers; else the first.
graph::TotalOp StageProver::findTotal(const Compute &compute) {
  graph::TotalOp first;
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>()) {
    if (symbols.lookup<dist::LayerOp>(total.getCallee()).getForward() != compute.function)
      continue;
    first = first ? first : total;
    bool readsThese = compute.reads.size() == total.getInputs().size();
    for (auto [reference, input] : llvm::zip(compute.reads, total.getInputs())) {
      auto at = inputs.find(input);
      readsThese &= at != inputs.end() && at->second.first == reference.buffer;
    }
    if (readsThese)
      return total;
  }
  return first;
}

LogicalResult StageProver::runTotal(const Compute &compute) {
  graph::TotalOp total = findTotal(compute);
  if (!total)
    return fail("expects a graph.total that calls @" + compute.function + " for " + here() +
                ", but the stage has none");
  auto layer = symbols.lookup<dist::LayerOp>(total.getCallee());
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

LogicalResult StageProver::visit(const Compute &compute) {
  if (compute.kind == Compute::Kind::Total)
    return runTotal(compute);
  bool isForward = compute.kind == Compute::Kind::Forward;
  if (table.isEvaluation && !isForward)
    return fail("expects evaluation to run forwards alone, but " + here() + " runs @" + compute.function);
  Call *call = findCall(compute);
  if (!call)
    return failure();
  if (compute.kind == Compute::Kind::Weights)
    return runWeights(compute, *call);
  return isForward ? runForward(compute, *call) : runBackward(compute, *call);
}

//===--------------------------------------------------------------------===//
// Other entries
//===--------------------------------------------------------------------===//

LogicalResult StageProver::visit(const FillZero &fill) { return write(fill.buffer, fill.bytes, {Content::Kind::Zero}); }

LogicalResult StageProver::visit(const StartBackward &start) { return write(start.gradient, 4, {Content::Kind::One}); }

LogicalResult StageProver::visit(const Accumulate &sum) {
  int64_t bytes = sum.count * bytesOfElement(sum.type);
  FailureOr<Bytes> addend = touch(sum.addend, bytes, /*writes=*/false);
  if (failed(addend))
    return failure();
  bool isTogether = isOfMicroBatch(*addend) || isOfMicroBatch(rangeOf(sum.sum, bytes));
  FailureOr<Bytes> target = isTogether ? touchTogether(sum.sum, bytes) : touch(sum.sum, bytes, /*writes=*/true);
  if (failed(target))
    return failure();
  if (isTogether)
    return addReduced(*addend, *target);
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
  } else if (failed(reduceParameters(reduce, bytes))) {
    return failure();
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
  sent[channel.stage].push_back({channel.lane, channel.value, microBatch(), channel.bytes, entry().name});
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
  received[channel.stage].push_back({channel.lane, channel.value, microBatch(), channel.bytes, entry().name});
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
    for (auto [kind, function, what] : {std::tuple(Compute::Kind::Forward, call.forward, "forward"),
                                        {Compute::Kind::Backward, call.backward, "backward"},
                                        {Compute::Kind::Weights, call.weights, "weights"}})
      for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch)
        if (function && !call.ran[kind][microBatch] && !(table.isEvaluation && kind != Compute::Kind::Forward))
          return fail("expects " + call.op.getPath() + " to run " + what + " for micro-batch " +
                      llvm::Twine(microBatch) + ", but no entry of stage " + llvm::Twine(table.stage) + " does it");
  for (size_t parameter = 0; parameter < table.parameters.size() && !table.isEvaluation; ++parameter)
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
