// `dist` collectives → runtime calls on groups that are named by index.
#include "BodyLowering.h"
#include "ExchangedBooleans.h"

#include "dialects/Graph/Precision.h"
#include "runtime/api/ElementType.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;

/// Elements before one piece along `dim`, cut at [outer][group][inner], and after it; of the tensor
/// that holds one device's part.
static std::pair<int64_t, int64_t> cutOf(ArrayRef<int64_t> part, int64_t dim, int64_t outer) {
  int64_t before = outer, after = part[dim] / outer;
  for (int64_t extent : part.take_front(dim))
    before *= extent;
  for (int64_t extent : part.drop_front(dim + 1))
    after *= extent;
  return {before, after};
}

/// The element type that the runtime moves, by code; none where it moves no such elements. Booleans are bytes, `count`
/// of them side by side: they go as larger elements, of which `count` then says the number.
static std::optional<int64_t> movedType(Type type, int64_t &count) {
  Type element = getElementTypeOrSelf(type);
  if (element.isF32() || graph::isHalf(element) || element.isInteger(64))
    return elementTypeCode(type);
  if (!element.isInteger(1))
    return std::nullopt;
  for (auto [code, bytes] : {std::pair<int64_t, int64_t>{GVRT_I64, 8}, {GVRT_F32, 4}, {GVRT_BF16, 2}})
    if (count % bytes == 0) {
      count /= bytes;
      return code;
    }
  return std::nullopt;
}

/// Whether the runtime moves a collective's booleans as they are: no other than those of a gather in larger elements.
static bool movesBooleans(Operation *op) {
  auto gather = dyn_cast<dist::AllGatherOp>(op);
  if (!gather)
    return false;
  int64_t count = cutOf(shapeOf(gather.getX()), gather.getDim(), gather.getOuter()).second;
  return movedType(gather.getType(), count).has_value();
}

void galvatron::widenBooleans(dist::BodyOp body) {
  for (Operation &op : llvm::make_early_inc_range(body.getBody().front())) {
    if (!isa<dist::AllGatherOp, dist::AllToAllOp, dist::CoalescedAllToAllOp, dist::PermuteOp>(op) ||
        !getElementTypeOrSelf(op.getOperand(0)).isInteger(1) || movesBooleans(&op))
      continue;
    OpBuilder builder(&op);
    Location loc = op.getLoc();
    auto widen = [&](Value x) { return cast<RankedTensorType>(x.getType()).clone(builder.getI64Type()); };
    Operation *wide = builder.clone(op);
    builder.setInsertionPoint(wide);
    for (OpOperand &operand : wide->getOpOperands())
      operand.set(arith::ExtUIOp::create(builder, loc, widen(operand.get()), operand.get()));
    builder.setInsertionPointAfter(wide);
    for (auto [narrow, result] : llvm::zip_equal(op.getResults(), wide->getResults())) {
      result.setType(widen(narrow));
      auto zeros = DenseElementsAttr::get(cast<ShapedType>(result.getType()), builder.getI64IntegerAttr(0));
      Value zero = arith::ConstantOp::create(builder, loc, zeros);
      narrow.replaceAllUsesWith(
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, result, zero).getResult());
    }
    op.erase();
  }
}

/// Bodies run in order: whoever overlaps a collective gives it a number and places its end.
static constexpr int64_t kAtOnce = -1;

static InFlightDiagnostic refuseType(Operation *op) {
  return op->emitOpError("expects to exchange f32, bf16, f16, i64 or booleans, but got ")
         << op->getOperand(0).getType() << "; give the layer no sequence_parallel, ulysses or cp";
}

/// The buffer with `dim` cut at [outer][parts][inner], as [outer, parts, inner] in its place.
static Value cutDim(BodyLowering &lowering, Value buffer, int64_t dim, int64_t outer, int64_t parts) {
  SmallVector<int64_t> shape(shapeOf(buffer));
  Strides strides = stridesOf(buffer);
  int64_t inner = shape[dim] / outer / parts, stride = strides[dim];
  shape[dim] = inner;
  shape.insert(shape.begin() + dim, {outer, parts});
  strides.insert(strides.begin() + dim, {parts * inner * stride, inner * stride});
  return lowering.view(buffer.getLoc(), buffer, 0, shape, strides);
}

