// Labels that the reader gives each position already, in place of the program's own shift:
//
//     cross_entropy(logits, shift labels by 1)  →  cross_entropy(logits, labels)
//
// The shift has no token for the last position of a row; a reader that knows the next one has.
#include "Raise.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_TAKENEXTLABELSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

/// What all losses ignore, if they agree.
static std::optional<int64_t> findIgnored(func::FuncOp step) {
  std::optional<int64_t> ignored;
  bool agree = true;
  step.walk([&](CrossEntropyOp loss) {
    int64_t own = loss.getIgnoreIndex();
    agree &= own == ignored.value_or(own) && own != CrossEntropyOp::kIgnoresNothing;
    ignored = own;
  });
  return agree ? ignored : std::nullopt;
}

namespace {

struct TakeNextLabelsPass : galvatron::impl::TakeNextLabelsPassBase<TakeNextLabelsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = getStep(module);
    if ((!module->hasAttr(kNextLabelsAttr) && !module->hasAttr(kPackedAttr)) || !step || step.getNumArguments() < 2)
      return;
    std::optional<int64_t> ignored = findIgnored(step);
    Value labels = step.getArgument(1);
    if (!ignored)
      return;
    SmallVector<ShiftOp> shifts = findShifts(labels, *ignored);
    if (shifts.empty())
      return;
    for (ShiftOp op : shifts) {
      op.replaceAllUsesWith(labels);
      op.erase();
    }
    numShifts += shifts.size();
    module->setAttr(kIgnoredLabelAttr, Builder(module.getContext()).getI64IntegerAttr(*ignored));
  }

  /// All users of the labels if each moves them by one and leaves the last to be ignored, else none.
  static SmallVector<ShiftOp> findShifts(Value labels, int64_t ignored) {
    SmallVector<ShiftOp> shifts;
    for (Operation *user : labels.getUsers()) {
      auto op = dyn_cast<ShiftOp>(user);
      if (!op || op.getDim() != 1 || op.getOffset() != 1 || int64_t(op.getFill()) != ignored)
        return {};
      shifts.push_back(op);
    }
    return shifts;
  }
};

} // namespace
