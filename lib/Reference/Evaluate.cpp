// Weights and tokens from files, gradients to files: everything around steps and their updates.
#include "galvatron/Reference/Evaluate.h"

#include "dialects/Graph/GraphDialect.h"
#include "dialects/Graph/GraphInputs.h"
#include "galvatron/Reference/TimetableRun.h"
#include "galvatron/Support/DataFolder.h"
#include "galvatron/Support/Safetensors.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/api/Documents.h"

#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

namespace {

class Trainer {
public:
  Trainer(ModuleOp module, Trainee &trainee, const EvaluateOptions &options, raw_ostream &out)
      : module(module), trainee(trainee), options(options), out(out), optimizer(options.optimizer) {}

  LogicalResult run();

private:
  LogicalResult loadWeights();
  LogicalResult loadTokens();
  LogicalResult loadFolder(ArrayAttr described);
  FailureOr<NamedTensors> readFields(int64_t step);
  /// The tokens of a sample, as the runtime's data loader takes or draws them.
  void readSample(int64_t sample, double *tokens, int64_t count) const;
  RowRules rowRules() const;
  FailureOr<NamedTensors> readInputs(int64_t step);
  LogicalResult dumpGradients(int64_t step, const NamedTensors &gradients);

  ModuleOp module;
  Trainee &trainee;
  const EvaluateOptions &options;
  raw_ostream &out;
  Optimizer optimizer;
  std::vector<double> tokens;
  int64_t vocabulary = 0;
  /// Of a program that reads other data.
  std::vector<data::Field> fields;
  std::optional<data::Folder> folder;
};

} // namespace

LogicalResult Trainer::loadWeights() {
  FailureOr<NamedTensors> parameters = trainee.initialParameters(options.seed);
  if (failed(parameters))
    return failure();
  if (options.weights.empty())
    return trainee.setParameters(std::move(*parameters));
  std::string error;
  std::map<std::string, safetensors::FloatTensor> file;
  if (!safetensors::readAll(options.weights, file, error))
    return module.emitError(error);
  for (auto &[name, parameter] : *parameters) {
    auto it = file.find(name);
    if (it == file.end())
      return module.emitError() << options.weights << " has no tensor " << name;
    if (ArrayRef(it->second.shape) != ArrayRef(parameter.shape))
      return module.emitError() << options.weights << " has another shape for " << name << " than the model";
    parameter.data.assign(it->second.values.begin(), it->second.values.end());
  }
  return trainee.setParameters(std::move(*parameters));
}

LogicalResult Trainer::loadFolder(ArrayAttr described) {
  std::map<std::string, Shape> shapes = trainee.inputShapes();
  for (auto input : described.getAsRange<DictionaryAttr>()) {
    data::Field &field = fields.emplace_back();
    field.name = input.getAs<StringAttr>(graph::kInputNameKey).str();
    auto type = input.getAs<TypeAttr>(graph::kInputTypeKey);
    assert(type && "phase import gives each input its type");
    auto tensor = cast<RankedTensorType>(type.getValue());
    field.isFloat = !tensor.getElementType().isInteger();
    field.shape.assign(tensor.getShape().begin() + 1, tensor.getShape().end());
    if (auto below = input.getAs<IntegerAttr>(graph::kInputBelowKey))
      field.below = below.getInt();
    if (auto ignored = input.getAs<IntegerAttr>(graph::kInputIgnoredKey))
      field.ignored = ignored.getInt();
  }
  if (options.eod >= 0)
    return module.emitError("--eod is for programs that read tokens, but this one reads named inputs");
  if (options.data.empty())
    return success();
  std::string error;
  folder = data::Folder::open(options.data, fields, error);
  return folder ? success() : LogicalResult(module.emitError(error));
}

FailureOr<NamedTensors> Trainer::readFields(int64_t step) {
  NamedTensors inputs;
  std::map<std::string, Shape> shapes = trainee.inputShapes();
  for (auto [number, field] : llvm::enumerate(fields)) {
    auto shape = shapes.find(field.name);
    if (shape == shapes.end()) // no stage reads it
      continue;
    Tensor &input = inputs.try_emplace(field.name, shape->second).first->second;
    int64_t batch = shape->second[0], count = field.numElements();
    std::vector<char> sample(field.numBytes());
    for (int64_t row = 0; row < batch; ++row) {
      int64_t place = (step - 1) * batch + row;
      std::string error;
      if (!folder)
        data::drawSample(field, options.seed, place, sample.data());
      else if (!folder->read(number, place % folder->numSamples(), sample.data(), error))
        return module.emitError(error);
      for (int64_t i = 0; i < count; ++i) {
        int64_t integer;
        float number;
        if (field.isFloat)
          std::memcpy(&number, &sample[i * 4], 4);
        else
          std::memcpy(&integer, &sample[i * 8], 8);
        input.data[row * count + i] = field.isFloat ? double(number) : double(integer);
      }
    }
  }
  return inputs;
}

