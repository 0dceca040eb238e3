// A backward body → what the stage before waits for, and the rest of the gradients of weights, which may run later:
//
//   backward (dy, x, w, saved) → (dx, kept, dnorm)        dx = … · w, kept = dh
//   weights  (dy, x, w, saved, kept) → (dw)               dw = dhᵀ · x
//
// On bodies, after products are fused and collectives are there, so that it is one for every strategy. Products of
// gradients move, with what depends on them and the collectives that nothing else needs; what else only they read is
// computed in the backward and kept: recomputed values and products of elements, in whose kernels these are terms.
// Gradients that need no product of their own (norms, biases, tables) stay: they cost little beside a kernel that has
// their terms at hand, and would keep as much as a matrix does.
#include "galvatron/Transforms/Passes.h"

#include "PipelineShape.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Placement/WeightGradients.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/SetVector.h"

namespace galvatron {
#define GEN_PASS_DEF_SPLITBACKWARDPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

static bool isConstant(Value value) { return matchPattern(value, m_Constant()); }

/// What reads elements where they lie.
static bool isView(Operation *op) { return isa<graph::ReshapeOp, graph::TransposeOp, graph::SliceOp>(op); }

namespace {

class LayerSplit {
public:
  LayerSplit(dist::LayerOp layer, dist::BodyOp forward, dist::BodyOp backward, SymbolTable &symbols)
      : layer(layer), backward(backward), symbols(symbols), block(backward.getBody().front()),
        terminator(block.getTerminator()), trained(layer.getTrained()),
        numInputGradients(terminator->getNumOperands() - trained.size()),
        numOutputGradients(backward.getNumArguments() - forward.getNumArguments() - layer.getNumSaved()),
        builder(layer.getContext()) {
    auto strategy = layer->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    keepsGathered = strategy && strategy.getKeepGathered();
  }

  /// Whether there are gradients to put off.
  bool run();
  unsigned getNumKept() const { return kept.size(); }

private:
  Value mapped(Value value);
  Operation *clone(Operation *op);
  void createWeights();
  void shrinkBackward();

  dist::LayerOp layer;
  dist::BodyOp backward;
  SymbolTable &symbols;
  Block &block;
  Operation *terminator;
  SmallVector<unsigned> trained;
  unsigned numInputGradients, numOutputGradients;
  bool keepsGathered;
  OpBuilder builder;

  llvm::DenseSet<Operation *> putOff;
  llvm::SetVector<Value> kept;
  SmallVector<int64_t> parameters; // whose gradients are put off
  IRMapping mapping;               // of the backward's values to the weights body's
};

} // namespace

Operation *LayerSplit::clone(Operation *op) {
  for (Value operand : op->getOperands())
    mapped(operand);
  Operation *copy = builder.clone(*op, mapping);
  return copy;
}

/// The value as the weights body has it: there already, read where it lies, or kept for it.
Value LayerSplit::mapped(Value value) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  Operation *op = value.getDefiningOp();
  auto readsArgument = [&] {
    Value root = value;
    while (root.getDefiningOp() && isView(root.getDefiningOp()))
      root = root.getDefiningOp()->getOperand(0);
    return !root.getDefiningOp();
  };
  bool isWhole = isa<graph::ReshapeOp, graph::TransposeOp>(op); // as many elements as what it views
  bool isOfParameters = isa<graph::ConcatOp>(op) && op->hasAttr(dist::kAdjacentAttrName);
  bool isGatheredAgain = isa<dist::AllGatherOp>(op) && !keepsGathered;
  if (isConstant(value) || isWhole || (isView(op) && readsArgument()) || isOfParameters || isGatheredAgain)
    return clone(op), mapping.lookup(value);
  kept.insert(value);
  Value argument = builder.getInsertionBlock()->addArgument(value.getType(), value.getLoc());
  mapping.map(value, argument);
  return argument;
}

void LayerSplit::createWeights() {
  builder.setInsertionPointAfter(backward);
  std::string name = backward.getSymName().str();
  if (StringRef(name).ends_with(".backward"))
    name.resize(name.size() - StringRef(".backward").size());
  auto weights = dist::BodyOp::create(builder, backward.getLoc(), name + ".weights", builder.getFunctionType({}, {}),
                                      StringAttr(), ArrayAttr(), ArrayAttr());
  symbols.insert(weights);
  Block *body = builder.createBlock(&weights.getBody());
  for (BlockArgument argument : block.getArguments())
    mapping.map(argument, body->addArgument(argument.getType(), argument.getLoc()));
  for (Operation &op : block)
    if (putOff.contains(&op))
      clone(&op);
  SmallVector<Value> gradients;
  for (auto [parameter, gradient] : llvm::zip_equal(trained, terminator->getOperands().drop_front(numInputGradients)))
    if (putOff.contains(gradient.getDefiningOp())) {
      parameters.push_back(parameter);
      gradients.push_back(mapping.lookup(gradient));
    }
  dist::ReturnOp::create(builder, backward.getLoc(), gradients);
  weights.setFunctionType(builder.getFunctionType(body->getArgumentTypes(), ValueRange(gradients).getTypes()));
  layer.setWeightsAttr(FlatSymbolRefAttr::get(weights.getSymNameAttr()));
  layer.setPutOffAttr(builder.getDenseI64ArrayAttr(parameters));
  layer.setNumKept(kept.size());
}

