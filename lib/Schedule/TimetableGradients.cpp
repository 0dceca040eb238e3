// Gradients of parameters in a timetable: neighbours that are complete together are reduced as one message, which is
// under way while earlier layers still run backwards.
//
//   compute      … │ backward 3 │ backward 2 │ backward 1 │ wait, wait, wait │ update
//   reductions                  └── layer 3 ──┴─ layer 2 ─┴─ layer 1 ─┘
// A stage with earlier ones before it starts to reduce only when its last gradient is sent, for which they wait.
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "runtime/api/ElementType.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

//===--------------------------------------------------------------------===//
// Where they lie
//===--------------------------------------------------------------------===//

/// Where each parameter stands: those that lie together behind one another, at the place of their first.
FailureOr<std::vector<std::pair<unsigned, unsigned>>> TimetableBuilder::collectAdjacent() {
  std::vector<std::pair<unsigned, unsigned>> places; // (first of its group, position in the group)
  for (unsigned index = 0; index < table.parameters.size(); ++index)
    places.push_back({index, 0});
  llvm::DenseSet<unsigned> grouped;
  for (auto op : stage.getBody().front().getOps<graph::CallOp>()) {
    Call &call = calls[op];
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

LogicalResult TimetableBuilder::addParameterSlots() {
  FailureOr<std::vector<std::pair<unsigned, unsigned>>> places = collectAdjacent();
  if (failed(places))
    return failure();
  llvm::SmallVector<unsigned> order = llvm::to_vector(llvm::seq<unsigned>(table.parameters.size()));
  llvm::sort(order, [&](unsigned a, unsigned b) { return (*places)[a] < (*places)[b]; });
  auto addSlots = [&](llvm::StringRef what, int64_t bytes, int StageParameter::*slot, ArrayRef<unsigned> indices) {
    for (unsigned index : indices) {
      StageParameter &parameter = table.parameters[index];
      bool isKept = slot == &StageParameter::parameterSlot ||
                    (slot == &StageParameter::copySlot ? parameter.hasCopy : parameter.trained);
      if (isKept)
        parameter.*slot = addSlot((what + parameter.names.front()).str(), parameter.count * bytes, true);
    }
  };
  addSlots("", 4, &StageParameter::parameterSlot, order);
  addSlots("first moment of ", 4, &StageParameter::firstMomentSlot, order);
  addSlots("second moment of ", 4, &StageParameter::secondMomentSlot, order);
  addSlots("copy of ", 2, &StageParameter::copySlot, order);
  llvm::erase_if(order, [&](unsigned index) { return !table.parameters[index].trained; });
  // Contiguous regions, in the order in which gradients are reduced: by the axes they are partial on.
  llvm::stable_sort(
      order, [&](unsigned a, unsigned b) { return table.parameters[a].partialAxes < table.parameters[b].partialAxes; });
  for (unsigned index : order) {
    StageParameter &parameter = table.parameters[index];
    parameter.gradientSlot = addSlot("gradient of " + parameter.names.front(), parameter.count * 4, true);
    if (table.gradientRegionFirst < 0)
      table.gradientRegionFirst = parameter.gradientSlot;
    table.gradientRegionLast = parameter.gradientSlot;
  }
  return success();
}

//===--------------------------------------------------------------------===//
// When they are written
//===--------------------------------------------------------------------===//

void TimetableBuilder::zeroGradient(int parameter, int64_t microBatch) {
  const StageParameter &zeroed = table.parameters[parameter];
  TimetableEntry &entry = addEntry("gvrt_fill_zero", "zero gradient of " + zeroed.names.front(), microBatch);
  use(entry, {zeroed.gradientSlot, 0});
  entry.attributes = {zeroed.count * 4};
}

std::vector<int64_t> TimetableBuilder::addOrWrite(Call &call, int64_t microBatch) {
  written.resize(table.parameters.size());
  std::vector<bool> adds(call.parameters.size());
  if (auto only = call.backward->getAttrOfType<DenseI64ArrayAttr>(exec::kAdds))
    for (int64_t gradient : only.asArrayRef())
      adds[call.trained[gradient]] = true;
  // One product writes the gradients of parameters that lie together: to all or to none.
  if (auto groups = call.layer->getAttrOfType<ArrayAttr>(dist::kAdjacentAttrName))
    for (auto group : groups.getAsRange<DenseI64ArrayAttr>())
      if (llvm::any_of(group.asArrayRef(), [&](int64_t position) { return written[call.parameters[position]]; }))
        for (int64_t position : group.asArrayRef())
          adds[position] = true;
  std::vector<int64_t> flags;
  for (unsigned position : call.trained) {
    int parameter = call.parameters[position];
    bool isTwice = llvm::count(call.parameters, parameter) > 1;
    if ((adds[position] || isTwice) && !written[parameter]) {
      zeroGradient(parameter, microBatch);
      written[parameter] = true;
    }
    flags.push_back(written[parameter]);
  }
  for (unsigned position : call.trained)
    written[call.parameters[position]] = true;
  return flags;
}

//===--------------------------------------------------------------------===//
// When they are reduced
//===--------------------------------------------------------------------===//

void TimetableBuilder::collectMessages() {
  // Backward walks the calls in reverse: the first call that reads a parameter is the last to add to its gradient.
  completedBy.assign(table.parameters.size(), nullptr);
  for (auto op : stage.getBody().front().getOps<graph::CallOp>())
    if (Call &call = calls[op]; call.backward)
      for (unsigned position : call.trained)
        if (Operation *&last = completedBy[call.parameters[position]]; !last)
          last = op;
  llvm::SmallVector<unsigned> order = llvm::to_vector(llvm::seq<unsigned>(table.parameters.size()));
  llvm::erase_if(order, [&](unsigned index) { return !table.parameters[index].trained; });
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return table.parameters[a].gradientSlot < table.parameters[b].gradientSlot;
  });
  // Gradients lie on cache lines; the padding between them travels along and is read by nobody.
  for (size_t i = 0; i < order.size();) {
    const StageParameter &first = table.parameters[order[i]];
    Operation *completes = completedBy[order[i]];
    Message message = {first.gradientSlot, 0, first.partialAxes};
    for (; i < order.size() && completedBy[order[i]] == completes &&
           table.parameters[order[i]].partialAxes == first.partialAxes;
         ++i)
      message.bytes += llvm::alignTo(table.slots[table.parameters[order[i]].gradientSlot].bytes, kSlotAlignment);
    if (completes && !first.partialAxes.empty())
      messages[completes].push_back(message);
  }
}

