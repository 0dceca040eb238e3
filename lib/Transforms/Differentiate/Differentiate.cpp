// Reverse-mode differentiation, one layer type at a time.
//
// A layer's ops are visited last to first; each is asked for its operands' gradients, given its
// results'. What a value's several users contribute is added in one n-ary sum, so that partial sums
// can wait for one another. Only values that depend on an argument with a gradient take part: constants, masks,
// position tables and what is frozen get none, and a layer of which that is all gets no backward. Nor do detached
// values, which afterwards are no other than what they were detached from.
//
// Gradients of parameters add up over micro-batches and devices, so they are f32 even where parameters
// are bf16: the op that sums over the batch writes them so, nothing is rounded in between.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SetVector.h"

namespace galvatron {
#define GEN_PASS_DEF_DIFFERENTIATEPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using graph::BackwardKind;
using graph::BackwardOp;
using graph::LayerOp;
using graph::ReturnOp;

namespace {

/// Builds the merged backward of one layer.
class Differentiator {
public:
  explicit Differentiator(LayerOp layer)
      : layer(layer), builder(layer.getContext()), terminator(cast<ReturnOp>(layer.getBody().front().back())) {}

  /// Ops that a gradient flowed through.
  unsigned numOps = 0;

  FailureOr<BackwardOp> run() {
    SmallVector<Operation *> ops;
    for (Operation &op : layer.getBody().front().without_terminator())
      ops.push_back(&op);
    findVaried(ops);
    findWeights(ops);
    BackwardOp backward = createRegion();
    for (Operation *op : llvm::reverse(ops))
      if (failed(differentiate(op)))
        return failure();
    SmallVector<Value> gradients;
    for (BlockArgument argument : layer.getDifferentiated())
      gradients.push_back(gradientOrZeros(argument));
    ReturnOp::create(builder, layer.getLoc(), gradients);
    eraseUnused(backward);
    return backward;
  }

private:
  void findVaried(ArrayRef<Operation *> ops) {
    for (BlockArgument argument : layer.getDifferentiated())
      varied.insert(argument);
    for (Operation *op : ops)
      if (!isa<graph::DetachOp>(op) &&
          llvm::any_of(op->getOperands(), [&](Value operand) { return varied.contains(operand); }))
        for (Value result : op->getResults())
          if (graph::isFloatTensor(result.getType()))
            varied.insert(result);
  }

  /// Parameters, and what is cut from them alone before activations come in.
  void findWeights(ArrayRef<Operation *> ops) {
    llvm::DenseSet<Value> data; // that depends on an input
    unsigned numInputs = layer.getNumInputs();
    for (BlockArgument argument : layer.getBody().getArguments())
      if (argument.getArgNumber() < numInputs)
        data.insert(argument);
      else
        weights.insert(argument);
    for (Operation *op : ops) {
      bool readsData = llvm::any_of(op->getOperands(), [&](Value operand) { return data.contains(operand); });
      bool isCut = isa<graph::ReshapeOp, graph::TransposeOp, graph::SliceOp, graph::EmbeddingOp, arith::ExtFOp>(op) &&
                   weights.contains(op->getOperand(0));
      for (Value result : op->getResults())
        if (readsData)
          data.insert(result);
        else if (isCut)
          weights.insert(result);
    }
  }

  BackwardOp createRegion() {
    builder.setInsertionPoint(terminator);
    auto backward = BackwardOp::create(builder, layer.getLoc());
    SmallVector<Type> types = layer.getResultGradientTypes();
    SmallVector<Location> locations(types.size(), layer.getLoc());
    Block *block = builder.createBlock(&backward.getBody(), {}, types, locations);
    auto gradient = block->args_begin();
    for (auto [index, result] : llvm::enumerate(terminator.getOperands()))
      if (layer.hasResultGradient(index))
        contribute(result, *gradient++);
    return backward;
  }

  void contribute(Value value, Value gradient) {
    if (varied.contains(value) && !matchPattern(gradient, m_AnyZeroFloat()))
      contributions[value].push_back(weights.contains(value) ? widen(gradient) : gradient);
  }

  /// The gradient of a weight in f32: written so by the op that was just built for it, where that can.
  Value widen(Value gradient) {
    Type type = graph::getWidened(gradient.getType());
    Operation *op = gradient.getDefiningOp();
    if (type == gradient.getType())
      return gradient;
    bool isNew = op && op->getBlock() == builder.getBlock() && (!lastBefore || lastBefore->isBeforeInBlock(op));
    if (isNew && isa<arith::TruncFOp>(op))
      return op->getOperand(0);
    bool sums = isNew && isa<graph::EinsumOp, graph::ReduceOp, graph::EmbeddingBackwardOp>(op);
    bool moves = isNew && isa<graph::ReshapeOp, graph::TransposeOp, graph::PadOp>(op) &&
                 getElementTypeOrSelf(op->getOperand(0)) == getElementTypeOrSelf(type);
    if (!sums && !moves)
      return arith::ExtFOp::create(builder, gradient.getLoc(), type, gradient);
    gradient.setType(type);
    return gradient;
  }

  /// The sum of what flows into the value, or null.
  Value gradientOf(Value value) {
    SmallVector<Value> &terms = contributions[value];
    if (terms.size() > 1) {
      Location loc = value.getDefiningOp() ? value.getLoc() : layer.getLoc();
      terms = {graph::SumOp::create(builder, loc, terms[0].getType(), terms).getResult()};
    }
    return terms.empty() ? Value() : terms[0];
  }

