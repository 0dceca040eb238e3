// Runs `@step`: calls forward, then backward in reverse, once for each micro-batch.
//
// The stages of a pipeline share one device mesh and hand values to the device of the same number, so
// all of them run on one machine: a schedule changes when things happen, never what they are.
#include "galvatron/Reference/Evaluator.h"

#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Graph/Precision.h"
#include "galvatron/Reference/PaddedTensor.h"

#include "Layers.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

static Machine machineOf(ModuleOp module) {
  Machine machine;
  if (auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName)) {
    machine.microBatches = pipeline.getMicroBatches();
    machine.mesh = plan::getMesh(pipeline);
  }
  return machine;
}

namespace {

/// A call of `@step` and what it leaves behind.
struct CallRecord {
  graph::CallOp op;
  std::unique_ptr<Layer> layer;
  /// Per micro-batch: the forward's values.
  Frame frame;
  /// The gradient of each parameter, added up over micro-batches.
  std::vector<DeviceTensors> gradients;
};

class StepRunner {
public:
  StepRunner(func::FuncOp step, Machine machine, const StepInputs &inputs)
      : step(step), inputs(inputs), interpreter(std::move(machine), inputs.seed, inputs.step, inputs.exact),
        lossGradient(lossGradientOf(step->getParentOfType<ModuleOp>())) {}

  FailureOr<StepResult> run();

private:
  LogicalResult checkInputs();
  LogicalResult createRecords();
  LogicalResult runTotal(graph::TotalOp total);
  LogicalResult runForward();
  DeviceTensors scatterInput(BlockArgument argument, dist::PlacementAttr placement);
  LogicalResult runCall(CallRecord &record);
  LogicalResult runInline(Operation *op);
  LogicalResult runBackward();
  LogicalResult gatherGradients(CallRecord &record);
  const Tensor *findParameter(Operation *op, StringRef name, std::optional<Shape> shape);

  const Machine &machine() const { return interpreter.machine; }
  /// Terms whose sum is the loss.
  OperandRange losses() { return step.getBody().front().getTerminator()->getOperands(); }
  bool isDifferentiated() {
    return !records.empty() && llvm::any_of(records, [](auto &r) { return r.second.layer->hasBackward(); });
  }

  func::FuncOp step;
  const StepInputs &inputs;
  Interpreter interpreter;
  llvm::MapVector<Operation *, CallRecord> records;
  double lossGradient;
  /// Of the running micro-batch: values between layers, and their gradients.
  Frame values, gradients;
  /// Of the whole batch, by `graph.total`.
  llvm::DenseMap<Operation *, Tensor> totals;
  StepResult result;
};

} // namespace

LogicalResult StepRunner::checkInputs() {
  if (inputs.inputs.size() != step.getNumArguments())
    return step.emitOpError("expects ") << step.getNumArguments() << " inputs, but got " << inputs.inputs.size();
  auto module = step->getParentOfType<ModuleOp>();
  for (auto [index, type, input] : llvm::enumerate(step.getArgumentTypes(), inputs.inputs))
    if (ArrayRef(graph::getDataShape(module, cast<RankedTensorType>(type).getShape())) != ArrayRef(input.shape))
      return step.emitOpError("expects input ")
             << index << " of type " << type << ", but got one of " << input.size() << " elements";
  return success();
}

LogicalResult StepRunner::createRecords() {
  for (auto call : step.getOps<graph::CallOp>()) {
    CallRecord &record = records[call];
    record.op = call;
    record.layer = Layer::lookup(call);
    if (!record.layer)
      return failure();
    record.gradients.resize(call.getParameters().size());
  }
  return success();
}

const Tensor *StepRunner::findParameter(Operation *op, StringRef name, std::optional<Shape> shape) {
  auto it = inputs.parameters.find(name.str());
  if (it == inputs.parameters.end()) {
    op->emitOpError("expects a parameter named ") << name << ", but the weights have none";
    return nullptr;
  }
  if (shape && *shape != it->second.shape) {
    op->emitOpError("expects parameter ") << name << " of " << numElements(*shape)
                                          << " elements in its own shape, but got another of " << it->second.size();
    return nullptr;
  }
  return &it->second;
}

