// Shape ops in normal form, so that every other family sees few spellings.
//
// Merged batch dimensions sink. Models flatten [B, S, H] to [B·S, H] around linear layers and losses;
// each such reshape moves down through the ops that treat the merged dimension row by row,
//
//     reshape [B,S,H]→[B·S,H]; op            op'; reshape [B,S,O]→[B·S,O]
//
// until it meets the reshape that splits it again, and both are gone. Added unit dimensions sink
// through arithmetic likewise. Only merges of the leading dimension move: heads × head size is
// merged for a product with a parameter, whose layout should stay.
#include "RaiseOps.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

//===----------------------------------------------------------------------===//
// Sinking merges
//===----------------------------------------------------------------------===//

/// X1, X2, .. if `value` [X1·X2.., rest] is a reshape that merged its leading dimension from them.
static std::optional<SmallVector<int64_t>> leadingMerge(Value value) {
  auto reshape = value.getDefiningOp<ReshapeOp>();
  SmallVector<DimensionGroup> groups;
  // A parameter's leading dimension is no batch.
  if (!reshape || isParameter(value) || !groupDimensions(shapeOf(reshape.getX()), shapeOf(value), groups) ||
      groups.empty())
    return std::nullopt;
  const DimensionGroup &lead = groups.front();
  auto isWide = [](int64_t extent) { return extent != 1; };
  if (llvm::count_if(lead.from, isWide) < 2 || lead.to.size() != 1)
    return std::nullopt;
  return SmallVector<int64_t>(lead.from.begin(), lead.from.end());
}

/// `shape` with dimension `dim` replaced by `extents`.
static SmallVector<int64_t> unmerged(ArrayRef<int64_t> shape, int64_t dim, ArrayRef<int64_t> extents) {
  SmallVector<int64_t> result(shape.take_front(dim));
  llvm::append_range(result, extents);
  llvm::append_range(result, shape.drop_front(dim + 1));
  return result;
}

/// `value` with dimension `dim` split.
static Value unmerge(OpBuilder &builder, Value value, int64_t dim, ArrayRef<int64_t> extents) {
  return reshapeTo(builder, value.getLoc(), value, unmerged(shapeOf(value), dim, extents));
}

/// Of the first operand whose leading dimension is merged.
static std::optional<SmallVector<int64_t>> anyLeadingMerge(ValueRange operands) {
  for (Value operand : operands)
    if (std::optional<SmallVector<int64_t>> extents = leadingMerge(operand))
      return extents;
  return std::nullopt;
}

/// `op` with other operands and result types; its first result as it was, merged again.
static Value rebuild(OpBuilder &builder, Operation *op, ValueRange operands, ArrayRef<Type> types,
                     ArrayRef<NamedAttribute> changed = {}) {
  OperationState state(op->getLoc(), op->getName(), operands, types, {});
  NamedAttrList attributes(op->getAttrDictionary());
  for (NamedAttribute attribute : changed)
    attributes.set(attribute.getName(), attribute.getValue());
  state.attributes = attributes;
  return reshapeTo(builder, op->getLoc(), builder.create(state)->getResult(0), shapeOf(op->getResult(0)));
}

namespace {

/// Ops that compute each element, or each row over the last dimension, by itself.
struct SinkThroughRows : RewritePattern {
  SinkThroughRows(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    bool elementwise = isElementwise(op);
    if (!elementwise && !isa<NormOp, SoftmaxOp, CrossEntropyOp, LogSumExpOp, EmbeddingOp>(op))
      return failure();
    ValueRange data = op->getOperands();
    if (isa<NormOp>(op)) // Weight and bias are vectors.
      data = data.take_front(1);
    else if (isa<EmbeddingOp>(op))
      data = data.drop_front();
    if (!elementwise && !isa<EmbeddingOp>(op) && typeOf(data[0]).getRank() < 2)
      return failure();
    std::optional<SmallVector<int64_t>> extents = anyLeadingMerge(data);
    if (!extents)
      return rewriter.notifyMatchFailure(op, "no operand with merged leading dimensions");
    SmallVector<Type> types;
    for (Value result : op->getResults())
      types.push_back(typeOf(result).getRank() == 0 ? result.getType()
                                                    : reshaped(result, unmerged(shapeOf(result), 0, *extents)));
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      SmallVector<Value> operands(op->getOperands());
      for (Value &operand : operands)
        if (llvm::is_contained(data, operand))
          operand = unmerge(builder, operand, 0, *extents);
      return rebuild(builder, op, operands, types);
    });
  }
};

