// The element type of every float tensor, decided once, on global shapes and before differentiation, so
// that backward, placements and memory follow from types alone.
//
// What is stored or sent is bf16 or f16; what adds up over many elements or steps is f32: statistics of norms
// and softmax, losses, and (in `differentiate`) gradients of parameters. Arithmetic is f32 throughout: an
// `arith` or `math` op on narrow operands is widened, and its result rounded again.
#include "galvatron/Support/FloatTypes.h"
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Graph/Precision.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Matchers.h"

namespace galvatron {
#define GEN_PASS_DEF_ASSIGNPRECISIONPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

bool isF32Tensor(Type type) { return graph::isFloatTensor(type) && getElementTypeOrSelf(type).isF32(); }

/// Activations between layers; a scalar is a loss.
Type crossingType(Type type, Type narrow) {
  bool isActivation = isF32Tensor(type) && cast<RankedTensorType>(type).getRank() > 0;
  return isActivation ? graph::withElementType(type, narrow) : type;
}

/// Gives one layer its types, first op to last.
class LayerPrecision {
public:
  /// `data`: the inputs that are the step's own, which stay as they are read.
  LayerPrecision(graph::LayerOp layer, Type narrow, const llvm::SmallDenseSet<unsigned> &data)
      : layer(layer), narrow(narrow), data(data), builder(layer.getContext()) {}

  /// Tensors that became narrow, and parameters that stayed f32.
  unsigned numNarrowed = 0, numWide = 0;

  void run() {
    setArguments();
    for (Operation &op : llvm::make_early_inc_range(layer.getBody().front().without_terminator()))
      visit(&op);
    setResults();
  }

private:
  void setArguments();
  void setResults();
  void visit(Operation *op);
  void computeWide(Operation *op);
  void computeNarrow(Operation *op);
  Value convert(Value value, Type element);
  /// Every float operand, from the `first` on, in this element type.
  void convertOperands(Operation *op, Type element, unsigned first = 0);
  bool isNarrow(Value value) const { return getElementTypeOrSelf(value.getType()) == narrow; }
  void setNarrow(Value value) {
    value.setType(graph::withElementType(value.getType(), narrow));
    ++numNarrowed;
  }

  graph::LayerOp layer;
  Type narrow; // bf16 or f16
  const llvm::SmallDenseSet<unsigned> &data;
  OpBuilder builder;
};

} // namespace

/// Whether a parameter only scales or shifts normalized values: there it stays f32.
static bool isReadByNormsOnly(Value parameter) {
  return !parameter.use_empty() && llvm::all_of(parameter.getUses(), [](OpOperand &use) {
    return isa<graph::NormOp>(use.getOwner()) && use.getOperandNumber() > 0;
  });
}

void LayerPrecision::setArguments() {
  unsigned numInputs = layer.getNumInputs();
  for (BlockArgument argument : layer.getBody().getArguments()) {
    bool isParameter = argument.getArgNumber() >= numInputs;
    if (data.contains(argument.getArgNumber()))
      continue;
    if (isParameter && isReadByNormsOnly(argument)) {
      ++numWide;
      continue;
    }
    Type type = argument.getType();
    argument.setType(isParameter && isF32Tensor(type) ? graph::withElementType(type, narrow)
                                                      : crossingType(type, narrow));
    numNarrowed += argument.getType() != type;
  }
}

void LayerPrecision::setResults() {
  Operation *terminator = layer.getBody().front().getTerminator();
  builder.setInsertionPoint(terminator);
  SmallVector<Type> results;
  for (auto [operand, type] : llvm::zip_equal(terminator->getOpOperands(), layer.getResultTypes())) {
    results.push_back(crossingType(type, narrow));
    if (graph::isFloatTensor(type))
      operand.set(convert(operand.get(), getElementTypeOrSelf(results.back())));
  }
  auto arguments = llvm::to_vector(layer.getBody().getArgumentTypes());
  layer.setFunctionType(FunctionType::get(layer.getContext(), arguments, results));
}

Value LayerPrecision::convert(Value value, Type element) {
  if (getElementTypeOrSelf(value.getType()) == element)
    return value;
  // A constant is written in the type that is read.
  SplatElementsAttr splat;
  if (element == narrow && matchPattern(value, m_Constant(&splat)))
    return graph::createSplat(builder, value.getLoc(), graph::withElementType(value.getType(), element),
                              splat.getSplatValue<APFloat>().convertToDouble());
  return convertFloat(builder, value.getLoc(), value, element);
}

void LayerPrecision::convertOperands(Operation *op, Type element, unsigned first) {
  builder.setInsertionPoint(op);
  for (OpOperand &operand : op->getOpOperands())
    if (operand.getOperandNumber() >= first && graph::isFloatTensor(operand.get().getType()))
      operand.set(convert(operand.get(), element));
}

