#include "Layers.h"

#include "dialects/Graph/GraphStructure.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

/// A layer reads what it gets in its own type: masters of parameters, and sums of gradients, in 16 bits.
static void bind(const Interpreter &interpreter, Block &block, ArrayRef<DeviceTensors> arguments, Frame &frame) {
  for (auto [argument, value] : llvm::zip_equal(block.getArguments(), arguments)) {
    frame[argument] = value;
    interpreter.roundNarrow(argument.getType(), frame[argument]);
  }
}

/// The values of a block's terminator.
static std::vector<DeviceTensors> yielded(Block &block, Frame &frame) {
  std::vector<DeviceTensors> values;
  for (Value value : block.getTerminator()->getOperands())
    values.push_back(frame[value]);
  return values;
}

namespace {

/// A `graph.layer`: placements are encodings, the backward reads the forward's frame.
class GraphLayer : public Layer {
public:
  explicit GraphLayer(graph::LayerOp op) : op(op) {}

  bool hasBackward() const override { return !op.getBody().getOps<graph::BackwardOp>().empty(); }
  dist::PlacementAttr inputPlacement(unsigned i) const override { return dist::getPlacement(op.getArgumentTypes()[i]); }
  dist::PlacementAttr outputPlacement(unsigned i) const override { return dist::getPlacement(op.getResultTypes()[i]); }
  dist::PlacementAttr home(unsigned parameter) const override {
    return dist::getPlacement(op.getArgumentTypes()[op.getNumInputs() + parameter]);
  }
  bool hasInputGradient(unsigned i) const override { return op.hasGradient(i); }
  bool hasOutputGradient(unsigned i) const override { return op.hasResultGradient(i); }
  bool hasGradient(unsigned parameter) const override { return op.hasGradient(op.getNumInputs() + parameter); }
  dist::PlacementAttr gradientPlacement(unsigned parameter) const override {
    graph::BackwardOp last = *llvm::to_vector(op.getBody().getOps<graph::BackwardOp>()).rbegin();
    Operation *terminator = last.getBody().front().getTerminator();
    unsigned fromEnd = 0; // parameters' gradients come last
    for (unsigned i = op.getNumInputs() + parameter; i < op.getNumArguments(); ++i)
      fromEnd += op.hasGradient(i);
    return dist::getPlacement(terminator->getOperand(terminator->getNumOperands() - fromEnd).getType());
  }
  std::optional<Shape> parameterShape(unsigned parameter) const override {
    if (graph::PaddingAttr attribute = padding(parameter))
      return Shape(attribute.getOwnShape());
    auto type = cast<RankedTensorType>(op.getArgumentTypes()[op.getNumInputs() + parameter]);
    return Shape(type.getShape());
  }
  Attribute init(unsigned parameter) const override {
    return op.getArgAttr(op.getNumInputs() + parameter, graph::kInitAttr);
  }
  graph::PaddingAttr padding(unsigned parameter) const override {
    return op.getArgAttrOfType<graph::PaddingAttr>(op.getNumInputs() + parameter, graph::kPaddingAttr);
  }

  FailureOr<std::vector<DeviceTensors>> forward(const Interpreter &interpreter, ArrayRef<DeviceTensors> arguments,
                                                Frame &frame) const override {
    return run(interpreter, op.getBody().front(), arguments, frame);
  }

  FailureOr<std::vector<DeviceTensors>> backward(const Interpreter &interpreter, ArrayRef<DeviceTensors> gradients,
                                                 Frame &frame) const override {
    if (graph::BackwardOp merged = op.getBackward())
      return run(interpreter, merged.getBody().front(), gradients, frame);
    // The pair: the weights' part takes what the inputs' part kept.
    auto input = op.getBackward(graph::BackwardKind::Input);
    auto weight = op.getBackward(graph::BackwardKind::Weight);
    auto results = run(interpreter, input.getBody().front(), gradients, frame);
    if (failed(results))
      return failure();
    unsigned numInputs = op.getNumInputGradients();
    std::vector<DeviceTensors> arguments(gradients.begin(), gradients.end());
    arguments.insert(arguments.end(), results->begin() + numInputs, results->end());
    auto parameters = run(interpreter, weight.getBody().front(), arguments, frame);
    if (failed(parameters))
      return failure();
    results->resize(numInputs);
    llvm::append_range(*results, *parameters);
    return results;
  }

private:
  static FailureOr<std::vector<DeviceTensors>> run(const Interpreter &interpreter, Block &block,
                                                   ArrayRef<DeviceTensors> arguments, Frame &frame) {
    bind(interpreter, block, arguments, frame);
    if (failed(interpreter.runBlock(block, frame)))
      return failure();
    return yielded(block, frame);
  }

