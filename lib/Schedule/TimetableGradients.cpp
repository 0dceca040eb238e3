// Gradients of parameters in a timetable: neighbours that are complete together are reduced as one bucket, which is
// under way while earlier layers still run backwards.
//
//   compute      … │ backward 3 │ backward 2 │ backward 1 │ wait, wait, wait │ update
//   reductions                  └── layer 3 ──┴─ layer 2 ─┴─ layer 1 ─┘
// A stage with earlier ones before it starts to reduce only when its last gradient is sent, for which they wait.
//
// Where a layer's strategy says so, they are reduced after each micro-batch: the first one's where they lie, the next
// ones' apart, since what is reduced cannot be added to what is not.
//
//   compute      backward 3 of 0 │ 2 │ 1 │ … │ backward 3 of 1 (apart) │ wait, 2 │ add, wait …
//   reductions                   └── 3 ──┘ …                           └── 3 ──┘
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

//===--------------------------------------------------------------------===//
// Where they lie
//===--------------------------------------------------------------------===//

/// Where each parameter stands: those that lie together one after another, at the place of their first.
FailureOr<std::vector<std::pair<unsigned, unsigned>>> TimetableBuilder::collectAdjacent() {
  std::vector<std::pair<unsigned, unsigned>> places; // (first of its group, number in the group)
  for (unsigned index = 0; index < table.parameters.size(); ++index)
    places.push_back({index, 0});
  llvm::DenseSet<unsigned> grouped;
  for (auto op : stage.getBody().front().getOps<graph::CallOp>()) {
    Call &call = contents.calls[op];
    auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName);
    for (Attribute group : groups ? groups.getValue() : ArrayRef<Attribute>()) {
      ArrayRef<int64_t> indices = cast<DenseI64ArrayAttr>(group).asArrayRef();
      unsigned first = call.parameters[indices.front()];
      for (auto [number, index] : llvm::enumerate(indices)) {
        unsigned parameter = call.parameters[index];
        std::pair<unsigned, unsigned> place = {first, number};
        if (!grouped.insert(parameter).second && places[parameter] != place)
          return op.emitOpError("expects the shared parameter ")
                 << table.parameters[parameter].names.front()
                 << " to lie beside the same parameters in all its layers; run without galvatron-fuse-parameters";
        places[parameter] = place;
      }
    }
  }
  return places;
}

LogicalResult TimetableBuilder::addParameterBuffers() {
  FailureOr<std::vector<std::pair<unsigned, unsigned>>> places = collectAdjacent();
  if (failed(places))
    return failure();
  llvm::SmallVector<unsigned> order = llvm::to_vector(llvm::seq<unsigned>(table.parameters.size()));
  llvm::sort(order, [&](unsigned a, unsigned b) { return (*places)[a] < (*places)[b]; });
  collectStateBuckets(order, *places);
  llvm::erase_if(order, [&](unsigned index) { return table.parameters[index].bucket >= 0; });
  auto addBuffers = [&](llvm::StringRef what, int64_t bytes, int StageParameter::*buffer) {
    for (unsigned index : order) {
      StageParameter &parameter = table.parameters[index];
      bool isKept = buffer == &StageParameter::parameterBuffer ? parameter.hasMaster()
                    : buffer == &StageParameter::copyBuffer    ? parameter.hasCopy
                                                               : parameter.trained;
      if (isKept)
        parameter.*buffer = addBuffer((what + parameter.names.front()).str(), parameter.count * bytes, true);
    }
  };
  addBuffers("", 4, &StageParameter::parameterBuffer);
  addBuffers("first moment of ", 4, &StageParameter::firstMomentBuffer);
  addBuffers("second moment of ", 4, &StageParameter::secondMomentBuffer);
  addBuffers("copy of ", 2, &StageParameter::copyBuffer);
  // Contiguous regions, in the order in which gradients are reduced: by the axes they are partial on.
  llvm::stable_sort(
      order, [&](unsigned a, unsigned b) { return table.parameters[a].partialAxes < table.parameters[b].partialAxes; });
  addBuffers("gradient of ", 4, &StageParameter::gradientBuffer);
  addStateBuffers();
  for (unsigned index : order)
    addToGradientRegion(table.parameters[index].gradientBuffer);
  for (const StateBucket &bucket : table.buckets)
    addToGradientRegion(bucket.gradientBuffer);
  return success();
}

void TimetableBuilder::addToGradientRegion(int buffer) {
  if (buffer < 0)
    return;
  if (table.gradientRegionFirst < 0)
    table.gradientRegionFirst = buffer;
  table.gradientRegionLast = buffer;
}

