// Recognizes what `galvatron-insert-documents` writes, after placement and simplification:
//
//     %q = graph.broadcast %documents dims [0, 1]        [B, Sq] → [B, Sq, Sk]
//     %k = graph.broadcast %all dims [0, 2]              [B, Sk] → [B, Sq, Sk], gathered where queries are cut
//     %same = arith.cmpi eq, %q, %k
//     %mask = arith.select %same, %bias, -inf            with broadcasts and dimensions of one anywhere between
#include "BodyLowering.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// A value that scores repeat: which dimension of them each of its own is, -1 for dimensions of one.
struct Repeated {
  Value value;
  SmallVector<int64_t> dims;
};

} // namespace

/// Through broadcasts, reshapes that add or remove dimensions of one, and, if asked, conversions between floats.
static Repeated peel(Repeated x, bool isConverted = true) {
  for (;;) {
    Operation *op = x.value.getDefiningOp();
    if (auto broadcast = dyn_cast_or_null<graph::BroadcastOp>(op)) {
      x.dims = llvm::map_to_vector(broadcast.getDims(), [&](int64_t dim) { return x.dims[dim]; });
    } else if (auto reshape = dyn_cast_or_null<graph::ReshapeOp>(op)) {
      SmallVector<int64_t> kept;
      for (auto [dim, extent] : llvm::zip_equal(x.dims, shapeOf(x.value)))
        if (extent != 1)
          kept.push_back(dim);
      SmallVector<int64_t> dims;
      size_t next = 0;
      for (int64_t extent : shapeOf(reshape.getX()))
        dims.push_back(extent == 1 ? -1 : next < kept.size() ? kept[next++] : -2);
      auto wide = llvm::make_filter_range(shapeOf(reshape.getX()), [](int64_t extent) { return extent != 1; });
      auto narrow = llvm::make_filter_range(shapeOf(x.value), [](int64_t extent) { return extent != 1; });
      if (!llvm::equal(wide, narrow))
        return x;
      x.dims = dims;
    } else if (!isConverted || !isa_and_nonnull<arith::TruncFOp, arith::ExtFOp>(op)) {
      return x;
    }
    x.value = op->getOperand(0);
  }
}

/// Whether it is [B, S] of scores whose dimension `along` is S; extents of one are any dimension.
static bool isAlong(const Repeated &x, int64_t along) {
  if (!cast<RankedTensorType>(x.value.getType()).getElementType().isInteger(64) || x.dims.size() != 2)
    return false;
  auto is = [&](size_t dim, int64_t expected) { return x.dims[dim] == expected || shapeOf(x.value)[dim] == 1; };
  return is(0, 0) && is(1, along);
}

static bool isMinusInfinity(Value value) {
  DenseElementsAttr elements;
  return matchPattern(value, m_Constant(&elements)) && elements.isSplat() &&
         isa<FloatType>(elements.getElementType()) && elements.getSplatValue<APFloat>().isInfinity() &&
         elements.getSplatValue<APFloat>().isNegative();
}

/// `scores`: [B, N, Sq, Sk].
static std::optional<DocumentMask> findDocumentMask(Value bias, ArrayRef<int64_t> scores) {
  if (shapeOf(bias).size() != 4)
    return std::nullopt;
  Repeated mask = peel({bias, {0, 1, 2, 3}});
  auto select = mask.value.getDefiningOp<arith::SelectOp>();
  if (!select || !isMinusInfinity(peel({select.getFalseValue(), mask.dims}).value))
    return std::nullopt;
  Repeated same = peel({select.getCondition(), mask.dims});
  auto equal = same.value.getDefiningOp<arith::CmpIOp>();
  if (!equal || equal.getPredicate() != arith::CmpIPredicate::eq)
    return std::nullopt;
  Repeated queries = peel({equal.getLhs(), same.dims}), keys = peel({equal.getRhs(), same.dims});
  if (isAlong(keys, 2) && isAlong(queries, 3) && !(isAlong(queries, 2) && isAlong(keys, 3)))
    std::swap(queries, keys);
  if (!isAlong(queries, 2) || !isAlong(keys, 3) || shapeOf(queries.value) != ArrayRef({scores[0], scores[2]}) ||
      shapeOf(keys.value) != ArrayRef({scores[0], scores[3]}))
    return std::nullopt;
  DocumentMask found{queries.value, keys.value, {}, {}};
  Repeated own = peel({select.getTrueValue(), mask.dims}, /*isConverted=*/false);
  if (matchPattern(own.value, m_AnyZeroFloat()))
    return found;
  if (getElementTypeOrSelf(own.value.getType()) != getElementTypeOrSelf(bias.getType()))
    return std::nullopt;
  found.bias = own.value;
  found.biasDims = own.dims;
  return found;
}

/// Erases `value`'s op and what only it read, if nothing reads it and it is not to be kept.
static void eraseUnread(Value value, const llvm::DenseSet<Value> &kept) {
  Operation *op = value.getDefiningOp();
  if (!op || !op->use_empty() || kept.contains(value) || !isMemoryEffectFree(op) || op->getNumRegions() ||
      isa<dist::DistDialect>(op->getDialect()))
    return;
  SmallVector<Value> operands(op->getOperands());
  op->erase();
  for (Value operand : llvm::SetVector<Value>(operands.begin(), operands.end()))
    eraseUnread(operand, kept);
}

llvm::DenseMap<Operation *, DocumentMask> galvatron::takeDocumentMasks(dist::BodyOp body) {
  llvm::DenseMap<Operation *, DocumentMask> masks;
  llvm::DenseSet<Value> kept;
  llvm::SetVector<Value> taken;
  auto take = [&](auto op) {
    ArrayRef<int64_t> q = shapeOf(op.getQ());
    Value bias = op.getBias();
    std::optional<DocumentMask> found =
        bias ? findDocumentMask(bias, {q[0], q[1], q[2], shapeOf(op.getK())[2]}) : std::nullopt;
    if (!found)
      return;
    masks[op] = *found;
    kept.insert_range(ArrayRef({found->queries, found->keys}));
    if (found->bias)
      kept.insert(found->bias);
    taken.insert(bias);
    op.getBiasMutable().clear();
  };
  for (Operation &op : body.getBody().front())
    llvm::TypeSwitch<Operation *>(&op).Case<graph::AttentionOp, graph::AttentionBackwardOp>(take);
  for (Value bias : taken)
    eraseUnread(bias, kept);
  return masks;
}
