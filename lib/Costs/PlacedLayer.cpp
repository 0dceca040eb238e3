// Places one layer on a copy of the module and counts what came out.
#include "PlacedLayer.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Ranks.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Kernels/FusionRule.h"
#include "galvatron/Placement/ExchangeFusion.h"
#include "galvatron/Placement/PlacementsBody.h"
#include "galvatron/Placement/PlacementsRedistribution.h"
#include "galvatron/Placement/Recomputation.h"
#include "galvatron/Placement/Rings.h"
#include "galvatron/Placement/WeightGradients.h"
#include "galvatron/Schedule/Timetable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Diagnostics.h"

#include <set>

using namespace mlir;
using namespace galvatron;

/// Placed layers that are kept for strategies that recompute more of them: two threads ask for one after another.
static constexpr size_t kMostBases = 8;

/// The parts of the batch that show what depends on it: as few as divide the samples of a device.
static int64_t getParts(int64_t samples) {
  int64_t parts = 2;
  while (samples > 1 && samples % parts)
    ++parts;
  return samples > 1 ? parts : 1;
}

//===----------------------------------------------------------------------===//
// Groups of ranks
//===----------------------------------------------------------------------===//

/// The search's word for ranks along all mesh axes of these rows of the table, if it has one.
static std::optional<search::Group> findGroup(const std::set<StringRef> &rows, const std::set<StringRef> &all) {
  static const std::pair<std::set<StringRef>, search::Group> kGroups[] = {
      {{"tp"}, search::Group::Tensor}, {{"ulysses"}, search::Group::Ulysses}, {{"cp"}, search::Group::Context},
      {{"ep"}, search::Group::Expert}, {{"dp"}, search::Group::Data},         {{"dp", "ep"}, search::Group::Data}};
  for (const auto &[names, group] : kGroups)
    if (names == rows)
      return group;
  std::set<StringRef> withTensor = rows;
  withTensor.insert("tp");
  return !rows.contains("tp") && (all == rows || all == withTensor) ? std::optional(search::Group::Shard)
                                                                    : std::nullopt;
}

/// A collective along mesh axes: by the search's word where there is one, else by the axes.
static search::Collective describeGroup(search::CollectiveKind kind, ArrayRef<int64_t> axes,
                                        const plan::MeshAxes &meshAxes) {
  search::Collective collective{.kind = kind};
  std::set<StringRef> rows, all, cut; // cut: rows of which only some axes take part
  for (auto [id, own] : llvm::enumerate(meshAxes.of))
    for (int axis : own) {
      StringRef row = plan::kDimensions[id].key;
      all.insert(row);
      (llvm::is_contained(axes, axis) ? rows : cut).insert(row);
    }
  bool isWhole = llvm::none_of(rows, [&](StringRef row) { return cut.contains(row); });
  if (std::optional<search::Group> group = isWhole ? findGroup(rows, all) : std::nullopt) {
    collective.group = *group;
    return collective;
  }
  collective.axes.assign(axes.begin(), axes.end());
  return collective;
}

//===----------------------------------------------------------------------===//
// Counting
//===----------------------------------------------------------------------===//

namespace {

/// Counts a placed layer whose redistributions are collectives and whose backward recomputes what it does not keep.
class PlacedReader {
public:
  /// `isTied`: by position of parameters; may be empty. `keepsGathered`: whether W reads what backward gathered.
  PlacedReader(graph::LayerOp layer, const LayerSubAxes &subAxes, const plan::MeshAxes &meshAxes,
               const PlacedAmounts &amounts, ArrayRef<bool> isTied, bool keepsGathered)
      : layer(layer), backward(layer.getBackward()), subAxes(subAxes), meshAxes(meshAxes), amounts(amounts),
        tied(isTied), keepsGathered(keepsGathered) {}
  LayerWork read();

private:
  void findGradients();
  void number();
  void readSaved();
  void readWeights();
  bool isParameter(Value value);
  std::vector<KernelWork> readKernelsOf(ArrayRef<Operation *> ops, Block &block);
  void readArguments();
  void readParameter(BlockArgument argument);
  ArrayRef<int64_t> getPartialAxes(BlockArgument parameter);
  BodyWork readBody(Block &block);
  std::vector<MovedValue> readCollectives(Block &block);
  std::vector<ValueLife> readValues(Block &block);
  bool isCutByTensor(Operation *op);
  MovedValue move(search::CollectiveKind kind, ArrayRef<int64_t> axes, Amount bytes) {
    return {describeGroup(kind, axes, meshAxes), axes.vec(), bytes};
  }

