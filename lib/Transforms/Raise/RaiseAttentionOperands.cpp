// What is known of attention's operands moves into the op:
//
//     scale     constants multiplied to q or k
//     heads     keys and values repeated for groups of queries are read as they were
//     mask      position arithmetic becomes `causal` and `window`; masks that let all through go
//
// A learned bias moves the other way: the op gives it no gradient, so it is written out.
#include "Raise.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// `value` without the constant it was multiplied by, which goes into `factor`. Looks through ops
/// that move or rotate elements, if nothing else reads them.
static Value withoutScale(OpBuilder &builder, Value value, double &factor) {
  Operation *op = value.getDefiningOp();
  if (!op || !value.hasOneUse())
    return value;
  if (isa<arith::MulFOp, arith::DivFOp>(op)) {
    bool divides = isa<arith::DivFOp>(op);
    for (unsigned i : {1, 0})
      if (std::optional<double> constant = splatOf(op->getOperand(i)); constant && (i || !divides)) {
        factor *= divides ? 1 / *constant : *constant;
        return withoutScale(builder, op->getOperand(1 - i), factor);
      }
    return value;
  }
  if (!isa<ReshapeOp, TransposeOp, RopeOp>(op))
    return value;
  Value inner = withoutScale(builder, op->getOperand(0), factor);
  if (inner == op->getOperand(0))
    return value;
  builder.setInsertionPointAfter(op);
  Operation *moved = builder.clone(*op);
  moved->setOperand(0, inner);
  return moved->getResult(0);
}

/// As `withoutRepetition`, of reshape [.., K, G, ..] → [.., K·G, ..] of a broadcast along G.
static Value withoutMergedRepetition(OpBuilder &builder, ReshapeOp reshape, int64_t dim) {
  SmallVector<int64_t> shape(shapeOf(reshape.getResult()));
  auto broadcast = reshape.getX().getDefiningOp<BroadcastOp>();
  SmallVector<DimensionGroup> groups;
  if (!broadcast || !groupDimensions(shapeOf(reshape.getX()), shape, groups))
    return nullptr;
  int64_t from = 0, to = 0;
  for (const DimensionGroup &group : groups) {
    int64_t count = group.from.size();
    if (to == dim) {
      // The last dimension that is none of size one is the repeated one.
      int64_t last = from + count - 1;
      while (last > from && group.from[last - from] == 1)
        --last;
      if (llvm::count_if(group.to, [](int64_t extent) { return extent != 1; }) > 1 ||
          llvm::is_contained(broadcast.getDims(), last))
        return nullptr;
      SmallVector<int64_t> wide(shapeOf(reshape.getX())), dims;
      shape[dim] /= wide[last];
      wide.erase(wide.begin() + last);
      for (int64_t d : broadcast.getDims())
        dims.push_back(d - (d > last));
      Value x = broadcast.getX();
      if (shapeOf(x) != ArrayRef(wide))
        x = BroadcastOp::create(builder, reshape.getLoc(), reshaped(x, wide), x, dims);
      return reshapeTo(builder, reshape.getLoc(), x, shape);
    }
    from += count, to += group.to.size();
  }
  return nullptr;
}

/// `value` before its heads (dimension `dim`) were repeated for groups of queries; null if they were
/// not. Head n must read head n / group of the result.
static Value withoutRepetition(OpBuilder &builder, Value value, int64_t dim) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return nullptr;
  Location loc = op->getLoc();
  builder.setInsertionPointAfter(op);
  if (auto rope = dyn_cast<RopeOp>(op)) {
    Value inner = int64_t(rope.getSeqDim()) != dim ? withoutRepetition(builder, rope.getX(), dim) : Value();
    builder.setInsertionPointAfter(op);
    if (!inner)
      return nullptr;
    Operation *rotated = builder.clone(*op);
    rotated->setOperand(0, inner);
    rotated->getResult(0).setType(inner.getType());
    return rotated->getResult(0);
  }
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Value inner = withoutRepetition(builder, transpose.getX(), transpose.getPermutation()[dim]);
    builder.setInsertionPointAfter(op);
    return inner ? transposeBy(builder, loc, inner, transpose.getPermutation()) : Value();
  }
  SmallVector<int64_t> shape(shapeOf(value));
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) { // One head for all.
    if (llvm::is_contained(broadcast.getDims(), dim) || shape[dim] == 1)
      return nullptr;
    shape[dim] = 1;
    SmallVector<int64_t> dims(broadcast.getDims());
    Value x = broadcast.getX();
    if (shapeOf(x).size() + 1 == shape.size())
      return reshapeTo(builder, loc, x, shape);
    return BroadcastOp::create(builder, loc, reshaped(value, shape), x, dims);
  }
  auto reshape = dyn_cast<ReshapeOp>(op);
  return reshape ? withoutMergedRepetition(builder, reshape, dim) : Value();
}

