// The loss over all positions: shifted logits and labels become all logits and shifted labels, so
// that the sequence stays one axis.
//
//     cross_entropy(logits[:, :-1], labels[:, 1:])  →  cross_entropy(logits, shift labels by 1)
//     slice of (labels ++ [-100])                   →  shift labels by 1, filled with -100
#include "RaiseOps.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {

/// slice(x ++ constant) of x's own extent is x, moved.
struct RaiseShift : OpRewritePattern<SliceOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(SliceOp op, PatternRewriter &rewriter) const override {
    auto concat = op.getX().getDefiningOp<ConcatOp>();
    std::optional<int64_t> dim = cutDim(op);
    if (!concat || !dim || int64_t(concat.getDim()) != *dim || concat.getInputs().size() != 2 ||
        !isa<IntegerType>(typeOf(op).getElementType()))
      return failure();
    for (unsigned i : {0, 1}) {
      Value x = concat.getInputs()[i];
      std::optional<double> fill = splatOf(concat.getInputs()[1 - i]);
      // Joined before x, the constant moves x up.
      int64_t offset = op.getOffsets()[*dim] - (i == 0 ? 0 : shapeOf(concat.getInputs()[0])[*dim]);
      if (!fill || x.getType() != op.getType())
        continue;
      return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
        return ShiftOp::create(builder, op.getLoc(), op.getType(), x, *dim, offset, int64_t(*fill));
      });
    }
    return rewriter.notifyMatchFailure(op, "no piece of the result's size beside a constant");
  }
};

/// cross_entropy(slice logits, slice labels): what was cut off becomes ignored.
struct WidenLoss : OpRewritePattern<CrossEntropyOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(CrossEntropyOp op, PatternRewriter &rewriter) const override {
    auto logits = op.getLogits().getDefiningOp<SliceOp>();
    auto labels = op.getLabels().getDefiningOp<SliceOp>();
    if (!logits || !labels)
      return failure();
    std::optional<int64_t> dim = cutDim(logits);
    if (!dim || *dim + 1 == typeOf(op.getLogits()).getRank() || cutDim(labels) != dim ||
        shapeOf(logits.getX())[*dim] != shapeOf(labels.getX())[*dim])
      return rewriter.notifyMatchFailure(op, "logits and labels are not cut along one dimension");
    // Position p of the loss is logits[p + a] against labels[p + b], so logits[q] against
    // labels[q + b - a], and those must be all pairs there are.
    int64_t offset = labels.getOffsets()[*dim] - logits.getOffsets()[*dim];
    int64_t extent = shapeOf(logits.getX())[*dim], kept = shapeOf(op.getLabels())[*dim];
    if (kept + std::abs(offset) != extent || (offset > 0 ? logits : labels).getOffsets()[*dim] != 0)
      return rewriter.notifyMatchFailure(op, "labels are cut by more than the shift");
    return replaceIfLegal(rewriter, op, [&](OpBuilder &builder) {
      Value shifted = ShiftOp::create(builder, labels.getLoc(), labels.getX().getType(), labels.getX(), *dim, offset,
                                      op.getIgnoreIndex());
      Type type = op.isMean() ? Type(op.getType()) : Type(reshaped(op.getLoss(), shapeOf(shifted)));
      Value loss = CrossEntropyOp::create(builder, op.getLoc(), type, logits.getX(), shifted, /*count=*/Value(),
                                          op.getIgnoreIndex());
      return type == op.getType() ? loss : sliceOf(builder, op.getLoc(), loss, *dim, logits.getOffsets()[*dim], kept);
    });
  }
};

} // namespace

void raise::populateLossPatterns(RewritePatternSet &patterns) {
  patterns.add<RaiseShift, WidenLoss>(patterns.getContext());
}

//===----------------------------------------------------------------------===//
// Positions
//===----------------------------------------------------------------------===//

unsigned raise::raisePositions(func::FuncOp function, TableReader &reader) {
  unsigned numRaised = 0;
  for (auto op : llvm::to_vector(function.getBody().front().getOps<EmbeddingOp>())) {
    Value ids = op.getIds();
    if (!reader.isTable(ids) || typeOf(ids).getRank() == 0)
      continue;
    // ids = start + index along one dimension, the same along all others.
    ArrayRef<int64_t> shape = shapeOf(ids);
    SmallVector<int64_t> index(shape.size(), 0);
    int64_t start = reader.read(ids, index);
    std::optional<int64_t> along;
    bool isAffine = true;
    for (int64_t dim = 0; dim < int64_t(shape.size()); ++dim) {
      bool varies = shape[dim] > 1 && (index[dim] = 1, reader.read(ids, index) != start);
      isAffine &= !varies || !along;
      if (varies)
        along = dim;
      index[dim] = 0;
    }
    if (!isAffine || !along)
      continue;
    int64_t total = llvm::product_of(shape);
    for (int64_t linear = 0; linear < total && isAffine; ++linear) {
      int64_t rest = linear;
      for (size_t dim = shape.size(); dim-- > 0; rest /= shape[dim])
        index[dim] = rest % shape[dim];
      isAffine = reader.read(ids, index) == start + index[*along];
    }
    if (!isAffine || start < 0 || start + shape[*along] > shapeOf(op.getTable())[0])
      continue;
    numRaised += replaceIfLegal(op, [&](OpBuilder &builder) {
      Value rows = sliceOf(builder, op.getLoc(), op.getTable(), 0, start, shape[*along]);
      return op.getType() == rows.getType() ? rows
                                            : Value(BroadcastOp::create(builder, op.getLoc(), op.getType(), rows,
                                                                        {*along, int64_t(shape.size())}));
    });
  }
  return numRaised;
}