LogicalResult Trainer::loadTokens() {
  if (auto described = module->getAttrOfType<ArrayAttr>(graph::kInputsAttr))
    return loadFolder(described);
  if (auto size = module->getAttrOfType<IntegerAttr>(graph::kVocabularyAttr))
    vocabulary = size.getInt();
  if (vocabulary > 0 && options.eod >= vocabulary)
    return module.emitError() << "expects --eod to be a token of the vocabulary of " << vocabulary << ", but got "
                              << options.eod;
  if (options.data.empty()) {
    if (vocabulary > 0)
      return success();
    return module.emitError("expects graph.vocabulary, to draw random tokens; name a file with --data");
  }
  int64_t width = llvm::StringSwitch<int64_t>(options.dataType)
                      .Case("u8", 1)
                      .Case("u16", 2)
                      .Cases({"u32", "i32"}, 4)
                      .Case("i64", 8)
                      .Default(0);
  if (width == 0)
    return module.emitError("expects tokens of type u8, u16, u32, i32 or i64, but got ") << options.dataType;
  if (llvm::sys::fs::exists(options.data) && !llvm::sys::fs::is_regular_file(options.data))
    return module.emitError("expects a file of tokens, but ") << options.data << " is none";
  auto file = llvm::MemoryBuffer::getFile(options.data);
  if (!file)
    return module.emitError("cannot open ") << options.data << ": " << file.getError().message();
  const char *bytes = (*file)->getBufferStart();
  for (size_t at = 0; at + width <= (*file)->getBufferSize(); at += width) {
    uint64_t token = 0; // a negative one is large, and outside every vocabulary
    std::memcpy(&token, bytes + at, width);
    tokens.push_back(token);
  }
  return success();
}

void Trainer::readSample(int64_t sample, double *to, int64_t count) const {
  if (options.data.empty()) {
    random::Stream stream{random::mix(~random::mix(options.seed)), uint64_t(sample)};
    for (int64_t i = 0; i < count; ++i)
      to[i] = uint64_t(stream.bits(i)) * vocabulary >> 32;
    return;
  }
  int64_t window = sample % (int64_t(tokens.size()) / count);
  std::copy_n(&tokens[window * count], count, to);
}

RowRules Trainer::rowRules() const {
  RowRules rules{options.eod, options.eod >= 0};
  auto ignored = module->getAttrOfType<IntegerAttr>(graph::kIgnoredLabelAttr);
  rules.labelsAreNext = ignored != nullptr;
  if (ignored)
    rules.ignored = ignored.getInt();
  return rules;
}

FailureOr<NamedTensors> Trainer::readInputs(int64_t step) {
  if (!fields.empty())
    return readFields(step);
  NamedTensors inputs;
  for (const auto &[name, shape] : trainee.inputShapes()) {
    if (shape.size() != 2)
      return module.emitError("expects inputs [batch, positions], but got one of ") << shape.size() << " dimensions";
    if (!options.data.empty() && int64_t(tokens.size()) < shape[0] * shape[1])
      return module.emitError() << options.data << " has " << tokens.size() << " tokens, but one batch needs "
                                << shape[0] * shape[1];
    Tensor &input = inputs.try_emplace(name, shape).first->second;
    std::vector<double> sample(shape[1]);
    for (int64_t row = 0; row < shape[0]; ++row) {
      readSample((step - 1) * shape[0] + row, sample.data(), shape[1]);
      llvm::copy(PackedRow<double>(sample, sample.size(), rowRules()).input(name), &input.data[row * shape[1]]);
    }
  }
  return inputs;
}

LogicalResult Trainer::dumpGradients(int64_t step, const NamedTensors &gradients) {
  if (options.dumpGradients.empty())
    return success();
  if (std::error_code code = llvm::sys::fs::create_directories(options.dumpGradients))
    return module.emitError("cannot create ") << options.dumpGradients << ": " << code.message();
  std::map<std::string, safetensors::FloatTensor> file;
  for (const auto &[name, gradient] : gradients)
    file[name] = {{gradient.shape.begin(), gradient.shape.end()}, {gradient.data.begin(), gradient.data.end()}};
  std::string error, path = options.dumpGradients;
  llvm::raw_string_ostream(path) << llvm::format("/step_%06lld.safetensors", static_cast<long long>(step));
  if (!safetensors::writeAll(path, file, error))
    return module.emitError(error);
  return success();
}

LogicalResult Trainer::run() {
  if (failed(loadWeights()) || failed(loadTokens()))
    return failure();
  out << "step,loss,grad_norm\n";
  for (int64_t step = 1; step <= options.steps; ++step) {
    FailureOr<NamedTensors> inputs = readInputs(step);
    if (failed(inputs))
      return failure();
    FailureOr<StepResult> result = trainee.runStep(*inputs, step);
    if (failed(result) || failed(dumpGradients(step, result->gradients)))
      return failure();
    FailureOr<double> norm = trainee.finishStep(*result, optimizer);
    if (failed(norm))
      return failure();
    out << llvm::format("%lld,%.9g,%.9g\n", static_cast<long long>(step), result->loss, *norm);
  }
  return success();
}

LogicalResult galvatron::reference::runEvaluate(ModuleOp module, const EvaluateOptions &options, raw_ostream &out) {
  ProgramTrainee trainee(module, options.seed, /*exact=*/false);
  return Trainer(module, trainee, options, out).run();
}

LogicalResult galvatron::reference::runTimetables(ModuleOp bodies, ArrayRef<Timetable> timetables,
                                                  const EvaluateOptions &options, raw_ostream &out) {
  TimetableRun trainee(bodies, timetables, options.seed, /*exact=*/false);
  return Trainer(bodies, trainee, options, out).run();
}