  graph::LayerOp layer;
  graph::BackwardOp backward;
  const LayerSubAxes &subAxes;
  const plan::MeshAxes &meshAxes;
  const PlacedAmounts &amounts;
  ArrayRef<bool> tied;
  bool keepsGathered;
  LayerWork work;
  DenseMap<Operation *, int> numbers;
  llvm::SetVector<Value> saved; // what they are views of
  DenseSet<Value> gradients;    // of parameters, from where they are whole
};

} // namespace

/// What moves a value between devices leaves it the same value.
static bool isCollective(Operation *op) {
  return isa<dist::AllReduceOp, dist::AllGatherOp, dist::ReduceScatterOp, dist::AllToAllOp, dist::PermuteOp,
             dist::CoalescedAllToAllOp>(op);
}

void PlacedReader::findGradients() {
  if (!backward)
    return;
  ValueRange returned = backward.getBody().front().getTerminator()->getOperands();
  for (auto [argument, gradient] : llvm::zip(layer.getDifferentiated(), returned))
    if (argument.getArgNumber() >= layer.getNumInputs())
      for (Value value = gradient; value;) {
        gradients.insert(value);
        Operation *op = value.getDefiningOp();
        value = op && (isCollective(op) || isa<dist::ShardOp>(op))
                    ? op->getOperand(cast<OpResult>(value).getResultNumber())
                    : Value();
      }
}

void PlacedReader::number() {
  auto add = [&](Block &block) {
    for (Operation &op : block)
      if (!isa<graph::BackwardOp>(op))
        numbers.try_emplace(&op, int(numbers.size()));
  };
  add(layer.getBody().front());
  if (backward)
    add(backward.getBody().front());
}

void PlacedReader::readSaved() {
  if (!backward)
    return;
  DenseSet<Value> results; // the next layer's inputs: counted there
  for (Value result : layer.getBody().front().getTerminator()->getOperands())
    results.insert(getRoot(result));
  for (Value value : getSavedValues(layer, backward))
    if (value.getDefiningOp()->getNumOperands()) {
      work.saved += amounts.getBytes(value);
      if (saved.insert(getRoot(value)) && !results.contains(getRoot(value)))
        work.certain += amounts.getBytes(value);
    }
}

std::vector<ValueLife> PlacedReader::readValues(Block &block) {
  std::vector<ValueLife> values;
  for (Operation &op : block.without_terminator())
    for (Value result : op.getResults()) {
      if (computesNothing(&op) || isInlined(result) || gradients.contains(result))
        continue;
      ValueLife life{amounts.getBytes(result), numbers.lookup(&op), numbers.lookup(&op)};
      for (Operation *user : result.getUsers())
        life.last = std::max(life.last, numbers.lookup(user));
      values.push_back(life);
    }
  return values;
}

std::vector<MovedValue> PlacedReader::readCollectives(Block &block) {
  using search::CollectiveKind;
  std::vector<MovedValue> moved;
  for (Operation &op : block) {
    size_t before = moved.size();
    Value from = op.getNumOperands() ? op.getOperand(0) : Value();
    if (auto reduce = dyn_cast<dist::AllReduceOp>(op))
      moved.push_back(move(CollectiveKind::AllReduce, reduce.getAxes(), amounts.getBytes(from)));
    else if (auto gather = dyn_cast<dist::AllGatherOp>(op))
      moved.push_back(move(CollectiveKind::AllGather, gather.getAxes(), amounts.getBytes(gather.getResult())));
    else if (auto scatter = dyn_cast<dist::ReduceScatterOp>(op))
      moved.push_back(move(CollectiveKind::ReduceScatter, scatter.getAxes(), amounts.getBytes(from)));
    else if (auto exchange = dyn_cast<dist::AllToAllOp>(op))
      moved.push_back(move(CollectiveKind::AllToAll, exchange.getAxes(), amounts.getBytes(from)));
    else if (auto several = dyn_cast<dist::CoalescedAllToAllOp>(op)) {
      Amount bytes;
      for (Value value : several.getXs())
        bytes += amounts.getBytes(value);
      moved.push_back(move(CollectiveKind::AllToAll, several.getAxes(), bytes));
    } else if (auto permute = dyn_cast<dist::PermuteOp>(op))
      moved.push_back(move(CollectiveKind::SendReceive, permute.getAxes(), amounts.getBytes(from)));
    if (moved.size() > before)
      moved.back().group.count = countSteps(&op);
  }
  return moved;
}