/// What the devices have of an input in the running micro-batch.
DeviceTensors StepRunner::scatterInput(BlockArgument argument, dist::PlacementAttr placement) {
  Tensor whole = padData(inputs.inputs[argument.getArgNumber()], cast<RankedTensorType>(argument.getType()).getShape());
  return machine().scatter(whole, placement, interpreter.microBatch);
}

LogicalResult StepRunner::runCall(CallRecord &record) {
  graph::CallOp call = record.op;
  std::vector<DeviceTensors> arguments;
  for (auto [index, input] : llvm::enumerate(call.getInputs())) {
    dist::PlacementAttr placement = record.layer->inputPlacement(index);
    if (auto argument = dyn_cast<BlockArgument>(input))
      arguments.push_back(scatterInput(argument, placement));
    else
      arguments.push_back(values[input]);
  }
  for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>())) {
    const Tensor *parameter = findParameter(call, name, record.layer->parameterShape(index));
    if (!parameter)
      return failure();
    arguments.push_back(
        machine().scatter(addPadding(*parameter, record.layer->padding(index)), record.layer->home(index), 0));
  }
  interpreter.layer = random::hashName(call.getBlockPath().data(), call.getBlockPath().size());
  record.frame.clear();
  auto outputs = record.layer->forward(interpreter, arguments, record.frame);
  if (failed(outputs))
    return failure();
  for (auto [output, value] : llvm::zip_equal(call.getOutputs(), *outputs))
    values[output] = std::move(value);
  return success();
}

/// Adds up over all devices and micro-batches, before any of them runs.
LogicalResult StepRunner::runTotal(graph::TotalOp op) {
  std::unique_ptr<Layer> layer = Layer::lookup(op);
  if (!layer)
    return failure();
  Tensor &total = totals.try_emplace(op, cast<RankedTensorType>(op.getType()).getShape()).first->second;
  for (int64_t microBatch = 0; microBatch < machine().microBatches; ++microBatch) {
    interpreter.microBatch = microBatch;
    std::vector<DeviceTensors> arguments;
    for (auto [index, input] : llvm::enumerate(op.getInputs()))
      arguments.push_back(scatterInput(cast<BlockArgument>(input), layer->inputPlacement(index)));
    Frame frame;
    auto outputs = layer->forward(interpreter, arguments, frame);
    if (failed(outputs) ||
        failed(machine().gather(op.getLoc(), outputs->front(), layer->outputPlacement(0), microBatch, total)))
      return failure();
  }
  result.isEmpty &= llvm::all_of(total.data, [](double value) { return value == 0; });
  return success();
}

/// Programs as the importer writes them have no layers: everything is in `@step`.
LogicalResult StepRunner::runInline(Operation *op) {
  auto parameter = dyn_cast<graph::ParameterOp>(op);
  if (!parameter)
    return interpreter.runOp(op, values);
  StringRef name = cast<StringAttr>(parameter.getNames()[0]).getValue();
  auto type = cast<RankedTensorType>(parameter.getType());
  const Tensor *tensor = findParameter(op, name, Shape(type.getShape()));
  if (!tensor)
    return failure();
  values[parameter.getResult()] = machine().scatter(*tensor, dist::getPlacement(type), 0);
  return success();
}

LogicalResult StepRunner::runForward() {
  values.clear();
  for (BlockArgument argument : step.getArguments())
    values[argument] = scatterInput(argument, dist::getPlacement(argument.getType()));
  for (Operation &op : step.getBody().front().without_terminator()) {
    if (auto total = dyn_cast<graph::TotalOp>(op)) {
      values[total.getResult()] = machine().scatter(totals.find(total)->second, dist::getPlacement(total.getType()), 0);
      continue;
    }
    auto record = records.find(&op);
    if (failed(record != records.end() ? runCall(record->second) : runInline(&op)))
      return failure();
  }
  // The loss of a micro-batch is its part of the global batch's.
  for (Value loss : losses()) {
    dist::PlacementAttr placement = dist::getPlacement(loss.getType());
    if (auto call = loss.getDefiningOp<graph::CallOp>())
      placement = records[call].layer->outputPlacement(cast<OpResult>(loss).getResultNumber());
    Tensor total(ArrayRef<int64_t>{});
    if (failed(machine().gather(step.getLoc(), values[loss], placement, interpreter.microBatch, total)))
      return failure();
    result.loss += total[0];
  }
  return success();
}

