#include "Documents.h"

#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace galvatron;

static bool isSplat(Value value, int64_t number) {
  DenseElementsAttr constant;
  if (auto broadcast = value.getDefiningOp<graph::BroadcastOp>())
    value = broadcast.getX();
  return matchPattern(value, m_Constant(&constant)) && constant.isSplat() &&
         constant.getSplatValue<llvm::APInt>().getSExtValue() == number;
}

/// positions[:, :1] - 1
static bool isBeforeFirst(Value value, Value positions) {
  auto minus = value.getDefiningOp<arith::SubIOp>();
  auto first = minus ? minus.getLhs().getDefiningOp<graph::SliceOp>() : graph::SliceOp();
  return first && first.getX() == positions && isSplat(minus.getRhs(), 1) &&
         llvm::all_of(first.getOffsets(), [](int64_t offset) { return offset == 0; }) &&
         cast<RankedTensorType>(first.getType()).getDimSize(1) == 1;
}

bool galvatron::importer::countsDocuments(Value x, Value positions) {
  while (isa_and_nonnull<arith::ExtUIOp>(x.getDefiningOp()))
    x = x.getDefiningOp()->getOperand(0);
  auto breaks = x.getDefiningOp<arith::CmpIOp>();
  if (!breaks || breaks.getPredicate() != arith::CmpIPredicate::ne || !isSplat(breaks.getRhs(), 1))
    return false;
  auto difference = breaks.getLhs().getDefiningOp<arith::SubIOp>();
  if (!difference || difference.getType() != positions.getType())
    return false;
  auto here = difference.getLhs().getDefiningOp<graph::SliceOp>();
  auto before = difference.getRhs().getDefiningOp<graph::SliceOp>();
  if (!here || !before || here.getX() != before.getX() || here.getOffsets() != llvm::ArrayRef<int64_t>({0, 1}) ||
      before.getOffsets() != llvm::ArrayRef<int64_t>({0, 0}))
    return false;
  auto whole = here.getX().getDefiningOp<graph::ConcatOp>();
  return whole && whole.getDim() == 1 && whole.getInputs().size() == 2 &&
         isBeforeFirst(whole.getInputs()[0], positions) && whole.getInputs()[1] == positions;
}
