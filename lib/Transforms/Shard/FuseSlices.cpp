// Products with the pieces of one parameter → one product with the whole parameter.
//
//   y_i = x · W[:, i] + b[i]           →  y = x · W + b, y_i = slices of y
//   dx  = Σ dy_i · W[:, i]ᵀ            →  dx = [dy_0 dy_1 …] · Wᵀ
//   dW  = Σ pad(xᵀ · dy_i)             →  dW = xᵀ · [dy_0 dy_1 …]
//   db  = Σ pad(Σ over rows of dy_i)   →  db = Σ over rows of [dy_0 dy_1 …]
//
// A model that keeps q, k and v in one matrix has been cut into its pieces by split-projections, since only a piece has
// a dimension of heads to shard. On local shapes the pieces lie together again, in any degree of sharding.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"

namespace galvatron {
#define GEN_PASS_DEF_FUSESLICESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using graph::EinsumOp;
using graph::PadOp;
using graph::SliceOp;
using graph::SumOp;

namespace {

/// How a tensor is cut along one dimension into pieces that lie one after another and are all of it.
struct Partition {
  int64_t dim; // of the tensor
  /// Where each piece begins along `dim`, in elements, ascending from 0; it ends where the next begins.
  SmallVector<int64_t> offsets;
};

/// An operation on a piece, and which piece it is.
template <typename Op> struct Part {
  Op op;
  RankedTensorType pieceType;
  SmallVector<int64_t> offsets;
};

/// Pieces of one tensor of `type`, sorted; none where they overlap, leave a gap or are only one.
template <typename Op> std::optional<Partition> partitionOf(SmallVectorImpl<Part<Op>> &parts, RankedTensorType type) {
  if (parts.size() < 2)
    return std::nullopt;
  llvm::sort(parts, [](const Part<Op> &a, const Part<Op> &b) { return a.offsets < b.offsets; });
  Partition partition{-1, {}};
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    if (parts.front().pieceType.getDimSize(dim) != type.getDimSize(dim)) {
      if (partition.dim >= 0)
        return std::nullopt;
      partition.dim = dim;
    }
  if (partition.dim < 0)
    return std::nullopt;
  int64_t next = 0;
  for (const Part<Op> &part : parts) {
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      if (dim != partition.dim && part.pieceType.getDimSize(dim) != type.getDimSize(dim))
        return std::nullopt;
    if (part.offsets[partition.dim] != next)
      return std::nullopt;
    partition.offsets.push_back(next);
    next += part.pieceType.getDimSize(partition.dim);
  }
  return next == type.getDimSize(partition.dim) ? std::optional(partition) : std::nullopt;
}

RankedTensorType tensorOf(Value value) { return cast<RankedTensorType>(value.getType()); }

RankedTensorType withLastDim(Value value, int64_t extent) {
  SmallVector<int64_t> shape(tensorOf(value).getShape());
  shape.back() = extent;
  return RankedTensorType::get(shape, tensorOf(value).getElementType());
}

/// Whether the values could lie side by side along their last dimension. Those of one product do; gradients of biases
/// may be sums over other rows: under context parallelism queries are cut where keys are whole.
bool haveSameRows(ArrayRef<Value> values) {
  ArrayRef<int64_t> rows = tensorOf(values.front()).getShape().drop_back();
  return llvm::all_of(values, [&](Value value) { return tensorOf(value).getShape().drop_back() == rows; });
}

class BodyFusion {
public:
  explicit BodyFusion(dist::BodyOp body) : body(body), block(body.getBody().front()), builder(body.getContext()) {}

  /// The number of products that are gone.
  unsigned run();

private:
  void fuseForward(BlockArgument parameter);
  void fuseBiases(Value whole, const Partition &partition);
  void fuseInputGradient(BlockArgument parameter);
  void fuseParameterGradient(SumOp sum);
  SmallVector<Part<EinsumOp>> productsOf(BlockArgument parameter);
  Value concat(ArrayRef<Value> pieces);
  /// The sum without the operands of `gone`, but with `added`.
  void replaceTerms(SumOp sum, ArrayRef<Value> gone, Value added);
  void insertAfterAll(ArrayRef<Value> values);
  void insertBeforeAll(ArrayRef<Operation *> ops);

