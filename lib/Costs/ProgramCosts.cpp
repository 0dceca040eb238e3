// Tables of work per layer type, and queries on them.
#include "KernelWork.h"

#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "llvm/ADT/SetVector.h"

#include <numeric>

using namespace mlir;
using namespace galvatron;

/// Elementwise and reducing code against matrix products: a vector unit without fused blocking.
static constexpr double kVectorShareOfProducts = 0.125;
/// fp32 parameter, gradient and AdamW's two moments.
static constexpr int64_t kStateCopies = 4;

double Divisibility::getTensorShare(int tp) const {
  int64_t left = tp;
  for (int64_t extent : internal)
    left /= std::gcd(left, extent);
  return double(left) / tp;
}

namespace {

/// Reads one layer into its table.
class LayerReader {
public:
  LayerReader(graph::LayerOp layer, const Axes &axes) : layer(layer), axes(axes) {}
  LayerWork read();

private:
  void readReductions(Block &block, std::vector<ValueLife> &reductions);
  std::vector<OpWork> readWork(ArrayRef<Operation *> ops, Block &block);
  std::vector<Operation *> getBackwardOps(Block &block);
  void readPartials(Operation *op, std::vector<ValueLife> &reductions);
  void readSaved();
  bool isPartial(OpResult result);
  bool isFused(Value value);
  bool isGivenOrKept(Value value);
  Divisibility divide(Value value);
  ValueLife describe(Value value) { return {getBytes(value), divide(value), 0, 0}; }

  graph::LayerOp layer;
  const Axes &axes;
  LayerWork work;
  llvm::DenseMap<Operation *, int> numbers;
  llvm::SetVector<Value> partial, kept;
};

} // namespace

Divisibility LayerReader::divide(Value value) {
  Divisibility result;
  for (const auto &dim : axes.getAxes(value))
    for (AxisId axis : dim) {
      result.byBatch |= axes.getBatch() == axis;
      if (axes.getAxis(axis).role == AxisRole::Internal)
        result.internal.push_back(axes.getAxis(axis).extent);
    }
  return result;
}

/// An elementwise result that only the next elementwise op reads never reaches memory.
bool LayerReader::isFused(Value value) {
  Operation *op = value.getDefiningOp();
  return op && isComputedInLoops(op) && value.hasOneUse() && isComputedInLoops(*value.user_begin()) &&
         op->getBlock() == (*value.user_begin())->getBlock();
}

/// Whether cutting an internal loop leaves this result a partial sum.
bool LayerReader::isPartial(OpResult result) {
  const OpFactors &factors = axes.getFactors(result.getOwner());
  if (result.getResultNumber() >= factors.results.size())
    return false;
  for (auto [index, loop] : llvm::enumerate(factors.loops)) {
    bool isHere = llvm::any_of(factors.results[result.getResultNumber()],
                               [&](const auto &dim) { return llvm::is_contained(dim, unsigned(index)); });
    if (!isHere && loop.kind != graph::LoopKind::Whole && axes.getAxis(loop.axis).role == AxisRole::Internal)
      return true;
  }
  return false;
}

/// Partial sums pass through what is linear and wait in sums; anything else that reads one needs the
/// all-reduce first.
void LayerReader::readPartials(Operation *op, std::vector<ValueLife> &reductions) {
  auto reduce = [&](Value value) {
    if (partial.remove(value))
      reductions.push_back(describe(value));
  };
  bool isSum = graph::isJointlyLinear(op), isAny = false, isAll = true;
  for (Value operand : op->getOperands()) {
    isAny |= partial.contains(operand);
    isAll &= partial.contains(operand) || !graph::isFloatTensor(operand.getType());
  }
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    if (!partial.contains(operand) || isSum)
      continue;
    if (op->getNumResults() == 1 && graph::isLinear(op, unsigned(index), 0))
      partial.insert(op->getResult(0));
    else
      reduce(operand);
  }
  if (isSum && isAny && isAll)
    partial.insert(op->getResult(0));
  else if (isSum && isAny) {
    // The partial operands are added first, then reduced once.
    for (Value operand : op->getOperands())
      partial.remove(operand);
    reductions.push_back(describe(op->getResult(0)));
  }
  for (OpResult result : op->getResults())
    if (isPartial(result))
      partial.insert(result);
}

void LayerReader::readReductions(Block &block, std::vector<ValueLife> &reductions) {
  for (Operation &op : block.without_terminator()) {
    if (isa<graph::BackwardOp>(op))
      continue;
    numbers[&op] = int(numbers.size());
    readPartials(&op, reductions);
  }
  numbers[block.getTerminator()] = int(numbers.size());
  for (Value result : block.getTerminator()->getOperands())
    if (partial.remove(result) && !axes.isParameterLike(result))
      reductions.push_back(describe(result));
}