std::vector<KernelWork> PlacedReader::readKernelsOf(ArrayRef<Operation *> ops, Block &block) {
  DenseSet<Value> returned;
  for (Value result : block.getTerminator()->getOperands())
    returned.insert(getRoot(result));
  return readKernels(
      ops, [&](Value value) { return returned.contains(value) || saved.contains(value); },
      [&](Value value) { return gradients.contains(value); }, amounts);
}

bool PlacedReader::isParameter(Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  return argument && argument.getOwner() == &layer.getBody().front() && argument.getArgNumber() >= layer.getNumInputs();
}

/// What `galvatron-split-backward` puts off, and what that keeps.
void PlacedReader::readWeights() {
  Block &block = backward.getBody().front();
  DenseSet<Operation *> putOff = findWeightGradients(block, block.getNumArguments(), layer.getNumInputGradients());
  std::vector<Operation *> ops;
  DenseSet<Value> read;
  for (Operation &op : block) {
    if (!putOff.contains(&op))
      continue;
    ops.push_back(&op);
    for (Value operand : op.getOperands()) {
      Value root = getRoot(operand);
      if (auto gather = root.getDefiningOp<dist::AllGatherOp>(); gather && !keepsGathered)
        root = getRoot(gather.getOperand());
      Operation *from = root.getDefiningOp();
      bool isThere = isParameter(root) || (from && (putOff.contains(from) || !from->getNumOperands()));
      if (!isThere && read.insert(root).second)
        work.weightSaved += amounts.getBytes(root);
    }
  }
  work.weightKernels = readKernelsOf(ops, block);
}

BodyWork PlacedReader::readBody(Block &block) {
  BodyWork body;
  std::vector<Operation *> ops;
  for (Operation &op : block.without_terminator())
    if (!isa<graph::BackwardOp>(op))
      ops.push_back(&op);
  body.begin = numbers.lookup(ops.empty() ? block.getTerminator() : ops.front());
  body.end = numbers.lookup(block.getTerminator()) + 1;
  body.kernels = readKernelsOf(ops, block);
  body.collectives = readCollectives(block);
  body.values = readValues(block);
  return body;
}

bool PlacedReader::isCutByTensor(Operation *op) {
  auto isTensor = [&](int64_t id) {
    return llvm::any_of(subAxes.getMeshAxes(), [&](const LayerSubAxes::MeshAxis &meshAxis) {
      return meshAxis.id == id && meshAxis.parallelism == "tp";
    });
  };
  return llvm::any_of(llvm::concat<Value>(op->getOperands(), op->getResults()), [&](Value value) {
    dist::PlacementAttr placement = dist::getPlacement(value.getType());
    return placement && llvm::any_of(placement.getMeshAxes(), isTensor);
  });
}

void PlacedReader::readArguments() {
  for (BlockArgument argument : layer.getBody().front().getArguments()) {
    if (argument.getArgNumber() >= layer.getNumInputs())
      readParameter(argument);
    else if (backward && graph::isFloatTensor(argument.getType())) {
      work.inputs += amounts.getBytes(argument);
      if (llvm::any_of(argument.getUsers(), [&](Operation *user) { return backward->isProperAncestor(user); }))
        work.certain += amounts.getBytes(argument);
    }
  }
}

