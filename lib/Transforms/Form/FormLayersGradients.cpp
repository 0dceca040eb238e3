// Where gradients flow in a step: from the loss backwards, as far back as there is a trained parameter. What PyTorch
// gives no gradient to (`None`, not zero) gets none here: such a parameter is neither decayed nor updated.
#include "FormLayers.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphStructure.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

GradientFlow::GradientFlow(func::FuncOp step) {
  Block &body = step.getBody().front();
  insertFloats(required, step.getArguments());
  insertFloats(reached, body.getTerminator()->getOperands());
  spread(body);
}

GradientFlow::GradientFlow(LayerOp layer) {
  Block &body = layer.getBody().front();
  for (BlockArgument argument : body.getArguments())
    if (layer.hasGradient(argument.getArgNumber()))
      required.insert(argument);
  for (OpOperand &result : body.getTerminator()->getOpOperands())
    if (layer.hasResultGradient(result.getOperandNumber()))
      reached.insert(result.get());
  spread(body);
}

void GradientFlow::insertFloats(llvm::DenseSet<Value> &set, ValueRange values) {
  for (Value value : values)
    if (isFloatTensor(value.getType()))
      set.insert(value);
}

void GradientFlow::spread(Block &body) {
  for (Operation &op : body.without_terminator()) {
    auto parameter = dyn_cast<ParameterOp>(op);
    bool isRequired =
        parameter ? !parameter.getFrozen() : !isa<DetachOp>(op) && llvm::any_of(op.getOperands(), [&](Value operand) {
          return required.contains(operand);
        });
    if (isRequired)
      insertFloats(required, op.getResults());
  }
  for (Operation &op : llvm::reverse(body.without_terminator()))
    if (passes(&op))
      insertFloats(reached, op.getOperands());
}

bool GradientFlow::passes(Operation *op) const {
  return !isa<DetachOp>(op) && llvm::any_of(op->getResults(), [&](Value result) { return reached.contains(result); });
}
