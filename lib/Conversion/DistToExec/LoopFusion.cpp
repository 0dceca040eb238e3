// Generated kernels of one function that share memory become one kernel of several outputs.
//
// What pays is said in galvatron/Kernels/FusionRule.h.
//
// Legality: the second moves up to the first, or the first down to the second, over operations that touch none of
// what the moved one writes and write nothing that it reads; and where both touch one buffer, they do so at the same
// index. A value that passes from the first to the second is rounded as if it had been stored: fusion changes no bits.
#include "BodyLowering.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// Where a buffer begins: the argument, constant or piece of scratch that it is a view of, and bytes into it.
struct Place {
  Value root;
  int64_t offset = 0;
};

class Fusion {
public:
  Fusion(exec::FunctionOp function, unsigned numInputs)
      : block(function.getBody().front()), scratch(block.getArguments().back()), numInputs(numInputs) {}

  unsigned run();

private:
  bool tryFuse(exec::LoopsOp first, exec::LoopsOp second);
  Place placeOf(Value buffer) const;
  bool isConstant(Value root) const;
  bool conflicts(Operation *passed, exec::LoopsOp moved) const;
  bool agree(exec::LoopsOp first, exec::LoopsOp second) const;
  bool isReadElsewhere(Value root, exec::LoopsOp first, exec::LoopsOp second) const;
  void hoist(Value buffer, Operation *before);
  Value findInput(exec::LoopsOp first, exec::LoopsOp second, size_t input) const;
  void merge(exec::LoopsOp first, exec::LoopsOp second, Operation *where);

  Block &block;
  Value scratch;
  unsigned numInputs;
};

/// Bytes of the elements that the loops touch in a buffer, each once.
int64_t bytesMoved(exec::LoopsOp op, size_t buffer) {
  Type element = cast<MemRefType>(op.getBuffers()[buffer].getType()).getElementType();
  int64_t bytes = llvm::divideCeil(element.getIntOrFloatBitWidth(), 8);
  for (auto [extent, stride] : llvm::zip_equal(op.getExtents(), op.getStridesOf(buffer)))
    bytes *= stride ? extent : 1;
  return bytes;
}

} // namespace

Place Fusion::placeOf(Value buffer) const {
  Place place{buffer};
  while (auto view = place.root.getDefiningOp<exec::BufferOp>()) {
    if (view.getBase() == scratch)
      break;
    place.offset += view.getOffset();
    place.root = view.getBase();
  }
  return place;
}

/// Nothing writes it.
bool Fusion::isConstant(Value root) const {
  auto argument = dyn_cast<BlockArgument>(root);
  return argument ? argument.getArgNumber() < numInputs : isa_and_nonnull<exec::ConstantOp>(root.getDefiningOp());
}

/// Whether `moved` may not change places with an operation.
bool Fusion::conflicts(Operation *passed, exec::LoopsOp moved) const {
  if (isa<exec::BufferOp, exec::ConstantOp>(passed))
    return false;
  // What goes on beside the function's own order stays where it is.
  if (auto call = dyn_cast<exec::CallOp>(passed);
      call && llvm::is_contained(
                  {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "permute", "send", "receive", "wait"},
                  call.getFunction()))
    return true;
  auto loops = dyn_cast<exec::LoopsOp>(passed);
  auto touches = [&](Value root, ValueRange buffers) {
    return llvm::any_of(buffers, [&](Value buffer) { return placeOf(buffer).root == root; });
  };
  for (Value output : moved.getOutputs())
    if (touches(placeOf(output).root, passed->getOperands()))
      return true;
  for (Value input : moved.getInputs())
    if (Value root = placeOf(input).root; !isConstant(root))
      if (touches(root, loops ? ValueRange(loops.getOutputs()) : ValueRange(passed->getOperands())))
        return true;
  return false;
}

/// Whether every buffer that one writes and the other touches is touched at the same index by both, and written by one.
bool Fusion::agree(exec::LoopsOp first, exec::LoopsOp second) const {
  SmallVector<Value> a = first.getBuffers(), b = second.getBuffers();
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < b.size(); ++j) {
      bool isWrittenByFirst = i >= first.getInputs().size(), isWrittenBySecond = j >= second.getInputs().size();
      Place left = placeOf(a[i]), right = placeOf(b[j]);
      if (left.root != right.root || (!isWrittenByFirst && !isWrittenBySecond))
        continue;
      if ((isWrittenByFirst && isWrittenBySecond) || left.offset != right.offset ||
          first.getStridesOf(i) != second.getStridesOf(j))
        return false;
      // Kernels take two views for two buffers.
      if (isWrittenBySecond && a[i] != b[j])
        return false;
    }
  return true;
}

static bool hasOtherReader(Value buffer, Operation *first, Operation *second) {
  return llvm::any_of(buffer.getUsers(), [&](Operation *user) {
    if (isa<exec::BufferOp>(user))
      return hasOtherReader(user->getResult(0), first, second);
    return user != first && user != second;
  });
}

/// Whether what the loops write there is seen by anybody else, after the function's end included.
bool Fusion::isReadElsewhere(Value root, exec::LoopsOp first, exec::LoopsOp second) const {
  return isa<BlockArgument>(root) || hasOtherReader(root, first, second);
}

/// Views have no place in the order; those that are needed earlier are made earlier.
void Fusion::hoist(Value buffer, Operation *before) {
  Operation *op = buffer.getDefiningOp();
  if (!op || op->isBeforeInBlock(before))
    return;
  for (Value operand : op->getOperands())
    hoist(operand, before);
  op->moveBefore(before);
}