/// Gradients are summed in f32 over the mesh axes on which backward leaves them partial. What no body gives a gradient
/// is not trained, whether it says so or not.
void PlacedReader::readParameter(BlockArgument argument) {
  int64_t elements = dist::getLocalType(cast<RankedTensorType>(argument.getType())).getNumElements();
  double bytes = 4.0 * double(elements);
  double readBytes = amounts.atOnce(amounts.getBytes(argument));
  bool isReadAsF32 = readBytes == bytes;
  if (!layer.hasGradient(argument.getArgNumber())) {
    work.frozen += readBytes;
    return;
  }
  ArrayRef<int64_t> axes = getPartialAxes(argument);
  size_t index = argument.getArgNumber() - layer.getNumInputs();
  bool isTied = index < tied.size() && tied[index];
  auto at = llvm::find_if(work.trained, [&](const TrainedParameters &other) {
    return ArrayRef(other.axes) == axes && other.isReadAsF32 == isReadAsF32 && other.isTied == isTied;
  });
  if (at == work.trained.end()) {
    work.trained.push_back({.sum = describeGroup(search::CollectiveKind::AllReduce, axes, meshAxes),
                            .axes = axes.vec(),
                            .isReadAsF32 = isReadAsF32,
                            .isTied = isTied});
    at = std::prev(work.trained.end());
    for (int64_t axis : axes)
      at->ranks *= subAxes.getMesh()[axis];
  }
  at->bytes += bytes;
  at->readBytes += readBytes;
  at->padded += llvm::alignTo(elements, kStateAlignment);
}

/// Of the gradient of a parameter, but for time.
ArrayRef<int64_t> PlacedReader::getPartialAxes(BlockArgument parameter) {
  if (!backward)
    return {};
  ValueRange returned = backward.getBody().front().getTerminator()->getOperands();
  for (auto [argument, gradient] : llvm::zip(layer.getDifferentiated(), returned))
    if (argument == parameter)
      if (dist::PlacementAttr placement = dist::getPlacement(gradient.getType()))
        return placement.withoutPartialTime().getPartialAxes();
  return {};
}

LayerWork PlacedReader::read() {
  Block &forward = layer.getBody().front();
  work.hasBackward = bool(backward);
  findGradients();
  number();
  readSaved();
  work.forward = readBody(forward);
  if (backward) {
    work.backward = readBody(backward.getBody().front());
    readWeights();
  }
  readArguments();
  work.isCutByTensor = llvm::any_of(forward, [&](Operation &op) { return isCutByTensor(&op); });
  return std::move(work);
}

double BodyWork::getPeak(double samples) const {
  std::vector<double> changes(end - begin + 1, 0);
  for (const ValueLife &value : values) {
    double bytes = value.bytes.of(samples);
    changes[value.first - begin] += bytes;
    changes[std::min(value.last, end - 1) - begin + 1] -= bytes;
  }
  double there = 0, peak = 0;
  for (double change : changes)
    peak = std::max(peak, there += change);
  return peak;
}

//===----------------------------------------------------------------------===//
// Data-parallel degrees
//===----------------------------------------------------------------------===//

int galvatron::getSmallestDataDegree(int64_t samples, int dp) {
  // Of one sample on each device placements do not show what depends on samples.
  if (samples % std::max(dp, 2) || samples <= 2)
    return dp;
  return dp > 1 ? int(plan::getPrimeFactors(dp).front()) : 2;
}

namespace {

/// Mesh axes of one data-parallel degree, in the place of another's.
class DataDegrees {
public:
  DataDegrees(const search::Strategy &strategy, int from, int to)
      : from(search::valuesOf(strategy, from)), to(search::valuesOf(strategy, to)),
        fromMesh(plan::getPrimeFactors(int64_t(from) * strategy.modelRanks())),
        toMesh(plan::getPrimeFactors(int64_t(to) * strategy.modelRanks())),
        fromAxes(plan::dealMeshAxes(fromMesh, this->from)), toAxes(plan::dealMeshAxes(toMesh, this->to)),
        factor(double(from) / to) {}