  mutable graph::LayerOp op;
};

/// A `dist.layer`: two bodies on local shapes; what the backward needs is handed over.
class DistLayer : public Layer {
public:
  DistLayer(dist::LayerOp op, dist::BodyOp forwardBody, dist::BodyOp backwardBody)
      : op(op), forwardBody(forwardBody), backwardBody(backwardBody) {}

  bool hasBackward() const override { return bool(backwardBody); }
  dist::PlacementAttr inputPlacement(unsigned i) const override { return at(op.getInputs(), i); }
  dist::PlacementAttr outputPlacement(unsigned i) const override { return at(op.getOutputs(), i); }
  dist::PlacementAttr home(unsigned parameter) const override { return at(op.getHomes(), parameter); }
  bool hasInputGradient(unsigned i) const override { return bool(op.getInputGradient(i)); }
  bool hasOutputGradient(unsigned i) const override { return bool(op.getOutputGradient(i)); }
  bool hasGradient(unsigned parameter) const override { return bool(op.getGradient(parameter)); }
  dist::PlacementAttr gradientPlacement(unsigned parameter) const override { return op.getGradient(parameter); }
  std::optional<Shape> parameterShape(unsigned parameter) const override {
    graph::PaddingAttr attribute = padding(parameter);
    return Shape(attribute ? attribute.getOwnShape() : home(parameter).getGlobalShape());
  }
  Attribute init(unsigned parameter) const override {
    return forwardBody.getArgAttr(op.getInputs().size() + parameter, graph::kInitAttr);
  }
  graph::PaddingAttr padding(unsigned parameter) const override {
    return forwardBody.getArgAttrOfType<graph::PaddingAttr>(op.getInputs().size() + parameter, graph::kPaddingAttr);
  }

  FailureOr<std::vector<DeviceTensors>> forward(const Interpreter &interpreter, ArrayRef<DeviceTensors> arguments,
                                                Frame &frame) const override {
    Block &block = forwardBody.getBody().front();
    auto results = run(interpreter, block, arguments, frame);
    if (succeeded(results))
      results->resize(results->size() - op.getNumSaved());
    return results;
  }

  FailureOr<std::vector<DeviceTensors>> backward(const Interpreter &interpreter, ArrayRef<DeviceTensors> gradients,
                                                 Frame &frame) const override {
    Block &block = forwardBody.getBody().front();
    std::vector<DeviceTensors> arguments(gradients.begin(), gradients.end());
    for (Value argument : block.getArguments())
      arguments.push_back(frame[argument]);
    for (Value saved : block.getTerminator()->getOperands().take_back(op.getNumSaved()))
      arguments.push_back(frame[saved]);
    return run(interpreter, backwardBody.getBody().front(), arguments, frame);
  }

private:
  static dist::PlacementAttr at(ArrayAttr placements, unsigned i) { return cast<dist::PlacementAttr>(placements[i]); }

  static FailureOr<std::vector<DeviceTensors>> run(const Interpreter &interpreter, Block &block,
                                                   ArrayRef<DeviceTensors> arguments, Frame &frame) {
    if (block.getNumArguments() != arguments.size())
      return emitError(block.getParentOp()->getLoc())
             << "expects " << block.getNumArguments() << " arguments of the body, but got " << arguments.size();
    bind(interpreter, block, arguments, frame);
    if (failed(interpreter.runBlock(block, frame)))
      return failure();
    return yielded(block, frame);
  }

  mutable dist::LayerOp op;
  mutable dist::BodyOp forwardBody, backwardBody;
};

} // namespace

std::unique_ptr<Layer> Layer::lookup(Operation *op, FlatSymbolRefAttr name) {
  auto module = op->getParentOfType<ModuleOp>();
  Operation *callee = module.lookupSymbol(name);
  if (auto layer = dyn_cast_if_present<graph::LayerOp>(callee))
    return std::make_unique<GraphLayer>(layer);
  if (auto layer = dyn_cast_if_present<dist::LayerOp>(callee)) {
    auto forward = module.lookupSymbol<dist::BodyOp>(layer.getForwardAttr());
    auto backward =
        layer.getBackwardAttr() ? module.lookupSymbol<dist::BodyOp>(layer.getBackwardAttr()) : dist::BodyOp();
    if (forward)
      return std::make_unique<DistLayer>(layer, forward, backward);
  }
  op->emitOpError("expects a callee that the reference evaluator knows, but got ") << name;
  return nullptr;
}