struct SinkThroughEinsum : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    Equation equation = Equation::parse(op.getEquation());
    for (bool left : {true, false}) {
      Value operand = left ? op.getLhs() : op.getRhs(), other = left ? op.getRhs() : op.getLhs();
      std::string &letters = left ? equation.lhs : equation.rhs, &otherLetters = left ? equation.rhs : equation.lhs;
      if (letters.empty() || isParameter(operand))
        continue;
      char merged = letters.front();
      size_t inOther = otherLetters.find(merged);
      if (inOther != std::string::npos && isParameter(other))
        continue;
      std::optional<SmallVector<int64_t>> extents = leadingMerge(operand);
      if (!extents)
        continue;
      std::string split = equation.fresh(extents->size());
      size_t inResult = equation.result.find(merged);
      Type type = op.getType();
      if (inResult != std::string::npos)
        type = reshaped(op.getResult(), unmerged(shapeOf(op.getResult()), inResult, *extents));
      for (std::string *text : {&equation.lhs, &equation.rhs, &equation.result})
        if (size_t at = text->find(merged); at != std::string::npos)
          text->replace(at, 1, split);
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        if (inOther != std::string::npos)
          other = unmerge(builder, other, inOther, *extents);
        operand = unmerge(builder, operand, 0, *extents);
        Value lhs = left ? operand : other, rhs = left ? other : operand;
        Value result = EinsumOp::create(builder, op.getLoc(), type, lhs, rhs, equation.str());
        return reshapeTo(builder, op.getLoc(), result, shapeOf(op.getResult()));
      });
    }
    return rewriter.notifyMatchFailure(op, "no operand with merged leading dimensions");
  }
};

/// Transpose, slice, concat, reduce, broadcast: ops whose attributes number dimensions.
struct SinkThroughMovement : RewritePattern {
  SinkThroughMovement(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<TransposeOp, SliceOp, ConcatOp, ReduceOp, BroadcastOp, ShiftOp>(op))
      return failure();
    std::optional<SmallVector<int64_t>> extents = anyLeadingMerge(op->getOperands());
    if (!extents)
      return rewriter.notifyMatchFailure(op, "no operand with merged leading dimensions");
    int64_t added = extents->size() - 1;
    Value result = op->getResult(0);
    int64_t resultDim = 0; // Where the merged dimension is in the result.
    SmallVector<NamedAttribute, 1> changed;
    auto set = [&](StringRef name, ArrayRef<int64_t> values) {
      changed.push_back(rewriter.getNamedAttr(name, rewriter.getDenseI64ArrayAttr(values)));
    };
    auto setScalar = [&](StringRef name, int64_t value) {
      changed.push_back(rewriter.getNamedAttr(name, rewriter.getI64IntegerAttr(value)));
    };
    if (auto transpose = dyn_cast<TransposeOp>(op)) {
      SmallVector<int64_t> permutation;
      for (auto [i, dim] : llvm::enumerate(transpose.getPermutation())) {
        if (dim != 0) {
          permutation.push_back(dim + added);
          continue;
        }
        resultDim = i;
        llvm::append_range(permutation, llvm::seq<int64_t>(0, added + 1));
      }
      set("permutation", permutation);
    } else if (auto slice = dyn_cast<SliceOp>(op)) {
      if (shapeOf(result)[0] != shapeOf(slice.getX())[0])
        return rewriter.notifyMatchFailure(op, "slices the merged dimension");
      SmallVector<int64_t> offsets(added, 0);
      llvm::append_range(offsets, slice.getOffsets());
      set("offsets", offsets);
    } else if (auto concat = dyn_cast<ConcatOp>(op)) {
      if (concat.getDim() == 0)
        return rewriter.notifyMatchFailure(op, "joins along the merged dimension");
      setScalar("dim", concat.getDim() + added);
    } else if (auto shift = dyn_cast<ShiftOp>(op)) {
      if (shift.getDim() == 0)
        return rewriter.notifyMatchFailure(op, "shifts along the merged dimension");
      setScalar("dim", shift.getDim() + added);
    } else if (auto reduce = dyn_cast<ReduceOp>(op)) {
      if (llvm::is_contained(reduce.getDims(), 0))
        return rewriter.notifyMatchFailure(op, "reduces the merged dimension");
      set("dims", llvm::map_to_vector(reduce.getDims(), [&](int64_t dim) { return dim + added; }));
    } else {
      auto broadcast = cast<BroadcastOp>(op);
      resultDim = broadcast.getDims().front();
      SmallVector<int64_t> dims = llvm::to_vector(llvm::seq(resultDim, resultDim + added));
      for (int64_t dim : broadcast.getDims())
        dims.push_back(dim + added);
      set("dims", dims);
    }
    Type type = reshaped(result, unmerged(shapeOf(result), resultDim, *extents));
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      auto operands =
          llvm::map_to_vector(op->getOperands(), [&](Value operand) { return unmerge(builder, operand, 0, *extents); });
      return rebuild(builder, op, operands, type, changed);
    });
  }
};

