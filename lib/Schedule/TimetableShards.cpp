// States of parameters that ranks share (ZeRO): where pieces lie, when gradients are reduced into them and parameters
// gathered from them.
//
//   level 1   gather all │ forwards, backwards of all micro-batches │ last backward 3, 2, 1 │ wait    │ update
//   gradients                                                            └─ scatter 3, 2, 1 ┴───────┘
//   level 2   gather all │ … backward 3 of a micro-batch │ 2 │ 1 …, each followed by a scatter        │ update
//   level 3              │ gather 1 │ forward 1, gather 2 │ forward 2 … │ backward 2, gather 1 │ …   │ update
//
// A strategy may have gradients scattered once a step at any level (`reduce_every_micro_batch`), or after each
// micro-batch at level 1.
//
// What is gathered for a step is gathered at its start, not after the update: then also the first step's values come
// from pieces, whoever brought them.
#include "TimetableBuilder.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

//===--------------------------------------------------------------------===//
// What there is
//===--------------------------------------------------------------------===//

void TimetableBuilder::collectStateBuckets(ArrayRef<unsigned> order, ArrayRef<std::pair<unsigned, unsigned>> places) {
  SmallVector<int64_t> mesh = plan::getMesh(pipeline);
  // One that stages share is cut alike in all of them, so only what lies beside it everywhere is in its bucket.
  using Key = std::tuple<Completion, int, std::vector<int64_t>, int64_t, bool, bool>;
  std::map<Key, int> known;
  for (unsigned index : order) {
    StageParameter &parameter = table.parameters[index];
    if (!parameter.zero || !parameter.trained)
      continue;
    bool isShared = parameter.stages.size() > 1;
    Completion completedBy = gradients.completedBy[index];
    auto [at, isNew] = known.try_emplace({completedBy, isShared ? int(places[index].first) : -1, parameter.partialAxes,
                                          parameter.zero, parameter.isReadAsF32, parameter.hasCopy},
                                         table.buckets.size());
    if (isNew) {
      StateBucket bucket;
      bucket.path = isShared ? parameter.names.front() : cast<graph::CallOp>(completedBy.call).getPath().str();
      bucket.level = parameter.zero;
      bucket.reducesEveryMicroBatch = parameter.reducesEveryMicroBatch;
      bucket.axes = parameter.partialAxes;
      for (int64_t axis : bucket.axes)
        bucket.ranks *= mesh[axis];
      bucket.isReadAsF32 = parameter.isReadAsF32;
      bucket.isReadAsCopy = parameter.hasCopy;
      table.buckets.push_back(std::move(bucket));
      shards.completedBy.push_back(completedBy);
    }
    StateBucket &bucket = table.buckets[at->second];
    parameter.bucket = at->second;
    parameter.bucketOffset = bucket.elements;
    bucket.elements += llvm::alignTo(parameter.count, kStateAlignment);
  }
  for (StateBucket &bucket : table.buckets)
    bucket.elements = llvm::alignTo(bucket.elements, bucket.ranks * kStateAlignment);
  shards.whole.assign(table.buckets.size(), -1);
  shards.reduced.assign(table.buckets.size(), false);
}

void TimetableBuilder::addStateBuffers() {
  auto addBuffers = [&](StringRef what, int64_t bytes, int StateBucket::*buffer, auto &&isWhole) {
    for (StateBucket &bucket : table.buckets) {
      int64_t elements = isWhole(bucket) ? bucket.elements : bucket.pieceElements();
      bucket.*buffer = addBuffer((what + bucket.path).str(), elements * bytes, /*persistent=*/true);
    }
  };
  auto isPiece = [](const StateBucket &) { return false; };
  addBuffers("parameters of ", 4, &StateBucket::parameterBuffer,
             [](const StateBucket &bucket) { return bucket.isWhole(); });
  addBuffers("first moments of ", 4, &StateBucket::firstMomentBuffer, isPiece);
  addBuffers("second moments of ", 4, &StateBucket::secondMomentBuffer, isPiece);
  for (StateBucket &bucket : table.buckets)
    if (bucket.isReadAsCopy)
      bucket.copyBuffer =
          addBuffer("copy of " + bucket.path, (bucket.isCopyWhole() ? bucket.elements : bucket.pieceElements()) * 2,
                    /*persistent=*/true);
  addBuffers("gradients of ", 4, &StateBucket::gradientBuffer, isPiece);
  for (StageParameter &parameter : table.parameters) {
    if (parameter.bucket < 0)
      continue;
    const StateBucket &bucket = table.buckets[parameter.bucket];
    parameter.parameterBuffer = bucket.parameterBuffer;
    parameter.firstMomentBuffer = bucket.firstMomentBuffer;
    parameter.secondMomentBuffer = bucket.secondMomentBuffer;
    parameter.copyBuffer = bucket.copyBuffer;
    parameter.gradientBuffer = bucket.gradientBuffer;
  }
}

