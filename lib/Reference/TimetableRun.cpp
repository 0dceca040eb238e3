// All stages together, and what becomes of their gradients. See TimetableRun.h.
#include "galvatron/Reference/TimetableRun.h"

#include "StageRun.h"

#include "dialects/Graph/GraphInputs.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Reference/PaddedTensor.h"

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
      shapes[input.name] = Shape(graph::getDataShape(bodies, input.placement.getGlobalShape()));
  return shapes;
}

FailureOr<NamedTensors> TimetableRun::initialParameters(uint64_t seed) {
  NamedTensors parameters;
  for (const auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters)
      if (const std::string &name = parameter.names.front(); parameter.counted)
        parameters[name] = drawParameter(name, parameter.ownShape(), parameter.init, seed);
  return parameters;
}

/// Where the elements that a device holds of a parameter begin in one of its buffers.
static int64_t placeIn(const Timetable &table, const StageParameter &parameter, const StageRun::Held &held,
                       int StageParameter::*buffer) {
  if (parameter.bucket < 0)
    return held.inPiece;
  const StateBucket &bucket = table.buckets[parameter.bucket];
  bool isWhole = (buffer == &StageParameter::parameterBuffer && bucket.isWhole()) ||
                 (buffer == &StageParameter::copyBuffer && bucket.isCopyWhole());
  return isWhole ? held.inWhole : held.inPiece;
}

void TimetableRun::write(StageRun &stage, const StageParameter &parameter, int64_t device, int StageParameter::*buffer,
                         std::vector<double> values) {
  if (parameter.*buffer < 0)
    return;
  bool isCopy = buffer == &StageParameter::copyBuffer;
  if (isCopy && !exact) {
    Tensor rounded(ArrayRef<int64_t>{int64_t(values.size())});
    rounded.data = std::move(values);
    roundTo(stage.elementOf(stage.getTable().copyType), rounded);
    values = std::move(rounded.data);
  }
  stage.writeElements(device, parameter.*buffer,
                      placeIn(stage.getTable(), parameter, stage.heldOf(parameter, device), buffer), isCopy ? 2 : 4,
                      values);
}

FailureOr<std::vector<double>> TimetableRun::read(StageRun &stage, const StageParameter &parameter, int64_t device,
                                                  int StageParameter::*buffer, const std::string &reader) {
  StageRun::Held held = stage.heldOf(parameter, device);
  std::vector<double> values(held.end - held.begin);
  int64_t place = placeIn(stage.getTable(), parameter, held, buffer);
  if (!values.empty() && failed(stage.readElements(device, parameter.*buffer, place, values, reader)))
    return failure();
  if (buffer == &StageParameter::gradientBuffer)
    for (double &value : values)
      value /= lossGradientOf(bodies);
  return values;
}

LogicalResult TimetableRun::setParameters(NamedTensors tensors) {
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters) {
      DeviceTensors pieces =
          machine->scatter(addPadding(tensors.at(parameter.names.front()), parameter.padding), parameter.home, 0);
      for (auto [device, piece] : llvm::enumerate(pieces)) {
        StageRun::Held held = stage->heldOf(parameter, device);
        std::vector<double> values(piece.data.begin() + held.begin, piece.data.begin() + held.end);
        write(*stage, parameter, device, &StageParameter::parameterBuffer, values);
        write(*stage, parameter, device, &StageParameter::copyBuffer, values);
        values.assign(values.size(), 0);
        write(*stage, parameter, device, &StageParameter::firstMomentBuffer, values);
        write(*stage, parameter, device, &StageParameter::secondMomentBuffer, values);
      }
    }
  return success();
}