//===--------------------------------------------------------------------===//
// When they are written
//===--------------------------------------------------------------------===//

void TimetableBuilder::zeroGradient(int parameter, int64_t microBatch) {
  const StageParameter &zeroed = table.parameters[parameter];
  addEntry(FillZero{gradientReference(parameter, microBatch), zeroed.count * 4},
           "zero gradient of " + zeroed.names.front(), microBatch);
}

std::vector<bool> TimetableBuilder::addOrWrite(Call &call, dist::Computation computation, int64_t microBatch) {
  ArrayRef<unsigned> trained =
      computation == dist::Computation::Weight ? call.trainedInWeights : call.trainedInBackward;
  std::vector<bool> &written = gradients.written;
  written.resize(table.parameters.size());
  std::vector<bool> onlyAdds(call.parameters.size());
  if (auto only = call.functionOf(computation)->getAttrOfType<DenseI64ArrayAttr>(exec::kAdds))
    for (int64_t gradient : only.asArrayRef())
      onlyAdds[trained[gradient]] = true;
  // One product writes the gradients of parameters that lie together: to all or to none.
  if (auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName))
    for (auto group : groups.getAsRange<DenseI64ArrayAttr>())
      if (llvm::any_of(group.asArrayRef(), [&](int64_t index) { return written[call.parameters[index]]; }))
        for (int64_t index : group.asArrayRef())
          onlyAdds[index] = true;
  std::vector<bool> adds;
  for (unsigned index : trained) {
    int parameter = call.parameters[index];
    bool isTwice = llvm::count(call.parameters, parameter) > 1;
    if ((onlyAdds[index] || isTwice) && !written[parameter]) {
      zeroGradient(parameter, microBatch);
      written[parameter] = true;
    }
    adds.push_back(written[parameter]);
  }
  for (unsigned index : trained)
    written[call.parameters[index]] = true;
  return adds;
}

//===--------------------------------------------------------------------===//
// When they are reduced
//===--------------------------------------------------------------------===//

void TimetableBuilder::collectCompletions() {
  using Kind = dist::Computation;
  std::map<std::pair<Kind, int64_t>, int64_t> lastOf; // instruction of each kind and chunk
  for (auto [index, instruction] : llvm::enumerate(order))
    lastOf[{instruction.computation, instruction.chunk}] = index;
  gradients.completedBy.assign(table.parameters.size(), {});
  // An instruction walks calls in reverse: of those of one instruction the first is the last to add to a gradient.
  std::vector<int64_t> latest(table.parameters.size(), -1);
  for (auto op : stage.getBody().front().getOps<graph::CallOp>()) {
    Call &call = contents.calls[op];
    auto note = [&](ArrayRef<unsigned> trained, Kind computation) {
      int64_t last = lastOf[{computation, plan::getChunk(op)}];
      // What the backward leaves is reduced with what it has put off.
      Completion completion = {op, call.weights ? Kind::Weight : computation};
      for (unsigned index : trained)
        if (int parameter = call.parameters[index]; last > latest[parameter]) {
          latest[parameter] = last;
          gradients.completedBy[parameter] = completion;
        }
    };
    if (call.backward)
      note(call.trainedInBackward, Kind::Backward);
    note(call.trainedInWeights, Kind::Weight);
  }
}

void TimetableBuilder::collectBuckets() {
  std::vector<Completion> &completedBy = gradients.completedBy;
  llvm::SmallVector<unsigned> order = llvm::to_vector(llvm::seq<unsigned>(table.parameters.size()));
  llvm::erase_if(
      order, [&](unsigned index) { return !table.parameters[index].trained || table.parameters[index].bucket >= 0; });
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return table.parameters[a].gradientBuffer < table.parameters[b].gradientBuffer;
  });
  // Gradients lie on cache lines; the padding between them travels along and is read by nobody.
  gradients.bucketOf.assign(table.parameters.size(), -1);
  for (size_t i = 0; i < order.size();) {
    const StageParameter &first = table.parameters[order[i]];
    Bucket bucket{.buffer = first.gradientBuffer, .axes = first.partialAxes, .completedBy = completedBy[order[i]]};
    bucket.reducesEveryMicroBatch = first.reducesEveryMicroBatch;
    bool isReduced = bucket.completedBy.call && !bucket.axes.empty();
    for (; i < order.size(); ++i) {
      const StageParameter &next = table.parameters[order[i]];
      if (completedBy[order[i]] != bucket.completedBy || next.partialAxes != bucket.axes ||
          next.reducesEveryMicroBatch != bucket.reducesEveryMicroBatch)
        break;
      bucket.offsets[order[i]] = bucket.bytes;
      bucket.bytes += llvm::alignTo(table.buffers[next.gradientBuffer].bytes, exec::kBufferAlignment);
      if (isReduced)
        gradients.bucketOf[order[i]] = gradients.buckets.size();
    }
    if (isReduced)
      gradients.buckets.push_back(std::move(bucket));
  }
}