  dist::BodyOp body;
  Block &block;
  OpBuilder builder;
  unsigned numFused = 0;
};

} // namespace

void BodyFusion::insertAfterAll(ArrayRef<Value> values) {
  Operation *last = nullptr;
  for (Value value : values)
    if (Operation *op = value.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
      last = op;
  if (last)
    builder.setInsertionPointAfter(last);
  else
    builder.setInsertionPointToStart(&block);
}

void BodyFusion::insertBeforeAll(ArrayRef<Operation *> ops) {
  builder.setInsertionPoint(*llvm::min_element(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); }));
}

/// Along the last dimension; one serves the gradients of input, parameter and bias.
Value BodyFusion::concat(ArrayRef<Value> pieces) {
  int64_t last = tensorOf(pieces.front()).getRank() - 1, extent = 0;
  for (Operation *user : pieces.front().getUsers())
    if (auto known = dyn_cast<graph::ConcatOp>(user))
      if (static_cast<int64_t>(known.getDim()) == last && ValueRange(known.getInputs()) == ValueRange(pieces))
        return known;
  for (Value piece : pieces)
    extent += tensorOf(piece).getDimSize(last);
  insertAfterAll(pieces);
  return graph::ConcatOp::create(builder, pieces.front().getLoc(), withLastDim(pieces.front(), extent), pieces, last);
}

void BodyFusion::replaceTerms(SumOp sum, ArrayRef<Value> gone, Value added) {
  SmallVector<Value> terms = {added};
  for (Value term : sum.getInputs())
    if (!llvm::is_contained(gone, term))
      terms.push_back(term);
  builder.setInsertionPoint(sum);
  Value replacement =
      terms.size() == 1 ? added : SumOp::create(builder, sum.getLoc(), sum.getType(), terms).getResult();
  sum.getResult().replaceAllUsesWith(replacement);
  sum.erase();
}

/// Products of pieces of the parameter with something, whichever.
SmallVector<Part<EinsumOp>> BodyFusion::productsOf(BlockArgument parameter) {
  SmallVector<Part<EinsumOp>> products;
  for (Operation *user : parameter.getUsers())
    if (auto slice = dyn_cast<SliceOp>(user))
      for (Operation *reader : slice.getResult().getUsers())
        if (auto product = dyn_cast<EinsumOp>(reader); product && product.getRhs() == slice.getResult())
          products.push_back({product, tensorOf(slice.getResult()), llvm::to_vector(slice.getOffsets())});
  return products;
}

/// Pieces of the result are its last dimension's.
void BodyFusion::fuseForward(BlockArgument parameter) {
  llvm::MapVector<std::pair<Value, Attribute>, SmallVector<Part<EinsumOp>>> byOperand;
  for (Part<EinsumOp> part : productsOf(parameter))
    byOperand[{part.op.getLhs(), part.op.getEquationAttr()}].push_back(part);
  for (auto &[key, parts] : byOperand) {
    std::optional<Partition> partition = partitionOf(parts, tensorOf(parameter));
    EinsumOp first = parts.front().op;
    auto [lhs, rhs, result] = first.getSubscripts();
    if (!partition || result.back() != rhs[partition->dim] || lhs.contains(rhs[partition->dim]))
      continue;
    insertBeforeAll(llvm::map_to_vector(parts, [](Part<EinsumOp> part) { return part.op.getOperation(); }));
    auto type = withLastDim(first.getResult(), tensorOf(parameter).getDimSize(partition->dim));
    Value whole = EinsumOp::create(builder, first.getLoc(), type, key.first, parameter, first.getEquation());
    builder.setInsertionPointAfter(whole.getDefiningOp());
    SmallVector<int64_t> offsets(type.getRank(), 0);
    Partition partitionOfResult{type.getRank() - 1, partition->offsets};
    for (const Part<EinsumOp> &part : parts) {
      offsets.back() = part.offsets[partition->dim];
      EinsumOp product = part.op;
      Value slice = SliceOp::create(builder, product.getLoc(), product.getType(), whole, offsets);
      product.getResult().replaceAllUsesWith(slice);
    }
    for (const Part<EinsumOp> &part : parts)
      EinsumOp(part.op).erase();
    numFused += parts.size() - 1;
    fuseBiases(whole, partitionOfResult);
  }
}

