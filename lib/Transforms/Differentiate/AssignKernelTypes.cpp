// Functions of the runtime read f32, bf16, i64 and, in a step of fp16, f16; a model may cast to others. Such
// operands are converted on the way in, results on the way back. Loops that are generated compute in any type, and
// what only moves elements moves those of any.
#include "galvatron/Support/FloatTypes.h"
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/Graph.h"
#include "dialects/Graph/Precision.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Iterators.h"

namespace galvatron {
#define GEN_PASS_DEF_ASSIGNKERNELTYPESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

static bool isCall(Operation *op) {
  return isa<GraphDialect>(op->getDialect()) && !isComputedInLoops(op) && !isView(op) && !isa<ConcatOp, DetachOp>(op) &&
         !isa<ParameterOp, LayerOp, BackwardOp, ReturnOp, CallOp, TotalOp>(op);
}

/// The type in which the runtime computes what is of `element`. What a model itself casts to f16 is computed in f32.
static Type kernelType(Type element, bool isFp16) {
  if (element.isF64() || (element.isF16() && !isFp16))
    return Float32Type::get(element.getContext());
  if (element.isSignlessInteger() && !element.isInteger(1))
    return IntegerType::get(element.getContext(), 64);
  return element;
}

static Value convert(OpBuilder &builder, Location loc, Value value, Type type) {
  Type from = getElementTypeOrSelf(value.getType()), to = getElementTypeOrSelf(type);
  if (isa<FloatType>(from))
    return convertFloat(builder, loc, value, to);
  if (from.getIntOrFloatBitWidth() > to.getIntOrFloatBitWidth())
    return arith::TruncIOp::create(builder, loc, type, value);
  // Bytes are unsigned, as torch.uint8 is.
  return from.isInteger(8) ? Value(arith::ExtUIOp::create(builder, loc, type, value))
                           : Value(arith::ExtSIOp::create(builder, loc, type, value));
}

/// Returns the number of operands and results that are converted.
static unsigned assignTypes(Operation *op) {
  unsigned count = 0;
  bool isFp16 = getPrecision(op) == "fp16";
  auto isRead = [&](RankedTensorType type) {
    return kernelType(type.getElementType(), isFp16) == type.getElementType();
  };
  OpBuilder builder(op);
  for (OpOperand &operand : op->getOpOperands()) {
    auto type = dyn_cast<RankedTensorType>(operand.get().getType());
    if (!type || isRead(type))
      continue;
    Type wanted = withElementType(type, kernelType(type.getElementType(), isFp16));
    operand.set(convert(builder, op->getLoc(), operand.get(), wanted));
    ++count;
  }
  builder.setInsertionPointAfter(op);
  for (Value result : op->getResults()) {
    auto type = dyn_cast<RankedTensorType>(result.getType());
    if (!type || isRead(type))
      continue;
    result.setType(cast<RankedTensorType>(withElementType(type, kernelType(type.getElementType(), isFp16))));
    Value converted = convert(builder, op->getLoc(), result, type);
    result.replaceAllUsesExcept(converted, converted.getDefiningOp());
    ++count;
  }
  return count;
}

namespace {

struct AssignKernelTypesPass : galvatron::impl::AssignKernelTypesPassBase<AssignKernelTypesPass> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<Operation *> calls;
    getOperation()->walk([&](Operation *op) {
      if (isCall(op))
        calls.push_back(op);
    });
    for (Operation *op : calls)
      numConverted += assignTypes(op);
    // What was widened and is narrowed again was not changed: a gradient in float64 between float32 ones.
    getOperation()->walk([](arith::TruncFOp narrowed) {
      auto widened = narrowed.getIn().getDefiningOp<arith::ExtFOp>();
      if (widened && widened.getIn().getType() == narrowed.getType())
        narrowed.replaceAllUsesWith(widened.getIn());
    });
    getOperation()->walk<WalkOrder::PostOrder, ReverseIterator>([](Operation *op) {
      if (isa<arith::TruncFOp, arith::ExtFOp>(op) && op->use_empty())
        op->erase();
    });
  }
};

} // namespace
