// Ops that lowering makes one kernel, by the bytes that this saves.
#include "KernelWork.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace galvatron;

/// Two kernels become one if that saves so large a part of their bytes: one in this many.
static constexpr double kShare = 8;

double galvatron::getBytes(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type ? double(type.getNumElements()) * std::max(8u, type.getElementTypeBitWidth()) / 8 : 0;
}

bool galvatron::isView(Operation *op) {
  return op->getNumOperands() == 0 || isa<graph::ReshapeOp, graph::TransposeOp, graph::BroadcastOp, graph::SliceOp>(op);
}

Value galvatron::getRoot(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isView(op) || op->getNumOperands() == 0)
      break;
    value = op->getOperand(0);
  }
  return value;
}

namespace {

/// Bytes that a reader of `value` takes from memory: of a repeated tensor only what is repeated.
double getTouchedBytes(Value value) {
  double bytes = getBytes(value);
  while (Operation *op = value.getDefiningOp()) {
    if (!isView(op) || op->getNumOperands() == 0)
      break;
    value = op->getOperand(0);
    bytes = std::min(bytes, getBytes(value));
  }
  return bytes;
}

class KernelReader {
public:
  KernelReader(ArrayRef<Operation *> ops, function_ref<bool(Value)> isRead, const Axes &axes)
      : ops(ops), isRead(isRead), axes(axes) {}
  std::vector<OpWork> read();

private:
  using Kernel = SmallVector<unsigned>; // numbers of its ops

  void readUses();
  bool isFree(Operation *op) const;
  bool isAddedToProduct(Operation *op) const;
  bool isFusible(Operation *op) const;
  int64_t getExtent(Operation *op) const;
  double getTraffic(ArrayRef<unsigned> kernel) const;
  bool canJoin(ArrayRef<unsigned> kernel, unsigned op) const;
  void place(unsigned op);
  Divisibility divide(Operation *op) const;
  OpWork describe(ArrayRef<unsigned> kernel) const;

  ArrayRef<Operation *> ops;
  function_ref<bool(Value)> isRead;
  const Axes &axes;
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
  return isView(op) || (isa<graph::PadOp, graph::SumOp>(op) && axes.isParameterLike(op->getResult(0)));
}

/// A sum of products that nobody else reads, a bias and one more tensor.
bool KernelReader::isAddedToProduct(Operation *op) const {
  auto sum = dyn_cast<graph::SumOp>(op);
  if (!sum)
    return false;
  int products = 0, biases = 0, others = 0;
  for (Value input : sum.getInputs()) {
    Value root = getRoot(input);
    auto uses = readers.find(root);
    bool isProduct = input.getDefiningOp<graph::EinsumOp>() && uses != readers.end() && uses->second.size() == 1;
    bool isBias = input.getDefiningOp<graph::BroadcastOp>() && getTouchedBytes(input) < getBytes(input);
    (isProduct ? products : isBias ? biases : others) += 1;
  }
  return products > 0 && biases <= 1 && others <= 1;
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
      extent = std::max(extent, type.getNumElements());
  };
  llvm::for_each(op->getOperands(), see);
  llvm::for_each(op->getResults(), see);
  return extent;
}

double KernelReader::getTraffic(ArrayRef<unsigned> kernel) const {
  llvm::SmallDenseSet<unsigned> members(kernel.begin(), kernel.end());
  llvm::MapVector<Value, double> reads;
  double bytes = 0;
  for (unsigned number : kernel) {
    for (Value operand : ops[number]->getOperands()) {
      Value root = getRoot(operand);
      auto at = root.getDefiningOp() ? numbers.find(root.getDefiningOp()) : numbers.end();
      if (at == numbers.end() || !members.contains(at->second))
        reads[root] = std::max(reads[root], getTouchedBytes(operand));
    }
    for (Value result : ops[number]->getResults()) {
      auto users = readers.find(result);
      bool isStored = isRead(result) || (users != readers.end() && llvm::any_of(users->second, [&](unsigned user) {
                                           return !members.contains(user);
                                         }));
      bytes += isStored ? getBytes(result) : 0;
    }
  }
  for (auto &[root, read] : reads)
    bytes += read;
  return bytes;
}

/// Nothing between them needs the kernel and is needed by `op`.
bool KernelReader::canJoin(ArrayRef<unsigned> kernel, unsigned op) const {
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
  double most = 0, alone = getTraffic(op);
  if (isFusible(ops[op]))
    for (Kernel &kernel : kernels) {
      if (!isFusible(ops[kernel.front()]) || !canJoin(kernel, op))
        continue;
      Kernel both = kernel;
      both.push_back(op);
      double apart = getTraffic(kernel) + alone, saved = apart - getTraffic(both);
      if (saved > most && saved * kShare >= apart) {
        best = &kernel;
        most = saved;
      }
    }
  if (best)
    best->push_back(op);
  else
    kernels.push_back({op});
}

Divisibility KernelReader::divide(Operation *op) const {
  Divisibility result;
  for (const FactorLoop &loop : axes.getFactors(op).loops) {
    const Axis &axis = axes.getAxis(loop.axis);
    result.byBatch |= axes.getBatch() == loop.axis;
    if (axis.role == AxisRole::Internal && loop.kind != graph::LoopKind::Whole)
      result.internal.push_back(axis.extent);
  }
  return result;
}

OpWork KernelReader::describe(ArrayRef<unsigned> kernel) const {
  Operation *first = ops[kernel.front()];
  OpWork work;
  for (unsigned number : kernel)
    work.flops += double(cast<graph::CostOpInterface>(ops[number]).getFlops());
  work.bytes = isFusible(first) ? getTraffic(kernel) : double(cast<graph::CostOpInterface>(first).getBytesMoved());
  work.isProduct = isa<graph::EinsumOp, graph::AttentionOp, graph::AttentionBackwardOp>(first);
  work.pairs = double(graph::getAttentionPairs(first));
  if (isa<graph::AttentionBackwardOp>(first))
    work.pairs *= search::kBackwardAttention;
  work.divisible = divide(first);
  return work;
}

std::vector<OpWork> KernelReader::read() {
  readUses();
  for (auto [number, op] : llvm::enumerate(ops))
    if (isa<graph::CostOpInterface>(op) && !isFree(op) && !isAddedToProduct(op))
      place(number);
  std::vector<OpWork> works;
  for (const Kernel &kernel : kernels)
    works.push_back(describe(kernel));
  return works;
}

std::vector<OpWork> galvatron::readKernels(ArrayRef<Operation *> ops, function_ref<bool(Value)> isRead,
                                           const Axes &axes) {
  return KernelReader(ops, isRead, axes).read();
}