/// op(reshape x), where the reshape only adds unit dimensions, and other operands are constants or
/// the same reshape of something: the reshape goes below.
struct SinkUnitDimensions : RewritePattern {
  SinkUnitDimensions(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isElementwise(op))
      return failure();
    ReshapeOp reshape;
    for (Value operand : op->getOperands())
      if (auto candidate = operand.getDefiningOp<ReshapeOp>()) {
        auto withoutUnits = [](Value value) {
          return llvm::filter_to_vector(shapeOf(value), [](int64_t extent) { return extent != 1; });
        };
        if (shapeOf(candidate.getX()).size() < shapeOf(operand).size() &&
            withoutUnits(candidate.getX()) == withoutUnits(operand))
          reshape = candidate;
      }
    if (!reshape)
      return failure();
    ArrayRef<int64_t> shape = shapeOf(reshape.getX());
    for (Value operand : op->getOperands()) {
      auto other = operand.getDefiningOp<ReshapeOp>();
      if (!splatOf(operand) && !(other && shapeOf(other.getX()) == shape))
        return rewriter.notifyMatchFailure(op, "an operand without the unit dimensions");
    }
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      auto operands = llvm::map_to_vector(
          op->getOperands(), [&](Value operand) { return reshapeTo(builder, op->getLoc(), operand, shape); });
      return rebuild(builder, op, operands, Type(reshaped(op->getResult(0), shape)));
    });
  }
};

/// Arithmetic on repetitions of small tensors is done before repeating.
struct SinkBroadcast : RewritePattern {
  SinkBroadcast(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 1, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isElementwise(op) || isa<DropoutOp>(op))
      return failure();
    BroadcastOp broadcast;
    for (Value operand : op->getOperands()) {
      if (splatOf(operand))
        continue;
      auto other = operand.getDefiningOp<BroadcastOp>();
      if (!other ||
          (broadcast && (other.getDims() != broadcast.getDims() || shapeOf(other.getX()) != shapeOf(broadcast.getX()))))
        return rewriter.notifyMatchFailure(op, "operands are repeated differently");
      broadcast = other;
    }
    if (!broadcast)
      return failure();
    ArrayRef<int64_t> shape = shapeOf(broadcast.getX());
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      SmallVector<Value> operands;
      for (Value operand : op->getOperands()) {
        std::optional<double> constant = splatOf(operand);
        operands.push_back(constant ? splat(builder, op->getLoc(), reshaped(operand, shape), *constant)
                                    : operand.getDefiningOp<BroadcastOp>().getX());
      }
      OperationState state(op->getLoc(), op->getName(), operands, Type(reshaped(op->getResult(0), shape)),
                           op->getAttrs());
      Value small = builder.create(state)->getResult(0);
      return BroadcastOp::create(builder, op->getLoc(), op->getResult(0).getType(), small, broadcast.getDims());
    });
  }
};

//===----------------------------------------------------------------------===//
// Shape ops among themselves
//===----------------------------------------------------------------------===//

/// Movement of one repeated number is that number.
struct FoldSplat : RewritePattern {
  FoldSplat(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 2, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isa<ReshapeOp, TransposeOp, SliceOp, BroadcastOp>(op))
      return failure();
    std::optional<double> constant = splatOf(op->getResult(0));
    if (!constant)
      return failure();
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      return splat(builder, op->getLoc(), typeOf(op->getResult(0)), *constant);
    });
  }
};