BufferReference TimetableBuilder::gradientReference(int index, int64_t microBatch) {
  const StageParameter &parameter = table.parameters[index];
  if (parameter.bucket >= 0)
    return wholeGradientReference(parameter, microBatch);
  int number = gradients.bucketOf[index];
  if (number < 0 || !gradients.buckets[number].isReduced)
    return {parameter.gradientBuffer, 0};
  Bucket &bucket = gradients.buckets[number];
  if (bucket.apart < 0) {
    StringRef path = cast<graph::CallOp>(bucket.completedBy.call).getPath();
    bucket.apart = addBuffer(label("gradients of", path, microBatch), bucket.bytes);
  }
  return {bucket.apart, bucket.offsets.at(index)};
}

bool TimetableBuilder::completeUnwritten(ArrayRef<int> parameters, int64_t microBatch) {
  auto isWritten = [&](int parameter) { return bool(gradients.written[parameter]); };
  if (llvm::none_of(parameters, isWritten))
    return false;
  for (int parameter : parameters)
    if (!isWritten(parameter))
      zeroGradient(parameter, microBatch);
  return true;
}

void TimetableBuilder::startReductions(Call &call, dist::Computation computation, int64_t microBatch) {
  bool ofStep = microBatch < 0;
  Completion completion = {call.op, computation};
  scatterGradients(completion, microBatch);
  for (Bucket &bucket : gradients.buckets) {
    if (bucket.completedBy != completion || bucket.reducesEveryMicroBatch == ofStep)
      continue;
    if (!ofStep &&
        !completeUnwritten(llvm::map_to_vector(bucket.offsets, [](auto &entry) { return entry.first; }), microBatch))
      continue;
    if (!ofStep)
      endReductions(/*ofStep=*/false); // at most one more than is being computed
    std::string path = call.op.getPath().str(), name = "reduce gradients of " + path;
    if (!ofStep)
      name += " micro-batch " + std::to_string(microBatch);
    BufferReference home = {bucket.buffer, 0}, apart = {bucket.apart, 0}, reduced = apart ? apart : home;
    int64_t handle = pending.numHandles++, count = bucket.bytes / 4;
    addEntry(AllReduce{reduced, groupIndex({bucket.axes, {}}), count, handle}, name, microBatch, call.layerIndex);
    pending.reductions.push_back({{handle, reduced, name}, apart, home, count, path, microBatch});
    if (ofStep)
      continue;
    bucket.isReduced = true;
    bucket.apart = -1;
    for (auto &[parameter, offset] : bucket.offsets)
      gradients.written[parameter] = false;
  }
}

void TimetableBuilder::endReductions(bool ofStep) {
  std::erase_if(pending.reductions, [&](const Reduction &reduction) {
    if (!ofStep && reduction.microBatch < 0)
      return false;
    addWait(reduction.started);
    if (reduction.addend)
      addEntry(Accumulate{reduction.addend, reduction.sum, GVRT_F32, reduction.count},
               label("add up", "gradients of " + reduction.path, reduction.microBatch), reduction.microBatch);
    return true;
  });
}

void TimetableBuilder::finish() {
  for (auto &[key, started] : pending.sends)
    addWait(started);
  endReductions(/*ofStep=*/true);
  // Sums over the stages that share a parameter, in an order that they share, too.
  std::map<std::string, const StageParameter *> tied;
  for (const StageParameter &parameter : table.parameters)
    if (parameter.trained && parameter.stages.size() > 1)
      tied[parameter.names.front()] = &parameter;
  for (auto &[name, parameter] : tied) {
    // Of what lies together, one after another.
    int64_t count = parameter->count;
    if (parameter->bucket >= 0) {
      if (parameter->bucketOffset > 0)
        continue;
      count = table.buckets[parameter->bucket].pieceElements();
    }
    addEntry(AllReduce{{parameter->gradientBuffer, 0}, groupIndex({{}, parameter->stages}), count, std::nullopt},
             "reduce gradient of tied " + name);
  }
}
