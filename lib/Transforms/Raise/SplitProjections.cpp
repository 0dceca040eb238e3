// Splits fused projections: a product with a parameter whose result is only read through slices of
// the output dimension becomes one product per slice, with a slice of the parameter.
//
//     y = x · [Wq Wk Wv] + b; q = slice y ..       q = x · slice W + slice b
//
// Fused q|k|v of unequal widths is a concatenation, along which no axis can be cut; the parts can.
// The parameter keeps its name: what is sliced is the `graph.parameter`. For interleaved layouts,
// [heads, 3·D] of one head after the other, the slice is taken of the parameter reshaped likewise.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace galvatron {
#define GEN_PASS_DEF_SPLITPROJECTIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {

/// A part of one dimension of extent Π split: of `split[index]`, `size` elements from `offset` on.
struct Part {
  SmallVector<int64_t, 4> split;
  int64_t index, offset, size;

  int64_t extent() const { return llvm::product_of(split) / split[index] * size; }
};

} // namespace

/// `value` with dimension `dim` replaced by a part of it.
static Value takePart(OpBuilder &builder, Value value, int64_t dim, const Part &part) {
  SmallVector<int64_t> shape(shapeOf(value)), split(shape.begin(), shape.begin() + dim);
  llvm::append_range(split, part.split);
  split.append(shape.begin() + dim + 1, shape.end());
  shape[dim] = part.extent();
  Value wide = reshapeTo(builder, value.getLoc(), value, split);
  Value taken = sliceOf(builder, value.getLoc(), wide, dim + part.index, part.offset, part.size);
  return reshapeTo(builder, value.getLoc(), taken, shape);
}

/// The only operand of `op` that is no constant; null if there are several.
static Value onlyVariable(Operation *op) {
  Value found;
  for (Value operand : op->getOperands())
    if (!splatOf(operand)) {
      if (found && found != operand)
        return nullptr;
      found = operand;
    }
  return found;
}

/// The product with a parameter that `value`'s dimension `dim` is an output of, with biases added or clamped,
/// if nothing else reads it. Null otherwise.
static EinsumOp projectionOf(Value value, int64_t dim) {
  if (auto einsum = value.getDefiningOp<EinsumOp>()) {
    Equation equation = Equation::parse(einsum.getEquation());
    char subscript = equation.result[dim];
    bool left = equation.lhs.find(subscript) != std::string::npos,
         right = equation.rhs.find(subscript) != std::string::npos;
    return left != right && isParameter(left ? einsum.getLhs() : einsum.getRhs()) ? einsum : EinsumOp();
  }
  // Arithmetic with constants, such as a clamp.
  Operation *op = value.getDefiningOp();
  if (!op || !isElementwise(op) || isa<DropoutOp>(op))
    return nullptr;
  if (Value only = onlyVariable(op))
    return only.hasOneUse() ? projectionOf(only, dim) : EinsumOp();
  auto add = value.getDefiningOp<arith::AddFOp>();
  if (!add)
    return nullptr;
  for (bool swap : {false, true}) {
    Value product = swap ? add.getRhs() : add.getLhs();
    if (product.hasOneUse() && (swap ? add.getLhs() : add.getRhs()).getDefiningOp<BroadcastOp>())
      if (EinsumOp einsum = projectionOf(product, dim))
        return einsum;
  }
  return nullptr;
}

/// A part of what `projectionOf` accepted, computed from a part of the parameter.
static Value projectPart(OpBuilder &builder, Value value, int64_t dim, const Part &part) {
  SmallVector<int64_t> shape(shapeOf(value));
  shape[dim] = part.extent();
  Operation *op = value.getDefiningOp();
  if (auto einsum = dyn_cast<EinsumOp>(op)) {
    Equation equation = Equation::parse(einsum.getEquation());
    char subscript = equation.result[dim];
    Value lhs = einsum.getLhs(), rhs = einsum.getRhs();
    if (size_t at = equation.lhs.find(subscript); at != std::string::npos)
      lhs = takePart(builder, lhs, at, part);
    else
      rhs = takePart(builder, rhs, equation.rhs.find(subscript), part);
    return EinsumOp::create(builder, op->getLoc(), reshaped(value, shape), lhs, rhs, einsum.getEquation());
  }
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value x = broadcast.getX();
    if (const int64_t *at = llvm::find(broadcast.getDims(), dim); at != broadcast.getDims().end())
      x = takePart(builder, x, at - broadcast.getDims().begin(), part);
    return BroadcastOp::create(builder, op->getLoc(), reshaped(value, shape), x, broadcast.getDims());
  }
  if (Value only = onlyVariable(op)) {
    Value taken = projectPart(builder, only, dim, part);
    auto operands = llvm::map_to_vector(op->getOperands(), [&](Value operand) {
      return operand == only ? taken : splat(builder, op->getLoc(), reshaped(operand, shape), *splatOf(operand));
    });
    OperationState state(op->getLoc(), op->getName(), operands, Type(reshaped(value, shape)), op->getAttrs());
    return builder.create(state)->getResult(0);
  }
  auto add = cast<arith::AddFOp>(op);
  Value lhs = projectPart(builder, add.getLhs(), dim, part), rhs = projectPart(builder, add.getRhs(), dim, part);
  return arith::AddFOp::create(builder, op->getLoc(), lhs, rhs);
}

