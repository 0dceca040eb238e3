// The walk of one stage: memory that is born and dies, entries, and what they may not touch. See StageRun.h; what goes
// on between stages and over groups is in StageRunTransfers.cpp.
#include "StageRun.h"

#include "galvatron/Reference/PaddedTensor.h"

#include "llvm/ADT/STLExtras.h"

#include <limits>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

/// Bytes of an element on the device.
static unsigned widthOf(Type element) { return llvm::divideCeil(element.getIntOrFloatBitWidth(), 8); }

StageRun::StageRun(const Timetable &table, ModuleOp bodies, const Machine &machine, Exchange &exchange, bool exact)
    : table(table), bodies(bodies), symbols(bodies), machine(machine), exchange(exchange), exact(exact),
      arenas(machine.numDevices(), Arena(table.arenaBytes)), born(table.entries.size()), dead(table.entries.size()) {
  for (auto layer : bodies.getOps<dist::LayerOp>()) {
    layers[layer.getForward()] = layer;
    if (layer.getBackward())
      layers[*layer.getBackward()] = layer;
    if (layer.getWeights())
      layers[*layer.getWeights()] = layer;
  }
  for (auto [index, buffer] : llvm::enumerate(table.buffers))
    if (!buffer.persistent && buffer.first >= 0) {
      born[buffer.first].push_back(index);
      dead[buffer.last].push_back(index);
    }
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

ByteRange StageRun::rangeOf(BufferReference reference, int64_t bytes) const {
  const Buffer &buffer = table.buffers[reference.buffer];
  int64_t begin = buffer.offset + reference.offset;
  return {begin, bytes ? begin + bytes : buffer.offset + buffer.bytes};
}

void StageRun::poison(ByteRange range) {
  for (Arena &arena : arenas)
    arena.poison(range);
}

void StageRun::beginStep(const NamedTensors &inputs) {
  next = 0;
  std::vector<ByteRange> kept;
  for (const StageParameter &parameter : table.parameters)
    for (int buffer :
         {parameter.parameterBuffer, parameter.firstMomentBuffer, parameter.secondMomentBuffer, parameter.copyBuffer})
      if (buffer >= 0)
        kept.push_back(rangeOf({buffer, 0}));
  llvm::sort(kept, [](const ByteRange &a, const ByteRange &b) { return a.begin < b.begin; });
  int64_t end = 0;
  for (const ByteRange &range : kept) {
    poison({end, std::max(end, range.begin)});
    end = range.end;
  }
  poison({end, table.arenaBytes});
  // Of what is gathered for each step only the device's own piece is left from the step before.
  for (const StateBucket &bucket : table.buckets)
    for (int64_t device = 0; device < machine.numDevices(); ++device) {
      SmallVector<int64_t> members = machine.group(device, bucket.axes);
      auto keepPiece = [&](int buffer, int64_t width) {
        ByteRange range = rangeOf({buffer, 0});
        int64_t bytes = bucket.pieceElements() * width;
        int64_t piece = range.begin + (llvm::find(members, device) - members.begin()) * bytes;
        arenas[device].poison({range.begin, piece});
        arenas[device].poison({piece + bytes, range.begin + bucket.elements * width});
      };
      if (bucket.isWhole())
        keepPiece(bucket.parameterBuffer, 4);
      if (bucket.copyBuffer >= 0 && bucket.isCopyWhole())
        keepPiece(bucket.copyBuffer, 2);
    }
  for (const StageInput &input : table.inputs)
    for (int64_t microBatch = 0; microBatch < machine.microBatches; ++microBatch) {
      DeviceTensors pieces = machine.scatter(padData(inputs.at(input.name), input.placement.getGlobalShape()),
                                             input.placement, microBatch);
      unsigned width = input.bytesPerMicroBatch / std::max<int64_t>(pieces.front().size(), 1);
      for (auto [arena, piece] : llvm::zip_equal(arenas, pieces))
        arena.write(table.buffers[input.buffer].offset + input.bytesPerMicroBatch * microBatch, width, piece.data);
    }
}

/// Poisons buffers that are born or have died: what is in them is nobody's.
LogicalResult StageRun::forget(ArrayRef<int> buffers, StringRef when) {
  for (int index : buffers) {
    ByteRange range = rangeOf({index, 0});
    for (auto &[handle, started] : underWay)
      if (llvm::any_of(started.ranges, [&](const Occupied &other) { return other.range.overlaps(range); }))
        return bodies.emitError("expects the memory of \"")
               << started.name << "\" to be its own until its wait, but \"" << table.buffers[index].name << "\" "
               << when << " \"" << current().name << "\"";
    poison(range);
  }
  return success();
}

InFlightDiagnostic StageRun::emitPoisoned(int buffer, int64_t byte, int64_t device, const std::string &reader) {
  const Buffer &own = table.buffers[buffer];
  int64_t now = next;
  InFlightDiagnostic error = bodies.emitError("expects \"")
                             << own.name << "\" to be there when \"" << reader << "\" reads it on device " << device
                             << " of stage " << table.stage << ", but byte " << byte - own.offset << " of it ";
  const Buffer *taker = nullptr;
  for (const Buffer &other : table.buffers)
    if (&other != &own && !other.persistent && other.first >= 0 && other.first <= now && other.last >= own.first &&
        other.offset <= byte && byte < other.offset + other.bytes && (!taker || other.first > taker->first))
      taker = &other;
  if (taker && (own.persistent || taker->last > own.first))
    error << "was taken by \"" << taker->name << "\"";
  else if (!own.persistent && own.last < now)
    error << "was freed after \"" << table.entries[own.last].name << "\"";
  else
    error << "was never written";
  return error;
}

FailureOr<DeviceTensors> StageRun::read(BufferReference reference, Type element, ArrayRef<int64_t> shape) {
  ByteRange range = rangeOf(reference);
  // Of what lies together, only the first is named.
  bool isNeighbour = reference.offset >= table.buffers[reference.buffer].bytes;
  DeviceTensors values;
  for (auto [device, arena] : llvm::enumerate(arenas)) {
    Tensor &value = values.emplace_back(shape);
    if (!isNeighbour && range.begin + value.size() * widthOf(element) > range.end)
      return bodies.emitError("expects \"")
             << table.buffers[reference.buffer].name << "\" to have room for the " << value.size()
             << " elements of type " << element << " that \"" << current().name << "\" has there";
    if (auto poisoned = arena.read(range.begin, widthOf(element), value.data))
      return emitPoisoned(reference.buffer, range.begin + *poisoned * widthOf(element), device, current().name);
  }
  return values;
}

LogicalResult StageRun::readElements(int64_t device, int buffer, int64_t first, MutableArrayRef<double> values,
                                     const std::string &reader) {
  int64_t offset = table.buffers[buffer].offset + first * 4;
  if (auto poisoned = arenas[device].read(offset, 4, values))
    return emitPoisoned(buffer, offset + *poisoned * 4, device, reader);
  return success();
}

FailureOr<DeviceTensors> StageRun::readBuffer(int buffer, ArrayRef<int64_t> shape, const std::string &reader) {
  DeviceTensors values;
  for (int64_t device = 0; device < machine.numDevices(); ++device)
    if (failed(readElements(device, buffer, 0, values.emplace_back(shape).data, reader)))
      return failure();
  return values;
}

void StageRun::writeElements(int64_t device, int buffer, int64_t first, unsigned width, ArrayRef<double> values) {
  if (!values.empty())
    arenas[device].write(table.buffers[buffer].offset + first * width, width, values);
}

StageRun::Held StageRun::heldOf(const StageParameter &parameter, int64_t device) const {
  if (parameter.bucket < 0)
    return {0, parameter.count, 0, 0};
  const StateBucket &bucket = table.buckets[parameter.bucket];
  SmallVector<int64_t> members = machine.group(device, bucket.axes);
  int64_t piece = (llvm::find(members, device) - members.begin()) * bucket.pieceElements();
  int64_t begin = std::clamp<int64_t>(piece - parameter.bucketOffset, 0, parameter.count);
  int64_t end = std::clamp<int64_t>(piece + bucket.pieceElements() - parameter.bucketOffset, begin, parameter.count);
  return {begin, end, parameter.bucketOffset + begin, parameter.bucketOffset + begin - piece};
}

LogicalResult StageRun::write(BufferReference reference, Type element, const DeviceTensors &values) {
  for (auto [arena, value] : llvm::zip_equal(arenas, values))
    arena.write(rangeOf(reference).begin, widthOf(element), value.data);
  return success();
}

Type StageRun::elementOf(gvrt_type type) {
  Builder builder(bodies.getContext());
  return type == GVRT_F32    ? Type(builder.getF32Type())
         : type == GVRT_BF16 ? Type(builder.getBF16Type())
         : type == GVRT_F16  ? Type(builder.getF16Type())
                             : Type(builder.getI64Type());
}

//===----------------------------------------------------------------------===//
// What is under way is left alone
//===----------------------------------------------------------------------===//

std::vector<StageRun::Touch> StageRun::touchesOf(const Action &action) {
  std::vector<Touch> touches;
  if (auto *compute = std::get_if<Compute>(&action)) {
    for (BufferReference reference : compute->reads)
      touches.push_back({reference, false});
    for (BufferReference reference : compute->writes)
      touches.push_back({reference, true});
    touches.push_back({compute->scratch, true});
  } else if (auto *sum = std::get_if<Accumulate>(&action)) {
    touches = {{sum->addend, false}, {sum->sum, true}};
  } else if (auto *reduce = std::get_if<AllReduce>(&action)) {
    touches = {{reduce->buffer, true, reduce->count * 4}};
  } else if (auto *scatter = std::get_if<ReduceScatter>(&action)) {
    touches = {{scatter->from, false}, {scatter->to, true, scatter->count * 4}};
  } else if (auto *gather = std::get_if<AllGather>(&action)) {
    touches = {{gather->piece, false}, {gather->whole, true}};
  } else {
    bool isWritten = !std::holds_alternative<Send>(action);
    for (BufferReference reference :
         std::holds_alternative<Wait>(action) ? std::vector<BufferReference>() : buffersOf(action))
      touches.push_back({reference, isWritten});
  }
  llvm::erase_if(touches, [](const Touch &touch) { return !touch.reference; });
  return touches;
}

LogicalResult StageRun::checkTouched() {
  for (const Touch &touch : touchesOf(current().action))
    for (auto &[handle, started] : underWay)
      if (llvm::any_of(started.ranges, [&](const Occupied &other) {
            return (touch.isWritten || other.isWritten) && other.range.overlaps(rangeOf(touch.reference, touch.bytes));
          }))
        return bodies.emitError("expects \"")
               << current().name << "\" of stage " << table.stage << " to leave \""
               << table.buffers[touch.reference.buffer].name << "\" alone until the wait of \"" << started.name << "\"";
  return success();
}

LogicalResult StageRun::finish() {
  if (underWay.empty())
    return success();
  return bodies.emitError("expects stage ") << table.stage << " to wait for \"" << underWay.begin()->second.name
                                            << "\", but the step ends while it is under way";
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

FailureOr<bool> StageRun::advance(Interpreter &interpreter) {
  size_t start = next;
  for (; !isDone(); ++next) {
    if (!pending) {
      if (failed(forget(born[next], "begins with")) || failed(checkTouched()))
        return failure();
      FailureOr<Attempt> begun = begin(interpreter);
      if (failed(begun))
        return failure();
      pending = std::move(*begun);
    }
    if (*pending) {
      FailureOr<bool> ended = (*pending)();
      if (failed(ended))
        return failure();
      if (!*ended)
        return next != start;
    }
    pending.reset();
    if (failed(forget(dead[next], "ends with")))
      return failure();
  }
  return next != start;
}

FailureOr<StageRun::Attempt> StageRun::begin(Interpreter &interpreter) {
  const Action &action = current().action;
  LogicalResult result = success();
  if (auto *entry = std::get_if<Compute>(&action))
    result = compute(*entry, interpreter);
  else if (auto *fill = std::get_if<FillZero>(&action))
    for (Arena &arena : arenas)
      arena.write(rangeOf(fill->buffer).begin, 4, std::vector<double>(fill->bytes / 4));
  else if (auto *gradient = std::get_if<StartBackward>(&action))
    result = write(gradient->gradient, elementOf(GVRT_F32),
                   DeviceTensors(arenas.size(), Tensor({}, lossGradientOf(bodies))));
  else if (auto *sum = std::get_if<Accumulate>(&action))
    result = accumulate(*sum);
  else if (auto *collective = std::get_if<AllReduce>(&action))
    return reduce(*collective);
  else if (auto *collective = std::get_if<ReduceScatter>(&action))
    return scatter(*collective);
  else if (auto *collective = std::get_if<AllGather>(&action))
    return gather(*collective);
  else if (auto *transfer = std::get_if<Send>(&action))
    return send(*transfer);
  else if (auto *transfer = std::get_if<Receive>(&action))
    return receive(*transfer);
  else
    return wait(std::get<Wait>(action));
  if (failed(result))
    return failure();
  return Attempt();
}

StageRun::Places StageRun::placesOf(const Compute &compute, dist::BodyOp body) {
  Places places = {compute.reads, compute.writes};
  dist::LayerOp layer = layers.lookup(body.getSymName());
  auto groups = layer ? layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName) : ArrayAttr();
  if (!groups || compute.kind == Compute::Kind::Total)
    return places;
  bool isForward = compute.kind == Compute::Kind::Forward, isWeights = compute.kind == Compute::Kind::Weights;
  size_t after = layer.getNumSaved() + layer.getHomes().size() + (isWeights ? layer.getNumKept() : 0);
  size_t firstParameter = isForward ? layer.getInputs().size() : compute.reads.size() - after;
  auto trained = layer.getTrainedBy(isWeights);
  size_t firstGradient = compute.writes.size() - compute.adds.size();
  Operation *terminator = body.getBody().front().getTerminator();
  for (auto group : groups.getAsRange<DenseI64ArrayAttr>()) {
    std::vector<std::pair<BufferReference *, Type>> read, written;
    for (int64_t index : group.asArrayRef()) {
      size_t argument = firstParameter + index;
      read.push_back({&places.reads[argument], body.getArgumentTypes()[argument]});
      auto gradient = llvm::find(trained, index);
      if (!isForward && gradient != trained.end()) {
        size_t result = firstGradient + (gradient - trained.begin());
        written.push_back({&places.writes[result], terminator->getOperand(result).getType()});
      }
    }
    for (auto &together : {read, written}) {
      BufferReference next = together.empty() ? BufferReference() : *together.front().first;
      for (auto [reference, type] : together) {
        *reference = next;
        auto tensor = cast<RankedTensorType>(type);
        next.offset += tensor.getNumElements() * widthOf(tensor.getElementType());
      }
    }
  }
  return places;
}

/// A body may write before it has read all: what it writes is poisoned first.
LogicalResult StageRun::compute(const Compute &compute, Interpreter &interpreter) {
  auto body = symbols.lookup<dist::BodyOp>(compute.function);
  if (!body)
    return bodies.emitError("expects a dist.body named @")
           << compute.function << ", which \"" << current().name << "\" runs";
  Block &block = body.getBody().front();
  Operation *terminator = block.getTerminator();
  if (block.getNumArguments() != compute.reads.size() || terminator->getNumOperands() != compute.writes.size())
    return body.emitOpError("expects as many arguments and results as \"")
           << current().name << "\" has, " << compute.reads.size() << " and " << compute.writes.size();
  Places places = placesOf(compute, body);
  size_t numKept = compute.writes.size() - compute.adds.size(); // before gradients of parameters
  auto isAdded = [&](size_t index) { return index >= numKept && compute.adds[index - numKept]; };
  auto typeOf = [](Value value) { return cast<RankedTensorType>(value.getType()); };
  if (compute.scratch)
    poison(rangeOf(compute.scratch));
  for (auto [index, reference, value] : llvm::enumerate(places.writes, terminator->getOperands()))
    if (int64_t bytes = typeOf(value).getNumElements() * widthOf(typeOf(value).getElementType());
        bytes && !isAdded(index))
      poison(rangeOf(reference, bytes));
  interpreter.microBatch = std::max<int64_t>(current().microBatch, 0);
  const std::string &path = current().layerIndex < 0 ? "" : table.layerPaths[current().layerIndex];
  interpreter.layer = random::hashName(path.data(), path.size());
  Frame frame;
  for (auto [argument, reference] : llvm::zip_equal(block.getArguments(), places.reads)) {
    RankedTensorType type = typeOf(argument);
    if (!reference) { // the function on buffers does not read it: what comes of it here would show
      double value = isa<FloatType>(type.getElementType()) ? std::numeric_limits<double>::quiet_NaN() : 0;
      frame[argument] = DeviceTensors(arenas.size(), Tensor(type.getShape(), value));
      continue;
    }
    FailureOr<DeviceTensors> value = read(reference, type.getElementType(), type.getShape());
    if (failed(value))
      return failure();
    frame[argument] = std::move(*value);
  }
  if (failed(interpreter.runBlock(block, frame)))
    return failure();
  for (auto [index, reference, value] : llvm::enumerate(places.writes, terminator->getOperands())) {
    DeviceTensors result = frame[value];
    if (isAdded(index)) {
      FailureOr<DeviceTensors> sum = read(reference, typeOf(value).getElementType(), typeOf(value).getShape());
      if (failed(sum))
        return failure();
      for (auto [a, b] : llvm::zip_equal(result, *sum))
        addTo(a, b);
      if (!exact)
        for (Tensor &tensor : result)
          roundTo(typeOf(value).getElementType(), tensor);
    }
    if (failed(write(reference, typeOf(value).getElementType(), result)))
      return failure();
  }
  return success();
}

LogicalResult StageRun::accumulate(const Accumulate &accumulate) {
  Type element = elementOf(accumulate.type);
  // A bucket of gradients comes with its padding.
  if (accumulate.type == GVRT_F32) {
    for (Arena &arena : arenas) {
      Tensor sum({accumulate.count}), addend({accumulate.count});
      arena.read(rangeOf(accumulate.sum).begin, 4, sum.data);
      arena.read(rangeOf(accumulate.addend).begin, 4, addend.data);
      addUnlessPoisoned(sum, addend);
      if (!exact)
        for (double &value : sum.data)
          value = Arena::isPoisoned(value) ? value : double(float(value));
      arena.write(rangeOf(accumulate.sum).begin, 4, sum.data);
    }
    return success();
  }
  FailureOr<DeviceTensors> addend = read(accumulate.addend, element, {accumulate.count});
  FailureOr<DeviceTensors> sum = read(accumulate.sum, element, {accumulate.count});
  if (failed(addend) || failed(sum))
    return failure();
  for (auto [a, b] : llvm::zip_equal(*sum, *addend)) {
    addTo(a, b);
    if (!exact)
      roundTo(element, a);
  }
  return write(accumulate.sum, element, *sum);
}
