// Entries keep their numbers, names and order. What a stream is called, and what category an entry is of, is said here
// and, for measured traces, in runtime/core/TraceEntries.cpp: the same of every entry.
#include "galvatron/Costs/LoweredStep.h"

#include "BodyCalls.h"

#include "dialects/Graph/Precision.h"
#include "dialects/Plan/Plan.h"
#include "dialects/Plan/Ranks.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace galvatron;

static int64_t widthOf(gvrt_type type) { return bytesOfElement(type); }

namespace {

/// One stage's part.
class StageReader {
public:
  StageReader(const Timetable &timetable, ArrayRef<int64_t> mesh, int64_t devices, llvm::StringMap<int> &bodies)
      : timetable(timetable), mesh(mesh.begin(), mesh.end()), devices(devices), bodies(bodies) {}

  search::StageTimetable run();

private:
  void readGroups();
  void readBuffers();
  void nameParameters();
  void nameBuffer(int buffer, StringRef unit, StringRef kind);
  void readEntries();
  search::StepEntry readEntry(const TimetableEntry &entry);
  void describe(search::StepEntry &read, const Compute &compute, const TimetableEntry &entry);
  void describe(search::StepEntry &read, const FillZero &fill, const TimetableEntry &);
  void describe(search::StepEntry &read, const StartBackward &start, const TimetableEntry &);
  void describe(search::StepEntry &read, const Accumulate &sum, const TimetableEntry &);
  void describe(search::StepEntry &read, const AllReduce &reduce, const TimetableEntry &entry);
  void describe(search::StepEntry &read, const ReduceScatter &scatter, const TimetableEntry &);
  void describe(search::StepEntry &read, const AllGather &gather, const TimetableEntry &);
  void describe(search::StepEntry &read, const Send &send, const TimetableEntry &);
  void describe(search::StepEntry &read, const Receive &receive, const TimetableEntry &);
  void describe(search::StepEntry &read, const Wait &wait, const TimetableEntry &);
  void join(search::StepEntry &read, search::EntryKind kind, int64_t group, int64_t bytes, bool isOfGradients);
  void linkWaits();
  int64_t countUpdateBytes();

  const Timetable &timetable;
  plan::Mesh mesh;
  int64_t devices;
  llvm::StringMap<int> &bodies;
  search::StageTimetable stage;
};

} // namespace

void StageReader::readGroups() {
  for (const RankGroup &group : timetable.groups) {
    search::StepGroup read;
    read.axes.assign(group.axes.begin(), group.axes.end());
    read.stages.assign(group.stages.begin(), group.stages.end());
    if (group.stages.size() > 1) // the nearest two say how far apart
      read.shape = plan::GroupShape(group.stages.size(), devices * (group.stages[1] - group.stages[0]));
    else if (!group.axes.empty())
      read.shape = plan::getGroup(mesh, read.axes);
    stage.groups.push_back(std::move(read));
  }
}

//===----------------------------------------------------------------------===//
// Buffers
//===----------------------------------------------------------------------===//

void StageReader::nameBuffer(int buffer, StringRef unit, StringRef kind) {
  if (buffer < 0)
    return;
  stage.buffers[buffer].unit = unit.str();
  stage.buffers[buffer].kind = kind.str();
}

/// What lives between steps has its unit by what it holds.
void StageReader::nameParameters() {
  auto name = [&](StringRef unit, const auto &of, bool readsCopy) {
    nameBuffer(of.parameterBuffer, unit, readsCopy ? "master" : "weight");
    nameBuffer(of.copyBuffer, unit, "weight");
    nameBuffer(of.gradientBuffer, unit, "gradient");
    nameBuffer(of.firstMomentBuffer, unit, "first_moment");
    nameBuffer(of.secondMomentBuffer, unit, "second_moment");
  };
  for (const StageParameter &parameter : timetable.parameters)
    if (parameter.bucket < 0)
      name(parameter.names.front(), parameter, parameter.hasCopy && !parameter.isReadAsF32);
  for (const StateBucket &bucket : timetable.buckets)
    name(bucket.path, bucket, bucket.isReadAsCopy && !bucket.isReadAsF32);
  for (const StageInput &input : timetable.inputs)
    nameBuffer(input.buffer, "", "input");
  nameBuffer(timetable.workspaceBuffer, "", "workspace");
}