/// Where each piece of `whole` only gets the same piece of a bias added, the whole gets the bias.
void BodyFusion::fuseBiases(Value whole, const Partition &partition) {
  SmallVector<SliceOp> slices;
  for (Operation *user : whole.getUsers())
    slices.push_back(cast<SliceOp>(user));
  llvm::sort(slices,
             [&](SliceOp a, SliceOp b) { return a.getOffsets()[partition.dim] < b.getOffsets()[partition.dim]; });
  SmallVector<Part<SumOp>> parts;
  Value bias;
  for (SliceOp slice : slices) {
    auto sum = slice.getResult().hasOneUse() ? dyn_cast<SumOp>(*slice.getResult().user_begin()) : SumOp();
    if (!sum || sum.getInputs().size() != 2)
      return;
    Value other = sum.getInputs()[sum.getInputs()[0] == slice.getResult() ? 1 : 0];
    auto broadcast = other.getDefiningOp<graph::BroadcastOp>();
    auto piece = broadcast ? broadcast.getX().getDefiningOp<SliceOp>() : SliceOp();
    if (!piece || broadcast.getDims() != ArrayRef<int64_t>(partition.dim) || (bias && piece.getX() != bias))
      return;
    bias = piece.getX();
    parts.push_back({sum, tensorOf(piece.getResult()), llvm::to_vector(piece.getOffsets())});
  }
  if (!isa_and_nonnull<BlockArgument>(bias))
    return;
  std::optional<Partition> biasPartition = partitionOf(parts, tensorOf(bias));
  if (!biasPartition || biasPartition->offsets != partition.offsets)
    return;
  builder.setInsertionPointAfter(whole.getDefiningOp());
  Location loc = parts.front().op.getLoc();
  Value everywhere = graph::BroadcastOp::create(builder, loc, whole.getType(), bias, partition.dim);
  Value total = SumOp::create(builder, loc, whole.getType(), ValueRange{whole, everywhere});
  for (auto [slice, part] : llvm::zip_equal(slices, parts)) {
    Value piece = SliceOp::create(builder, slice.getLoc(), slice.getType(), total, slice.getOffsets());
    SumOp(part.op).getResult().replaceAllUsesWith(piece);
  }
  for (auto [slice, part] : llvm::zip_equal(slices, parts)) {
    SumOp(part.op).erase();
    slice.erase();
  }
}

void BodyFusion::fuseInputGradient(BlockArgument parameter) {
  llvm::MapVector<std::pair<Operation *, Attribute>, SmallVector<Part<EinsumOp>>> bySum;
  for (const Part<EinsumOp> &part : productsOf(parameter)) {
    EinsumOp product = part.op;
    if (product.getResult().hasOneUse() && isa<SumOp>(*product.getResult().user_begin()))
      bySum[{*product.getResult().user_begin(), product.getEquationAttr()}].push_back(part);
  }
  for (auto &[key, parts] : bySum) {
    std::optional<Partition> partition = partitionOf(parts, tensorOf(parameter));
    EinsumOp first = parts.front().op;
    auto [lhs, rhs, result] = first.getSubscripts();
    if (!partition || lhs.back() != rhs[partition->dim] || result.contains(rhs[partition->dim]))
      continue;
    Value whole = concat(llvm::map_to_vector(parts, [](Part<EinsumOp> part) -> Value { return part.op.getLhs(); }));
    auto products = llvm::map_to_vector(parts, [](Part<EinsumOp> part) -> Value { return part.op.getResult(); });
    insertAfterAll(products);
    Value gradient = EinsumOp::create(builder, first.getLoc(), first.getType(), whole, parameter, first.getEquation());
    replaceTerms(cast<SumOp>(key.first), products, gradient);
    for (const Part<EinsumOp> &part : parts)
      EinsumOp(part.op).erase();
    numFused += parts.size() - 1;
  }
}

