// The loops of every op: what sharding follows from.
#include "dialects/Graph/Graph.h"
#include "dialects/Graph/Precision.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron::graph;

namespace {

using LoopList = SmallVector<unsigned, 2>;

ArrayRef<int64_t> shapeOf(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor ? tensor.getShape() : ArrayRef<int64_t>();
}

/// Builds `OpAxes` dimension by dimension.
class OpAxesBuilder {
public:
  /// A new loop, as the list that indexes one dimension: empty for extent 1.
  LoopList loop(int64_t extent, LoopKind kind = LoopKind::Free, ReduceKind reduction = ReduceKind::Sum) {
    if (extent == 1)
      return {};
    return {axes.addLoop(extent, kind, reduction)};
  }

  /// One new loop for each dimension.
  DimensionLoops loops(ArrayRef<int64_t> shape, LoopKind kind = LoopKind::Free) {
    DimensionLoops dims;
    for (int64_t extent : shape)
      dims.push_back(loop(extent, kind));
    return dims;
  }

  void operand(DimensionLoops dims) { axes.operands.push_back(std::move(dims)); }
  void result(DimensionLoops dims) { axes.results.push_back(std::move(dims)); }
  OpAxes take() { return std::move(axes); }

private:
  OpAxes axes;
};

DimensionLoops append(DimensionLoops dims, const LoopList &last) {
  dims.push_back(last);
  return dims;
}

/// Every operand and result has the same dimensions; operands of fewer (none) are scalars.
OpAxes elementwise(Operation *op, ArrayRef<int64_t> shape) {
  OpAxesBuilder axes;
  DimensionLoops dims = axes.loops(shape);
  for (Value operand : op->getOperands())
    axes.operand(shapeOf(operand).empty() ? DimensionLoops() : dims);
  for (unsigned i = 0; i < op->getNumResults(); ++i)
    axes.result(dims);
  return axes.take();
}

/// Nothing is known: every dimension is whole and on its own.
OpAxes barrier(Operation *op) {
  OpAxesBuilder axes;
  for (Value operand : op->getOperands())
    axes.operand(axes.loops(shapeOf(operand), LoopKind::Whole));
  for (Value result : op->getResults())
    axes.result(axes.loops(shapeOf(result), LoopKind::Whole));
  return axes.take();
}

/// Leading dimensions free, the last of its own kind; `rows` index statistics.
struct Rows {
  DimensionLoops rows, all;
  LoopList last;

  Rows(OpAxesBuilder &axes, ArrayRef<int64_t> shape, LoopKind lastKind, ReduceKind reduction = ReduceKind::Sum)
      : rows(axes.loops(shape.drop_back())), last(axes.loop(shape.back(), lastKind, reduction)) {
    all = append(rows, last);
  }
};

} // namespace

//===----------------------------------------------------------------------===//
// Any op
//===----------------------------------------------------------------------===//

OpAxes galvatron::graph::getOpAxes(Operation *op) {
  if (auto axes = dyn_cast<AxisOpInterface>(op))
    return axes.getAxes();
  if (op->hasTrait<OpTrait::ConstantLike>() && op->getNumResults() == 1)
    return elementwise(op, shapeOf(op->getResult(0)));
  if (op->hasTrait<OpTrait::Elementwise>() && op->getNumResults() == 1) {
    ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
    if (llvm::all_of(op->getOperands(),
                     [&](Value operand) { return shapeOf(operand) == shape || !isa<ShapedType>(operand.getType()); }))
      return elementwise(op, shape);
  }
  return barrier(op);
}

bool galvatron::graph::isLinear(Operation *op, unsigned operand, unsigned result) {
  if (auto axes = dyn_cast<AxisOpInterface>(op))
    return axes.isLinear(operand, result);
  // What a model itself casts to 16 bits is rounded once it is whole. Where that is the step's precision, parts are
  // sent so.
  if (isa<arith::TruncFOp>(op)) {
    Type type = getElementTypeOrSelf(op->getResult(0).getType());
    auto module = op->getParentOfType<ModuleOp>();
    return !isHalf(type) || !(module && module->hasAttr(kRoundsAttr));
  }
  if (isa<arith::ExtFOp>(op))
    return true;
  if (isa<arith::NegFOp, arith::MulFOp>(op))
    return true;
  if (isa<arith::DivFOp>(op))
    return operand == 0;
  if (isa<arith::SelectOp>(op) && operand > 0)
    return matchPattern(op->getOperand(3 - operand), m_AnyZeroFloat());
  return false;
}

