// From global tensors with placements to what one device holds. Each layer becomes two functions on
// local shapes and a `dist.layer` that says where its values live; the calls of `@step` stay.
#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/SetVector.h"

namespace galvatron {
#define GEN_PASS_DEF_SPLITTENSORSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

/// Offsets of a piece, in the local index of the whole tensor: a cut dimension is selected from in
/// units that are all cut alike.
static DenseI64ArrayAttr getLocalOffsets(ArrayRef<int64_t> offsets, Type whole) {
  SmallVector<int64_t> local(offsets);
  auto global = cast<RankedTensorType>(whole);
  for (auto [offset, extent, localExtent] : llvm::zip(local, global.getShape(), dist::getLocalType(whole).getShape()))
    offset = offset * localExtent / extent;
  return DenseI64ArrayAttr::get(whole.getContext(), local);
}

/// Attributes of `clone` that speak of global shapes.
static void localizeAttributes(Operation *op, Operation *clone) {
  if (auto constant = dyn_cast<arith::ConstantOp>(clone)) {
    auto elements = cast<DenseElementsAttr>(constant.getValue());
    auto type = dist::getLocalType(op->getResult(0).getType());
    constant.setValueAttr(elements.isSplat() ? elements.resizeSplat(type)
                                             : DenseElementsAttr::getFromRawBuffer(type, elements.getRawData()));
  } else if (auto slice = dyn_cast<graph::SliceOp>(op)) {
    cast<graph::SliceOp>(clone).setOffsetsAttr(getLocalOffsets(slice.getOffsets(), slice.getX().getType()));
  } else if (auto pad = dyn_cast<graph::PadOp>(op)) {
    cast<graph::PadOp>(clone).setOffsetsAttr(getLocalOffsets(pad.getOffsets(), pad.getType()));
  }
  auto axes = dyn_cast<graph::AxisOpInterface>(op);
  Value tensor = axes ? axes.getPositionTensor() : Value();
  PlacementAttr placement = tensor ? dist::getPlacement(tensor.getType()).withPartials({}) : PlacementAttr();
  if (placement && placement != PlacementAttr::getReplicated(cast<RankedTensorType>(tensor.getType())))
    clone->setAttr(dist::kPositionAttrName, placement);
}

static void splitOps(Block &from, OpBuilder &builder, IRMapping &mapping) {
  for (Operation &op : from) {
    if (isa<graph::BackwardOp, graph::ReturnOp>(op))
      continue;
    if (auto factor = dyn_cast<dist::MultiplierOp>(op)) {
      mapping.map(factor.getResult(), mapping.lookup(factor.getX()));
      continue;
    }
    if (auto share = dyn_cast<dist::ShareOp>(op)) {
      Value x = mapping.lookup(share.getX());
      Value part = graph::createSplat(builder, op.getLoc(), x.getType(), 1.0 / double(share.getParts()));
      mapping.map(share.getResult(), arith::MulFOp::create(builder, op.getLoc(), x, part).getResult());
      continue;
    }
    Operation *clone = builder.clone(op, mapping);
    for (OpResult result : clone->getResults())
      result.setType(dist::getLocalType(result.getType()));
    localizeAttributes(&op, clone);
  }
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

namespace {

class LayerSplitter {
public:
  LayerSplitter(graph::LayerOp layer, SymbolTable &symbols)
      : layer(layer), symbols(symbols), block(layer.getBody().front()), builder(layer), backward(layer.getBackward()) {}

  void run();
  unsigned getNumSaved() const { return saved.size(); }

private:
  dist::BodyOp createBody(StringRef direction, ArrayRef<Value> arguments, IRMapping &mapping);
  dist::BodyOp splitForward();
  dist::BodyOp splitBackward();
  void createLayer(dist::BodyOp forwardBody, dist::BodyOp backwardBody);
  void finish(dist::BodyOp body, ArrayRef<Value> results, IRMapping &mapping);

  graph::LayerOp layer;
  SymbolTable &symbols;
  Block &block;
  OpBuilder builder;
  graph::BackwardOp backward; // null where nothing is differentiated
  llvm::SetVector<Value> saved;
};

} // namespace

dist::BodyOp LayerSplitter::createBody(StringRef direction, ArrayRef<Value> arguments, IRMapping &mapping) {
  builder.setInsertionPoint(layer);
  std::string name = (layer.getSymName() + "." + direction).str();
  auto body = dist::BodyOp::create(builder, layer.getLoc(), name, builder.getFunctionType({}, {}), StringAttr(),
                                   ArrayAttr(), ArrayAttr());
  symbols.insert(body);
  Block *entry = builder.createBlock(&body.getBody());
  for (Value argument : arguments)
    mapping.map(argument, entry->addArgument(dist::getLocalType(argument.getType()), argument.getLoc()));
  return body;
}

void LayerSplitter::finish(dist::BodyOp body, ArrayRef<Value> results, IRMapping &mapping) {
  SmallVector<Value> mapped;
  for (Value result : results)
    mapped.push_back(mapping.lookup(result));
  body.setFunctionType(
      builder.getFunctionType(body.getBody().front().getArgumentTypes(), ValueRange(mapped).getTypes()));
  dist::ReturnOp::create(builder, layer.getLoc(), mapped);
}

dist::BodyOp LayerSplitter::splitForward() {
  IRMapping mapping;
  dist::BodyOp body = createBody("forward", SmallVector<Value>(block.getArguments()), mapping);
  if (ArrayAttr attributes = layer.getArgAttrsAttr()) // parameters' names and initial distributions
    body.setArgAttrsAttr(attributes);
  splitOps(block, builder, mapping);
  SmallVector<Value> results(block.getTerminator()->getOperands());
  results.append(saved.begin(), saved.end());
  finish(body, results, mapping);
  return body;
}

dist::BodyOp LayerSplitter::splitBackward() {
  Block &region = backward.getBody().front();
  SmallVector<Value> arguments(region.getArguments());
  arguments.append(block.args_begin(), block.args_end());
  arguments.append(saved.begin(), saved.end());
  IRMapping mapping;
  dist::BodyOp body = createBody("backward", arguments, mapping);
  splitOps(region, builder, mapping);
  finish(body, SmallVector<Value>(region.getTerminator()->getOperands()), mapping);
  return body;
}

/// A null type is a gradient that there is not.
static ArrayAttr getPlacements(OpBuilder &builder, ArrayRef<Type> types) {
  SmallVector<Attribute> placements;
  for (Type type : types)
    placements.push_back(type ? Attribute(dist::getPlacement(type).withoutPartialTime()) : builder.getUnitAttr());
  return builder.getArrayAttr(placements);
}

void LayerSplitter::createLayer(dist::BodyOp forwardBody, dist::BodyOp backwardBody) {
  unsigned inputs = layer.getNumInputs();
  SmallVector<Type> arguments(block.getArgumentTypes()), outputGradients, gradients;
  if (backward) {
    Block &region = backward.getBody().front();
    outputGradients.resize(layer.getNumResults());
    gradients.resize(arguments.size());
    auto outputGradient = region.args_begin();
    for (unsigned output = 0; output < outputGradients.size(); ++output)
      if (layer.hasResultGradient(output))
        outputGradients[output] = (*outputGradient++).getType();
    for (auto [argument, gradient] : llvm::zip(layer.getDifferentiated(), region.getTerminator()->getOperands()))
      gradients[argument.getArgNumber()] = gradient.getType();
  }
  unsigned inputGradients = gradients.empty() ? 0 : inputs;
  std::string name = layer.getSymName().str();
  builder.setInsertionPointAfter(layer);
  SmallVector<Type> outputs(block.getTerminator()->getOperandTypes());
  Attribute strategy = layer->getAttr(plan::kStrategyAttrName);
  Location loc = layer.getLoc();
  symbols.erase(layer);
  auto placed = dist::LayerOp::create(
      builder, loc, builder.getStringAttr(name), SymbolRefAttr::get(forwardBody),
      backwardBody ? FlatSymbolRefAttr(SymbolRefAttr::get(backwardBody)) : FlatSymbolRefAttr(),
      getPlacements(builder, ArrayRef(arguments).take_front(inputs)), getPlacements(builder, outputs),
      getPlacements(builder, ArrayRef(gradients).take_front(inputGradients)), getPlacements(builder, outputGradients),
      getPlacements(builder, ArrayRef(arguments).drop_front(inputs)),
      getPlacements(builder, ArrayRef(gradients).drop_front(inputGradients)), builder.getI64IntegerAttr(saved.size()),
      FlatSymbolRefAttr(), DenseI64ArrayAttr(), builder.getI64IntegerAttr(0));
  if (strategy)
    placed->setAttr(plan::kStrategyAttrName, strategy);
  symbols.insert(placed);
}

void LayerSplitter::run() {
  if (backward)
    backward.walk([&](Operation *op) {
      for (Value operand : op->getOperands())
        if (Operation *producer = operand.getDefiningOp(); producer && producer->getBlock() == &block)
          saved.insert(operand);
    });
  dist::BodyOp forwardBody = splitForward();
  dist::BodyOp backwardBody = backward ? splitBackward() : dist::BodyOp();
  createLayer(forwardBody, backwardBody);
}

namespace {
struct SplitTensorsPass : galvatron::impl::SplitTensorsPassBase<SplitTensorsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    SmallVector<graph::LayerOp> layers(module.getOps<graph::LayerOp>());
    for (graph::LayerOp layer : layers) {
      if (failed(check(layer)))
        return signalPassFailure();
      LayerSplitter splitter(layer, symbols);
      splitter.run();
      numBodies += 1;
      numSaved += splitter.getNumSaved();
    }
    dropPartialTime();
  }

  LogicalResult check(graph::LayerOp layer) {
    for (Type type : layer.getArgumentTypes())
      if (!dist::getPlacement(type))
        return layer.emitOpError("expects arguments with placements, but got ") << type << "; run assign-placements";
    for (auto backward : layer.getBody().getOps<graph::BackwardOp>())
      if (backward.getKind() != graph::BackwardKind::Merged)
        return backward.emitOpError("expects one backward for inputs and weights together, but got one of kind ")
               << graph::stringifyBackwardKind(backward.getKind()) << "; no schedule that is lowered runs them apart";
    return success();
  }

  /// A value of the step belongs to one micro-batch; that the loss is to be added up over them is
  /// known to whoever runs the step.
  void dropPartialTime() {
    auto drop = [](Value value) {
      if (PlacementAttr placement = dist::getPlacement(value.getType()))
        value.setType(dist::withPlacement(value.getType(), placement.withoutPartialTime()));
    };
    for (auto step : getOperation().getOps<func::FuncOp>()) {
      step.walk([&](Operation *op) { llvm::for_each(op->getResults(), drop); });
      step.setFunctionType(FunctionType::get(&getContext(), step.getArgumentTypes(),
                                             step.getBody().front().getTerminator()->getOperandTypes()));
    }
  }
};
} // namespace
