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
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

namespace galvatron {
#define GEN_PASS_DEF_RAISESHAPESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

//===----------------------------------------------------------------------===//
// Sinking merges
//===----------------------------------------------------------------------===//

/// X1, X2, .. if `value` [X1·X2.., rest] is a reshape that merged its leading dimension from them; all but one may be 1
/// if `ofUnits`.
static std::optional<SmallVector<int64_t>> leadingMerge(Value value, bool ofUnits = false) {
  auto reshape = value.getDefiningOp<ReshapeOp>();
  SmallVector<DimensionGroup> groups;
  // A parameter's leading dimension is no batch.
  if (!reshape || isParameter(value) || !groupDimensions(shapeOf(reshape.getX()), shapeOf(value), groups) ||
      groups.empty())
    return std::nullopt;
  const DimensionGroup &lead = groups.front();
  auto isWide = [](int64_t extent) { return extent != 1; };
  if (llvm::count_if(lead.from, isWide) < (ofUnits ? 1 : 2) || lead.from.size() < 2 || lead.to.size() != 1)
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
static std::optional<SmallVector<int64_t>> anyLeadingMerge(ValueRange operands, bool ofUnits = false) {
  for (Value operand : operands)
    if (std::optional<SmallVector<int64_t>> extents = leadingMerge(operand, ofUnits))
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
    // Of a batch of one sample too: there the loss has to be seen to be one of positions.
    std::optional<SmallVector<int64_t>> extents = anyLeadingMerge(data, /*ofUnits=*/isa<CrossEntropyOp>(op));
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
      std::string &subscripts = left ? equation.lhs : equation.rhs,
                  &otherSubscripts = left ? equation.rhs : equation.lhs;
      if (subscripts.empty() || isParameter(operand))
        continue;
      char merged = subscripts.front();
      size_t inOther = otherSubscripts.find(merged);
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

} // namespace

void raise::populateShapePatterns(RewritePatternSet &patterns) {
  patterns.add<SinkThroughRows, SinkThroughEinsum, SinkThroughMovement, SinkUnitDimensions, SinkBroadcast>(
      patterns.getContext());
  populateShapeFolds(patterns);
}

namespace {

struct RaiseShapesPass : galvatron::impl::RaiseShapesPassBase<RaiseShapesPass> {
  using Base::Base;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    populateShapePatterns(set);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      FailureOr<unsigned> applied = settle(function, patterns, getArgument(), maxSweeps);
      if (failed(applied))
        return signalPassFailure();
      numApplied += *applied;
    }
  }

  FrozenRewritePatternSet patterns;
};

} // namespace
