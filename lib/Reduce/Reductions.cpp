// Each edit leaves a program that holds together, or one that the verifier refuses.
#include "Reductions.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Iterators.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

#include <algorithm>

using namespace mlir;
using namespace galvatron;

/// Zeros of a tensor's type, null where it has none.
static TypedAttr zerosOf(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor || !tensor.hasStaticShape() || !tensor.getElementType().isIntOrFloat())
    return {};
  return Builder(type.getContext()).getZeroAttr(tensor);
}

/// Of a layer's call what it can give instead of its result.
static Value inputOfResultType(Operation *op) {
  auto call = dyn_cast<graph::CallOp>(op);
  if (!call || call->getNumResults() != 1)
    return {};
  for (Value input : call.getInputs())
    if (input.getType() == call->getResult(0).getType())
      return input;
  return {};
}

static bool canBeZeros(Operation *op) {
  return op->getNumResults() && !op->getNumRegions() && !op->hasTrait<OpTrait::ConstantLike>() &&
         llvm::all_of(op->getResultTypes(), [](Type type) { return bool(zerosOf(type)); });
}

static bool canGo(Operation *op) {
  if (isa<SymbolOpInterface>(op) && op->getParentOp())
    return SymbolTable::symbolKnownUseEmpty(op, op->getParentOp());
  return !op->getNumResults() && !op->getNumRegions() && !op->hasTrait<OpTrait::IsTerminator>();
}

bool galvatron::canReduce(Operation *op) { return inputOfResultType(op) || canBeZeros(op) || canGo(op); }

void galvatron::reduceOp(Operation *op) {
  if (Value input = inputOfResultType(op)) {
    op->getResult(0).replaceAllUsesWith(input);
  } else if (canBeZeros(op)) {
    OpBuilder builder(op);
    for (Value result : op->getResults())
      result.replaceAllUsesWith(arith::ConstantOp::create(builder, op->getLoc(), zerosOf(result.getType())));
  } else if (!canGo(op)) {
    return;
  }
  op->erase();
}

bool galvatron::dropMicroBatch(ModuleOp module) {
  int64_t last = 0;
  SmallVector<dist::StageOp> stages(module.getOps<dist::StageOp>());
  for (dist::StageOp stage : stages)
    if (auto order = stage.getOrderAttr())
      for (const dist::Instruction &instruction : order.getInstructions())
        last = std::max(last, instruction.microBatch);
  if (last == 0)
    return false;
  for (dist::StageOp stage : stages)
    if (auto order = stage.getOrderAttr()) {
      SmallVector<dist::Instruction> kept;
      llvm::copy_if(order.getInstructions(), std::back_inserter(kept),
                    [&](const dist::Instruction &instruction) { return instruction.microBatch < last; });
      stage.setOrderAttr(dist::OrderAttr::get(module.getContext(), kept));
    }
  return true;
}

void galvatron::cleanUp(ModuleOp module) {
  for (bool isChanged = true; isChanged;) {
    SmallVector<Operation *> unused;
    module.walk<WalkOrder::PostOrder, ReverseIterator>([&](Operation *op) {
      if (op != module && (isOpTriviallyDead(op) || (isa<graph::LayerOp>(op) && canGo(op))))
        unused.push_back(op);
    });
    isChanged = !unused.empty();
    for (Operation *op : unused)
      if (op->use_empty())
        op->erase();
  }
  PassManager passes(module.getContext());
  passes.addPass(createCSEPass());
  (void)passes.run(module); // of what does not hold together nothing is asked any more
}