/// By name, where nothing else says what a buffer is: lib/Schedule gives them.
static StringRef kindOf(StringRef name) {
  if (name == "scratch" || name.starts_with("part of "))
    return "scratch";
  if (name.starts_with("gathered "))
    return "gathered";
  if (name.starts_with("value from stage") || name.starts_with("gradient from stage"))
    return "communication";
  if (name.starts_with("whole gradients of ") || name.starts_with("piece of gradients of ") ||
      name.starts_with("gradients of "))
    return "gradient";
  return "activation";
}

void StageReader::readBuffers() {
  for (const Buffer &buffer : timetable.buffers)
    stage.buffers.push_back({buffer.name, "", kindOf(buffer.name).str(), buffer.bytes, buffer.offset,
                             std::max<int64_t>(buffer.first, 0), std::max<int64_t>(buffer.last, 0), buffer.persistent});
  nameParameters();
  for (const search::StepEntry &entry : stage.entries)
    for (int buffer : entry.buffers)
      if (search::StepBuffer &touched = stage.buffers[buffer]; touched.unit.empty() && !touched.persistent)
        touched.unit = entry.unit; // of the first that has one
}

//===----------------------------------------------------------------------===//
// Entries
//===----------------------------------------------------------------------===//

static search::EntryKind kindOf(Compute::Kind kind) {
  switch (kind) {
  case Compute::Kind::Forward:
    return search::EntryKind::Forward;
  case Compute::Kind::Backward:
  case Compute::Kind::Weights:
    return search::EntryKind::Backward;
  case Compute::Kind::Total:
    return search::EntryKind::Total;
  }
  llvm_unreachable("a kind of body");
}

void StageReader::describe(search::StepEntry &read, const Compute &compute, const TimetableEntry &entry) {
  read.kind = kindOf(compute.kind);
  read.body = bodies.at(compute.function);
  // The gradients of parameters are the last that it writes.
  for (auto [adds, result] : llvm::zip_equal(compute.adds, ArrayRef(compute.results).take_back(compute.adds.size())))
    read.addedBytes += adds ? result.count * widthOf(result.type) : 0;
  if (compute.kind == Compute::Kind::Total || entry.layerIndex >= 0)
    return;
  // "forward model.layers.1:input micro-batch 0" brings a value from one layout to another.
  read.category = "redistribute";
  StringRef path = StringRef(entry.name).drop_until([](char c) { return c == ' '; }).ltrim();
  read.unit = path.take_front(path.rfind(" micro-batch ")).str();
}

void StageReader::describe(search::StepEntry &read, const FillZero &fill, const TimetableEntry &) {
  read.kind = search::EntryKind::Zero;
  read.bytes = fill.bytes;
}

void StageReader::describe(search::StepEntry &read, const StartBackward &start, const TimetableEntry &) {
  read.kind = start.isScaled ? search::EntryKind::LossScale : search::EntryKind::One;
}

void StageReader::describe(search::StepEntry &read, const Accumulate &sum, const TimetableEntry &) {
  read.kind = search::EntryKind::Accumulate;
  read.bytes = sum.count * widthOf(sum.type);
}

void StageReader::join(search::StepEntry &read, search::EntryKind kind, int64_t group, int64_t bytes,
                       bool isOfGradients) {
  read.kind = kind;
  read.category = "collective";
  read.stream = isOfGradients ? "gradients" : "collectives";
  read.group = int(group);
  read.bytes = bytes;
}

