// All stages together, and what becomes of their gradients. See TimetableRun.h.
#include "galvatron/Reference/TimetableRun.h"

#include "StageRun.h"

#include "dialects/Plan/Plan.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

static std::string quoted(StringRef name) { return ("\"" + name + "\"").str(); }

TimetableRun::TimetableRun(ModuleOp bodies, ArrayRef<Timetable> timetables, uint64_t seed, bool exact)
    : bodies(bodies), seed(seed), exact(exact), machine(std::make_unique<Machine>()),
      exchange(std::make_unique<Exchange>()) {
  auto pipeline = bodies->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  machine->microBatches = pipeline.getMicroBatches();
  machine->mesh = plan::getMesh(pipeline);
  for (const Timetable &table : timetables)
    stages.push_back(std::make_unique<StageRun>(table, bodies, *machine, *exchange, exact));
}

TimetableRun::~TimetableRun() = default;

//===----------------------------------------------------------------------===//
// State
//===----------------------------------------------------------------------===//

std::map<std::string, Shape> TimetableRun::inputShapes() {
  std::map<std::string, Shape> shapes;
  for (const auto &stage : stages)
    for (const StageInput &input : stage->getTable().inputs)
      shapes[input.name] = Shape(input.placement.getGlobalShape());
  return shapes;
}

FailureOr<NamedTensors> TimetableRun::initialParameters(uint64_t seed) {
  NamedTensors parameters;
  for (const auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters)
      if (const std::string &name = parameter.names.front(); parameter.counted)
        parameters[name] = drawParameter(name, parameter.home.getGlobalShape(), parameter.init, seed);
  return parameters;
}

/// What bodies read instead of the f32 master.
void TimetableRun::writeCopy(StageRun &stage, const StageParameter &parameter, std::vector<Tensor> values) {
  if (!parameter.hasCopy)
    return;
  for (Tensor &value : values)
    if (!exact)
      roundTo(BFloat16Type::get(bodies.getContext()), value);
  stage.writeBuffer(parameter.copyBuffer, 2, values);
}

LogicalResult TimetableRun::setParameters(NamedTensors tensors) {
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters) {
      DeviceTensors values = machine->scatter(tensors.at(parameter.names.front()), parameter.home, 0);
      stage->writeBuffer(parameter.parameterBuffer, 4, values);
      writeCopy(*stage, parameter, values);
      DeviceTensors zeros(values.size(), Tensor(values.front().shape));
      for (int buffer : {parameter.firstMomentBuffer, parameter.secondMomentBuffer})
        if (buffer >= 0)
          stage->writeBuffer(buffer, 4, zeros);
    }
  return success();
}

/// Global tensors of what every holder of a parameter has of it. All have the same.
FailureOr<NamedTensors> TimetableRun::gather(int StageParameter::*buffer, StringRef what) {
  NamedTensors tensors;
  std::map<std::string, int64_t> foundIn;
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters) {
      if (parameter.*buffer < 0)
        continue;
      const std::string &name = parameter.names.front();
      FailureOr<DeviceTensors> pieces =
          stage->readBuffer(parameter.*buffer, parameter.home.getLocalShape(), (what + name).str());
      Tensor global(parameter.home.getGlobalShape());
      std::string where = " of " + quoted((what + name).str()) + " on stage " + std::to_string(stage->getTable().stage);
      if (failed(pieces) || failed(machine->gather(bodies.getLoc(), *pieces, parameter.home, 0, global, where)))
        return failure();
      auto [known, isNew] = tensors.try_emplace(name, global);
      if (!isNew && known->second.data != global.data)
        return bodies.emitError("expects tied copies of ")
               << quoted((what + name).str()) << " to be equal, but those of stages " << foundIn[name] << " and "
               << stage->getTable().stage << " differ";
      foundIn[name] = stage->getTable().stage;
    }
  return tensors;
}

FailureOr<NamedTensors> TimetableRun::getParameters() { return gather(&StageParameter::parameterBuffer, ""); }

//===----------------------------------------------------------------------===//
// One step
//===----------------------------------------------------------------------===//

LogicalResult TimetableRun::runEntries(uint64_t step) {
  Interpreter interpreter(*machine, seed, step, exact);
  *exchange = {};
  for (bool moved = true; moved;) {
    moved = false;
    for (auto &stage : stages) {
      FailureOr<bool> result = stage->advance(interpreter);
      if (failed(result))
        return failure();
      moved |= *result;
    }
  }
  if (llvm::all_of(stages, [](auto &stage) { return stage->isDone(); }))
    return LogicalResult::success(llvm::all_of(stages, [](auto &stage) { return succeeded(stage->finish()); }));
  InFlightDiagnostic error = bodies.emitError("expects the step to end, but its stages wait for one another");
  for (auto &stage : stages)
    if (!stage->isDone())
      error.attachNote() << "stage " << stage->getTable().stage << " waits in " << quoted(stage->current().name);
  return error;
}