/// What is put off is gone, and what only that read.
void LayerSplit::shrinkBackward() {
  SmallVector<Value> results(terminator->getOperands().take_front(numInputGradients));
  llvm::append_range(results, kept);
  for (Value gradient : terminator->getOperands().drop_front(numInputGradients))
    if (!putOff.contains(gradient.getDefiningOp()))
      results.push_back(gradient);
  terminator->setOperands(results);
  SmallVector<Operation *> ops = llvm::map_to_vector(block.without_terminator(), [](Operation &op) { return &op; });
  for (Operation *op : llvm::reverse(ops))
    if (op->use_empty())
      op->erase();
  backward.setFunctionType(builder.getFunctionType(block.getArgumentTypes(), ValueRange(results).getTypes()));
  backward.removeResAttrsAttr();
}

bool LayerSplit::run() {
  putOff = findWeightGradients(block, numOutputGradients, numInputGradients);
  if (putOff.empty())
    return false;
  createWeights();
  shrinkBackward();
  return true;
}

namespace {

struct SplitBackwardPass : galvatron::impl::SplitBackwardPassBase<SplitBackwardPass> {
  using Base::Base;

  void runOnOperation() override {
    auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    if (!pipeline || !search::splitsBackward(shapeOf(pipeline).schedule))
      return;
    SymbolTable symbols(getOperation());
    llvm::MapVector<Operation *, Calls> callsOf; // by layer
    for (auto stage : getOperation().getOps<dist::StageOp>())
      for (auto call : stage.getBody().front().getOps<graph::CallOp>())
        if (auto layer = symbols.lookup<dist::LayerOp>(call.getCallee()); layer && layer.getBackward())
          (isSplit(call) ? callsOf[layer].split : callsOf[layer].whole).push_back(call);
    for (auto &[op, calls] : callsOf)
      split(cast<dist::LayerOp>(op), calls, symbols);
  }

private:
  struct Calls {
    SmallVector<graph::CallOp> split, whole;
  };

  /// As the plan says. Else not what ends in the loss, whose product of logits would be kept.
  static bool isSplit(graph::CallOp call) {
    if (auto said = call->getAttrOfType<BoolAttr>(plan::kSplitBackwardAttrName))
      return said.getValue();
    return !llvm::all_of(call->getUsers(), llvm::IsaPred<dist::LossOp>);
  }

  void split(dist::LayerOp layer, const Calls &calls, SymbolTable &symbols) {
    if (calls.split.empty())
      return;
    if (!calls.whole.empty())
      layer = copy(layer, symbols);
    auto forward = symbols.lookup<dist::BodyOp>(layer.getForward());
    LayerSplit splitting(layer, forward, symbols.lookup<dist::BodyOp>(*layer.getBackward()), symbols);
    if (!splitting.run())
      return;
    ++numLayers;
    numKept += splitting.getNumKept();
    for (graph::CallOp call : calls.split)
      call.setCallee(layer.getSymName());
  }

  /// For those of its calls that are split, where others are not.
  dist::LayerOp copy(dist::LayerOp layer, SymbolTable &symbols) {
    OpBuilder builder(layer);
    std::string name = (layer.getSymName() + ".split").str();
    auto copyBody = [&](StringRef body, StringRef direction) {
      auto made = cast<dist::BodyOp>(builder.clone(*symbols.lookup(body)));
      made.setSymName(name + direction.str());
      symbols.insert(made);
      return FlatSymbolRefAttr::get(made.getSymNameAttr());
    };
    FlatSymbolRefAttr forward = copyBody(layer.getForward(), ".forward"),
                      backward = copyBody(*layer.getBackward(), ".backward");
    builder.setInsertionPointAfter(layer);
    auto made = cast<dist::LayerOp>(builder.clone(*layer));
    made.setSymName(name);
    made.setForwardAttr(forward);
    made.setBackwardAttr(backward);
    symbols.insert(made);
    return made;
  }
};

} // namespace