/// Adds device by device; an empty sum is none yet.
static void accumulate(DeviceTensors &sum, const DeviceTensors &term) {
  if (sum.empty()) {
    sum = term;
    return;
  }
  for (auto [a, b] : llvm::zip_equal(sum, term))
    addTo(a, b);
}

LogicalResult StepRunner::runBackward() {
  gradients.clear();
  for (Value loss : losses()) {
    gradients[loss] = values[loss];
    for (Tensor &one : gradients[loss])
      one[0] = lossGradient;
  }
  for (auto &[op, record] : llvm::reverse(records)) {
    graph::CallOp call = record.op;
    std::vector<DeviceTensors> outputGradients;
    bool isReached = false;
    for (auto [index, output] : llvm::enumerate(call.getOutputs())) {
      if (!record.layer->hasOutputGradient(index))
        continue;
      DeviceTensors &gradient = gradients[output];
      isReached |= !gradient.empty();
      if (gradient.empty())
        for (const Tensor &value : values[output])
          gradient.emplace_back(value.shape);
      outputGradients.push_back(gradient);
    }
    if (!isReached || !record.layer->hasBackward())
      continue;
    interpreter.layer = random::hashName(call.getBlockPath().data(), call.getBlockPath().size());
    auto results = record.layer->backward(interpreter, outputGradients, record.frame);
    if (failed(results))
      return failure();
    auto next = results->begin();
    for (auto [index, input] : llvm::enumerate(call.getInputs()))
      if (record.layer->hasInputGradient(index))
        accumulate(gradients[input], *next++);
    for (auto [index, gradient] : llvm::enumerate(record.gradients))
      if (record.layer->hasGradient(index))
        accumulate(gradient, *next++);
  }
  return success();
}

LogicalResult StepRunner::gatherGradients(CallRecord &record) {
  for (auto [index, name] : llvm::enumerate(record.op.getParameters().getAsValueRange<StringAttr>())) {
    if (!record.layer->hasGradient(index))
      continue;
    const Tensor &parameter = inputs.parameters.find(name.str())->second;
    Tensor &sum = result.gradients.try_emplace(name.str(), Tensor(parameter.shape)).first->second;
    if (record.gradients[index].empty())
      continue;
    graph::PaddingAttr padding = record.layer->padding(index);
    Location loc = record.op.getLoc();
    Tensor padded = addPadding(Tensor(parameter.shape), padding);
    if (failed(machine().gather(loc, record.gradients[index], record.layer->gradientPlacement(index), 0, padded)))
      return failure();
    FailureOr<Tensor> term = removePadding(loc, std::move(padded), padding, "the gradient of " + name.str());
    if (failed(term))
      return failure();
    for (double &value : term->data)
      value /= lossGradient;
    addTo(sum, *term);
  }
  return success();
}

FailureOr<StepResult> StepRunner::run() {
  if (failed(checkInputs()) || failed(createRecords()))
    return failure();
  bool differentiated = isDifferentiated();
  auto ops = step.getOps<graph::TotalOp>();
  result.isEmpty = !ops.empty();
  for (graph::TotalOp total : ops)
    if (failed(runTotal(total)))
      return failure();
  for (int64_t microBatch = 0; microBatch < machine().microBatches; ++microBatch) {
    interpreter.microBatch = microBatch;
    if (failed(runForward()) || (differentiated && failed(runBackward())))
      return failure();
  }
  for (auto &[op, record] : records)
    if (differentiated && failed(gatherGradients(record)))
      return failure();
  return result;
}

