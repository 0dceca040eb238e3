// The loss over all positions: shifted logits and labels become all logits and shifted labels, so
// that the sequence stays one axis.
//
//     cross_entropy(logits[:, :-1], labels[:, 1:])  →  cross_entropy(logits, shift labels by 1)
//     slice of (labels ++ [-100])                   →  shift labels by 1, filled with -100
//
// Where who reads the labels may shift them, that is left to it: the shift has no token for the last position of a row,
// a reader may know one.
//
//     cross_entropy(logits, shift labels by 1)      →  cross_entropy(logits, labels)
#include "Raise.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_RAISELOSSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

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

/// What all losses ignore, if they agree, and the loss of no position is cut off.
std::optional<int64_t> findIgnored(func::FuncOp step) {
  std::optional<int64_t> ignored;
  bool agree = true;
  step.walk([&](CrossEntropyOp loss) {
    int64_t own = loss.getIgnoreIndex();
    agree &= own == ignored.value_or(own) && own != CrossEntropyOp::kIgnoresNothing;
    agree &= llvm::none_of(loss->getUsers(), [](Operation *user) { return isa<SliceOp>(user); });
    ignored = own;
  });
  return agree ? ignored : std::nullopt;
}

/// All users of the labels if each moves them by one and leaves the last to be ignored, else none.
SmallVector<ShiftOp> findShifts(Value labels, int64_t ignored) {
  SmallVector<ShiftOp> shifts;
  for (Operation *user : labels.getUsers()) {
    auto op = dyn_cast<ShiftOp>(user);
    if (!op || op.getDim() != 1 || op.getOffset() != 1 || int64_t(op.getFill()) != ignored)
      return {};
    shifts.push_back(op);
  }
  return shifts;
}

/// Takes the shifts out of a program whose labels the reader may shift, and says so. How many labels count is then no
/// longer known, as it is not in packed rows anyway.
void takeNextLabels(ModuleOp module) {
  func::FuncOp step = getStep(module);
  if ((!module->hasAttr(kNextLabelsAttr) && !module->hasAttr(kPackedAttr)) || !step || step.getNumArguments() < 2)
    return;
  std::optional<int64_t> ignored = findIgnored(step);
  if (!ignored)
    return;
  Value labels = step.getArgument(1);
  SmallVector<ShiftOp> shifts = findShifts(labels, *ignored);
  if (shifts.empty())
    return;
  for (ShiftOp op : shifts) {
    op.replaceAllUsesWith(labels);
    op.erase();
  }
  module->setAttr(kIgnoredLabelAttr, Builder(module.getContext()).getI64IntegerAttr(*ignored));
}

struct RaiseLossPass : galvatron::impl::RaiseLossPassBase<RaiseLossPass> {
  using Base::Base;

  LogicalResult initialize(MLIRContext *context) override {
    RewritePatternSet set(context);
    set.add<RaiseShift, WidenLoss>(context);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      auto shifts = [&] { return llvm::range_size(function.getOps<ShiftOp>()); };
      size_t before = shifts();
      if (failed(settle(function, patterns, getArgument(), maxSweeps)))
        return signalPassFailure();
      numShifts += shifts() - before;
    }
    takeNextLabels(getOperation());
  }

  FrozenRewritePatternSet patterns;
};

} // namespace