bool galvatron::graph::isJointlyLinear(Operation *op) {
  if (auto axes = dyn_cast<AxisOpInterface>(op))
    if (axes.isJointlyLinear())
      return true;
  if (isa<arith::AddFOp, arith::SubFOp, arith::SelectOp>(op))
    return true;
  auto isFloat = [](OpOperand &operand) { return isFloatTensor(operand.get().getType()); };
  if (llvm::count_if(op->getOpOperands(), isFloat) != 1)
    return false;
  unsigned operand = llvm::find_if(op->getOpOperands(), isFloat)->getOperandNumber();
  return llvm::all_of(llvm::seq(op->getNumResults()), [&](unsigned result) { return isLinear(op, operand, result); });
}

//===----------------------------------------------------------------------===//
// Products and attention
//===----------------------------------------------------------------------===//

OpAxes EinsumOp::getAxes() {
  auto [lhs, rhs, result] = getSubscripts();
  OpAxesBuilder axes;
  llvm::SmallDenseMap<char, LoopList> loops;
  auto dims = [&](StringRef subscripts, Value value) {
    DimensionLoops dims;
    for (auto [subscript, extent] : llvm::zip(subscripts, shapeOf(value))) {
      auto [it, isNew] = loops.try_emplace(subscript);
      if (isNew)
        it->second = axes.loop(extent);
      dims.push_back(it->second);
    }
    return dims;
  };
  axes.operand(dims(lhs, getLhs()));
  axes.operand(dims(rhs, getRhs()));
  axes.result(dims(result, getResult()));
  return axes.take();
}

bool EinsumOp::isLinear(unsigned, unsigned) { return true; }

namespace {

/// Attention mixes positions: the query loop may be cut, keys are whole. Heads are key/value heads
/// times group, so that a degree beyond the key/value heads cuts the group.
struct AttentionLoops {
  DimensionLoops q, k, v, y, lse, bias;

  template <typename Op> AttentionLoops(OpAxesBuilder &axes, Op op) {
    ArrayRef<int64_t> qs = shapeOf(op.getQ()), ks = shapeOf(op.getK()), vs = shapeOf(op.getV());
    LoopList batch = axes.loop(qs[0]), kvHeads = axes.loop(ks[1]), group = axes.loop(qs[1] / ks[1]);
    LoopList queries = axes.loop(qs[2]), keys = axes.loop(ks[2], LoopKind::Whole);
    LoopList size = axes.loop(qs[3], LoopKind::Whole), valueSize = axes.loop(vs[3], LoopKind::Whole);
    LoopList heads = kvHeads;
    heads.append(group);
    q = {batch, heads, queries, size};
    k = {batch, kvHeads, keys, size};
    v = {batch, kvHeads, keys, valueSize};
    y = {batch, heads, queries, valueSize};
    lse = {batch, heads, queries};
    if (!op.getBias())
      return;
    DimensionLoops scores = {batch, heads, queries, keys};
    ArrayRef<int64_t> bs = shapeOf(op.getBias());
    for (auto [extent, loops] : llvm::zip(bs, ArrayRef(scores).take_back(bs.size())))
      bias.push_back(extent == 1 ? LoopList() : loops);
  }
};

} // namespace

OpAxes AttentionOp::getAxes() {
  OpAxesBuilder axes;
  AttentionLoops loops(axes, *this);
  for (DimensionLoops *dims : {&loops.q, &loops.k, &loops.v})
    axes.operand(*dims);
  if (getBias())
    axes.operand(loops.bias);
  axes.result(loops.y);
  axes.result(loops.lse);
  return axes.take();
}

OpAxes AttentionBackwardOp::getAxes() {
  OpAxesBuilder axes;
  AttentionLoops loops(axes, *this);
  for (DimensionLoops *dims : {&loops.y, &loops.q, &loops.k, &loops.v, &loops.y, &loops.lse})
    axes.operand(*dims);
  if (getBias())
    axes.operand(loops.bias);
  for (DimensionLoops *dims : {&loops.q, &loops.k, &loops.v})
    axes.result(*dims);
  return axes.take();
}