double galvatron::reference::lossGradientOf(ModuleOp module) {
  return graph::getPrecision(module) == "fp16" ? 1024 : 1;
}

static FailureOr<func::FuncOp> findStep(ModuleOp module) {
  func::FuncOp step = graph::getStep(module);
  if (step && step.getNumResults() > 0 && !step.isExternal())
    return step;
  return module.emitError("expects a function @step that returns the loss");
}

FailureOr<StepResult> galvatron::reference::evaluateStep(ModuleOp module, const StepInputs &inputs) {
  auto step = findStep(module);
  if (failed(step))
    return failure();
  return StepRunner(*step, machineOf(module), inputs).run();
}

//===----------------------------------------------------------------------===//
// One function
//===----------------------------------------------------------------------===//

FailureOr<std::vector<Tensor>> galvatron::reference::evaluateFunction(func::FuncOp function, ArrayRef<Tensor> inputs,
                                                                      ArrayRef<int64_t> mesh) {
  Machine machine;
  machine.mesh.assign(mesh.begin(), mesh.end());
  Interpreter interpreter(machine, 0, 1, /*exact=*/true);
  Frame frame;
  for (auto [argument, input] : llvm::zip_equal(function.getArguments(), inputs))
    frame[argument] = machine.scatter(input, dist::getPlacement(argument.getType()), 0);
  Block &block = function.getBody().front();
  if (failed(interpreter.runBlock(block, frame)))
    return failure();
  std::vector<Tensor> outputs;
  for (Value output : block.getTerminator()->getOperands()) {
    outputs.emplace_back(cast<RankedTensorType>(output.getType()).getShape());
    if (failed(
            machine.gather(function.getLoc(), frame[output], dist::getPlacement(output.getType()), 0, outputs.back())))
      return failure();
  }
  return outputs;
}

//===----------------------------------------------------------------------===//
// Initial values
//===----------------------------------------------------------------------===//

Tensor galvatron::reference::drawParameter(StringRef name, ArrayRef<int64_t> shape, Attribute init, uint64_t seed) {
  Tensor tensor(shape);
  auto dictionary = dyn_cast_if_present<DictionaryAttr>(init);
  if (!dictionary)
    return tensor;
  NamedAttribute entry = *dictionary.begin();
  auto number = [](Attribute attribute) { return cast<FloatAttr>(attribute).getValueAsDouble(); };
  double a = 0, b = 0;
  random::Distribution kind = random::Distribution::Constant;
  if (auto pair = dyn_cast<ArrayAttr>(entry.getValue())) {
    kind = entry.getName() == "normal" ? random::Distribution::Normal : random::Distribution::Uniform;
    a = number(pair[0]);
    b = number(pair[1]);
  } else {
    a = number(entry.getValue());
  }
  random::Stream stream = random::initialStream(seed, random::hashName(name.data(), name.size()));
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor[i] = random::initialValue(stream, i, kind, a, b);
  return tensor;
}

FailureOr<NamedTensors> galvatron::reference::initialParameters(ModuleOp module, uint64_t seed) {
  auto step = findStep(module);
  if (failed(step))
    return failure();
  NamedTensors parameters;
  for (auto parameter : step->getOps<graph::ParameterOp>()) {
    StringRef name = cast<StringAttr>(parameter.getNames()[0]).getValue();
    parameters[name.str()] =
        drawParameter(name, cast<RankedTensorType>(parameter.getType()).getShape(), parameter.getInitAttr(), seed);
  }
  for (auto call : step->getOps<graph::CallOp>()) {
    std::unique_ptr<Layer> layer = Layer::lookup(call);
    if (!layer)
      return failure();
    for (auto [index, name] : llvm::enumerate(call.getParameters().getAsValueRange<StringAttr>()))
      if (!parameters.count(name.str()))
        parameters[name.str()] = drawParameter(name, *layer->parameterShape(index), layer->init(index), seed);
  }
  return parameters;
}