//===--------------------------------------------------------------------===//
// Gradients
//===--------------------------------------------------------------------===//

BufferReference TimetableBuilder::wholeGradientReference(const StageParameter &parameter, int64_t microBatch) {
  const StateBucket &bucket = table.buckets[parameter.bucket];
  int &whole = shards.whole[parameter.bucket];
  if (whole < 0) {
    std::string name = "whole gradients of " + bucket.path;
    if (bucket.reducesEveryMicroBatch)
      name += " micro-batch " + std::to_string(microBatch);
    whole = addBuffer(name, bucket.elements * 4);
  }
  return {whole, parameter.bucketOffset * 4};
}

void TimetableBuilder::zeroUnwrittenBuckets() {
  for (auto [bucket, completedBy] : llvm::zip(table.buckets, shards.completedBy))
    if (!completedBy.call)
      addEntry(FillZero{{bucket.gradientBuffer, 0}, bucket.pieceElements() * 4}, "zero gradients of " + bucket.path);
}

void TimetableBuilder::scatterGradients(const Completion &completion, int64_t microBatch) {
  bool ofStep = microBatch < 0;
  for (auto [index, bucket] : llvm::enumerate(table.buckets)) {
    if (shards.completedBy[index] != completion || bucket.reducesEveryMicroBatch == ofStep)
      continue;
    SmallVector<int> parameters;
    for (auto [number, parameter] : llvm::enumerate(table.parameters))
      if (parameter.bucket == int(index))
        parameters.push_back(number);
    if (!ofStep && !completeUnwritten(parameters, microBatch))
      continue;
    if (!ofStep)
      endReductions(/*ofStep=*/false); // at most one more than is being computed
    std::string name = "reduce gradients of " + bucket.path;
    if (!ofStep)
      name += " micro-batch " + std::to_string(microBatch);
    BufferReference from = {shards.whole[index], 0}, sum = {bucket.gradientBuffer, 0}, piece;
    if (shards.reduced[index])
      piece = {addBuffer("piece of gradients of " + bucket.path + " micro-batch " + std::to_string(microBatch),
                         bucket.pieceElements() * 4),
               0};
    int64_t handle = pending.numHandles++;
    addEntry(ReduceScatter{from, piece ? piece : sum, groupIndex({bucket.axes, {}}), bucket.pieceElements(), handle},
             name, microBatch, contents.calls[completion.call].layerIndex);
    pending.reductions.push_back({{handle, from, name}, piece, sum, bucket.pieceElements(), bucket.path, microBatch});
    shards.reduced[index] = true;
    // The next micro-batch's are written, not added to these.
    shards.whole[index] = -1;
    for (int parameter : parameters)
      gradients.written[parameter] = false;
  }
}

//===--------------------------------------------------------------------===//
// Parameters
//===--------------------------------------------------------------------===//

