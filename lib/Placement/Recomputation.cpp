// What backward keeps of forward, and what it recomputes: asked by the pass that does it and by the prices of the
// search.
#include "galvatron/Placement/Recomputation.h"

#include "dialects/Dist/Dist.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// What recomputing an op's result costs backward.
enum class Price {
  /// As much as forward: recomputed only where nothing is kept.
  Dear,
  /// One read of each operand: worth it if that saves keeping the result.
  Elementwise,
  /// Index arithmetic only.
  View,
};

class LayerRecomputation {
public:
  LayerRecomputation(graph::LayerOp layer, graph::BackwardOp backward)
      : forward(layer.getBody().front()), backward(backward.getBody().front()) {}

  llvm::SetVector<Value> getKept();
  void recompute(const llvm::SetVector<Value> &kept);
  llvm::SetVector<Value> getReads();

private:
  bool isForward(Value value) { return value.getDefiningOp() && value.getDefiningOp()->getBlock() == &forward; }
  bool isAvailable(Value value, const llvm::SetVector<Value> &kept) {
    return !isForward(value) || kept.contains(value) || value.getDefiningOp()->getNumOperands() == 0;
  }
  bool findIntegers(Value value, llvm::SetVector<Value> &dear);
  bool dropKept(llvm::SetVector<Value> &kept, Value value);
  Block &forward, &backward;
};

} // namespace

/// From the loops that the op declares: which only rearrange, which map elements one to one.
static Price getPrice(Operation *op) {
  if (!isMemoryEffectFree(op) || op->getNumRegions())
    return Price::Dear;
  if (op->getNumOperands() == 0 || isa<dist::ShardOp, dist::MultiplierOp, dist::ShareOp>(op))
    return Price::View;
  if (isa<dist::DistDialect>(op->getDialect()))
    return Price::Dear; // moves data between devices
  if (isView(op))
    return Price::View;
  if (mapsElements(op))
    return Price::Elementwise;
  return Price::Dear;
}

Value galvatron::getViewedValue(Value value) {
  Operation *op = value.getDefiningOp();
  while (op && op->getNumOperands() && (getPrice(op) == Price::View || isa<dist::DistDialect>(op->getDialect()))) {
    value = op->getOperand(op->getNumResults() > 1 ? cast<OpResult>(value).getResultNumber() : 0);
    op = value.getDefiningOp();
  }
  return value;
}

/// Forward values that backward reads, in forward order.
llvm::SetVector<Value> LayerRecomputation::getReads() {
  SmallVector<Value> reads;
  backward.walk([&](Operation *op) {
    for (Value operand : op->getOperands())
      if (isForward(operand))
        reads.push_back(operand);
  });
  llvm::sort(reads, [](Value a, Value b) {
    Operation *x = a.getDefiningOp(), *y = b.getDefiningOp();
    if (x != y)
      return x->isBeforeInBlock(y);
    return cast<OpResult>(a).getResultNumber() < cast<OpResult>(b).getResultNumber();
  });
  return llvm::SetVector<Value>(reads.begin(), reads.end());
}

/// Whether `value` is arithmetic on constants and integers alone, such as a mask of documents or angles of positions;
/// then `dear` has what of it costs much to recompute: what was gathered, or looked up in a table.
bool LayerRecomputation::findIntegers(Value value, llvm::SetVector<Value> &dear) {
  bool isInteger = getElementTypeOrSelf(value.getType()).isInteger();
  if (!isForward(value))
    return isInteger;
  Operation *op = value.getDefiningOp();
  bool isDear = getPrice(op) == Price::Dear;
  llvm::SetVector<Value> before;
  bool answer = (isDear && isInteger) || llvm::all_of(op->getOperands(), [&](Value operand) {
                  return findIntegers(operand, isDear ? before : dear);
                });
  if (answer && isDear)
    dear.insert(value);
  return answer;
}