OpAxes RopeOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Whole);
  axes.operand(x.all);
  if (getPositions())
    axes.operand({x.all[getRowDim()], x.all[getSeqDim()]});
  axes.result(x.all);
  return axes.take();
}

bool RopeOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

//===----------------------------------------------------------------------===//
// Norms, softmax
//===----------------------------------------------------------------------===//

OpAxes NormOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Whole);
  axes.operand(x.all);
  for (unsigned i = 1; i < getNumOperands(); ++i) // weight, bias
    axes.operand({x.last});
  axes.result(x.all);
  axes.result(x.rows);
  axes.result(x.rows);
  return axes.take();
}

OpAxes NormBackwardOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Whole);
  axes.operand(x.all); // dy
  axes.operand(x.all);
  if (getWeight())
    axes.operand({x.last});
  axes.operand(x.rows);
  axes.operand(x.rows);
  axes.result(x.all);
  return axes.take();
}

/// With mean and rstd given, columns are independent.
OpAxes NormWeightBackwardOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Free);
  axes.operand(x.all);
  axes.operand(x.all);
  axes.operand(x.rows);
  axes.operand(x.rows);
  axes.result({x.last});
  return axes.take();
}

bool NormWeightBackwardOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

static OpAxes rowwise(Operation *op) {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(op->getResult(0)), LoopKind::Whole);
  for (unsigned i = 0; i < op->getNumOperands(); ++i)
    axes.operand(x.all);
  axes.result(x.all);
  return axes.take();
}

OpAxes SoftmaxOp::getAxes() { return rowwise(*this); }
OpAxes SoftmaxBackwardOp::getAxes() { return rowwise(*this); }
bool SoftmaxBackwardOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

//===----------------------------------------------------------------------===//
// Nonlinearities, dropout, sums
//===----------------------------------------------------------------------===//

OpAxes ActivationOp::getAxes() { return elementwise(*this, shapeOf(getX())); }
OpAxes ActivationBackwardOp::getAxes() { return elementwise(*this, shapeOf(getX())); }
bool ActivationBackwardOp::isLinear(unsigned operand, unsigned) { return operand == 0; }
OpAxes GatedActivationOp::getAxes() { return elementwise(*this, shapeOf(getUp())); }
OpAxes GatedActivationBackwardOp::getAxes() { return elementwise(*this, shapeOf(getUp())); }
OpAxes DropoutOp::getAxes() { return elementwise(*this, shapeOf(getX())); }
bool DropoutOp::isLinear(unsigned, unsigned) { return true; }
OpAxes SumOp::getAxes() { return elementwise(*this, shapeOf(getResult())); }
bool SumOp::isJointlyLinear() { return true; }
OpAxes DetachOp::getAxes() { return elementwise(*this, shapeOf(getX())); }
bool DetachOp::isLinear(unsigned, unsigned) { return true; }

//===----------------------------------------------------------------------===//
// Embedding and loss
//===----------------------------------------------------------------------===//

OpAxes EmbeddingOp::getAxes() {
  OpAxesBuilder axes;
  LoopList rows = axes.loop(shapeOf(getTable())[0], LoopKind::Routed);
  LoopList columns = axes.loop(shapeOf(getTable())[1]);
  DimensionLoops ids = axes.loops(shapeOf(getIds()));
  axes.operand({rows, columns});
  axes.operand(ids);
  axes.result(append(ids, columns));
  return axes.take();
}

bool EmbeddingOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

OpAxes EmbeddingBackwardOp::getAxes() {
  OpAxesBuilder axes;
  LoopList rows = axes.loop(shapeOf(getDtable())[0], LoopKind::Routed);
  LoopList columns = axes.loop(shapeOf(getDtable())[1]);
  DimensionLoops ids = axes.loops(shapeOf(getIds()));
  axes.operand(append(ids, columns));
  axes.operand(ids);
  axes.result({rows, columns});
  return axes.take();
}

bool EmbeddingBackwardOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

OpAxes ShiftOp::getAxes() {
  OpAxesBuilder axes;
  DimensionLoops dims;
  for (auto [dim, extent] : llvm::enumerate(shapeOf(getX())))
    dims.push_back(axes.loop(extent, dim == getDim() ? LoopKind::Whole : LoopKind::Free));
  axes.operand(dims);
  axes.result(dims);
  return axes.take();
}