/// Every device's tensor, put together from what those hold that share its states.
FailureOr<std::vector<Tensor>> TimetableRun::readWhole(StageRun &stage, const StageParameter &parameter,
                                                       int StageParameter::*buffer, const std::string &reader) {
  DeviceTensors tensors(machine->numDevices(), Tensor(parameter.home.getLocalShape()));
  for (int64_t device = 0; device < machine->numDevices(); ++device) {
    FailureOr<std::vector<double>> values = read(stage, parameter, device, buffer, reader);
    if (failed(values))
      return failure();
    SmallVector<int64_t> readers = {device};
    if (parameter.bucket >= 0)
      readers = machine->group(device, stage.getTable().buckets[parameter.bucket].axes);
    for (int64_t reader : readers)
      llvm::copy(*values, tensors[reader].data.begin() + stage.heldOf(parameter, device).begin);
  }
  return tensors;
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
      FailureOr<DeviceTensors> pieces = readWhole(*stage, parameter, buffer, (what + name).str());
      Tensor global(parameter.home.getGlobalShape());
      std::string where = " of " + quoted((what + name).str()) + " on stage " + std::to_string(stage->getTable().stage);
      if (failed(pieces) || failed(machine->gather(bodies.getLoc(), *pieces, parameter.home, 0, global, where)))
        return failure();
      FailureOr<Tensor> own = removePadding(bodies.getLoc(), std::move(global), parameter.padding, (what + name).str());
      if (failed(own))
        return failure();
      auto [known, isNew] = tensors.try_emplace(name, *own);
      if (!isNew && known->second.data != own->data)
        return bodies.emitError("expects tied copies of ")
               << quoted((what + name).str()) << " to be equal, but those of stages " << foundIn[name] << " and "
               << stage->getTable().stage << " differ";
      foundIn[name] = stage->getTable().stage;
    }
  return tensors;
}

FailureOr<NamedTensors> TimetableRun::getParameters() {
  FailureOr<NamedTensors> masters = gather(&StageParameter::parameterBuffer, ""),
                          copies = gather(&StageParameter::copyBuffer, "copy of ");
  if (failed(masters) || failed(copies))
    return failure();
  masters->insert(copies->begin(), copies->end()); // of what has no master
  return masters;
}

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
static bool answersFor(const Machine &machine, const Timetable &table, const StageParameter &parameter,
                       int64_t device) {
  for (auto [axis, coordinate] : llvm::enumerate(machine.coordinates(device))) {
    bool isShared = parameter.bucket >= 0 && llvm::is_contained(table.buckets[parameter.bucket].axes, int64_t(axis));
    if (coordinate != 0 && !isShared && !llvm::is_contained(parameter.home.getMeshAxes(), int64_t(axis)))
      return false;
  }
  return true;
}

FailureOr<double> TimetableRun::gradientNorm(const NamedTensors &gradients) {
  std::map<std::string, double> squares; // by parameter, over all ranks
  for (auto &stage : stages)
    for (const StageParameter &parameter : stage->getTable().parameters)
      for (int64_t device = 0; device < machine->numDevices(); ++device) {
        if (parameter.gradientBuffer < 0 || !parameter.counted ||
            !answersFor(*machine, stage->getTable(), parameter, device))
          continue;
        auto values = read(*stage, parameter, device, &StageParameter::gradientBuffer, "the gradient norm");
        if (failed(values))
          return failure();
        for (double value : *values)
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
    for (const StageParameter &parameter : stage->getTable().parameters)
      for (int64_t device = 0; device < machine->numDevices(); ++device) {
        if (parameter.gradientBuffer < 0)
          continue;
        auto readOwn = [&](int StageParameter::*buffer) {
          return read(*stage, parameter, device, buffer, "the update of " + parameter.names.front());
        };
        auto values = readOwn(&StageParameter::parameterBuffer), first = readOwn(&StageParameter::firstMomentBuffer),
             second = readOwn(&StageParameter::secondMomentBuffer), whole = readOwn(&StageParameter::gradientBuffer);
        if (failed(values) || failed(first) || failed(second) || failed(whole))
          return failure();
        for (auto [value, m, v, gradient] : llvm::zip_equal(*values, *first, *second, *whole))
          optimizer.update(value, m, v, gradient * scale, parameter.home.getRank() >= 2);
        write(*stage, parameter, device, &StageParameter::parameterBuffer, *values);
        write(*stage, parameter, device, &StageParameter::copyBuffer, *values);
        write(*stage, parameter, device, &StageParameter::firstMomentBuffer, *first);
        write(*stage, parameter, device, &StageParameter::secondMomentBuffer, *second);
      }
  return success(succeeded(getParameters()));
}