FailureOr<StepResult> TimetableRun::runStep(const NamedTensors &inputs, uint64_t step) {
  for (auto &stage : stages)
    stage->beginStep(inputs);
  if (failed(runEntries(step)))
    return failure();
  StepResult result;
  bool hasTotals = false, isZero = true;
  for (auto &stage : stages) {
    const Timetable &table = stage->getTable();
    for (const StageLoss &loss : table.losses) {
      FailureOr<DeviceTensors> pieces = stage->readBuffer(loss.buffer, {}, "the loss");
      Tensor sum(ArrayRef<int64_t>{});
      if (failed(pieces) || failed(machine->gather(bodies.getLoc(), *pieces, loss.placement, 0, sum, " of the loss")))
        return failure();
      result.loss += sum[0];
    }
    for (int total : table.totals) {
      FailureOr<DeviceTensors> pieces =
          stage->readBuffer(total, {table.buffers[total].bytes / 4}, "the end of the step");
      if (failed(pieces))
        return failure();
      hasTotals = true;
      for (const Tensor &piece : *pieces)
        isZero &= llvm::all_of(piece.data, [](double value) { return value == 0; });
    }
  }
  result.isEmpty = hasTotals && isZero;
  FailureOr<NamedTensors> gradients = gather(&StageParameter::gradientBuffer, "gradient of ");
  if (failed(gradients))
    return failure();
  result.gradients = std::move(*gradients);
  return result;
}

//===----------------------------------------------------------------------===//
// The update
//===----------------------------------------------------------------------===//

/// Whether a device is the one that answers for what it holds: the first of its replicas.
static bool answersFor(const Machine &machine, const StageParameter &parameter, int64_t device) {
  for (auto [axis, coordinate] : llvm::enumerate(machine.coordinates(device)))
    if (coordinate != 0 && !llvm::is_contained(parameter.home.getMeshAxes(), int64_t(axis)))
      return false;
  return true;
}

FailureOr<double> TimetableRun::gradientNorm(const NamedTensors &gradients) {
  std::map<std::string, double> squares; // by parameter, over all ranks
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters) {
      if (parameter.gradientBuffer < 0 || !parameter.counted)
        continue;
      auto pieces = stage->readBuffer(parameter.gradientBuffer, parameter.home.getLocalShape(), "the gradient norm");
      if (failed(pieces))
        return failure();
      for (auto [device, piece] : llvm::enumerate(*pieces))
        if (answersFor(*machine, parameter, device))
          for (double value : piece.data)
            squares[parameter.names.front()] += value * value;
    }
  double total = 0;
  for (const auto &[name, gradient] : gradients) {
    double once = 0, counted = squares[name];
    for (double value : gradient.data)
      once += value * value;
    if (std::abs(counted - once) > 1e-9 * once)
      return bodies.emitError("expects the gradient norm to count every element of ")
             << quoted(name) << " once, but ranks count " << counted << " of " << once;
    total += counted;
  }
  return std::sqrt(total);
}

LogicalResult TimetableRun::update(const NamedTensors &gradients, const Optimizer &optimizer, double scale) {
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters) {
      if (parameter.gradientBuffer < 0)
        continue;
      SmallVector<int64_t> shape = parameter.home.getLocalShape();
      bool isMatrix = parameter.home.getRank() >= 2;
      auto read = [&](int buffer) { return stage->readBuffer(buffer, shape, "the update of " + parameter.names.front()); };
      auto values = read(parameter.parameterBuffer), first = read(parameter.firstMomentBuffer),
           second = read(parameter.secondMomentBuffer), whole = read(parameter.gradientBuffer);
      if (failed(values) || failed(first) || failed(second) || failed(whole))
        return failure();
      for (auto [value, m, v, gradient] : llvm::zip_equal(*values, *first, *second, *whole))
        for (int64_t i = 0; i < value.size(); ++i)
          optimizer.update(value[i], m[i], v[i], gradient[i] * scale, isMatrix);
      stage->writeBuffer(parameter.parameterBuffer, 4, *values);
      stage->writeBuffer(parameter.firstMomentBuffer, 4, *first);
      stage->writeBuffer(parameter.secondMomentBuffer, 4, *second);
      writeCopy(*stage, parameter, std::move(*values));
    }
  return success(succeeded(getParameters()));
}
