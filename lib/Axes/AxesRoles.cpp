// Gives each axis its role, from what the step does with it.
//
//   batch     crosses layers, in no parameter, never whole, never two loops of one op
//   seq       crosses layers, not contracted with a parameter, somewhere whole or two loops of one op
//   hidden    crosses layers and is contracted with a parameter
//   internal  does not cross, indexes a parameter, never whole, never contracted between
//            activations in forward
//   expert    internal, and indexes parameter, activation and result of one contraction
//   fixed     the rest: head_dim, the 3 of a fused q|k|v, rows of a table that constants address
//
// "Crosses layers" counts only values that depend on the batch: a relative-position bias that layers
// share would otherwise pull the heads of all layers to the boundary.
#include "AxesBuilder.h"

#include "dialects/Graph/GraphStructure.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

void AxesBuilder::findBatchDependence() {
  func::FuncOp step = graph::getStep(module);
  SymbolTable symbols(module);
  auto anyDepends = [&](ValueRange values) {
    return llvm::any_of(values, [&](Value value) { return dependsOnBatch.contains(value); });
  };
  auto propagate = [&](LayerOp layer) {
    layer.walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (auto backward = dyn_cast<BackwardOp>(op))
        dependsOnBatch.insert(backward.getBody().args_begin(), backward.getBody().args_end());
      else if (!isStructure(op) && anyDepends(op->getOperands()))
        dependsOnBatch.insert(op->result_begin(), op->result_end());
    });
  };
  if (!step) { // layers alone, as in tests: every input depends
    for (auto layer : module.getOps<LayerOp>()) {
      Block &body = layer.getBody().front();
      for (BlockArgument argument : body.getArguments().take_front(layer.getNumInputs()))
        dependsOnBatch.insert(argument);
      propagate(layer);
    }
    return;
  }
  dependsOnBatch.insert(step.args_begin(), step.args_end());
  llvm::DenseSet<Operation *> propagated;
  for (Operation &op : step.getBody().front()) {
    if (auto total = dyn_cast<TotalOp>(op)) { // reads the batch, and is the same for all of it
      if (auto layer = symbols.lookup<LayerOp>(total.getCallee())) {
        for (BlockArgument argument : layer.getBody().getArguments())
          dependsOnBatch.insert(argument);
        propagate(layer);
      }
      continue;
    }
    auto call = dyn_cast<CallOp>(op);
    auto layer = call ? symbols.lookup<LayerOp>(call.getCallee()) : LayerOp();
    if (!layer) {
      if (anyDepends(op.getOperands()))
        dependsOnBatch.insert(op.result_begin(), op.result_end());
      continue;
    }
    Block &body = layer.getBody().front();
    for (auto [operand, argument] : llvm::zip(call.getInputs(), body.getArguments()))
      if (dependsOnBatch.contains(operand))
        dependsOnBatch.insert(argument);
    if (propagated.insert(layer).second)
      propagate(layer);
    for (auto [result, value] : llvm::zip(call.getOutputs(), body.getTerminator()->getOperands()))
      if (dependsOnBatch.contains(value) || dependsOnBatch.contains(result))
        dependsOnBatch.insert(result);
  }
}

void AxesBuilder::markBoundary(const Axes &result, Value value) {
  if (dependsOnBatch.contains(value))
    for (const auto &dim : result.getAxes(value))
      for (AxisId axis : dim)
        facts[axis].onBoundary = true;
}

/// For each loop of the op, whether the operand (or result) has it.
static llvm::SmallBitVector getPresence(const OpFactors &loops, const DimensionLoops &dims) {
  llvm::SmallBitVector present(loops.loops.size());
  for (const auto &dim : dims)
    for (unsigned loop : dim)
      present.set(loop);
  return present;
}

void AxesBuilder::markContraction(const Axes &result, const OpLoops &op, const OpFactors &loops) {
  llvm::SmallBitVector inParameter(loops.loops.size()), inActivation(loops.loops.size()),
      inTwoActivations(loops.loops.size()), contracted(loops.loops.size());
  for (auto [value, dims] : llvm::zip(op.op->getOperands(), loops.operands)) {
    llvm::SmallBitVector present = getPresence(loops, dims);
    if (parameters.contains(value)) {
      inParameter |= present;
    } else if (dependsOnBatch.contains(value)) {
      inTwoActivations |= inActivation & present;
      inActivation |= present;
    }
  }
  for (const DimensionLoops &dims : loops.results)
    contracted |= ~getPresence(loops, dims);
  // Backward contracts the query heads of a group, for the gradients of their keys and values.
  bool isForward = !op.op->getParentOfType<BackwardOp>();
  llvm::SmallBitVector summedWithParameter = contracted & inParameter & inActivation;
  for (auto [index, loop] : llvm::enumerate(loops.loops)) {
    AxisFacts &axis = facts[loop.axis];
    axis.contractedWithParameter |= summedWithParameter[index];
    axis.contractedInActivations |= isForward && contracted[index] && inTwoActivations[index];
    axis.perExpert |= summedWithParameter.any() && !contracted[index] && inParameter[index] && inActivation[index];
  }
}

