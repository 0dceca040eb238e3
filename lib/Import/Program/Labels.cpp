// Follows labels from each cross-entropy back to the step's inputs.
#include "Labels.h"

#include "lib/Import/Expression/Value.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"

#include <set>

using namespace galvatron;
using namespace galvatron::importer;
using mlir::Operation;

static constexpr int64_t kNoLabel = -100; // torch's ignore_index
static constexpr llvm::StringLiteral kIgnoreIndex = "ignore_index";

mlir::Value galvatron::importer::moveLabels(mlir::OpBuilder &builder, mlir::Value labels) {
  return graph::ShiftOp::create(builder, labels.getLoc(), labels.getType(), labels, /*dim=*/1, /*offset=*/1,
                                static_cast<uint64_t>(kNoLabel));
}

namespace {

/// How the labels of one loss come from the step's inputs.
struct LabelPath {
  bool isMoved = false; // by the model: cut, joined or shifted
  bool isMovedByImport = false;
  bool isToken = false;   // an input is reached
  bool isUnknown = false; // something else is computed on the way
};

} // namespace

static void follow(mlir::Value value, mlir::Value moved, LabelPath &path) {
  if (value == moved) {
    path.isMovedByImport = true;
    return;
  }
  Operation *op = value.getDefiningOp();
  if (!op) {
    path.isToken = true;
    return;
  }
  if (op->getNumOperands() == 0 || op->hasTrait<mlir::OpTrait::ConstantLike>())
    return;
  // What is chosen between are labels; what it depends on are not.
  bool isChoice = llvm::isa<mlir::arith::SelectOp>(op);
  bool isInPlace = isChoice || op->hasTrait<mlir::OpTrait::Elementwise>() ||
                   llvm::isa<graph::ReshapeOp, graph::TransposeOp, graph::BroadcastOp>(op);
  bool isMove = llvm::isa<graph::ShiftOp, graph::SliceOp, graph::ConcatOp, graph::PadOp>(op);
  path.isMoved |= isMove;
  if (!isInPlace && !isMove) {
    path.isUnknown = true;
    return;
  }
  for (mlir::Value operand : op->getOperands().drop_front(isChoice ? 1 : 0))
    follow(operand, moved, path);
}

static bool dependsOnData(mlir::Value value, llvm::DenseMap<mlir::Value, bool> &known) {
  if (auto at = known.find(value); at != known.end())
    return at->second;
  Operation *op = value.getDefiningOp();
  bool depends = !op || op->getName().getStringRef() == "graph.parameter" ||
                 llvm::any_of(op->getOperands(), [&](mlir::Value operand) { return dependsOnData(operand, known); });
  return known[value] = depends;
}

/// Whether each position sees all of them: there is attention, and nothing hides what comes after. (Import writes every
/// mask as a comparison of ramps, key <= query.)
static bool isBidirectional(mlir::func::FuncOp step) {
  bool hasAttention = false, isCausal = false;
  llvm::DenseMap<mlir::Value, bool> known;
  step.walk([&](Operation *op) {
    hasAttention |= llvm::isa<graph::AttentionOp, graph::SoftmaxOp>(op);
    if (auto attention = llvm::dyn_cast<graph::AttentionOp>(op))
      isCausal |= attention.getCausal();
    if (auto compare = llvm::dyn_cast<mlir::arith::CmpIOp>(op))
      isCausal |=
          compare.getPredicate() == mlir::arith::CmpIPredicate::sle && !dependsOnData(compare.getResult(), known);
  });
  return hasAttention && !isCausal;
}

/// "the loss of lm_head (train.py:12)"
static std::string describeLoss(Operation *loss) {
  std::string text = "the loss";
  auto name = llvm::dyn_cast<mlir::NameLoc>(loss->getLoc());
  if (!name)
    return text;
  if (!name.getName().empty())
    text += " of " + name.getName().str();
  if (auto file = llvm::dyn_cast<mlir::FileLineColLoc>(name.getChildLoc()))
    text += " (" + file.getFilename().str() + ":" + std::to_string(file.getLine()) + ")";
  return text;
}

/// Calls `visit` for each loss with the labels it reads and the index that it ignores. Losses are the ops that ignore
/// one; their labels are the operand of integers.
static void forEachLoss(mlir::func::FuncOp step, llvm::function_ref<void(Operation *, mlir::Value, int64_t)> visit) {
  step.walk([&](Operation *op) {
    if (auto ignoredIndex = op->getAttrOfType<mlir::IntegerAttr>(kIgnoreIndex))
      for (mlir::Value operand : op->getOperands())
        if (mlir::getElementTypeOrSelf(operand.getType()).isInteger())
          visit(op, operand, ignoredIndex.getInt());
  });
}

/// Whether the model moves all labels that `moved` reaches.
static bool movesItself(mlir::func::FuncOp step, mlir::Value moved) {
  int64_t once = 0, twice = 0;
  forEachLoss(step, [&](Operation *, mlir::Value labels, int64_t) {
    LabelPath path;
    follow(labels, moved, path);
    if (path.isMovedByImport)
      ++(path.isMoved ? twice : once);
  });
  return twice > 0 && once == 0;
}

std::vector<std::string> galvatron::importer::checkLabels(mlir::func::FuncOp step, mlir::Value moved, bool isPacked,
                                                          bool &areLabelsCounted) {
  std::vector<std::string> warnings;
  std::set<int64_t> ignored;
  if (moved && movesItself(step, moved)) {
    moved.replaceAllUsesWith(step.getArgument(1));
    moved = nullptr;
  }
  bool isRead = false, learnsToCopy = !isBidirectional(step);
  auto check = [&](Operation *loss, mlir::Value labels, int64_t ignoredIndex) {
    LabelPath path;
    follow(labels, moved, path);
    if (isPacked && ignoredIndex != kNoLabel)
      throw ImportError(describeLoss(loss) + " does not ignore the label " + std::to_string(kNoLabel) +
                        ", which the last token of a document has; pass ignore_index=" + std::to_string(kNoLabel));
    isRead |= path.isMovedByImport;
    areLabelsCounted |= path.isToken && !path.isMovedByImport && !path.isMoved && !learnsToCopy;
    if (path.isMovedByImport && ignoredIndex == graph::CrossEntropyOp::kIgnoresNothing)
      throw ImportError(describeLoss(loss) + " counts every label, so nothing would leave out the last position, which "
                                             "--labels next leaves without one; use cross_entropy, or shift in forward "
                                             "and import with --labels same");
    if (path.isMovedByImport)
      ignored.insert(ignoredIndex);
    if (path.isMovedByImport && path.isMoved)
      warnings.push_back(describeLoss(loss) + " moves its labels itself, so that --labels next moves them twice; "
                                              "import with --labels same");
    if (path.isToken && !path.isMovedByImport && !path.isMoved && !path.isUnknown && learnsToCopy)
      warnings.push_back(describeLoss(loss) +
                         " compares the logits of each position with the token at the same position, so the model "
                         "learns to copy what it reads; import with --labels next, or shift in forward");
  };
  forEachLoss(step, check);
  if (!moved)
    return warnings;
  if (!isRead)
    throw ImportError("no cross_entropy reads the labels that --labels next moves, so nothing would leave the last "
                      "position out; shift in forward, and import with --labels same");
  if (ignored.size() > 1)
    throw ImportError("losses with different ignore_index read the labels that --labels next moves; give them one");
  moved.getDefiningOp<graph::ShiftOp>().setFill(static_cast<uint64_t>(*ignored.begin()));
  return warnings;
}
