// Ops that lowering makes one kernel, by the bytes that this saves.
#include "KernelWork.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Kernels/ElementwiseOps.h"
#include "galvatron/Kernels/FusionRule.h"
#include "galvatron/Placement/Rings.h"
#include "galvatron/Search/Model/Cluster.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace galvatron;

/// `amount`: of a sample where a micro-batch has only a part of it, else of any.
Amount PlacedAmounts::make(double amount, bool isPartOfTime, bool isCutByData) const {
  Amount made = isPartOfTime ? Amount{0, amount} : Amount{amount, 0};
  if (isCutByData)
    made.cutFixed = made.fixed, made.cutPerSample = made.perSample;
  return made;
}

Amount PlacedAmounts::getBytes(Value value) const {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type)
    return {};
  double bytes = double(dist::getLocalType(type).getNumElements()) * std::max(8u, type.getElementTypeBitWidth()) / 8;
  ArrayRef<int64_t> meshAxes = dist::getPlacement(type).getMeshAxes();
  bool isPart = llvm::is_contained(meshAxes, dist::PlacementAttr::kTime);
  bool isCut = llvm::any_of(dataAxes, [&](int axis) { return llvm::is_contained(meshAxes, axis); });
  return make(isPart ? bytes * parts / globalBatch : bytes, isPart, isCut);
}

Amount PlacedAmounts::getShare(Operation *op, double whole) const {
  llvm::SmallDenseMap<int64_t, int64_t> cuts; // extent by mesh axis
  for (Value value : llvm::concat<Value>(op->getOperands(), op->getResults()))
    if (dist::PlacementAttr placement = dist::getPlacement(value.getType()))
      for (auto [extent, meshAxis] : llvm::zip(placement.getExtents(), placement.getMeshAxes()))
        if (meshAxis != dist::PlacementAttr::kLocal)
          cuts[meshAxis] = extent;
  for (auto [meshAxis, extent] : cuts)
    if (meshAxis != dist::PlacementAttr::kTime)
      whole /= double(extent);
  bool isPart = cuts.contains(dist::PlacementAttr::kTime);
  bool isCut = llvm::any_of(dataAxes, [&](int axis) { return cuts.contains(axis); });
  return make(isPart ? whole / globalBatch : whole, isPart, isCut);
}

int galvatron::countSteps(Operation *op) {
  auto steps = op->getAttrOfType<IntegerAttr>(kStepsAttrName);
  return steps ? int(steps.getInt()) : 1;
}

/// What `value` has its elements from as they are; null: something else.
static Value getViewed(Value value) {
  Operation *op = value.getDefiningOp();
  return op && (isView(op) || isa<dist::MultiplierOp>(op)) ? op->getOperand(0) : Value();
}

bool galvatron::computesNothing(Operation *op) {
  return op->getNumOperands() == 0 || isView(op) || isa<dist::MultiplierOp>(op);
}

Value galvatron::getRoot(Value value) {
  while (Value viewed = getViewed(value))
    value = viewed;
  return value;
}

namespace {

/// What a kernel reads from and writes to memory.
struct Traffic {
  Amount bytes;
  size_t buffers = 0;
};

class KernelReader {
public:
  KernelReader(ArrayRef<Operation *> ops, function_ref<bool(Value)> isRead, function_ref<bool(Value)> isGradient,
               const PlacedAmounts &amounts)
      : ops(ops), isRead(isRead), isGradient(isGradient), amounts(amounts) {}
  std::vector<KernelWork> read();

private:
  using Kernel = SmallVector<unsigned>; // numbers of its ops

  void readUses();
  bool isFree(Operation *op) const;
  bool isFusible(Operation *op) const;
  int64_t getExtent(Operation *op) const;
  Amount getTouchedBytes(Value value) const;
  Traffic getTraffic(ArrayRef<unsigned> kernel) const;
  bool canJoin(ArrayRef<unsigned> kernel, unsigned op) const;
  void place(unsigned op);
  KernelWork describe(ArrayRef<unsigned> kernel) const;

  ArrayRef<Operation *> ops;
  function_ref<bool(Value)> isRead, isGradient;
  const PlacedAmounts &amounts;
  DenseMap<Operation *, unsigned> numbers;
  DenseMap<Value, SmallVector<unsigned>> readers; // of roots
  std::vector<llvm::BitVector> needs;             // [op] the ops that it depends on
  std::vector<Kernel> kernels;
};

} // namespace