struct FoldReshape : OpRewritePattern<ReshapeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(ReshapeOp op, PatternRewriter &rewriter) const override {
    if (op.getX().getType() == op.getType())
      return replaceIfLegal(rewriter, op, [&](OpBuilder &) { return op.getX(); });
    if (auto above = op.getX().getDefiningOp<ReshapeOp>())
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return reshapeTo(builder, op.getLoc(), above.getX(), shapeOf(op.getResult()));
      });
    if (auto transpose = op.getX().getDefiningOp<TransposeOp>())
      return belowTranspose(op, transpose, rewriter);
    auto broadcast = op.getX().getDefiningOp<BroadcastOp>();
    return broadcast ? belowBroadcast(op, broadcast, rewriter) : failure();
  }

  /// Dimensions that are only split are split before they move, beside the reshape that merged them.
  LogicalResult belowTranspose(ReshapeOp op, TransposeOp transpose, PatternRewriter &rewriter) const {
    SmallVector<DimensionGroup> groups;
    if (!transpose.getX().getDefiningOp<ReshapeOp>() ||
        !groupDimensions(shapeOf(transpose.getResult()), shapeOf(op.getResult()), groups) ||
        llvm::any_of(groups, [](const DimensionGroup &group) { return group.from.size() != 1; }))
      return rewriter.notifyMatchFailure(op, "merges, or is alone");
    // starts[d]: where the pieces of dimension d of the transpose's operand begin, before moving.
    SmallVector<int64_t> shape, permutation, starts(groups.size());
    SmallVector<const DimensionGroup *> groupOf(groups.size());
    for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
      groupOf[dim] = &groups[i];
    for (auto [dim, group] : llvm::enumerate(groupOf)) {
      starts[dim] = shape.size();
      llvm::append_range(shape, group->to);
    }
    for (int64_t dim : transpose.getPermutation())
      llvm::append_range(permutation, llvm::seq<int64_t>(starts[dim], starts[dim] + groupOf[dim]->to.size()));
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      Value split = reshapeTo(builder, op.getLoc(), transpose.getX(), shape);
      return transposeBy(builder, op.getLoc(), split, permutation);
    });
  }

  /// A reshape that keeps repeated dimensions and those of the source apart goes above.
  LogicalResult belowBroadcast(ReshapeOp op, BroadcastOp broadcast, PatternRewriter &rewriter) const {
    SmallVector<DimensionGroup> groups;
    if (!groupDimensions(shapeOf(broadcast.getResult()), shapeOf(op.getResult()), groups))
      return failure();
    SmallVector<int64_t> dims, shape;
    int64_t from = 0, to = 0;
    for (const DimensionGroup &group : groups) {
      // Repeated unit dimensions repeat nothing.
      unsigned repeated = 0, kept = 0;
      for (int64_t extent : group.from) {
        bool inSource = llvm::is_contained(broadcast.getDims(), from++);
        kept += inSource;
        repeated += !inSource && extent != 1;
      }
      if (kept && repeated)
        return rewriter.notifyMatchFailure(op, "merges a repeated dimension with another");
      if (kept > 1 && group.to.size() == 1)
        return rewriter.notifyMatchFailure(op, "merges; merges move down");
      for (int64_t extent : group.to) {
        if (kept)
          dims.push_back(to), shape.push_back(extent);
        ++to;
      }
    }
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      Value x = reshapeTo(builder, op.getLoc(), broadcast.getX(), shape);
      return BroadcastOp::create(builder, op.getLoc(), op.getType(), x, dims);
    });
  }
};

struct FoldBroadcast : OpRewritePattern<BroadcastOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(BroadcastOp op, PatternRewriter &rewriter) const override {
    if (op.getX().getType() == op.getType())
      return replaceIfLegal(rewriter, op, [&](OpBuilder &) { return op.getX(); });
    auto above = op.getX().getDefiningOp<BroadcastOp>();
    if (!above)
      return failure();
    auto dims = llvm::map_to_vector(above.getDims(), [&](int64_t dim) { return op.getDims()[dim]; });
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      return BroadcastOp::create(builder, op.getLoc(), op.getType(), above.getX(), dims);
    });
  }
};

struct FoldTranspose : OpRewritePattern<TransposeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(TransposeOp op, PatternRewriter &rewriter) const override {
    ArrayRef<int64_t> permutation = op.getPermutation();
    if (auto above = op.getX().getDefiningOp<TransposeOp>()) {
      auto composed = llvm::map_to_vector(permutation, [&](int64_t dim) { return above.getPermutation()[dim]; });
      return replaceIfLegal(
          rewriter, op, [&](OpBuilder &builder) { return transposeBy(builder, op.getLoc(), above.getX(), composed); });
    }
    // Moving only unit dimensions moves no element.
    auto wide = llvm::filter_to_vector(permutation, [&](int64_t dim) { return shapeOf(op.getX())[dim] != 1; });
    if (!llvm::is_sorted(wide))
      return failure();
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      return reshapeTo(builder, op.getLoc(), op.getX(), shapeOf(op.getResult()));
    });
  }
};