/// Kernels of a block's ops; read by others are what it returns and what is kept.
std::vector<OpWork> LayerReader::readWork(ArrayRef<Operation *> ops, Block &block) {
  llvm::DenseSet<Value> returned;
  for (Value result : block.getTerminator()->getOperands())
    returned.insert(getRoot(result));
  return readKernels(ops, [&](Value value) { return returned.contains(value) || kept.contains(value); }, axes);
}

/// With the forward ops that are run again, each before its first reader.
std::vector<Operation *> LayerReader::getBackwardOps(Block &block) {
  std::vector<Operation *> ops;
  llvm::DenseSet<Operation *> again;
  std::function<void(Operation *)> needOperands = [&](Operation *op) {
    for (Value operand : op->getOperands()) {
      Operation *producer = getRoot(operand).getDefiningOp();
      if (!producer || producer->getBlock() != &layer.getBody().front() || isGivenOrKept(operand) ||
          !again.insert(producer).second)
        continue;
      needOperands(producer);
      ops.push_back(producer);
    }
  };
  for (Operation &op : block.without_terminator()) {
    needOperands(&op);
    ops.push_back(&op);
  }
  return ops;
}

bool LayerReader::isGivenOrKept(Value value) {
  Value root = getRoot(value);
  Operation *op = root.getDefiningOp();
  return !op || op->getNumOperands() == 0 || kept.contains(root);
}

/// As `plan-recomputation` decides: views and elementwise results of what is kept are had again.
void LayerReader::readSaved() {
  Block &forward = layer.getBody().front();
  for (auto backward : forward.getOps<graph::BackwardOp>())
    backward.getBody().walk([&](Operation *op) {
      for (Value operand : op->getOperands())
        if (operand.getParentBlock() == &forward) {
          Value root = getRoot(operand);
          if (!root.getDefiningOp() || root.getDefiningOp()->getNumOperands())
            kept.insert(root);
        }
    });
  bool isChanged = true;
  while (isChanged) {
    isChanged = false;
    SmallVector<Value> candidates = llvm::to_vector(llvm::reverse(kept));
    for (Value value : candidates)
      if (Operation *op = value.getDefiningOp();
          op && mapsElements(op) && llvm::all_of(op->getOperands(), [&](Value v) { return isGivenOrKept(v); }))
        isChanged |= kept.remove(value);
  }
  for (Value value : kept)
    if (value.getDefiningOp())
      work.saved.push_back(describe(value));
}

LayerWork LayerReader::read() {
  Block &forward = layer.getBody().front();
  readReductions(forward, work.forwardReductions);
  work.forwardOps = int(numbers.size());
  for (auto backward : forward.getOps<graph::BackwardOp>())
    readReductions(backward.getBody().front(), work.backwardReductions);
  readSaved();
  std::vector<Operation *> forwardOps;
  for (Operation &op : forward.without_terminator())
    if (!isa<graph::BackwardOp>(op))
      forwardOps.push_back(&op);
  work.forward = readWork(forwardOps, forward);
  for (auto backward : forward.getOps<graph::BackwardOp>()) {
    Block &block = backward.getBody().front();
    work.backward = readWork(getBackwardOps(block), block);
  }

  bool hasBackward = !forward.getOps<graph::BackwardOp>().empty();
  for (auto [index, argument] : llvm::enumerate(forward.getArguments())) {
    if (index >= layer.getNumInputs()) {
      double masterBytes = 4.0 * double(cast<RankedTensorType>(argument.getType()).getNumElements());
      (layer.hasGradient(index) ? work.parameters : work.frozen).push_back({masterBytes, divide(argument), 0, 0});
      if (getBytes(argument) != masterBytes)
        work.copies.push_back(describe(argument));
    } else if (hasBackward && graph::isFloatTensor(argument.getType()))
      work.inputs.push_back(describe(argument));
  }
  for (Value result : forward.getTerminator()->getOperands())
    work.boundaryBytes += getBytes(result);

  for (auto [op, number] : numbers)
    for (Value result : op->getResults()) {
      if (isView(op) || isFused(result) || axes.isParameterLike(result))
        continue;
      ValueLife life = describe(result);
      life.first = life.last = number;
      for (Operation *user : result.getUsers())
        if (auto at = numbers.find(user); at != numbers.end())
          life.last = std::max(life.last, at->second);
      work.temporaries.push_back(std::move(life));
    }
  return std::move(work);
}

//===----------------------------------------------------------------------===//
// Queries
//===----------------------------------------------------------------------===//

namespace {

/// Amounts on one device, for one micro-batch.
struct Share {
  double ofBatch;
  int tp;