Use TimetableBuilder::useAfter(size_t index, graph::CallOp op) {
  // In the order in which an instruction walks them; redistributions have nothing to gather.
  auto usesOf = [&](size_t instruction) {
    SmallVector<Use> uses;
    for (Operation *each : partOf(instruction))
      if (auto call = dyn_cast<graph::CallOp>(each))
        uses.push_back({&contents.calls[call], order[instruction].computation});
    if (order[instruction].computation != dist::Computation::Forward)
      std::reverse(uses.begin(), uses.end());
    return uses;
  };
  auto isNext = [&](const Use &use) {
    return use.computation == dist::Computation::Weight ? !bucketsOf(use).empty() : !use.call->parameters.empty();
  };
  SmallVector<Use> uses = usesOf(index);
  auto own = llvm::find_if(uses, [&](const Use &use) { return use.call->op == op; });
  for (Use &use : llvm::make_range(std::next(own), uses.end()))
    if (isNext(use))
      return use;
  // Gradients of weights seldom read parameters: what comes after them is then gathered while they run.
  for (size_t next = index + 1; next < order.size(); ++next) {
    for (Use &use : usesOf(next))
      if (isNext(use))
        return use;
    if (order[next].computation != dist::Computation::Weight)
      break;
  }
  return {};
}

std::vector<std::pair<int, bool>> TimetableBuilder::bucketsOf(const Use &use) {
  std::vector<std::pair<int, bool>> keys;
  if (!use.call)
    return keys;
  Call &call = *use.call;
  exec::FunctionOp function = call.functionOf(use.computation);
  if (!function)
    return keys;
  bool isForward = use.computation == dist::Computation::Forward;
  for (auto [index, parameter] : llvm::enumerate(call.parameters)) {
    if (!isForward && function.getBody().front().getArgument(call.firstParameter() + index).use_empty())
      continue;
    std::pair<int, bool> key = {table.parameters[parameter].bucket, call.readsCopy(index)};
    if (key.first >= 0 && !llvm::is_contained(keys, key))
      keys.push_back(key);
  }
  return keys;
}

void TimetableBuilder::startGather(std::pair<int, bool> key, std::string name, int64_t microBatch) {
  const StateBucket &bucket = table.buckets[key.first];
  bool isCopy = key.second;
  BufferReference piece, whole = {isCopy ? bucket.copyBuffer : bucket.parameterBuffer, 0};
  if (bucket.level == 3) {
    piece = whole;
    whole = {addBuffer("gathered " + bucket.path + (microBatch < 0 ? "" : " micro-batch " + std::to_string(microBatch)),
                       bucket.elements * (isCopy ? 2 : 4)),
             0};
  }
  int64_t handle = pending.numHandles++;
  addEntry(AllGather{piece, whole, groupIndex({bucket.axes, {}}), isCopy ? table.copyType : GVRT_F32,
                     bucket.pieceElements(), handle},
           name, microBatch);
  shards.gathered[key] = {handle, whole, std::move(name)};
}

void TimetableBuilder::gatherForStep() {
  for (auto op : stage.getBody().front().getOps<graph::CallOp>())
    for (auto key : bucketsOf({&contents.calls[op], dist::Computation::Forward}))
      if (const StateBucket &bucket = table.buckets[key.first]; bucket.level < 3 && !shards.gathered.contains(key))
        startGather(key, "gather parameters of " + bucket.path, /*microBatch=*/-1);
}

void TimetableBuilder::gatherFor(const Use &use, const Use &next, int64_t microBatch) {
  auto start = [&](const Use &reader) {
    for (auto key : bucketsOf(reader))
      if (const StateBucket &bucket = table.buckets[key.first]; bucket.level == 3 && !shards.gathered.contains(key))
        startGather(key, label("gather parameters of", bucket.path, microBatch), microBatch);
  };
  start(use);
  start(next);
  for (auto key : bucketsOf(use)) {
    Gathered &gathered = shards.gathered.at(key);
    if (!gathered.isWaitedFor)
      addWait({gathered.handle, gathered.buffer, gathered.name});
    gathered.isWaitedFor = true;
  }
}

void TimetableBuilder::forgetGathered(const Use &next) {
  auto kept = bucketsOf(next);
  std::erase_if(shards.gathered, [&](const auto &entry) {
    return table.buckets[entry.first.first].level == 3 && !llvm::is_contained(kept, entry.first);
  });
}