  Value gradientOrZeros(Value value) {
    Value gradient = gradientOf(value);
    Type type = weights.contains(value) ? graph::getWidened(value.getType()) : value.getType();
    return gradient ? gradient : graph::createSplat(builder, layer.getLoc(), type, 0);
  }

  LogicalResult differentiate(Operation *op) {
    SmallVector<Value> resultGradients;
    for (Value result : op->getResults())
      resultGradients.push_back(gradientOf(result));
    if (llvm::none_of(resultGradients, [](Value gradient) { return bool(gradient); }))
      return success();
    auto differentiable = dyn_cast<graph::DifferentiableOpInterface>(op);
    if (!differentiable)
      return op->emitOpError("expects a rule for its gradient, but it has none; raise it to an op that has "
                             "one, or detach its operands");
    SmallVector<Value> operandGradients(op->getNumOperands());
    Block *block = builder.getBlock();
    lastBefore = block->empty() ? nullptr : &block->back();
    if (failed(differentiable.buildBackward(builder, resultGradients, operandGradients)))
      return failure();
    ++numOps;
    for (auto [index, operand, gradient] : llvm::enumerate(op->getOperands(), operandGradients)) {
      if (gradient)
        contribute(operand, gradient);
      else if (varied.contains(operand))
        return op->emitOpError("expects a rule for the gradient of operand ")
               << index << ", which depends on an argument of the layer, but it has none";
    }
    return success();
  }

  /// Gradients of operands that did not need one.
  void eraseUnused(BackwardOp backward) {
    for (Operation &op : llvm::make_early_inc_range(llvm::reverse(backward.getBody().front())))
      if (isOpTriviallyDead(&op))
        op.erase();
  }

  LayerOp layer;
  OpBuilder builder;
  ReturnOp terminator;
  llvm::DenseSet<Value> varied, weights;
  /// The last op before those that are built for the op at hand.
  Operation *lastBefore = nullptr;
  llvm::DenseMap<Value, SmallVector<Value>> contributions;
};

/// Cuts a merged backward in two. The input part keeps what the inputs' gradients need; the weight part
/// gets the rest, and takes what it reads of the input part as kept values.
void split(LayerOp layer, BackwardOp merged) {
  Block &inputBlock = merged.getBody().front();
  auto inputReturn = cast<ReturnOp>(inputBlock.back());
  unsigned numInputs = layer.getNumInputGradients();
  SmallVector<Value> weightGradients = llvm::to_vector(inputReturn.getOperands().drop_front(numInputs));
  inputReturn->eraseOperands(numInputs, weightGradients.size());

  llvm::DenseSet<Operation *> forInputs;
  for (Operation &op : llvm::reverse(inputBlock)) {
    if (&op != inputReturn && !forInputs.contains(&op))
      continue;
    for (Value operand : op.getOperands())
      if (Operation *definition = operand.getDefiningOp())
        forInputs.insert(definition);
  }

  OpBuilder builder(merged->getContext());
  builder.setInsertionPointAfter(merged);
  merged.setKind(BackwardKind::Input);
  auto weight = BackwardOp::create(builder, merged.getLoc(), BackwardKind::Weight);
  SmallVector<Location> locations(inputBlock.getNumArguments(), merged.getLoc());
  Block *block = builder.createBlock(&weight.getBody(), {}, inputBlock.getArgumentTypes(), locations);
  for (Operation &op : llvm::make_early_inc_range(inputBlock.without_terminator()))
    if (!forInputs.contains(&op))
      op.moveBefore(block, block->end());
  builder.setInsertionPointToEnd(block);
  ReturnOp::create(builder, merged.getLoc(), weightGradients);

  llvm::DenseMap<Value, Value> replacements;
  for (auto [from, to] : llvm::zip(inputBlock.getArguments(), block->getArguments()))
    replacements[from] = to;
  for (Operation &op : *block)
    for (OpOperand &operand : op.getOpOperands()) {
      Value value = operand.get();
      if (value.getParentBlock() != &inputBlock)
        continue;
      Value &replacement = replacements[value];
      if (!replacement) {
        inputReturn->insertOperands(inputReturn.getNumOperands(), value);
        replacement = block->addArgument(value.getType(), value.getLoc());
      }
      operand.set(replacement);
    }
}

struct Differentiate : galvatron::impl::DifferentiatePassBase<Differentiate> {
  using Base::Base;

  void runOnOperation() override {
    for (auto layer : getOperation().getOps<LayerOp>()) {
      if (!layer.getBody().getOps<BackwardOp>().empty()) {
        layer.emitOpError("expects a layer without backward, but got one that is differentiated");
        return signalPassFailure();
      }
      if (!layer.getDifferentiated().empty() && failed(differentiate(layer)))
        return signalPassFailure();
      for (auto detach : llvm::make_early_inc_range(layer.getBody().getOps<graph::DetachOp>())) {
        detach.replaceAllUsesWith(detach.getX());
        detach.erase();
      }
    }
  }

  LogicalResult differentiate(LayerOp layer) {
    Differentiator differentiator(layer);
    FailureOr<BackwardOp> backward = differentiator.run();
    if (failed(backward))
      return failure();
    if (splitBackward)
      split(layer, *backward);
    ++numLayers;
    numOps += differentiator.numOps;
    return success();
  }
};

} // namespace
