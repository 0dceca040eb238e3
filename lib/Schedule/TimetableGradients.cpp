// Gradients of parameters in a timetable: neighbours that are complete together are reduced as one bucket, which is
// under way while earlier layers still run backwards.
//
//   compute      … │ backward 3 │ backward 2 │ backward 1 │ wait, wait, wait │ update
//   reductions                  └── layer 3 ──┴─ layer 2 ─┴─ layer 1 ─┘
// A stage with earlier ones before it starts to reduce only when its last gradient is sent, for which they wait.
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
  std::vector<std::pair<unsigned, unsigned>> places; // (first of its group, position in the group)
  for (unsigned index = 0; index < table.parameters.size(); ++index)
    places.push_back({index, 0});
  llvm::DenseSet<unsigned> grouped;
  for (auto op : stage.getBody().front().getOps<graph::CallOp>()) {
    Call &call = contents.calls[op];
    auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName);
    for (Attribute group : groups ? groups.getValue() : ArrayRef<Attribute>()) {
      ArrayRef<int64_t> positions = cast<DenseI64ArrayAttr>(group).asArrayRef();
      unsigned first = call.parameters[positions.front()];
      for (auto [number, position] : llvm::enumerate(positions)) {
        unsigned index = call.parameters[position];
        std::pair<unsigned, unsigned> place = {first, number};
        if (!grouped.insert(index).second && places[index] != place)
          return op.emitOpError("expects the shared parameter ")
                 << table.parameters[index].names.front()
                 << " to lie beside the same parameters in all its layers; run without galvatron-fuse-parameters";
        places[index] = place;
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
      bool isKept = buffer == &StageParameter::parameterBuffer ||
                    (buffer == &StageParameter::copyBuffer ? parameter.hasCopy : parameter.trained);
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

std::vector<bool> TimetableBuilder::addOrWrite(Call &call, int64_t microBatch) {
  std::vector<bool> &written = gradients.written;
  written.resize(table.parameters.size());
  std::vector<bool> onlyAdds(call.parameters.size());
  if (auto only = call.backward->getAttrOfType<DenseI64ArrayAttr>(exec::kAdds))
    for (int64_t gradient : only.asArrayRef())
      onlyAdds[call.trained[gradient]] = true;
  // One product writes the gradients of parameters that lie together: to all or to none.
  if (auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName))
    for (auto group : groups.getAsRange<DenseI64ArrayAttr>())
      if (llvm::any_of(group.asArrayRef(), [&](int64_t position) { return written[call.parameters[position]]; }))
        for (int64_t position : group.asArrayRef())
          onlyAdds[position] = true;
  std::vector<bool> adds;
  for (unsigned position : call.trained) {
    int parameter = call.parameters[position];
    bool isTwice = llvm::count(call.parameters, parameter) > 1;
    if ((onlyAdds[position] || isTwice) && !written[parameter]) {
      zeroGradient(parameter, microBatch);
      written[parameter] = true;
    }
    adds.push_back(written[parameter]);
  }
  for (unsigned position : call.trained)
    written[call.parameters[position]] = true;
  return adds;
}

//===--------------------------------------------------------------------===//
// When they are reduced
//===--------------------------------------------------------------------===//

void TimetableBuilder::collectCompletions() {
  // Backward walks the calls in reverse: the first call that reads a parameter is the last to add to its gradient.
  std::vector<Operation *> &completedBy = gradients.completedBy;
  completedBy.assign(table.parameters.size(), nullptr);
  for (auto op : stage.getBody().front().getOps<graph::CallOp>())
    if (Call &call = contents.calls[op]; call.backward)
      for (unsigned position : call.trained)
        if (Operation *&last = completedBy[call.parameters[position]]; !last)
          last = op;
}

void TimetableBuilder::collectBuckets() {
  std::vector<Operation *> &completedBy = gradients.completedBy;
  llvm::SmallVector<unsigned> order = llvm::to_vector(llvm::seq<unsigned>(table.parameters.size()));
  llvm::erase_if(
      order, [&](unsigned index) { return !table.parameters[index].trained || table.parameters[index].bucket >= 0; });
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return table.parameters[a].gradientBuffer < table.parameters[b].gradientBuffer;
  });
  // Gradients lie on cache lines; the padding between them travels along and is read by nobody.
  for (size_t i = 0; i < order.size();) {
    const StageParameter &first = table.parameters[order[i]];
    Operation *completes = completedBy[order[i]];
    Bucket bucket = {first.gradientBuffer, 0, first.partialAxes};
    for (; i < order.size() && completedBy[order[i]] == completes &&
           table.parameters[order[i]].partialAxes == first.partialAxes;
         ++i)
      bucket.bytes +=
          llvm::alignTo(table.buffers[table.parameters[order[i]].gradientBuffer].bytes, exec::kBufferAlignment);
    if (completes && !first.partialAxes.empty())
      gradients.buckets[completes].push_back(bucket);
  }
}

void TimetableBuilder::startReductions(Call &call) {
  scatterGradients(call, /*microBatch=*/-1, /*ofStep=*/true);
  for (const Bucket &bucket : gradients.buckets.lookup(call.op)) {
    std::string name = "reduce gradients of " + call.op.getPath().str();
    int64_t handle = pending.numHandles++;
    BufferReference buffer = {bucket.buffer, 0};
    addEntry(AllReduce{buffer, groupIndex({bucket.axes, {}}), bucket.bytes / 4, handle}, name, /*microBatch=*/-1,
             call.layerIndex);
    pending.reductions.push_back({handle, buffer, name});
  }
}

void TimetableBuilder::finish() {
  for (auto &[key, started] : pending.sends)
    addWait(started);
  for (const UnderWay &reduction : pending.reductions)
    addWait(reduction);
  endScatters(/*ofStep=*/true);
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