  double of(const Divisibility &divisible) const {
    return divisible.getTensorShare(tp) * (divisible.byBatch ? ofBatch : 1);
  }
  double bytes(llvm::ArrayRef<ValueLife> values) const {
    double sum = 0;
    for (const ValueLife &value : values)
      sum += value.bytes * of(value.divisible);
    return sum;
  }
};

/// The roofline of each kernel: arithmetic, the exponentials of attention or memory, whichever takes longest, and its
/// start.
double getSeconds(llvm::ArrayRef<OpWork> works, const Share &share, const search::DeviceKind &device) {
  double seconds = 0;
  for (const OpWork &work : works) {
    double rate = device.matmulFlopsPerSecond * (work.isProduct ? 1 : kVectorShareOfProducts);
    double most = std::max(work.flops / rate, work.bytes / device.memoryBytesPerSecond);
    if (work.pairs > 0 && device.attentionPairsPerSecond > 0)
      most = std::max(most, work.pairs / device.attentionPairsPerSecond);
    seconds += most * share.of(work.divisible) + device.launchSeconds;
  }
  return seconds;
}

void addReductions(llvm::ArrayRef<ValueLife> values, const Share &share, std::vector<search::Collective> &out) {
  for (const ValueLife &value : values)
    out.push_back({search::CollectiveKind::AllReduce, search::Group::Tensor,
                   int64_t(value.bytes * share.of(value.divisible)), 1, false});
}

/// Most bytes that are there at once among the values of the ops from `first` on.
double getPeak(llvm::ArrayRef<ValueLife> values, int first, int last, const Share &share) {
  std::vector<double> changes(last - first + 2, 0);
  for (const ValueLife &value : values) {
    if (value.first >= last || value.last < first || value.first < first)
      continue;
    double bytes = value.bytes * share.of(value.divisible);
    changes[value.first - first] += bytes;
    changes[std::min(value.last, last) - first + 1] -= bytes;
  }
  double there = 0, peak = 0;
  for (double change : changes)
    peak = std::max(peak, there += change);
  return peak;
}

} // namespace

ProgramCosts::ProgramCosts(ModuleOp module, const search::Cluster &cluster, int64_t globalBatch, Priced priced)
    : device(cluster.device), globalBatch(double(globalBatch)), priced(priced) {
  Axes axes(module);
  for (auto layer : module.getOps<graph::LayerOp>())
    layers[layer.getSymName()] = LayerReader(layer, axes).read();
}

search::Result<search::UnitCost> ProgramCosts::cost(const search::CostQuery &query) const {
  auto at = layers.find(query.unit->layerType);
  if (at == layers.end())
    return search::Error{"unknown layer type '" + query.unit->layerType + "'"};
  if (auto reason = search::whyUnsupported(query.strategy))
    return search::Error{*reason};
  const LayerWork &work = at->second;
  int tp = query.strategy.tp;
  Divisibility all;
  for (const OpWork &op : work.forward)
    if (op.divisible.getTensorShare(tp) < all.getTensorShare(tp))
      all = op.divisible;
  if (priced == Priced::WhatCutsSomething && tp > 1 && all.getTensorShare(tp) == 1 && !work.forward.empty())
    return search::Error{"tp " + std::to_string(tp) + " divides neither heads nor widths of layer type '" +
                         query.unit->layerType + "'"};

  Share share{double(query.microBatchSamples) / globalBatch / query.dp, tp};
  search::UnitCost cost;
  bool recompute = query.strategy.recompute && !work.backward.empty();
  int end = work.forwardOps;
  for (const ValueLife &value : work.temporaries)
    end = std::max(end, value.last + 1);
  cost.forwardSeconds = getSeconds(work.forward, share, device);
  cost.backwardSeconds = getSeconds(work.backward, share, device);
  addReductions(work.forwardReductions, share, cost.forwardCollectives);
  addReductions(work.backwardReductions, share, cost.backwardCollectives);
  if (recompute) {
    cost.recomputeSeconds = cost.forwardSeconds;
    addReductions(work.forwardReductions, share, cost.backwardCollectives);
  }
  double parameterBytes = share.bytes(work.parameters);
  if (parameterBytes > 0 && query.dp > 1)
    cost.stepCollectives.push_back(
        {search::CollectiveKind::AllReduce, search::Group::Data, int64_t(parameterBytes), 1, false});
  // Reads all four copies, writes three, and the bf16 copy; the gradient norm reads the gradient once more.
  double copyBytes = share.bytes(work.copies);
  cost.updateSeconds = (parameterBytes * 8 + copyBytes) / device.memoryBytesPerSecond;
  cost.stateBytes = int64_t(parameterBytes) * kStateCopies + int64_t(share.bytes(work.frozen) + copyBytes);
  cost.savedBytes = int64_t(share.bytes(work.inputs) + (recompute ? 0 : share.bytes(work.saved)));
  int backwardFirst = recompute ? 0 : work.forwardOps;
  cost.scratchBytes = int64_t(std::max(getPeak(work.temporaries, 0, work.forwardOps, share),
                                       getPeak(work.temporaries, backwardFirst, end, share)));
  cost.boundaryBytes = int64_t(work.boundaryBytes * double(query.microBatchSamples) / globalBatch);
  return cost;
}