  bool isAlongData(const MovedValue &value) const {
    return llvm::any_of(fromAxes.of[kData], [&](int axis) { return llvm::is_contained(value.axes, axis); });
  }
  void translate(BodyWork &body) const;
  void translate(std::vector<KernelWork> &kernels) const;
  void translate(TrainedParameters &some) const;
  void translate(Amount &amount) const { amount = amount.recut(factor); }

private:
  static constexpr int kData = int(plan::DimensionId::Dp);

  std::vector<int64_t> translate(ArrayRef<int64_t> axes) const;

  plan::StrategyValues from, to;
  plan::Mesh fromMesh, toMesh;
  plan::MeshAxes fromAxes, toAxes;
  double factor;
};

} // namespace

/// All axes of data parallelism, of which nothing takes some, stand for all.
std::vector<int64_t> DataDegrees::translate(ArrayRef<int64_t> axes) const {
  std::vector<int> others;
  for (int64_t axis : axes)
    if (!llvm::is_contained(fromAxes.of[kData], int(axis)))
      others.push_back(int(axis));
  bool isAlongData = others.size() < axes.size();
  std::vector<int> translated = plan::translateAxes(others, fromMesh, from, toMesh, to);
  if (isAlongData)
    llvm::append_range(translated, toAxes.of[kData]);
  llvm::sort(translated);
  return {translated.begin(), translated.end()};
}

void DataDegrees::translate(std::vector<KernelWork> &kernels) const {
  for (KernelWork &kernel : kernels)
    for (Amount *amount : {&kernel.flops, &kernel.bytes, &kernel.pairs})
      translate(*amount);
}

void DataDegrees::translate(BodyWork &body) const {
  translate(body.kernels);
  for (MovedValue &value : body.collectives) {
    translate(value.bytes);
    value.axes = translate(value.axes);
    int count = value.group.count;
    value.group = describeGroup(value.group.kind, value.axes, toAxes);
    value.group.count = count;
  }
  for (ValueLife &life : body.values)
    translate(life.bytes);
}

void DataDegrees::translate(TrainedParameters &some) const {
  some.axes = translate(some.axes);
  some.sum = describeGroup(some.sum.kind, some.axes, toAxes);
  some.ranks = 1;
  for (int64_t axis : some.axes)
    some.ranks *= toMesh[axis];
}

std::optional<LayerWork> galvatron::withDataDegree(LayerWork work, const search::Strategy &strategy, int from, int to) {
  DataDegrees degrees(strategy, from, to);
  for (const MovedValue &value : llvm::concat<MovedValue>(work.forward.collectives, work.backward.collectives))
    if (degrees.isAlongData(value))
      return std::nullopt;
  degrees.translate(work.forward);
  degrees.translate(work.backward);
  degrees.translate(work.weightKernels);
  for (Amount *amount : {&work.inputs, &work.saved, &work.certain, &work.weightSaved})
    degrees.translate(*amount);
  for (TrainedParameters &some : work.trained)
    degrees.translate(some);
  return work;
}

//===----------------------------------------------------------------------===//
// Placing
//===----------------------------------------------------------------------===//

/// Of a strategy what decides how a layer is padded.
static plan::StrategyValues whatPads(plan::StrategyAttr strategy) {
  plan::StrategyValues all = strategy.getValues();
  return {.dp = all.dp,
          .tp = all.tp,
          .sequenceParallel = all.sequenceParallel,
          .ulysses = all.ulysses,
          .cp = all.cp,
          .cpZigzag = all.cpZigzag,
          .pad = all.pad};
}