/// Slices of one piece of a concat, and of everything. Slices of slices stay: the first may be a query
/// or key, of which the second takes what rotates.
struct FoldSlice : OpRewritePattern<SliceOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SliceOp op, PatternRewriter &rewriter) const override {
    if (op.getX().getType() == op.getType())
      return replaceIfLegal(rewriter, op, [&](OpBuilder &) { return op.getX(); });
    SmallVector<int64_t> offsets(op.getOffsets());
    auto concat = op.getX().getDefiningOp<ConcatOp>();
    if (!concat)
      return failure();
    int64_t dim = concat.getDim(), extent = shapeOf(op.getResult())[dim];
    for (Value input : concat.getInputs()) {
      int64_t available = shapeOf(input)[dim];
      if (offsets[dim] < available) {
        if (offsets[dim] + extent > available)
          return rewriter.notifyMatchFailure(op, "spans pieces of a concat");
        return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
          return SliceOp::create(builder, op.getLoc(), op.getType(), input, offsets);
        });
      }
      offsets[dim] -= available;
    }
    return failure();
  }
};

/// Transposes of an einsum's operands are other letters; dimensions along which an operand is
/// repeated need no letter there, if the other operand has it.
struct FoldIntoEinsum : OpRewritePattern<EinsumOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(EinsumOp op, PatternRewriter &rewriter) const override {
    Equation equation = Equation::parse(op.getEquation());
    Value lhs = op.getLhs(), rhs = op.getRhs();
    bool left = fold(lhs, equation.lhs, equation.rhs), right = fold(rhs, equation.rhs, equation.lhs);
    if (!left && !right)
      return failure();
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      return EinsumOp::create(builder, op.getLoc(), op.getType(), lhs, rhs, equation.str());
    });
  }

  static bool fold(Value &operand, std::string &letters, StringRef others) {
    if (auto transpose = operand.getDefiningOp<TransposeOp>()) {
      std::string before(letters.size(), ' ');
      for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
        before[dim] = letters[i];
      letters = before, operand = transpose.getX();
      return true;
    }
    auto broadcast = operand.getDefiningOp<BroadcastOp>();
    if (!broadcast)
      return false;
    std::string kept;
    for (auto [i, letter] : llvm::enumerate(letters)) {
      if (llvm::is_contained(broadcast.getDims(), int64_t(i)))
        kept += letter;
      else if (!others.contains(letter))
        return false;
    }
    letters = kept, operand = broadcast.getX();
    return true;
  }
};

//===----------------------------------------------------------------------===//
// Arithmetic that does nothing
//===----------------------------------------------------------------------===//

struct FoldArithmetic : RewritePattern {
  FoldArithmetic(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 2, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    auto constant = [&](unsigned operand) { return splatOf(op->getOperand(operand)); };
    Value same;
    if (isa<arith::AddFOp, arith::AddIOp>(op))
      same = constant(1) == 0.0 ? op->getOperand(0) : constant(0) == 0.0 ? op->getOperand(1) : Value();
    else if (isa<arith::SubFOp, arith::SubIOp>(op))
      same = constant(1) == 0.0 ? op->getOperand(0) : Value();
    else if (isa<arith::MulFOp, arith::MulIOp>(op))
      same = constant(1) == 1.0 ? op->getOperand(0) : constant(0) == 1.0 ? op->getOperand(1) : Value();
    else if (isa<arith::DivFOp, math::PowFOp, math::FPowIOp>(op))
      same = constant(1) == 1.0 ? op->getOperand(0) : Value();
    else if (auto dropout = dyn_cast<DropoutOp>(op))
      same = dropout.getP().isZero() ? dropout.getX() : Value();
    else if (auto concat = dyn_cast<ConcatOp>(op))
      same = concat.getInputs().size() == 1 ? concat.getInputs().front() : Value();
    if (same)
      return replaceIfLegal(rewriter, op, [&](OpBuilder &) { return same; });
    if (isa<math::PowFOp, math::FPowIOp>(op) && constant(1) == 2.0)
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return arith::MulFOp::create(builder, op->getLoc(), op->getOperand(0), op->getOperand(0));
      });
    return failure();
  }
};

} // namespace

void raise::populateShapePatterns(RewritePatternSet &patterns) {
  patterns.add<SinkThroughRows, SinkThroughEinsum, SinkThroughMovement, SinkUnitDimensions, SinkBroadcast, FoldSplat,
               FoldReshape, FoldBroadcast, FoldTranspose, FoldSlice, FoldIntoEinsum, FoldArithmetic>(
      patterns.getContext());
}
