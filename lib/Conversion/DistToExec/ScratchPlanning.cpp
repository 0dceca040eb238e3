// Offsets of scratch buffers inside one function. Greedy by size, largest first, lowest offset that
// is free over the buffer's whole life; the lives of a straight-line function are intervals.
#include "BodyLowering.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

namespace {
/// A piece of scratch and when it is in use: from op number `first` to `last` of the function, both included.
struct Life {
  exec::BufferOp op;
  int64_t bytes; ///< Rounded up to the alignment.
  int64_t first, last;
  int64_t offset = 0; ///< In the scratch, bytes.
};
} // namespace

static int64_t lastUse(Value buffer, const DenseMap<Operation *, int64_t> &order) {
  int64_t last = 0;
  for (Operation *user : buffer.getUsers()) {
    last = std::max(last, order.lookup(user));
    if (isa<exec::BufferOp>(user))
      last = std::max(last, lastUse(user->getResult(0), order));
  }
  return last;
}

/// A buffer begins to live where it is first touched, not where it is named.
static int64_t firstUse(Value buffer, const DenseMap<Operation *, int64_t> &order) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (Operation *user : buffer.getUsers())
    first = std::min(first, isa<exec::BufferOp>(user) ? firstUse(user->getResult(0), order) : order.lookup(user));
  return first;
}

void galvatron::planScratch(exec::FunctionOp function) {
  Block &block = function.getBody().front();
  Value scratch = block.getArguments().back();
  DenseMap<Operation *, int64_t> order;
  for (auto [index, op] : llvm::enumerate(block))
    order[&op] = index;
  SmallVector<Life> lives;
  for (Operation *user : scratch.getUsers()) {
    auto buffer = cast<exec::BufferOp>(user);
    auto type = cast<MemRefType>(buffer.getType());
    int64_t bytes = type.getNumElements() * elementBytes(type);
    lives.push_back({buffer, static_cast<int64_t>(llvm::alignTo(bytes, exec::kBufferAlignment)),
                     firstUse(buffer, order), lastUse(buffer, order)});
  }
  // Users come in no promised order: ties are broken by position, so that plans repeat exactly.
  llvm::sort(lives, [](const Life &a, const Life &b) {
    return std::make_tuple(-a.bytes, a.first, a.last) < std::make_tuple(-b.bytes, b.first, b.last);
  });
  int64_t total = 0;
  for (size_t i = 0; i < lives.size(); ++i) {
    Life &life = lives[i];
    SmallVector<std::pair<int64_t, int64_t>> taken;
    for (const Life &other : ArrayRef(lives).take_front(i))
      if (other.first <= life.last && life.first <= other.last)
        taken.push_back({other.offset, other.offset + other.bytes});
    llvm::sort(taken);
    for (auto [begin, end] : taken) {
      if (begin >= life.offset + life.bytes)
        break;
      life.offset = std::max(life.offset, end);
    }
    life.op.setOffset(life.offset);
    total = std::max(total, life.offset + life.bytes);
  }
  function->setAttr(exec::kScratchBytes, Builder(function.getContext()).getI64IntegerAttr(total));
}