LayerPlacer::LayerPlacer(ModuleOp original, int64_t globalBatch, bool pricesBothEnds)
    : module(original.clone()), axes(*module), globalBatch(globalBatch), pricesBothEnds(pricesBothEnds) {
  module->getContext()->loadDialect<plan::PlanDialect, dist::DistDialect, math::MathDialect>();
  for (auto layer : module->getOps<graph::LayerOp>()) {
    layers[layer.getSymName()] = layer;
    tagRecomputableValues(layer);
    if (canTakeRing(axes, layer))
      withRings.insert(layer.getSymName());
  }
  if (auto step = module->lookupSymbol<func::FuncOp>("step")) {
    triangularPositions = getTriangularPositions(step);
    mirrorablePositions = getMirrorablePositions(step);
  }
  llvm::StringMap<graph::CallOp> firstCalls;
  module->walk([&](graph::CallOp call) {
    graph::LayerOp layer = layers.lookup(call.getCallee());
    auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    auto type = layer ? layer->getAttrOfType<StringAttr>(kLayerTypeAttrName) : StringAttr();
    if (type && strategy)
      padded[type].push_back({whatPads(strategy), layer});
    SmallVector<bool> &tied = isTied[call.getCallee()];
    tied.resize(call.getParameters().size());
    for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>()))
      if (auto [first, isNew] = firstCalls.try_emplace(name, call); !isNew && first->second != call)
        tied[index] = true;
    SmallVector<bool> &losses = isLoss[call.getCallee()];
    losses.resize(call.getNumResults());
    for (auto [loss, output] : llvm::zip(losses, call.getOutputs()))
      loss |= llvm::any_of(output.getUsers(), llvm::IsaPred<func::ReturnOp>);
  });
}

const LayerPlacer::Base *LayerPlacer::findBase(graph::LayerOp layer, plan::StrategyAttr strategy, int64_t devices,
                                               int64_t parts) {
  auto known = llvm::find_if(
      bases, [&](const Base &base) { return base.layer == layer && base.strategy == strategy && base.parts == parts; });
  if (known != bases.end())
    return &*known;
  auto pipeline = plan::PipelineAttr::get(layer.getContext(), /*stages=*/1, devices, parts, plan::Schedule::OneFOneB,
                                          /*virtualStages=*/1, DenseI64ArrayAttr());
  FailureOr<LayerSubAxes> subAxes = LayerSubAxes::get(axes, layer, strategy, pipeline, layer.getLoc());
  if (failed(subAxes))
    return nullptr;
  BodyRequest request{layer,
                      "placed",
                      {},
                      {},
                      isLoss.lookup(layer.getSymName()),
                      bool(strategy.getKeepGathered()),
                      plan::isRing(strategy.getValues())};
  size_t numParameters = layer.getBody().getNumArguments() - layer.getNumInputs();
  request.homes.resize(numParameters);
  request.gradients.resize(numParameters);
  request.isLoss.resize(layer.getBody().front().getTerminator()->getNumOperands());
  FailureOr<graph::LayerOp> placed = assignBody(request, axes, *subAxes);
  if (failed(placed))
    return nullptr;
  if (failed(insertCollectives(*placed, subAxes->getMesh()))) {
    placed->erase();
    return nullptr;
  }
  if (bases.size() == kMostBases) {
    bases.front().placed.erase();
    bases.pop_front();
  }
  bases.push_back({strategy, parts, layer, *placed, std::move(*subAxes)});
  return &bases.back();
}

/// Steps of a ring that are placed one by one: the first has the device's own keys, and gradients travel from the third
/// on, which the others are like.
static constexpr int64_t kPlacedSteps = 3;

/// As phase `shard` does, but that a bias stays that of all keys: it is small, or made anew for each step in less.
static LogicalResult insertRingsOf(graph::LayerOp placed, ArrayRef<int64_t> mesh) {
  auto keep = [](OpBuilder &, Location, Value bias, const RingStep &) { return bias; };
  if (failed(insertRings(placed.getBody().front(), mesh, keep, kPlacedSteps)))
    return failure();
  graph::BackwardOp backward = placed.getBackward();
  return success(!backward || succeeded(insertRings(backward.getBody().front(), mesh, keep, kPlacedSteps)));
}

