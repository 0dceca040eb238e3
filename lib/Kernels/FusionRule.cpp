// Which values need no memory, and what a product takes along.
#include "galvatron/Kernels/FusionRule.h"

#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace galvatron;

/// Costs nothing to recompute. A conversion does not, but what it converts may.
static bool isFree(Operation *op) {
  if (isa<arith::ExtFOp, arith::TruncFOp>(op)) {
    Operation *converted = op->getOperand(0).getDefiningOp();
    return !converted || !isInlined(op->getOperand(0)) || isFree(converted);
  }
  return isa<arith::ConstantOp, graph::BroadcastOp, arith::NegFOp>(op) ||
         getElementTypeOrSelf(op->getResult(0).getType()).isInteger(1);
}

bool galvatron::isInlined(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !isComputedInLoops(op) || op->getNumResults() != 1)
    return false;
  if (value.use_empty())
    return true;
  // A reader in another block is backward, before it is a body of its own: it reads what forward stored.
  for (Operation *user : value.getUsers())
    if (!isComputedInLoops(user) || user->getBlock() != op->getBlock())
      return false;
  if (isFree(op))
    return true;
  // A broadcast would compute it once for each copy.
  return value.hasOneUse() && !isa<graph::BroadcastOp>(*value.user_begin());
}

std::optional<ProductSum> galvatron::matchProductSum(graph::SumOp sum) {
  if (sum.getInputs().size() > 3 || isInlined(sum.getResult()))
    return std::nullopt;
  ProductSum match;
  int64_t last = cast<ShapedType>(sum.getResult().getType()).getRank() - 1;
  for (Value input : sum.getInputs()) {
    auto product = input.getDefiningOp<graph::EinsumOp>();
    auto broadcast = input.getDefiningOp<graph::BroadcastOp>();
    if (product && !match.product && input.hasOneUse() &&
        getElementTypeOrSelf(product.getLhs()) == getElementTypeOrSelf(input))
      match.product = product;
    else if (broadcast && !match.bias && broadcast.getDims() == ArrayRef<int64_t>(last))
      match.bias = broadcast.getX();
    else if (!match.addend && !isInlined(input))
      match.addend = input;
    else
      return std::nullopt;
  }
  if (!match.product)
    return std::nullopt;
  return match;
}