/// Scale, heads and mask into an attention op's own terms; the op that has them, or `op` as it is.
static AttentionOp absorbOperands(AttentionOp op, TableReader &reader) {
  Bias bias;
  if (op.getBias())
    bias.add(op.getBias(), 1, reader);
  AttentionOp own;
  bool isReplaced = replaceIfLegal(op, [&](OpBuilder &builder) -> Value {
    double scale = op.getScale().convertToDouble();
    Value q = withoutScale(builder, op.getQ(), scale), k = withoutScale(builder, op.getK(), scale), v = op.getV();
    Value fewerK = withoutRepetition(builder, k, 1), fewerV = withoutRepetition(builder, v, 1);
    if (fewerK && fewerV && shapeOf(fewerK)[1] == shapeOf(fewerV)[1])
      k = fewerK, v = fewerV;
    builder.setInsertionPoint(op);
    Value rest = bias.build(builder, op.getLoc());
    int64_t window = op.getWindow(), other = bias.mask.window;
    own = AttentionOp::create(builder, op.getLoc(), op.getResult().getType(), op.getLse().getType(), q, k, v, rest,
                              APFloat(scale), op.getCausal() || bias.mask.causal,
                              window && other ? std::min(window, other) : std::max(window, other), op.getSoftcap(),
                              op.getDropout(), op.getId(), op.getGivenDocuments());
    return own.getResult();
  });
  return isReplaced ? own : op;
}

/// `bias` at the size of all scores.
static Value stretched(OpBuilder &builder, Value bias, ArrayRef<int64_t> shape) {
  SmallVector<int64_t> dims, kept;
  int64_t first = shape.size() - typeOf(bias).getRank();
  for (auto [dim, extent] : llvm::enumerate(shapeOf(bias)))
    if (extent == shape[first + dim])
      dims.push_back(first + dim), kept.push_back(extent);
  Value small = reshapeTo(builder, bias.getLoc(), bias, kept);
  return kept.size() == shape.size()
             ? small
             : Value(BroadcastOp::create(builder, bias.getLoc(), reshaped(bias, shape), small, dims));
}

/// Zero where the op's own mask lets through, [Sq, Sk].
static Value ownMask(OpBuilder &builder, AttentionOp op, int64_t queries, int64_t keys) {
  Location loc = op.getLoc();
  auto positions = RankedTensorType::get({queries, keys}, builder.getI64Type());
  auto floats = reshaped(op.getQ(), {queries, keys});
  Value row = IotaOp::create(builder, loc, positions, 0), column = IotaOp::create(builder, loc, positions, 1);
  row = arith::AddIOp::create(builder, loc, row, splat(builder, loc, positions, keys - queries));
  Value passes = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sle, column, row);
  if (int64_t window = op.getWindow()) {
    Value begin = arith::SubIOp::create(builder, loc, row, splat(builder, loc, positions, window));
    Value isNear = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::sgt, column, begin);
    passes = arith::AndIOp::create(builder, loc, passes, isNear);
  }
  return arith::SelectOp::create(builder, loc, passes, splat(builder, loc, floats, 0),
                                 splat(builder, loc, floats, -3.4028234663852886e+38));
}

/// Writes attention with a learned bias out, since the op gives its bias no gradient.
static Value writeOut(OpBuilder &builder, AttentionOp op) {
  Location loc = op.getLoc();
  SmallVector<int64_t> q(shapeOf(op.getQ())), k(shapeOf(op.getK())), result(shapeOf(op.getResult()));
  SmallVector<int64_t> shape = {q[0], q[1], q[2], k[2]}, grouped = {q[0], k[1], q[1] / k[1], q[2], k[2]};
  auto constant = [&](double value) { return splat(builder, loc, reshaped(op.getQ(), shape), value); };
  Value queries = reshapeTo(builder, loc, op.getQ(), {q[0], k[1], q[1] / k[1], q[2], q[3]});
  Value scores = EinsumOp::create(builder, loc, reshaped(queries, grouped), queries, op.getK(), "bkgsd,bktd->bkgst");
  scores = reshapeTo(builder, loc, scores, shape);
  double scale = op.getScale().convertToDouble(), softcap = op.getSoftcap().convertToDouble();
  scores = arith::MulFOp::create(builder, loc, scores, constant(softcap ? scale / softcap : scale));
  if (softcap) {
    scores = ActivationOp::create(builder, loc, scores.getType(), scores, ActivationKind::Tanh);
    scores = arith::MulFOp::create(builder, loc, scores, constant(softcap));
  }
  scores = arith::AddFOp::create(builder, loc, scores, stretched(builder, op.getBias(), shape));
  if (op.getCausal())
    scores = arith::AddFOp::create(builder, loc, scores, stretched(builder, ownMask(builder, op, q[2], k[2]), shape));
  Value probabilities = SoftmaxOp::create(builder, loc, scores.getType(), scores);
  if (!op.getDropout().isZero())
    probabilities =
        DropoutOp::create(builder, loc, probabilities.getType(), probabilities, op.getDropout(), op.getId());
  probabilities = reshapeTo(builder, loc, probabilities, grouped);
  Value y = EinsumOp::create(builder, loc, reshaped(probabilities, {q[0], k[1], q[1] / k[1], q[2], result[3]}),
                             probabilities, op.getV(), "bkgst,bkte->bkgse");
  return reshapeTo(builder, loc, y, result);
}

void raise::absorbIntoAttention(func::FuncOp function, TableReader &reader) {
  for (auto attention : llvm::to_vector(function.getBody().front().getOps<AttentionOp>())) {
    AttentionOp own = absorbOperands(attention, reader);
    if (own.getBias() && dependsOnParameter(own.getBias()))
      replaceIfLegal(own, [&](OpBuilder &builder) { return writeOut(builder, own); });
  }
}
