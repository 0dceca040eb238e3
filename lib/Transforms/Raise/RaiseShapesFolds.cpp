// Shape ops among themselves, where a piece of one is the other's, and arithmetic that does nothing.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {

//===----------------------------------------------------------------------===//
// Shape ops among themselves
//===----------------------------------------------------------------------===//

/// Movement of one repeated number is that number.
struct FoldSplat : RewritePattern {
  FoldSplat(MLIRContext *context) : RewritePattern(MatchAnyOpTypeTag(), 2, context) {}

  LogicalResult matchAndRewrite(Operation *op, PatternRewriter &rewriter) const override {
    if (!isView(op))
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

/// Transposes of an einsum's operands are other subscripts; dimensions along which an operand is
/// repeated need no subscript there, if the other operand has it.
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

  static bool fold(Value &operand, std::string &subscripts, StringRef others) {
    if (auto transpose = operand.getDefiningOp<TransposeOp>()) {
      std::string before(subscripts.size(), ' ');
      for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
        before[dim] = subscripts[i];
      subscripts = before, operand = transpose.getX();
      return true;
    }
    auto broadcast = operand.getDefiningOp<BroadcastOp>();
    if (!broadcast)
      return false;
    std::string kept;
    for (auto [i, subscript] : llvm::enumerate(subscripts)) {
      if (llvm::is_contained(broadcast.getDims(), int64_t(i)))
        kept += subscript;
      else if (!others.contains(subscript))
        return false;
    }
    subscripts = kept, operand = broadcast.getX();
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

void raise::populateShapeFolds(RewritePatternSet &patterns) {
  patterns.add<FoldSplat, FoldReshape, FoldBroadcast, FoldTranspose, FoldSlice, FoldIntoEinsum, FoldArithmetic>(
      patterns.getContext());
}