void StageReader::describe(search::StepEntry &read, const AllReduce &reduce, const TimetableEntry &) {
  // All but the sums of totals.
  bool isTotal = llvm::is_contained(timetable.totals, reduce.buffer.buffer);
  join(read, search::EntryKind::AllReduce, reduce.group, reduce.count * widthOf(GVRT_F32), !isTotal);
}

void StageReader::describe(search::StepEntry &read, const ReduceScatter &scatter, const TimetableEntry &) {
  int64_t ranks = stage.groups[scatter.group].shape.size();
  join(read, search::EntryKind::ReduceScatter, scatter.group, scatter.count * widthOf(GVRT_F32) * ranks, true);
}

void StageReader::describe(search::StepEntry &read, const AllGather &gather, const TimetableEntry &) {
  int64_t ranks = stage.groups[gather.group].shape.size();
  join(read, search::EntryKind::AllGather, gather.group, gather.count * widthOf(gather.type) * ranks, false);
}

void StageReader::describe(search::StepEntry &read, const Send &send, const TimetableEntry &) {
  read.kind = search::EntryKind::Send;
  read.category = "send";
  read.stream = "to stage " + std::to_string(send.channel.stage);
  read.peer = int(send.channel.stage);
  read.bytes = send.channel.bytes;
}

void StageReader::describe(search::StepEntry &read, const Receive &receive, const TimetableEntry &) {
  read.kind = search::EntryKind::Receive;
  read.category = "receive";
  read.stream = "from stage " + std::to_string(receive.channel.stage);
  read.peer = int(receive.channel.stage);
  read.bytes = receive.channel.bytes;
}

/// Compute stands still for it; the rest is as of what it ends, see `linkWaits`.
void StageReader::describe(search::StepEntry &read, const Wait &, const TimetableEntry &) {
  read.kind = search::EntryKind::Wait;
}

search::StepEntry StageReader::readEntry(const TimetableEntry &entry) {
  search::StepEntry read;
  read.name = entry.name;
  read.microBatch = entry.microBatch;
  if (entry.layerIndex >= 0)
    read.unit = timetable.layerPaths[entry.layerIndex];
  std::visit([&](const auto &action) { describe(read, action, entry); }, entry.action);
  for (BufferReference reference : buffersOf(entry.action))
    if (reference && !llvm::is_contained(read.buffers, reference.buffer))
      read.buffers.push_back(reference.buffer);
  return read;
}

void StageReader::linkWaits() {
  llvm::DenseMap<int64_t, int> started; // entry by handle
  for (auto [index, entry] : llvm::enumerate(timetable.entries)) {
    if (std::optional<int64_t> handle = startedHandle(entry.action))
      started[*handle] = int(index);
    auto *wait = entry.getIf<Wait>();
    if (!wait)
      continue;
    search::StepEntry &read = stage.entries[index];
    search::StepEntry &begun = stage.entries[started.at(wait->handle)];
    read.ends = started.at(wait->handle);
    begun.endedBy = int(index);
    read.category = begun.category;
    read.unit = begun.unit;
  }
}

int64_t StageReader::countUpdateBytes() {
  int64_t bytes = 0;
  auto add = [&](int64_t elements, bool hasCopy) {
    bytes += elements * (4 * search::kUpdatePasses + (hasCopy ? 2 : 0));
  };
  for (const StageParameter &parameter : timetable.parameters)
    if (parameter.bucket < 0 && parameter.firstMomentBuffer >= 0)
      add(parameter.count, parameter.hasCopy);
  for (const StateBucket &bucket : timetable.buckets)
    add(bucket.pieceElements(), bucket.isReadAsCopy);
  return bytes;
}

search::StageTimetable StageReader::run() {
  stage.arenaBytes = timetable.arenaBytes;
  stage.updateBytes = countUpdateBytes();
  readGroups();
  for (const TimetableEntry &entry : timetable.entries)
    stage.entries.push_back(readEntry(entry));
  linkWaits();
  readBuffers();
  return std::move(stage);
}

