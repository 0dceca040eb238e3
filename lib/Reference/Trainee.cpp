// Training of a program on global tensors: the judge of TimetableRun.
#include "galvatron/Reference/Trainee.h"

#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphStructure.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

FailureOr<double> Trainee::gradientNorm(const NamedTensors &gradients) {
  double squares = 0;
  for (const auto &[name, gradient] : gradients)
    for (double value : gradient.data)
      squares += value * value;
  return std::sqrt(squares);
}

FailureOr<double> Trainee::finishStep(const StepResult &result, Optimizer &optimizer) {
  FailureOr<double> norm = gradientNorm(result.gradients);
  if (failed(norm) || result.isEmpty)
    return norm;
  ++optimizer.numUpdates;
  if (failed(update(result.gradients, optimizer, optimizer.scaleFor(*norm))))
    return failure();
  return norm;
}

std::map<std::string, Shape> ProgramTrainee::inputShapes() {
  std::map<std::string, Shape> shapes;
  if (func::FuncOp step = graph::getStep(module))
    for (auto [index, type] : llvm::enumerate(step.getArgumentTypes()))
      shapes[graph::getInputName(module, index)] = Shape(graph::getDataShape(module, cast<RankedTensorType>(type).getShape()));
  return shapes;
}

FailureOr<NamedTensors> ProgramTrainee::initialParameters(uint64_t seed) {
  return reference::initialParameters(module, seed);
}

LogicalResult ProgramTrainee::setParameters(NamedTensors values) {
  parameters = std::move(values);
  firstMoments.clear();
  secondMoments.clear();
  return success();
}

FailureOr<StepResult> ProgramTrainee::runStep(const NamedTensors &inputs, uint64_t step) {
  StepInputs arguments;
  for (unsigned index = 0; index < inputs.size(); ++index)
    arguments.inputs.push_back(inputs.at(graph::getInputName(module, index)));
  arguments.parameters = parameters;
  arguments.seed = seed;
  arguments.step = step;
  arguments.exact = exact;
  return evaluateStep(module, arguments);
}

LogicalResult ProgramTrainee::update(const NamedTensors &gradients, const Optimizer &optimizer, double scale) {
  for (const auto &[name, gradient] : gradients) {
    Tensor &parameter = parameters.at(name);
    Tensor &first = firstMoments.try_emplace(name, parameter.shape).first->second;
    Tensor &second = secondMoments.try_emplace(name, parameter.shape).first->second;
    for (int64_t i = 0; i < parameter.size(); ++i)
      optimizer.update(parameter[i], first[i], second[i], gradient[i] * scale, parameter.rank() >= 2);
  }
  return success();
}