FailureOr<LayerWork> LayerPlacer::tryPlace(graph::LayerOp layer, plan::StrategyAttr strategy, int64_t devices,
                                           int64_t parts) {
  plan::StrategyValues kept = strategy.getValues(), shared = kept;
  shared.recompute = shared.values = 0;
  if (!shared.keepGathered)
    shared.cpKind = 0; // rings come later
  const Base *base = findBase(layer, plan::StrategyAttr::get(layer.getContext(), shared), devices, parts);
  if (!base)
    return failure();
  auto placed = cast<graph::LayerOp>(OpBuilder(base->placed).clone(*base->placed));
  if (graph::BackwardOp backward = placed.getBackward())
    recomputeAsPlanned(placed, backward, strategy);
  fuseExchanges(placed);
  ArrayRef<int64_t> mesh = base->subAxes->getMesh();
  if (plan::isRing(kept) && failed(insertRingsOf(placed, mesh))) {
    placed.erase();
    return failure();
  }
  plan::MeshAxes meshAxes = plan::dealMeshAxes({mesh.begin(), mesh.end()}, kept);
  PlacedAmounts amounts(globalBatch, parts, meshAxes.of[int(plan::DimensionId::Dp)]);
  LayerWork work = PlacedReader(placed, *base->subAxes, meshAxes, amounts, isTied.lookup(layer.getSymName()),
                                bool(kept.keepGathered))
                       .read();
  placed.erase();
  return work;
}

std::vector<search::Strategy> LayerPlacer::settleContext(StringRef layerType, const search::Strategy &strategy) const {
  if (strategy.cp == 1)
    return {strategy};
  search::Strategy usual = strategy;
  chooseContextLayout(triangularPositions, usual);
  if (!usual.cpZigzag)
    usual.cpZigzag = int(CpZigzag::No);
  std::vector<search::Strategy> layouts = {usual}, ways;
  // Where both take the same there is nothing to choose.
  if (pricesBothEnds && mirrorablePositions && mirrorablePositions % (2 * strategy.sequenceCut()) == 0) {
    bool isMirrored = CpZigzag(usual.cpZigzag) == CpZigzag::Yes;
    layouts.push_back(usual);
    layouts.back().cpZigzag = int(isMirrored ? CpZigzag::No : CpZigzag::Yes);
  }
  bool canKeep = !strategy.keepGathered || strategy.sequenceParallel; // what a ring's plan may say
  for (search::Strategy way : layouts) {
    if (!withRings.contains(layerType)) {
      ways.push_back(way);
      continue;
    }
    for (CpKind kind : {CpKind::Gathered, CpKind::Ring}) {
      way.cpKind = int(kind);
      if (kind == CpKind::Gathered || canKeep)
        ways.push_back(way);
    }
  }
  return ways;
}

graph::LayerOp LayerPlacer::findLayer(StringRef layerType, plan::StrategyAttr strategy) const {
  if (auto versions = padded.find(layerType); versions != padded.end())
    for (const auto &[values, layer] : versions->second)
      if (values == whatPads(strategy))
        return layer;
  return layers.lookup(layerType);
}

search::Result<LayerWork> LayerPlacer::place(StringRef layerType, const search::Strategy &strategy, int dp) {
  std::string reason;
  ScopedDiagnosticHandler handler(module->getContext(), [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      reason = diagnostic.str();
  });
  graph::LayerOp layer = findLayer(layerType, getStrategyAttr(module->getContext(), strategy, dp));
  if (!layer)
    return search::Error{"layers of type '" + layerType.str() + "' are padded for other strategies"};
  search::Strategy chosen = strategy;
  if (pricesBothEnds)
    chooseContextLayout(triangularPositions, chosen);
  else if (chosen.cp > 1)
    chosen.cpZigzag = int(CpZigzag::No);
  plan::StrategyAttr attribute = getStrategyAttr(module->getContext(), chosen, dp);
  int64_t devices = int64_t(dp) * strategy.modelRanks(), parts = getParts(globalBatch / dp);
  FailureOr<LayerWork> work = tryPlace(layer, attribute, devices, parts);
  // What some op reads all at once is not for several micro-batches, but for one.
  if (failed(work) && parts > 1)
    work = tryPlace(layer, attribute, devices, 1);
  if (failed(work))
    return search::Error{reason};
  double boundary = 0;
  for (Type type : layer.getResultTypes())
    if (graph::isFloatTensor(type))
      boundary += double(dist::getLocalBytes(type));
  work->boundary = {0, boundary / double(globalBatch)};
  return std::move(*work);
}