void KernelReader::readUses() {
  for (auto [number, op] : llvm::enumerate(ops)) {
    numbers[op] = number;
    needs.emplace_back(ops.size());
    for (Value operand : op->getOperands()) {
      Value root = getRoot(operand);
      readers[root].push_back(number);
      if (auto at = numbers.find(root.getDefiningOp()); root.getDefiningOp() && at != numbers.end()) {
        needs.back() |= needs[at->second];
        needs.back().set(at->second);
      }
    }
  }
}

/// Nothing runs for it: products write their parts of a parameter's gradient where these belong.
bool KernelReader::isFree(Operation *op) const {
  return computesNothing(op) || (isa<graph::PadOp, graph::SumOp>(op) && isGradient(op->getResult(0)));
}

/// Nothing runs for it: the product that it is a sum of adds what else it has.
static bool isAddedToProduct(Operation *op) {
  auto sum = dyn_cast<graph::SumOp>(op);
  return sum && matchProductSum(sum);
}

bool KernelReader::isFusible(Operation *op) const {
  return isComputedInLoops(op) ||
         isa<graph::NormOp, graph::NormBackwardOp, graph::NormWeightBackwardOp, graph::ReduceOp>(op);
}

/// Elements that its loops go over.
int64_t KernelReader::getExtent(Operation *op) const {
  int64_t extent = 0;
  auto see = [&](Value value) {
    if (auto type = dyn_cast<RankedTensorType>(value.getType()))
      extent = std::max(extent, dist::getLocalType(type).getNumElements());
  };
  llvm::for_each(op->getOperands(), see);
  llvm::for_each(op->getResults(), see);
  return extent;
}

/// Bytes that a reader of `value` takes from memory: of a repeated tensor only what is repeated.
Amount KernelReader::getTouchedBytes(Value value) const {
  Amount bytes = amounts.getBytes(value);
  while ((value = getViewed(value)))
    if (Amount viewed = amounts.getBytes(value); amounts.atOnce(viewed) < amounts.atOnce(bytes))
      bytes = viewed;
  return bytes;
}

Traffic KernelReader::getTraffic(ArrayRef<unsigned> kernel) const {
  llvm::SmallDenseSet<unsigned> members(kernel.begin(), kernel.end());
  llvm::MapVector<Value, Amount> reads;
  Traffic traffic;
  for (unsigned number : kernel) {
    for (Value operand : ops[number]->getOperands()) {
      Value root = getRoot(operand);
      auto at = root.getDefiningOp() ? numbers.find(root.getDefiningOp()) : numbers.end();
      if (at != numbers.end() && members.contains(at->second))
        continue;
      Amount touched = getTouchedBytes(operand), &most = reads[root];
      if (amounts.atOnce(touched) > amounts.atOnce(most))
        most = touched;
    }
    for (Value result : ops[number]->getResults()) {
      auto users = readers.find(result);
      bool isStored = isRead(result) || (users != readers.end() && llvm::any_of(users->second, [&](unsigned user) {
                                           return !members.contains(user);
                                         }));
      if (!isStored)
        continue;
      traffic.bytes += amounts.getBytes(result);
      ++traffic.buffers;
    }
  }
  for (auto &[root, read] : reads)
    traffic.bytes += read;
  traffic.buffers += reads.size();
  return traffic;
}

/// Nothing between them needs the kernel and is needed by `op`.
bool KernelReader::canJoin(ArrayRef<unsigned> kernel, unsigned op) const {
  if (countSteps(ops[kernel.front()]) != countSteps(ops[op]))
    return false;
  if (getExtent(ops[kernel.front()]) != getExtent(ops[op]))
    return false;
  llvm::BitVector own(ops.size());
  for (unsigned member : kernel)
    own.set(member);
  return llvm::none_of(needs[op].set_bits(),
                       [&](unsigned other) { return !own.test(other) && needs[other].anyCommon(own); });
}