void TimetableBuilder::startReductions(Call &call) {
  for (const Message &message : messages.lookup(call.op)) {
    std::string name = "reduce gradients of " + call.op.getPath().str();
    TimetableEntry &entry = addEntry("gvrt_all_reduce", name, /*microBatch=*/-1, call.unit);
    use(entry, {message.slot, 0});
    use(entry, {message.slot, 0});
    int64_t handle = numHandles++;
    entry.attributes = {groupIndex({message.axes, {}}), GVRT_F32, kSum, message.bytes / 4, handle};
    reductions.push_back({handle, {message.slot, 0}, name});
  }
}

void TimetableBuilder::finishReductions() {
  while (!transfers.empty()) {
    std::string key = transfers.begin()->first;
    waitFor(key);
  }
  for (const Transfer &reduction : reductions)
    addWait(reduction);
  // Sums over the stages that share a parameter, in an order that they share, too.
  std::map<std::string, const StageParameter *> tied;
  for (const StageParameter &parameter : table.parameters)
    if (parameter.trained && parameter.stages.size() > 1)
      tied[parameter.names.front()] = &parameter;
  for (auto &[name, parameter] : tied) {
    TimetableEntry &entry = addEntry("gvrt_all_reduce", "reduce gradient of tied " + name);
    use(entry, {parameter->gradientSlot, 0});
    use(entry, {parameter->gradientSlot, 0});
    entry.attributes = {groupIndex({{}, parameter->stages}), GVRT_F32, kSum, parameter->count, kAtOnce};
  }
}