OpAxes CrossEntropyOp::getAxes() {
  OpAxesBuilder axes;
  Rows logits(axes, shapeOf(getLogits()), LoopKind::Routed);
  axes.operand(logits.all);
  axes.operand(logits.rows);
  if (getCount())
    axes.operand({});
  axes.result(isMean() ? DimensionLoops() : logits.rows);
  return axes.take();
}

OpAxes LogSumExpOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Routed);
  axes.operand(x.all);
  axes.result(x.rows);
  return axes.take();
}

OpAxes SumExpOp::getAxes() {
  OpAxesBuilder axes;
  Rows x(axes, shapeOf(getX()), LoopKind::Free);
  axes.operand(x.all);
  axes.operand(x.rows);
  axes.result(x.rows);
  return axes.take();
}

OpAxes TargetLogitOp::getAxes() {
  OpAxesBuilder axes;
  Rows logits(axes, shapeOf(getLogits()), LoopKind::Routed);
  axes.operand(logits.all);
  axes.operand(logits.rows);
  axes.result(logits.rows);
  return axes.take();
}

OpAxes CrossEntropyBackwardOp::getAxes() {
  OpAxesBuilder axes;
  Rows logits(axes, shapeOf(getLogits()), LoopKind::Routed);
  axes.operand(logits.rows); // dy
  axes.operand(logits.all);
  for (unsigned i = 2; i < getNumOperands(); ++i) // sum_exp, max, labels
    axes.operand(logits.rows);
  axes.result(logits.all);
  return axes.take();
}

bool CrossEntropyBackwardOp::isLinear(unsigned operand, unsigned) { return operand == 0; }

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

OpAxes ReduceOp::getAxes() {
  OpAxesBuilder axes;
  DimensionLoops x, result;
  for (auto [dim, extent] : llvm::enumerate(shapeOf(getX()))) {
    x.push_back(axes.loop(extent, LoopKind::Free, getKind()));
    if (!llvm::is_contained(getDims(), dim))
      result.push_back(x.back());
  }
  axes.operand(x);
  axes.result(result);
  return axes.take();
}

bool ReduceOp::isLinear(unsigned, unsigned) { return getKind() == ReduceKind::Sum; }

OpAxes BroadcastOp::getAxes() {
  OpAxesBuilder axes;
  DimensionLoops x, result = axes.loops(shapeOf(getResult()));
  for (int64_t dim : getDims())
    x.push_back(result[dim]);
  axes.operand(x);
  axes.result(result);
  return axes.take();
}

bool BroadcastOp::isLinear(unsigned, unsigned) { return true; }

/// The common factors of two shapes of equal products. Extents are matched major first; of two
/// unequal ones the larger splits by the smaller. Where they do not divide, the dimensions up to the
/// next place where the products agree are whole:
///
///   [8,16,64] → [128,4,16]   loops 8 16 4 16:  [[0],[1],[2,3]] → [[0,1],[2],[3]]
///   [8,6,4]   → [8,4,6]      loops 8, whole 6 4 4 6
OpAxes ReshapeOp::getAxes() {
  OpAxesBuilder axes;
  ArrayRef<int64_t> from = shapeOf(getX()), to = shapeOf(getResult());
  DimensionLoops x(from.size()), result(to.size());
  if (llvm::is_contained(from, 0))
    return barrier(*this);
  size_t i = 0, j = 0;
  auto skipOnes = [&] {
    while (i < from.size() && from[i] == 1)
      ++i;
    while (j < to.size() && to[j] == 1)
      ++j;
  };
  for (skipOnes(); i < from.size() && j < to.size(); skipOnes()) {
    // One group: from here to where the products agree.
    SmallVector<std::tuple<size_t, size_t, int64_t>> factors;
    size_t firstFrom = i, firstTo = j;
    int64_t left = from[i], right = to[j];
    bool divides = true;
    while (left != right) {
      int64_t smaller = std::min(left, right), larger = std::max(left, right);
      divides &= larger % smaller == 0;
      factors.push_back({i, j, smaller});
      // Without division only the products go on: `left` and `right` then are products of dimensions.
      if (!divides)
        (left < right) ? left *= from[++i] : right *= to[++j];
      else if (left < right)
        right /= left, left = from[++i];
      else
        left /= right, right = to[++j];
    }
    factors.push_back({i++, j++, left});
    if (divides) {
      for (auto [dimFrom, dimTo, extent] : factors) {
        LoopList loop = axes.loop(extent);
        x[dimFrom].append(loop);
        result[dimTo].append(loop);
      }
      continue;
    }
    for (size_t dim = firstFrom; dim < i; ++dim)
      x[dim] = axes.loop(from[dim], LoopKind::Whole);
    for (size_t dim = firstTo; dim < j; ++dim)
      result[dim] = axes.loop(to[dim], LoopKind::Whole);
  }
  axes.operand(x);
  axes.result(result);
  return axes.take();
}