/// The pieces of one value in a buffer that has [parts][all values' pieces], from element `offset` of each part on,
/// shaped as `cutDim` leaves the value.
static Value viewPacked(BodyLowering &lowering, Value packed, ArrayRef<int64_t> cutShape, int64_t dim, int64_t offset) {
  int64_t part = dim + 1;
  SmallVector<int64_t> piece(cutShape);
  piece[part] = 1;
  Strides strides = rowMajorStrides(piece);
  strides[part] = shapeOf(packed).back();
  return lowering.view(packed.getLoc(), packed, offset, cutShape, strides);
}

/// Packs the pieces of all values for one device after another, sends each device one message, and unpacks:
///
///   q [q0 q1]   k [k0 k1]   ->   [q0 k0 | q1 k1]   ->   rank r has [qr kr] of every rank
static LogicalResult lowerCoalesced(BodyLowering &lowering, dist::CoalescedAllToAllOp op) {
  int64_t unused = 1;
  std::optional<int64_t> type = movedType(op.getXs().front().getType(), unused);
  if (!type)
    return refuseType(op);
  Location loc = op.getLoc();
  int64_t parts = op.getGroupSize(), elements = 0;
  for (Value x : op.getXs())
    elements += cast<ShapedType>(x.getType()).getNumElements();
  auto packedType = MemRefType::get({parts, elements / parts}, getElementTypeOrSelf(op.getXs().front()));
  Value sent = lowering.createScratch(packedType, loc), received = lowering.createScratch(packedType, loc);
  int64_t offset = 0;
  for (auto [index, x] : llvm::enumerate(op.getXs())) {
    dist::AllToAllCut cut = op.getCut(index);
    Value pieces = cutDim(lowering, lowering.bufferOf(x), cut.splitDim, cut.splitOuter, parts);
    lowering.copy(loc, pieces, viewPacked(lowering, sent, shapeOf(pieces), cut.splitDim, offset));
    offset += cast<ShapedType>(x.getType()).getNumElements() / parts;
  }
  lowering.call(loc, "all_to_all", {sent, received},
                {{"group", lowering.getGroups().indexOf(op.getAxes())},
                 {"type", *type},
                 {"rank", 2},
                 {"extents", packedType.getShape()},
                 {"split_dim", 0},
                 {"split_outer", 1},
                 {"concat_dim", 0},
                 {"concat_outer", 1},
                 {"handle", kAtOnce}});
  offset = 0;
  for (auto [index, y] : llvm::enumerate(op.getResults())) {
    dist::AllToAllCut cut = op.getCut(index);
    Value pieces = cutDim(lowering, lowering.createResult(y), cut.concatDim, cut.concatOuter, parts);
    lowering.copy(loc, viewPacked(lowering, received, shapeOf(pieces), cut.concatDim, offset), pieces);
    offset += cast<ShapedType>(y.getType()).getNumElements() / parts;
  }
  return success();
}

namespace {
/// A collective as a call between two buffers; by `type`, the code of the elements that it moves.
struct CollectiveCall {
  BodyLowering &lowering;
  Operation *op;
  Value from, to;

  LogicalResult lower(dist::AllReduceOp reduce, int64_t type);
  LogicalResult lower(dist::AllGatherOp gather);
  LogicalResult lower(dist::ReduceScatterOp scatter, int64_t type);
  LogicalResult lower(dist::ShardOp shard);
  LogicalResult lower(dist::PermuteOp permute, int64_t type);
  LogicalResult lower(dist::AllToAllOp exchange, int64_t type);

private:
  int64_t getCount() { return cast<MemRefType>(from.getType()).getNumElements(); }
  LogicalResult call(StringRef function, ArrayRef<int64_t> axes, ArrayRef<exec::CallConstant> more);
};
} // namespace

LogicalResult CollectiveCall::call(StringRef function, ArrayRef<int64_t> axes, ArrayRef<exec::CallConstant> more) {
  Constants constants = {{"group", lowering.getGroups().indexOf(axes)}};
  llvm::append_range(constants, more);
  lowering.call(op->getLoc(), function, {from, to}, constants);
  return success();
}