/// Takes `value` out of what is kept if it can be recomputed from the rest, perhaps with its own operand kept
/// instead where that is no larger.
bool LayerRecomputation::dropKept(llvm::SetVector<Value> &kept, Value value) {
  Operation *op = value.getDefiningOp();
  Price price = getPrice(op);
  if (price == Price::Dear)
    return false;
  SmallVector<Value> missing;
  for (Value operand : op->getOperands())
    if (!isAvailable(operand, kept) && !llvm::is_contained(missing, operand))
      missing.push_back(operand);
  if (price == Price::Elementwise && !missing.empty()) {
    // A mask has as many elements as scores, and what it is made of those of tokens.
    llvm::SetVector<Value> dear;
    if (!findIntegers(value, dear))
      return false;
    missing.clear();
    llvm::copy_if(dear, std::back_inserter(missing), [&](Value operand) { return !isAvailable(operand, kept); });
  }
  int64_t more = 0;
  for (Value operand : missing)
    more += dist::getLocalBytes(operand.getType());
  if (more > dist::getLocalBytes(value.getType()))
    return false;
  kept.remove(value);
  kept.insert(missing.begin(), missing.end());
  return true;
}

/// Clones into backward what its reads need beyond what is kept, each just before its first use.
void LayerRecomputation::recompute(const llvm::SetVector<Value> &kept) {
  DenseMap<Value, Value> made;
  std::function<Value(Value, Operation *)> get = [&](Value value, Operation *user) -> Value {
    if (!isForward(value) || kept.contains(value))
      return value;
    if (Value done = made.lookup(value))
      return done;
    Operation *op = value.getDefiningOp();
    IRMapping mapping;
    for (Value operand : op->getOperands())
      mapping.map(operand, get(operand, user));
    OpBuilder builder(user);
    Operation *clone = builder.clone(*op, mapping);
    for (auto [result, copy] : llvm::zip(op->getResults(), clone->getResults()))
      made[result] = copy;
    return made[value];
  };
  SmallVector<Operation *> ops;
  for (Operation &op : backward)
    ops.push_back(&op);
  for (Operation *op : ops)
    for (OpOperand &operand : op->getOpOperands())
      operand.set(get(operand.get(), op));
}

/// What is cheaper kept than recomputed.
llvm::SetVector<Value> LayerRecomputation::getKept() {
  llvm::SetVector<Value> kept = getReads();
  // Last first: what a value is replaced by comes before it, and is looked at later. A value may be in
  // reach only once another one is kept, so until nothing changes.
  for (bool changed = true; changed;) {
    changed = false;
    SmallVector<Value> candidates(kept.begin(), kept.end());
    llvm::sort(candidates, [](Value a, Value b) {
      return b.getDefiningOp() != a.getDefiningOp() && b.getDefiningOp()->isBeforeInBlock(a.getDefiningOp());
    });
    for (Value value : candidates)
      changed |= kept.contains(value) && dropKept(kept, value);
  }
  return kept;
}

void galvatron::recomputeValues(graph::LayerOp layer, graph::BackwardOp backward, uint64_t values) {
  LayerRecomputation recomputation(layer, backward);
  llvm::SetVector<Value> kept = recomputation.getKept();
  kept.remove_if([&](Value value) {
    Operation *op = getViewedValue(value).getDefiningOp();
    auto bit = op ? op->getAttrOfType<IntegerAttr>(plan::kValueAttrName) : IntegerAttr();
    return bit && values >> bit.getInt() & 1;
  });
  recomputation.recompute(kept);
}

void galvatron::recomputeAsPlanned(graph::LayerOp layer, graph::BackwardOp backward, plan::StrategyAttr strategy) {
  if (strategy && strategy.getRecompute())
    recomputeFully(layer, backward);
  else
    recomputeValues(layer, backward, strategy ? uint64_t(strategy.getValues().values) : 0);
}

void galvatron::recomputeFully(graph::LayerOp layer, graph::BackwardOp backward) {
  LayerRecomputation(layer, backward).recompute({});
}

llvm::SetVector<Value> galvatron::getKeptValues(graph::LayerOp layer, graph::BackwardOp backward) {
  return LayerRecomputation(layer, backward).getKept();
}

llvm::SetVector<Value> galvatron::getSavedValues(graph::LayerOp layer, graph::BackwardOp backward) {
  return LayerRecomputation(layer, backward).getReads();
}