bool ReshapeOp::isLinear(unsigned, unsigned) { return true; }

OpAxes TransposeOp::getAxes() {
  OpAxesBuilder axes;
  DimensionLoops result, x = axes.loops(shapeOf(getX()));
  for (int64_t dim : getPermutation())
    result.push_back(x[dim]);
  axes.operand(x);
  axes.result(result);
  return axes.take();
}

bool TransposeOp::isLinear(unsigned, unsigned) { return true; }

/// A piece of a larger tensor. Dimensions of equal extent are one free loop. A dimension of which the
/// piece is one of n equal parts is n times that part: selecting is whole, the part is free (q, k and
/// v of a fused projection). Dimensions cut otherwise are whole on either side.
struct PieceLoops {
  DimensionLoops all, piece;

  PieceLoops(OpAxesBuilder &axes, Value whole, Value part, ArrayRef<int64_t> offsets) {
    for (auto [extent, partExtent, offset] : llvm::zip(shapeOf(whole), shapeOf(part), offsets)) {
      if (extent % partExtent == 0 && offset % partExtent == 0) {
        LoopList select = axes.loop(extent / partExtent, LoopKind::Whole), inside = axes.loop(partExtent);
        piece.push_back(inside);
        select.append(inside);
        all.push_back(select);
        continue;
      }
      all.push_back(axes.loop(extent, LoopKind::Whole));
      piece.push_back(axes.loop(partExtent, LoopKind::Whole));
    }
  }
};

OpAxes SliceOp::getAxes() {
  OpAxesBuilder axes;
  PieceLoops loops(axes, getX(), getResult(), getOffsets());
  axes.operand(loops.all);
  axes.result(loops.piece);
  return axes.take();
}

OpAxes PadOp::getAxes() {
  OpAxesBuilder axes;
  PieceLoops loops(axes, getResult(), getX(), getOffsets());
  axes.operand(loops.piece);
  axes.result(loops.all);
  return axes.take();
}

bool SliceOp::isLinear(unsigned, unsigned) { return true; }
bool PadOp::isLinear(unsigned, unsigned) { return true; }

OpAxes ConcatOp::getAxes() {
  OpAxesBuilder axes;
  DimensionLoops result;
  for (auto [dim, extent] : llvm::enumerate(shapeOf(getResult())))
    result.push_back(axes.loop(extent, dim == getDim() ? LoopKind::Whole : LoopKind::Free));
  for (Value input : getInputs()) {
    DimensionLoops dims = result;
    dims[getDim()] = axes.loop(shapeOf(input)[getDim()], LoopKind::Whole);
    axes.operand(dims);
  }
  axes.result(result);
  return axes.take();
}

bool ConcatOp::isJointlyLinear() { return true; }

OpAxes IotaOp::getAxes() { return elementwise(*this, shapeOf(getResult())); }

//===----------------------------------------------------------------------===//
// Positions
//===----------------------------------------------------------------------===//

Value IotaOp::getPositionTensor() { return getResult(); }
Value RopeOp::getPositionTensor() { return getPositions() ? Value() : getX(); }
Value DropoutOp::getPositionTensor() { return getX(); }
Value ShiftOp::getPositionTensor() { return getX(); }
Value EmbeddingOp::getPositionTensor() { return getTable(); }
Value EmbeddingBackwardOp::getPositionTensor() { return getDtable(); }
Value TargetLogitOp::getPositionTensor() { return getLogits(); }
Value CrossEntropyBackwardOp::getPositionTensor() { return getLogits(); }
Value AttentionOp::getPositionTensor() { return getQ(); }
Value AttentionBackwardOp::getPositionTensor() { return getQ(); }
