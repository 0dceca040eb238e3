// One rule for the pass that splits backwards and for the prices of what it puts off.
#include "galvatron/Placement/WeightGradients.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphProducts.h"

using namespace mlir;
using namespace galvatron;

using Ops = llvm::DenseSet<Operation *>;

bool galvatron::movesBetweenDevices(Operation *op) {
  return isa<dist::DistDialect>(op->getDialect()) && !isa<dist::ShardOp, dist::ReturnOp>(op);
}

/// The ops of `block` that compute a value, with it.
static void addSlice(Block &block, Value value, Ops &slice) {
  SmallVector<Value> left = {value};
  while (!left.empty())
    if (Operation *op = left.pop_back_val().getDefiningOp(); op && op->getBlock() == &block && slice.insert(op).second)
      llvm::append_range(left, op->getOperands());
}

Ops galvatron::findWeightGradients(Block &backward, unsigned numOutputGradients, unsigned numInputGradients) {
  Ops putOff, forInputs, forProducts;
  if (!numInputGradients)
    return putOff;
  OperandRange gradients = backward.getTerminator()->getOperands();
  for (Value gradient : gradients.take_front(numInputGradients))
    addSlice(backward, gradient, forInputs);
  llvm::DenseSet<Value> ofOutputs; // what depends on gradients of outputs: all else is forward's, recomputed
  for (BlockArgument argument : backward.getArguments().take_front(numOutputGradients))
    ofOutputs.insert(argument);
  for (Operation &op : backward)
    if (llvm::any_of(op.getOperands(), [&](Value operand) { return ofOutputs.contains(operand); }))
      ofOutputs.insert_range(op.getResults());
  auto isGradientProduct = [&](Operation *op) {
    return isa<graph::EinsumOp>(op) && !forInputs.contains(op) && ofOutputs.contains(op->getResult(0));
  };
  for (Value gradient : gradients.drop_front(numInputGradients)) {
    Ops slice;
    addSlice(backward, gradient, slice);
    if (llvm::any_of(slice, isGradientProduct))
      forProducts.insert_range(slice);
  }
  for (Operation &op : backward.without_terminator()) {
    bool follows =
        llvm::any_of(op.getOperands(), [&](Value operand) { return putOff.contains(operand.getDefiningOp()); });
    bool moves = forProducts.contains(&op) && (isGradientProduct(&op) || movesBetweenDevices(&op));
    if (!forInputs.contains(&op) && (follows || moves))
      putOff.insert(&op);
  }
  return putOff;
}