/// Gradients of pieces, put side by side by padding and adding: of products, or of sums over rows.
void BodyFusion::fuseParameterGradient(SumOp sum) {
  SmallVector<Part<PadOp>> parts;
  for (Value term : sum.getInputs())
    if (auto pad = term.getDefiningOp<PadOp>(); pad && term.hasOneUse() && pad.getX().hasOneUse())
      parts.push_back({pad, tensorOf(pad.getX()), llvm::to_vector(pad.getOffsets())});
  std::optional<Partition> partition = partitionOf(parts, tensorOf(sum.getResult()));
  if (!partition)
    return;
  SmallVector<Value> pads = llvm::map_to_vector(parts, [](Part<PadOp> part) -> Value { return part.op.getResult(); });
  SmallVector<Operation *> makers =
      llvm::map_to_vector(parts, [](Part<PadOp> part) { return part.op.getX().getDefiningOp(); });
  SmallVector<Value> pieces = llvm::map_to_vector(parts, [](Part<PadOp> part) -> Value { return part.op.getX(); });
  Value gradient;
  Location loc = sum.getLoc();
  if (auto first = dyn_cast_or_null<EinsumOp>(makers.front())) {
    auto [lhs, rhs, result] = first.getSubscripts();
    bool fits = lhs.back() == result[partition->dim] && !rhs.contains(result[partition->dim]);
    if (!fits || llvm::any_of(makers, [&](Operation *maker) {
          auto product = dyn_cast_or_null<EinsumOp>(maker);
          return !product || product.getEquation() != first.getEquation() || product.getRhs() != first.getRhs();
        }))
      return;
    Value whole = concat(llvm::map_to_vector(makers, [](Operation *maker) { return maker->getOperand(0); }));
    insertAfterAll(pieces);
    gradient = EinsumOp::create(builder, loc, sum.getType(), whole, first.getRhs(), first.getEquation());
    numFused += makers.size() - 1;
  } else if (auto first = dyn_cast_or_null<graph::ReduceOp>(makers.front())) {
    // Only the last dimension is left.
    if (tensorOf(first.getResult()).getRank() != 1 ||
        llvm::is_contained(first.getDims(), tensorOf(first.getX()).getRank() - 1) ||
        llvm::any_of(makers, [&](Operation *maker) {
          auto reduce = dyn_cast_or_null<graph::ReduceOp>(maker);
          return !reduce || reduce.getKind() != first.getKind() || reduce.getDims() != first.getDims();
        }))
      return;
    auto summed = llvm::map_to_vector(makers, [](Operation *maker) { return maker->getOperand(0); });
    if (first.getKind() != graph::ReduceKind::Sum || !haveSameRows(summed))
      return;
    Value whole = concat(summed);
    insertAfterAll(pieces);
    gradient = graph::ReduceOp::create(builder, loc, sum.getType(), whole, first.getKind(), first.getDims());
  } else {
    return;
  }
  replaceTerms(sum, pads, gradient);
  for (auto [part, maker] : llvm::zip_equal(parts, makers)) {
    PadOp(part.op).erase();
    maker->erase();
  }
}

unsigned BodyFusion::run() {
  for (BlockArgument argument : block.getArguments()) {
    fuseForward(argument);
    fuseInputGradient(argument);
  }
  for (auto sum : llvm::make_early_inc_range(block.getOps<SumOp>()))
    fuseParameterGradient(sum);
  // Pieces that nobody reads any more.
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (isa<SliceOp, graph::BroadcastOp>(op) && op.use_empty())
      op.erase();
  return numFused;
}

namespace {
struct FuseSlices : galvatron::impl::FuseSlicesPassBase<FuseSlices> {
  using Base::Base;

  void runOnOperation() override {
    for (auto body : getOperation().getOps<dist::BodyOp>())
      numFused += BodyFusion(body).run();
  }
};
} // namespace