/// Bodies that some stage runs, each once; their numbers by name.
static llvm::StringMap<int> readBodies(ModuleOp lowered, ArrayRef<Timetable> timetables,
                                       std::vector<search::StepBody> &bodies) {
  llvm::StringMap<int> numbers;
  SymbolTable symbols(lowered);
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries) {
      auto *compute = entry.getIf<Compute>();
      if (!compute || !numbers.try_emplace(compute->function, int(bodies.size())).second)
        continue;
      auto function = symbols.lookup<exec::FunctionOp>(compute->function);
      bodies.push_back({compute->function, function ? readBodyCalls(function) : std::vector<search::BodyCall>()});
    }
  return numbers;
}

/// Notes of the bodies of layers what they were compiled from: of equal layers once.
static void noteOrigins(search::StepTimetable &step, ArrayRef<Timetable> timetables, const search::Plan &plan,
                        const llvm::StringMap<std::string> &hashes, const llvm::StringMap<int> &bodies) {
  llvm::StringMap<const search::PlannedLayer *> layers;
  for (const search::PlannedLayer &layer : plan.layers)
    layers[layer.path] = &layer;
  for (const Timetable &timetable : timetables)
    for (const TimetableEntry &entry : timetable.entries) {
      auto *compute = entry.getIf<Compute>();
      if (!compute || entry.layerIndex < 0 || compute->kind == Compute::Kind::Total)
        continue;
      const search::PlannedLayer *layer = layers.lookup(timetable.layerPaths[entry.layerIndex]);
      search::BodyOrigin &origin = step.bodies[bodies.at(compute->function)].origin;
      if (!layer || layer->strategy.pad || !origin.hash.empty())
        continue;
      // Halves of a backward are no body that was measured.
      if (compute->kind != Compute::Kind::Forward && search::splitsBackward(plan.schedule))
        continue;
      origin.layerType = layer->layerType, origin.hash = hashes.lookup(layer->layerType);
      origin.strategy = layer->strategy;
      origin.samples = step.globalBatch / (step.microBatches * layer->dp);
      origin.isBackward = compute->kind == Compute::Kind::Backward;
      origin.recomputesSome = origin.isBackward && !layer->recomputeValues.empty();
    }
}

/// Of the model: each once, whatever stages and ranks hold it.
static int64_t countParameters(ArrayRef<Timetable> timetables) {
  int64_t count = 0;
  for (const Timetable &timetable : timetables)
    for (const StageParameter &parameter : timetable.parameters)
      if (parameter.counted)
        count += llvm::product_of(parameter.ownShape());
  return count;
}

search::StepTimetable galvatron::makeStepTimetable(ModuleOp lowered, ArrayRef<Timetable> timetables,
                                                   const search::Plan &plan, const search::Cluster &cluster,
                                                   const std::string &program,
                                                   const llvm::StringMap<std::string> &hashes) {
  auto pipeline = lowered->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  auto integer = [&](StringRef name) {
    auto attribute = lowered->getAttrOfType<IntegerAttr>(name);
    return attribute ? attribute.getInt() : 0;
  };
  search::StepTimetable step;
  step.plan = program;
  step.precision = graph::getPrecision(lowered).str();
  step.schedule = plan::stringifySchedule(pipeline.getSchedule()).str();
  step.devices = pipeline.getDevices();
  step.globalBatch = integer("graph.batch");
  step.microBatches = pipeline.getMicroBatches();
  step.sequence = integer("graph.seq");
  step.cluster = cluster;
  step.parameters = countParameters(timetables);
  for (const search::PlannedLayer &layer : plan.layers)
    step.units.push_back({layer.path, layer.layerType, layer.stage});
  llvm::StringMap<int> bodies = readBodies(lowered, timetables, step.bodies);
  noteOrigins(step, timetables, plan, hashes, bodies);
  SmallVector<int64_t> mesh = plan::getMesh(pipeline);
  for (const Timetable &timetable : timetables)
    step.stages.push_back(StageReader(timetable, mesh, step.devices, bodies).run());
  return step;
}