/// Into the kernel that saves most, or one of its own.
void KernelReader::place(unsigned op) {
  Kernel *best = nullptr;
  double most = 0, alone = amounts.atOnce(getTraffic(op).bytes);
  if (isFusible(ops[op]))
    for (Kernel &kernel : kernels) {
      if (!isFusible(ops[kernel.front()]) || !canJoin(kernel, op))
        continue;
      Kernel both = kernel;
      both.push_back(op);
      Traffic together = getTraffic(both);
      double apart = amounts.atOnce(getTraffic(kernel).bytes) + alone, saved = apart - amounts.atOnce(together.bytes);
      if (saved > most && isFusionWorthwhile(saved, apart, together.buffers)) {
        best = &kernel;
        most = saved;
      }
    }
  if (best)
    best->push_back(op);
  else
    kernels.push_back({op});
}

/// Each operand and result once.
static Amount getMovedBytes(Operation *op, const PlacedAmounts &amounts) {
  Amount bytes;
  for (Value value : llvm::concat<Value>(op->getOperands(), op->getResults()))
    bytes += amounts.getBytes(value);
  return bytes;
}

/// Of causal attention whose queries are cut in contiguous parts: how much more than an even share the last part has,
/// whose queries see the most keys. (2c - 1) / c for c parts: 1 - ((c - 1) / c)² of all pairs, against 1 / c. Mirrored
/// parts are even.
template <typename Op> static double getImbalance(Op op) {
  if (!op.getCausal() || op.getWindow() > 0)
    return 1;
  double parts = 1;
  if (dist::PlacementAttr placement = dist::getPlacement(op.getQ().getType())) {
    SmallVector<dist::DimSubAxes> dims = placement.getDims(); // of [batch, heads, positions, width]
    for (dist::SubAxis subAxis : dims[2])
      parts *= subAxis.meshAxis == dist::PlacementAttr::kLocal || subAxis.mirrored ? 1 : double(subAxis.extent);
  }
  return (2 * parts - 1) / parts;
}

/// Of all pairs those of one step of a ring, which has the keys of one rank: 1 / c.
static double getShareOfRing(Operation *op) {
  double share = 1;
  if (auto keys = op->getAttrOfType<dist::PlacementAttr>(dist::kKeyPositionAttrName))
    for (auto [extent, meshAxis] : llvm::zip(keys.getExtents(), keys.getMeshAxes()))
      share /= meshAxis == dist::PlacementAttr::kLocal ? 1 : double(extent);
  return share;
}

KernelWork KernelReader::describe(ArrayRef<unsigned> kernel) const {
  Operation *first = ops[kernel.front()];
  KernelWork work;
  work.times = countSteps(first);
  for (unsigned number : kernel)
    if (auto costs = dyn_cast<graph::CostOpInterface>(ops[number]))
      work.flops += amounts.getShare(costs, double(costs.getFlops()));
  work.bytes = isFusible(first) ? getTraffic(kernel).bytes : getMovedBytes(first, amounts);
  work.isProduct = isa<graph::EinsumOp, graph::AttentionOp, graph::AttentionBackwardOp>(first);
  double pairs = double(graph::getAttentionPairs(first)), imbalance = 1;
  if (auto attention = dyn_cast<graph::AttentionOp>(first))
    imbalance = getImbalance(attention);
  if (auto attention = dyn_cast<graph::AttentionBackwardOp>(first)) {
    imbalance = getImbalance(attention);
    pairs *= search::kBackwardAttention;
    work.isBackward = true;
  }
  double factor = imbalance * getShareOfRing(first);
  work.pairs = amounts.getShare(first, pairs * factor);
  work.flops = work.flops * factor;
  return work;
}

std::vector<KernelWork> KernelReader::read() {
  readUses();
  for (auto [number, op] : llvm::enumerate(ops))
    if (isa<graph::CostOpInterface, dist::ShardOp, dist::ShareOp>(op) && !isFree(op) && !isAddedToProduct(op))
      place(number);
  std::vector<KernelWork> works;
  for (const Kernel &kernel : kernels)
    works.push_back(describe(kernel));
  return works;
}

std::vector<KernelWork> galvatron::readKernels(ArrayRef<Operation *> ops, function_ref<bool(Value)> isRead,
                                               function_ref<bool(Value)> isGradient, const PlacedAmounts &amounts) {
  return KernelReader(ops, isRead, isGradient, amounts).read();
}