void AxesBuilder::markOp(const Axes &result, const OpLoops &op) {
  const OpFactors &loops = result.getFactors(op.op);
  bool routedByData = llvm::any_of(op.op->getOperands(), [&](Value operand) {
    return !isFloatTensor(operand.getType()) && dependsOnBatch.contains(operand);
  });
  llvm::DenseSet<AxisId> seen;
  for (const FactorLoop &loop : loops.loops) {
    AxisFacts &axis = facts[loop.axis];
    axis.whole |= loop.kind == LoopKind::Whole;
    axis.twice |= !seen.insert(loop.axis).second;
    if (loop.kind == LoopKind::Routed)
      (routedByData ? axis.routedByData : axis.routedByConstant) = true;
  }
  if (op.op->getNumOperands() > 1)
    markContraction(result, op, loops);
}

static AxisRole getRole(const AxisFacts &facts) {
  if (facts.onBoundary) {
    if (!facts.inParameter && !facts.whole && !facts.twice)
      return AxisRole::Batch;
    if (!facts.contractedWithParameter && (facts.whole || facts.twice))
      return AxisRole::Seq;
    return facts.contractedWithParameter ? AxisRole::Hidden : AxisRole::Fixed;
  }
  bool internal = facts.inParameter && !facts.whole && !facts.contractedInActivations &&
                  !(facts.routedByConstant && !facts.routedByData);
  if (!internal)
    return AxisRole::Fixed;
  return facts.perExpert ? AxisRole::Expert : AxisRole::Internal;
}

/// A parameter between two widths is one of a product of low rank (of an adapter, of a latent of attention): all ranks
/// have the narrower one, so that what is between the two products is small and whole, and no degree has to divide it.
static void fixLowRanks(const Axes &result, const llvm::DenseSet<Value> &parameters, llvm::MutableArrayRef<Axis> axes) {
  auto isWidth = [&](llvm::ArrayRef<AxisId> dim) {
    return llvm::any_of(dim, [&](AxisId axis) { return axes[axis].role == AxisRole::Internal; });
  };
  llvm::SmallDenseSet<AxisId> narrow;
  for (Value parameter : parameters) {
    llvm::ArrayRef<int64_t> shape = cast<RankedTensorType>(parameter.getType()).getShape();
    auto dims = result.getAxes(parameter);
    int64_t widest = 0;
    for (auto [extent, dim] : llvm::zip(shape, dims))
      widest = isWidth(dim) ? std::max(widest, extent) : widest;
    for (auto [extent, dim] : llvm::zip(shape, dims))
      if (extent < widest)
        narrow.insert(dim.begin(), dim.end());
  }
  for (AxisId axis : narrow)
    if (axes[axis].role == AxisRole::Internal)
      axes[axis].role = AxisRole::Fixed;
}

void AxesBuilder::findRoles(Axes &result) {
  findBatchDependence();
  for (Value parameter : parameters)
    for (const auto &dim : result.getAxes(parameter))
      for (AxisId axis : dim)
        facts[axis].inParameter = true;
  for (auto layer : module.getOps<LayerOp>()) {
    Block &body = layer.getBody().front();
    for (BlockArgument argument : body.getArguments().take_front(layer.getNumInputs()))
      markBoundary(result, argument);
    for (Value value : body.getTerminator()->getOperands())
      markBoundary(result, value);
  }
  for (const OpLoops &op : ops)
    markOp(result, op);
  for (const AxisFacts &axis : facts)
    result.axes.push_back({axis.extent, getRole(axis), axis.routedByData});

  fixLowRanks(result, parameters, result.axes);

  // Where nothing mixes positions they look like samples. Samples come first in the step's inputs.
  for (Value value : order)
    for (const auto &dim : result.getAxes(value))
      for (AxisId axis : dim)
        if (!result.batch && result.axes[axis].role == AxisRole::Batch)
          result.batch = axis;
  for (auto [index, axis] : llvm::enumerate(result.axes))
    if (axis.role == AxisRole::Batch && index != *result.batch)
      axis.role = AxisRole::Seq;
}