/// What `first` computes or reads of the buffer that `second` reads as `input`; null: nothing.
Value Fusion::findInput(exec::LoopsOp first, exec::LoopsOp second, size_t input) const {
  Place place = placeOf(second.getInputs()[input]);
  auto isSame = [&](Value buffer, size_t i) {
    Place other = placeOf(buffer);
    return other.root == place.root && other.offset == place.offset &&
           first.getStridesOf(i) == second.getStridesOf(input);
  };
  Block &body = first.getBody().front();
  for (auto [i, output] : llvm::enumerate(first.getOutputs()))
    if (isSame(output, first.getInputs().size() + i))
      return body.getTerminator()->getOperand(i);
  for (auto [i, other] : llvm::enumerate(first.getInputs()))
    if (isSame(other, i))
      return body.getArgument(i);
  return {};
}

void Fusion::merge(exec::LoopsOp first, exec::LoopsOp second, Operation *where) {
  for (Value buffer : llvm::concat<Value>(first.getBuffers(), second.getBuffers()))
    hoist(buffer, where);
  OpBuilder builder(where);
  Location loc = builder.getFusedLoc({first.getLoc(), second.getLoc()});
  SmallVector<Value> inputs(first.getInputs()), outputs;
  SmallVector<int64_t> inputStrides, outputStrides;
  Block &a = first.getBody().front(), &b = second.getBody().front();
  Operation *yieldA = a.getTerminator(), *yieldB = b.getTerminator();
  for (size_t i = 0; i < first.getInputs().size(); ++i)
    llvm::append_range(inputStrides, first.getStridesOf(i));
  IRMapping map;
  for (auto [j, input] : llvm::enumerate(second.getInputs())) {
    Value known = findInput(first, second, j);
    if (!known) {
      inputs.push_back(input);
      llvm::append_range(inputStrides, second.getStridesOf(j));
      known = a.addArgument(b.getArgument(j).getType(), b.getArgument(j).getLoc());
    }
    map.map(b.getArgument(j), known);
  }
  builder.setInsertionPoint(yieldA);
  for (Operation &op : b.without_terminator())
    builder.clone(op, map);
  SmallVector<Value> results;
  auto append = [&](exec::LoopsOp op, size_t i) {
    outputs.push_back(op.getOutputs()[i]);
    llvm::append_range(outputStrides, op.getStridesOf(op.getInputs().size() + i));
    results.push_back(op == first ? yieldA->getOperand(i) : map.lookupOrDefault(yieldB->getOperand(i)));
  };
  for (size_t i = 0; i < first.getFirstColumnSum(); ++i)
    if (isReadElsewhere(placeOf(first.getOutputs()[i]).root, first, second))
      append(first, i);
  for (size_t i = 0; i < second.getFirstColumnSum(); ++i)
    append(second, i);
  for (exec::LoopsOp op : {first, second})
    for (size_t i = op.getFirstColumnSum(); i < op.getOutputs().size(); ++i)
      append(op, i);
  yieldA->setOperands(results);
  builder.setInsertionPoint(where);
  llvm::append_range(inputStrides, outputStrides);
  auto fused = exec::LoopsOp::create(builder, loc, inputs, outputs, first.getExtents(), inputStrides,
                                     first.getColumnSums() + second.getColumnSums());
  fused.getBody().takeBody(first.getBody());
  first.erase();
  second.erase();
}

bool Fusion::tryFuse(exec::LoopsOp first, exec::LoopsOp second) {
  if (first.getExtents() != second.getExtents() || !agree(first, second))
    return false;
  int64_t moved = 0, saved = 0;
  SmallVector<Value> a = first.getBuffers(), b = second.getBuffers();
  for (size_t i = 0; i < a.size(); ++i)
    moved += bytesMoved(first, i);
  size_t shared = 0;
  for (size_t j = 0; j < b.size(); ++j) {
    moved += bytesMoved(second, j);
    if (j >= second.getInputs().size())
      continue;
    Place place = placeOf(b[j]);
    for (size_t i = 0; i < a.size(); ++i)
      if (Place other = placeOf(a[i]);
          other.root == place.root && other.offset == place.offset && first.getStridesOf(i) == second.getStridesOf(j)) {
        saved += bytesMoved(second, j);
        ++shared;
        break;
      }
  }
  for (auto [i, output] : llvm::enumerate(first.getOutputs()))
    if (Value root = placeOf(output).root; !isReadElsewhere(root, first, second)) {
      saved += bytesMoved(first, first.getInputs().size() + i);
      ++shared;
    }
  if (!isFusionWorthwhile(double(saved), double(moved), a.size() + b.size() - shared))
    return false;
  auto passes = [&](exec::LoopsOp op) {
    for (Operation *between = first->getNextNode(); between != second; between = between->getNextNode())
      if (conflicts(between, op))
        return false;
    return true;
  };
  Operation *where = passes(second) ? first : passes(first) ? second : exec::LoopsOp();
  if (!where)
    return false;
  merge(first, second, where);
  return true;
}

unsigned Fusion::run() {
  unsigned numFused = 0;
  for (bool changed = true; changed;) {
    changed = false;
    SmallVector<exec::LoopsOp> all(block.getOps<exec::LoopsOp>());
    for (size_t i = 0; i < all.size() && !changed; ++i)
      for (size_t j = i + 1; j < all.size() && !changed; ++j)
        changed = tryFuse(all[i], all[j]);
    numFused += changed;
  }
  return numFused;
}

unsigned galvatron::fuseLoops(exec::FunctionOp function, unsigned numInputs) {
  return Fusion(function, numInputs).run();
}