LogicalResult CollectiveCall::lower(dist::AllReduceOp reduce, int64_t type) {
  return call("all_reduce", reduce.getAxes(),
              {{"type", type}, {"kind", reduce.getKind()}, {"count", getCount()}, {"handle", kAtOnce}});
}

LogicalResult CollectiveCall::lower(dist::AllGatherOp gather) {
  auto [outer, inner] = cutOf(shapeOf(from), gather.getDim(), gather.getOuter());
  std::optional<int64_t> moved = movedType(gather.getType(), inner);
  if (!moved)
    return refuseType(op);
  return call(
      "all_gather", gather.getAxes(),
      {{"type", *moved}, {"outer", outer}, {"inner", inner}, {"mirrored", gather.getMirrored()}, {"handle", kAtOnce}});
}

LogicalResult CollectiveCall::lower(dist::ReduceScatterOp scatter, int64_t type) {
  auto [outer, inner] = cutOf(shapeOf(to), scatter.getDim(), scatter.getOuter());
  return call("reduce_scatter", scatter.getAxes(),
              {{"type", type},
               {"kind", scatter.getKind()},
               {"outer", outer},
               {"inner", inner},
               {"mirrored", scatter.getMirrored()},
               {"handle", kAtOnce}});
}

LogicalResult CollectiveCall::lower(dist::ShardOp shard) {
  auto [outer, inner] = cutOf(shapeOf(to), shard.getDim(), shard.getOuter());
  ArrayRef<int64_t> sources = shard.getSources().value_or(ArrayRef<int64_t>());
  return call("shard", shard.getAxes(),
              {{"element_bytes", elementBytes(from.getType())},
               {"outer", outer},
               {"inner", inner},
               {"mirrored", shard.getMirrored()},
               {"size", sources.size()},
               {"sources", sources}});
}

LogicalResult CollectiveCall::lower(dist::PermuteOp permute, int64_t type) {
  return call("permute", permute.getAxes(),
              {{"type", type},
               {"count", getCount()},
               {"size", permute.getSources().size()},
               {"sources", permute.getSources()},
               {"handle", kAtOnce}});
}

LogicalResult CollectiveCall::lower(dist::AllToAllOp exchange, int64_t type) {
  return call("all_to_all", exchange.getAxes(),
              {{"type", type},
               {"rank", shapeOf(from).size()},
               {"extents", shapeOf(from)},
               {"split_dim", exchange.getSplitDim()},
               {"split_outer", exchange.getSplitOuter()},
               {"concat_dim", exchange.getConcatDim()},
               {"concat_outer", exchange.getConcatOuter()},
               {"handle", kAtOnce}});
}

LogicalResult galvatron::lowerCollective(BodyLowering &lowering, Operation *op, bool &handled) {
  handled = isa_and_nonnull<dist::DistDialect>(op->getDialect());
  if (!handled)
    return success();
  if (auto several = dyn_cast<dist::CoalescedAllToAllOp>(op))
    return lowerCoalesced(lowering, several);
  Value from = lowering.rowMajorBufferOf(op->getOperand(0)), to = lowering.createResult(op->getResult(0));
  CollectiveCall call{lowering, op, from, to};
  if (auto gather = dyn_cast<dist::AllGatherOp>(op))
    return call.lower(gather);
  if (auto shard = dyn_cast<dist::ShardOp>(op))
    return call.lower(shard);
  int64_t single = 1;
  std::optional<int64_t> type = movedType(op->getResult(0).getType(), single);
  if (!type)
    return refuseType(op);
  if (auto reduce = dyn_cast<dist::AllReduceOp>(op))
    return call.lower(reduce, *type);
  if (auto scatter = dyn_cast<dist::ReduceScatterOp>(op))
    return call.lower(scatter, *type);
  if (auto permute = dyn_cast<dist::PermuteOp>(op))
    return call.lower(permute, *type);
  if (auto exchange = dyn_cast<dist::AllToAllOp>(op))
    return call.lower(exchange, *type);
  return op->emitOpError("is not a collective that a device executes; run galvatron-insert-collectives first");
}
