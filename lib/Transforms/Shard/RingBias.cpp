#include "RingBias.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;

static ArrayRef<int64_t> shapeOf(Value x) { return cast<RankedTensorType>(x.getType()).getShape(); }

static int64_t sizeOfGroup(const RingStep &step) { return step.sources.size(); }

RankedTensorType RingBias::cutType(Value x, int64_t dim) {
  SmallVector<int64_t> shape(shapeOf(x));
  shape[dim] /= sizeOfGroup(step);
  return cast<RankedTensorType>(x.getType()).clone(shape);
}

Value RingBias::cut(Value x, int64_t dim) {
  if (shapeOf(x)[dim] == 1)
    return x;
  if (Value known = pieces.lookup({x, dim}))
    return known;
  Operation *op = x.getDefiningOp();
  Value piece = op ? cutOp(op, dim) : Value();
  return pieces[{x, dim}] = piece ? piece : shard(x, dim);
}

/// Null for ops whose piece is not made of pieces.
Value RingBias::cutOp(Operation *op, int64_t dim) {
  Value result = op->getResult(0);
  if (auto gather = dyn_cast<dist::AllGatherOp>(op))
    return cutGather(gather, dim);
  if (auto iota = dyn_cast<graph::IotaOp>(op))
    return int64_t(iota.getDim()) == dim ? cutPositions(op, dim) : Value();
  if (auto reshape = dyn_cast<graph::ReshapeOp>(op))
    return cutReshape(op, dim);
  if (auto broadcast = dyn_cast<graph::BroadcastOp>(op)) {
    auto found = llvm::find(broadcast.getDims(), dim);
    Value x = broadcast.getX();
    if (found != broadcast.getDims().end())
      x = cut(x, found - broadcast.getDims().begin());
    return graph::BroadcastOp::create(builder, loc, cutType(result, dim), x, broadcast.getDims());
  }
  DenseElementsAttr elements;
  if (matchPattern(op, m_Constant(&elements)))
    return elements.isSplat()
               ? arith::ConstantOp::create(builder, loc, elements.resizeSplat(cutType(result, dim))).getResult()
               : Value();
  bool isAlike = op->hasTrait<OpTrait::Elementwise>() && op->getNumResults() == 1 &&
                 llvm::all_of(op->getOperands(), [&](Value x) { return shapeOf(x) == shapeOf(result); });
  if (!isAlike)
    return {};
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, cut(operand, dim));
  Operation *piece = builder.clone(*op, map);
  piece->getResult(0).setType(cutType(result, dim));
  return piece->getResult(0);
}

/// Where dimensions of one alone are added or taken away.
Value RingBias::cutReshape(Operation *op, int64_t dim) {
  Value x = op->getOperand(0), result = op->getResult(0);
  auto isWide = [](int64_t extent) { return extent != 1; };
  if (!llvm::equal(llvm::make_filter_range(shapeOf(x), isWide), llvm::make_filter_range(shapeOf(result), isWide)))
    return {};
  int64_t number = llvm::count_if(shapeOf(result).take_front(dim), isWide), from = 0;
  for (;; ++from)
    if (isWide(shapeOf(x)[from]) && number-- == 0)
      break;
  return graph::ReshapeOp::create(builder, loc, cutType(result, dim), cut(x, from));
}

/// Of an iota that counts all keys.
Value RingBias::cutPositions(Operation *op, int64_t dim) {
  if (op->hasAttr(dist::kPositionAttrName))
    return {};
  RankedTensorType type = cutType(op->getResult(0), dim);
  Operation *piece = builder.clone(*op);
  piece->getResult(0).setType(type);
  piece->setAttr(dist::kPositionAttrName, step.getPosition(builder.getContext(), type.getShape(), dim));
  piece->setAttr(dist::kTurnAttrName, builder.getDenseI64ArrayAttr(step.turns));
  return piece->getResult(0);
}

/// Whether it depends on nothing but where it lies.
static bool isOfPositions(Value x) {
  Operation *op = x.getDefiningOp();
  if (!op || op->getNumResults() != 1)
    return false;
  if (op->hasTrait<OpTrait::ConstantLike>() || isa<graph::IotaOp>(op))
    return true;
  return (isa<graph::BroadcastOp, graph::ReshapeOp>(op) || op->hasTrait<OpTrait::Elementwise>()) &&
         llvm::all_of(op->getOperands(), isOfPositions);
}

Value RingBias::cutGather(dist::AllGatherOp op, int64_t dim) {
  bool isOfKeys = op.getAxes() == step.axes && int64_t(op.getDim()) == dim && int64_t(op.getOuter()) == step.outer &&
                  op.getMirrored() == step.mirrored;
  if (!isOfKeys)
    return {};
  bool isOwn = llvm::all_of(step.turns, [](int64_t turn) { return turn == 0; });
  return isOwn ? op.getX() : isOfPositions(op.getX()) ? turn(op.getX()) : Value();
}

Value RingBias::turn(Value x) {
  if (Value known = turned.lookup(x))
    return known;
  Operation *op = x.getDefiningOp();
  if (op->hasTrait<OpTrait::ConstantLike>())
    return x;
  IRMapping map;
  for (Value operand : op->getOperands())
    map.map(operand, turn(operand));
  Operation *same = builder.clone(*op, map);
  if (isa<graph::IotaOp>(op) && op->hasAttr(dist::kPositionAttrName))
    same->setAttr(dist::kTurnAttrName, builder.getDenseI64ArrayAttr(step.turns));
  return turned[x] = same->getResult(0);
}

Value RingBias::shard(Value x, int64_t dim) {
  return dist::ShardOp::create(builder, loc, cutType(x, dim), x, builder.getDenseI64ArrayAttr(step.axes),
                               builder.getI64IntegerAttr(dim), builder.getI64IntegerAttr(step.outer),
                               step.mirrored ? builder.getUnitAttr() : UnitAttr(),
                               builder.getDenseI64ArrayAttr(step.sources));
}
