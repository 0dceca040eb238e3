// Which all-to-alls may be one, and where it then stands: as soon as the last of their operands is there. Views are no
// obstacle: those that lead to an operand move up, those of a result move down, and so do all-gathers of a result.
#include "galvatron/Placement/ExchangeFusion.h"

#include "dialects/Dist/Dist.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace galvatron;
using dist::AllToAllOp;

/// Loops of a copy that the devices' kernels take (runtime/cuda/kernels/Loops.cuh). Packing cuts a dimension in three.
static constexpr int64_t kMostLoops = 6;

namespace {

class BlockFusion {
public:
  explicit BlockFusion(Block &block) : block(block) {}

  unsigned run();

private:
  using Group = SmallVector<AllToAllOp>;

  bool isInBlock(Operation *op) { return op && op->getBlock() == &block; }
  Operation *getReady(AllToAllOp exchange);
  Operation *getReady(ArrayRef<AllToAllOp> group);
  std::optional<llvm::SetVector<Operation *>> getReadersUpTo(Operation *last, ArrayRef<AllToAllOp> group);
  bool canFuse(ArrayRef<AllToAllOp> group);
  void fuse(ArrayRef<AllToAllOp> group);

  Block &block;
};

} // namespace

/// What costs nothing more if it stands later.
static bool maySink(Operation *op) { return isView(op) || isa<dist::AllGatherOp>(op); }

/// The op that computes what the exchange moves, its views looked through; null where it is there from the start.
Operation *BlockFusion::getReady(AllToAllOp exchange) {
  Operation *op = exchange.getX().getDefiningOp();
  while (isInBlock(op) && isView(op))
    op = op->getOperand(0).getDefiningOp();
  return isInBlock(op) ? op : nullptr;
}

/// The last of them.
Operation *BlockFusion::getReady(ArrayRef<AllToAllOp> group) {
  Operation *last = nullptr;
  for (AllToAllOp exchange : group)
    if (Operation *ready = getReady(exchange); ready && (!last || last->isBeforeInBlock(ready)))
      last = ready;
  return last;
}

/// Ops up to `last` that read results of the group, directly or not; none where one of them must stay there, or is what
/// the group waits for.
std::optional<llvm::SetVector<Operation *>> BlockFusion::getReadersUpTo(Operation *last, ArrayRef<AllToAllOp> group) {
  llvm::SetVector<Operation *> readers;
  SmallVector<Operation *> next;
  for (AllToAllOp exchange : group)
    next.push_back(exchange);
  while (!next.empty())
    for (Operation *user : next.pop_back_val()->getUsers()) {
      Operation *reader = block.findAncestorOpInBlock(*user);
      if (!reader || !last || last->isBeforeInBlock(reader) || !readers.insert(reader))
        continue;
      if (reader == last || !maySink(reader))
        return std::nullopt;
      next.push_back(reader);
    }
  return readers;
}

bool BlockFusion::canFuse(ArrayRef<AllToAllOp> group) {
  auto isMember = [&](Operation *op) { return llvm::is_contained(group, dyn_cast_or_null<AllToAllOp>(op)); };
  return llvm::none_of(group, [&](AllToAllOp exchange) { return isMember(getReady(exchange)); }) &&
         getReadersUpTo(getReady(group), group);
}

/// Right after the last operand: what reads results before it follows, views that lead to operands come first.
void BlockFusion::fuse(ArrayRef<AllToAllOp> group) {
  Operation *last = getReady(group);
  SmallVector<Operation *> down = getReadersUpTo(last, group)->takeVector();
  llvm::sort(down, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  OpBuilder builder(block.getParentOp()->getContext());
  if (last)
    builder.setInsertionPointAfter(last);
  else
    builder.setInsertionPointToStart(&block);
  AllToAllOp first = group.front();
  auto fused = dist::CoalescedAllToAllOp::create(builder, first.getLoc(), group);
  for (Value operand : fused.getXs())
    for (Operation *op = operand.getDefiningOp(), *before = fused;
         isInBlock(op) && isView(op) && fused->isBeforeInBlock(op); op = op->getOperand(0).getDefiningOp()) {
      op->moveBefore(before);
      before = op;
    }
  Operation *after = fused;
  for (Operation *op : down) {
    op->moveAfter(after);
    after = op;
  }
  for (auto [exchange, result] : llvm::zip_equal(group, fused.getResults())) {
    AllToAllOp(exchange).getResult().replaceAllUsesWith(result);
    AllToAllOp(exchange).erase();
  }
}

static bool isFusible(AllToAllOp exchange) {
  dist::AllToAllCut cut = exchange.getCut();
  int64_t loops = exchange.getX().getType().getRank() + 1 + (std::max(cut.splitOuter, cut.concatOuter) > 1);
  return loops <= kMostLoops && cut.splitDim != cut.concatDim;
}

unsigned BlockFusion::run() {
  std::vector<Group> groups;
  for (auto exchange : block.getOps<AllToAllOp>()) {
    if (!isFusible(exchange))
      continue;
    auto joins = [&](const Group &group) {
      AllToAllOp first = group.front();
      if (first.getAxes() != exchange.getAxes() ||
          getElementTypeOrSelf(first.getX()) != getElementTypeOrSelf(exchange.getX()))
        return false;
      Group joined(group);
      joined.push_back(exchange);
      return canFuse(joined);
    };
    auto group = llvm::find_if(groups, joins);
    if (group == groups.end())
      groups.push_back({exchange});
    else
      group->push_back(exchange);
  }
  unsigned gone = 0;
  for (const Group &group : groups)
    if (group.size() > 1 && canFuse(group)) { // others may stand elsewhere by now
      fuse(group);
      gone += group.size() - 1;
    }
  return gone;
}

unsigned galvatron::fuseExchanges(graph::LayerOp layer) {
  unsigned gone = BlockFusion(layer.getBody().front()).run();
  for (auto backward : layer.getBody().front().getOps<graph::BackwardOp>())
    gone += BlockFusion(backward.getBody().front()).run();
  return gone;
}