/// Arithmetic in f32 on values that are stored narrow, where a model casts by itself, too: to 16 bits or f64.
void LayerPrecision::computeWide(Operation *op) {
  if (isa<arith::ExtFOp, arith::TruncFOp>(op)) {
    op->getResult(0).replaceAllUsesWith(op->getOperand(0));
    op->erase();
    return;
  }
  convertOperands(op, builder.getF32Type());
  builder.setInsertionPointAfter(op);
  for (Value result : op->getResults()) {
    if (graph::isFloatTensor(result.getType()))
      result.setType(graph::withElementType(result.getType(), builder.getF32Type()));
    if (isF32Tensor(result.getType())) {
      Value rounded = convert(result, narrow);
      result.replaceAllUsesExcept(rounded, rounded.getDefiningOp());
      ++numNarrowed;
    }
  }
}

/// An op of mathematics: everything narrow but its statistics.
void LayerPrecision::computeNarrow(Operation *op) {
  if (auto norm = dyn_cast<graph::NormOp>(op)) {
    convertOperands(op, builder.getF32Type(), /*first=*/1);
    return setNarrow(norm.getResult());
  }
  if (isa<graph::CrossEntropyOp, graph::LogSumExpOp>(op))
    return;
  convertOperands(op, narrow);
  if (auto attention = dyn_cast<graph::AttentionOp>(op))
    return setNarrow(attention.getResult());
  for (Value result : op->getResults())
    if (isF32Tensor(result.getType()))
      setNarrow(result);
}

/// What depends on narrow values alone or beside f32 becomes narrow; positions, masks and what follows a loss depend
/// on neither and keep their types.
void LayerPrecision::visit(Operation *op) {
  if (llvm::none_of(op->getOperands(), [&](Value operand) { return isNarrow(operand); }))
    return;
  if (isa<graph::GraphDialect>(op->getDialect()))
    computeNarrow(op);
  else
    computeWide(op);
}

namespace {

struct AssignPrecision : galvatron::impl::AssignPrecisionPassBase<AssignPrecision> {
  using Base::Base;

  /// What is bf16 or f16 in a step of fp32, the model made so.
  void markCasts() {
    auto isHalf = [](Value value) { return graph::isHalf(getElementTypeOrSelf(value.getType())); };
    WalkResult found = getOperation()->walk([&](Operation *op) {
      return llvm::any_of(op->getResults(), isHalf) ? WalkResult::interrupt() : WalkResult::advance();
    });
    if (found.wasInterrupted())
      getOperation()->setAttr(graph::kRoundsAttr, UnitAttr::get(&getContext()));
  }

  /// By layer, the inputs that are data in its calls.
  llvm::StringMap<llvm::SmallDenseSet<unsigned>> data;

  LogicalResult findData() {
    SymbolTable symbols(getOperation());
    auto isData = [](Value value) { return isa<BlockArgument>(value) && isF32Tensor(value.getType()); };
    getOperation()->walk([&](Operation *op) {
      auto callee = op->getAttrOfType<FlatSymbolRefAttr>("callee");
      if (isa<graph::CallOp, graph::TotalOp>(op))
        for (auto [index, operand] : llvm::enumerate(op->getOperands()))
          if (isData(operand))
            data[callee.getValue()].insert(index);
    });
    WalkResult mixed = getOperation()->walk([&](graph::CallOp call) {
      for (unsigned index : data[call.getCallee()])
        if (!isData(call.getInputs()[index])) {
          call.emitOpError("expects input ")
              << index << " to be data of the step, as in other calls of " << call.getCallee()
              << ", but got an activation, which is of 16 bits; use --precision=fp32";
          return WalkResult::interrupt();
        }
      return WalkResult::advance();
    });
    return failure(mixed.wasInterrupted());
  }

  void runOnOperation() override {
    data.clear();
    if (precision != "fp32" && precision != "bf16" && precision != "fp16") {
      getOperation().emitOpError("expects a precision of fp32, bf16 or fp16, but got ") << precision;
      return signalPassFailure();
    }
    if (precision == "fp32")
      return markCasts();
    MLIRContext *context = &getContext();
    Type narrow = precision == "bf16" ? Type(BFloat16Type::get(context)) : Type(Float16Type::get(context));
    getOperation()->setAttr(graph::kPrecisionAttr, StringAttr::get(context, precision.getValue()));
    if (failed(findData()))
      return signalPassFailure();
    for (auto layer : getOperation().getOps<graph::LayerOp>()) {
      if (!layer.getBody().getOps<graph::BackwardOp>().empty()) {
        layer.emitOpError("expects a layer without backward, but got one that is differentiated");
        return signalPassFailure();
      }
      LayerPrecision types(layer, narrow, data[layer.getSymName()]);
      types.run();
      numNarrowed += types.numNarrowed;
      numWideParameters += types.numWide;
    }
    // Between layers.
    getOperation()->walk([&](graph::CallOp call) {
      for (Value output : call.getOutputs())
        output.setType(crossingType(output.getType(), narrow));
    });
  }
};

} // namespace