namespace {

/// A slice of a projection seen through a reshape and transposes.
struct Selection {
  SliceOp slice;
  /// The projection's result and the dimension of it that is cut.
  Value value;
  int64_t dim;
  Part part;
  /// What is to be done to the part to give the slice's result.
  SmallVector<int64_t> shape;
  SmallVector<SmallVector<int64_t>> permutations; // Innermost first.
};

} // namespace

static std::optional<Selection> select(SliceOp slice) {
  std::optional<int64_t> cut = cutDim(slice);
  if (!cut)
    return std::nullopt;
  Selection selection{slice, slice.getX(), *cut, {}, {}, {}};
  Part part{{shapeOf(slice.getX())[*cut]}, 0, slice.getOffsets()[*cut], shapeOf(slice.getResult())[*cut]};
  while (auto transpose = selection.value.getDefiningOp<TransposeOp>()) {
    selection.permutations.insert(selection.permutations.begin(), llvm::to_vector(transpose.getPermutation()));
    selection.dim = transpose.getPermutation()[selection.dim];
    selection.value = transpose.getX();
  }
  selection.shape = llvm::to_vector(shapeOf(selection.value));
  selection.shape[selection.dim] = part.size;
  if (auto reshape = selection.value.getDefiningOp<ReshapeOp>()) {
    SmallVector<DimensionGroup> groups;
    if (!groupDimensions(shapeOf(reshape.getX()), shapeOf(selection.value), groups))
      return std::nullopt;
    int64_t from = 0, to = 0;
    for (const DimensionGroup &group : groups) {
      int64_t end = to + group.to.size();
      if (selection.dim >= to && selection.dim < end) {
        if (group.from.size() != 1)
          return std::nullopt;
        part.split.assign(group.to.begin(), group.to.end());
        part.index = selection.dim - to;
        selection.dim = from;
        break;
      }
      from += group.from.size(), to = end;
    }
    selection.value = reshape.getX();
  }
  selection.part = part;
  if (!projectionOf(selection.value, selection.dim))
    return std::nullopt;
  return selection;
}

/// Whether every op that reads `value` is a slice in `selected` or moves elements on to one.
static bool readOnlyBy(Value value, const llvm::DenseSet<Operation *> &selected) {
  return llvm::all_of(value.getUsers(), [&](Operation *user) {
    if (selected.contains(user))
      return true;
    return isa<ReshapeOp, TransposeOp>(user) && readOnlyBy(user->getResult(0), selected);
  });
}

static unsigned splitProjections(func::FuncOp function) {
  llvm::MapVector<Value, SmallVector<Selection>> selections;
  llvm::DenseSet<Operation *> selected;
  for (auto slice : function.getBody().front().getOps<SliceOp>())
    if (std::optional<Selection> selection = select(slice)) {
      selections[selection->value].push_back(*selection);
      selected.insert(slice);
    }
  unsigned numSplit = 0;
  for (auto &[value, parts] : selections) {
    if (!readOnlyBy(value, selected))
      continue;
    bool isSplit = true;
    for (Selection &selection : parts)
      isSplit &= replaceIfLegal(selection.slice, [&](OpBuilder &builder) {
        Value part = projectPart(builder, value, selection.dim, selection.part);
        part = reshapeTo(builder, selection.slice.getLoc(), part, selection.shape);
        for (ArrayRef<int64_t> permutation : selection.permutations)
          part = transposeBy(builder, selection.slice.getLoc(), part, permutation);
        return part;
      });
    numSplit += isSplit;
  }
  return numSplit;
}

namespace {

struct SplitProjectionsPass : galvatron::impl::SplitProjectionsPassBase<SplitProjectionsPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      numProjections += splitProjections(function);
      eraseDead(function);
    }
  }
};

} // namespace
