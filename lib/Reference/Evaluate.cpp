// Weights and tokens from files, optimizer steps, gradients to files: everything around `evaluateStep`.
#include "galvatron/Reference/Evaluate.h"

#include "dialects/Graph/GraphDialect.h"
#include "dialects/Graph/GraphInputs.h"
#include "galvatron/Reference/Evaluator.h"
#include "galvatron/Support/Safetensors.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/api/Documents.h"

#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

namespace {

class Trainer {
public:
  Trainer(ModuleOp module, const EvaluateOptions &options, raw_ostream &out)
      : module(module), options(options), out(out) {}

  LogicalResult run();

private:
  LogicalResult loadWeights();
  LogicalResult loadTokens();
  /// The tokens of a sample, as the runtime's data loader takes or draws them.
  void readSample(int64_t sample, double *tokens, int64_t count) const;
  LogicalResult fillInputs(int64_t step);
  LogicalResult dumpGradients(int64_t step, const NamedTensors &gradients);
  void update(const std::string &name, Tensor &parameter, const Tensor &gradient, double scale);

  ModuleOp module;
  const EvaluateOptions &options;
  raw_ostream &out;
  StepInputs inputs;
  std::vector<double> tokens;
  int64_t vocabulary = 0;
  NamedTensors firstMoments, secondMoments;
  /// Steps that moved parameters: those whose batch had labels.
  int64_t numUpdates = 0;
};

} // namespace

LogicalResult Trainer::loadWeights() {
  FailureOr<NamedTensors> parameters = initialParameters(module, options.seed);
  if (failed(parameters))
    return failure();
  inputs.parameters = std::move(*parameters);
  if (options.weights.empty())
    return success();
  std::string error;
  std::map<std::string, safetensors::FloatTensor> file;
  if (!safetensors::readAll(options.weights, file, error))
    return module.emitError(error);
  for (auto &[name, parameter] : inputs.parameters) {
    auto it = file.find(name);
    if (it == file.end())
      return module.emitError() << options.weights << " has no tensor " << name;
    if (ArrayRef(it->second.shape) != ArrayRef(parameter.shape))
      return module.emitError() << options.weights << " has another shape for " << name << " than the model";
    parameter.data.assign(it->second.values.begin(), it->second.values.end());
  }
  return success();
}

LogicalResult Trainer::loadTokens() {
  if (auto size = module->getAttrOfType<IntegerAttr>(graph::kVocabularyAttr))
    vocabulary = size.getInt();
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

LogicalResult Trainer::fillInputs(int64_t step) {
  inputs.inputs.clear();
  inputs.step = step;
  for (auto [index, type] : llvm::enumerate(module.lookupSymbol<func::FuncOp>("step").getArgumentTypes())) {
    ArrayRef<int64_t> shape = cast<RankedTensorType>(type).getShape();
    if (shape.size() != 2)
      return module.emitError("expects inputs [batch, positions], but got one of ") << shape.size() << " dimensions";
    if (!options.data.empty() && int64_t(tokens.size()) < shape[0] * shape[1])
      return module.emitError() << options.data << " has " << tokens.size() << " tokens, but one batch needs "
                                << shape[0] * shape[1];
    Tensor &input = inputs.inputs.emplace_back(shape);
    std::vector<double> sample(shape[1]);
    for (int64_t row = 0; row < shape[0]; ++row) {
      readSample((step - 1) * shape[0] + row, sample.data(), shape[1]);
      llvm::copy(PackedRow<double>(sample, options.eod).input(graph::kInputNames[index].str()),
                 &input.data[row * shape[1]]);
    }
  }
  return success();
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

/// As `torch.optim.AdamW` and `torch.optim.SGD`.
void Trainer::update(const std::string &name, Tensor &parameter, const Tensor &gradient, double scale) {
  double decay = parameter.rank() >= 2 ? options.weightDecay : 0;
  Tensor &first = firstMoments.try_emplace(name, parameter.shape).first->second;
  Tensor &second = secondMoments.try_emplace(name, parameter.shape).first->second;
  double firstBias = 1 - std::pow(options.beta1, numUpdates), secondBias = 1 - std::pow(options.beta2, numUpdates);
  for (int64_t i = 0; i < parameter.size(); ++i) {
    double g = gradient[i] * scale;
    if (options.sgd) {
      parameter[i] = float(parameter[i] - options.lr * (g + decay * parameter[i]));
      continue;
    }
    first[i] = float(options.beta1 * first[i] + (1 - options.beta1) * g);
    second[i] = float(options.beta2 * second[i] + (1 - options.beta2) * g * g);
    double direction = first[i] / firstBias / (std::sqrt(second[i] / secondBias) + options.eps);
    parameter[i] = float(parameter[i] * (1 - options.lr * decay) - options.lr * direction);
  }
}

LogicalResult Trainer::run() {
  inputs.seed = options.seed;
  if (failed(loadWeights()) || failed(loadTokens()))
    return failure();
  out << "step,loss,grad_norm\n";
  for (int64_t step = 1; step <= options.steps; ++step) {
    if (failed(fillInputs(step)))
      return failure();
    FailureOr<StepResult> result = evaluateStep(module, inputs);
    if (failed(result) || failed(dumpGradients(step, result->gradients)))
      return failure();
    double squares = 0;
    for (const auto &[name, gradient] : result->gradients)
      for (double g : gradient.data)
        squares += g * g;
    double norm = std::sqrt(squares), limit = options.clipGrad;
    // As torch.nn.utils.clip_grad_norm_.
    double scale = limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1;
    if (!result->isEmpty) {
      ++numUpdates;
      for (const auto &[name, gradient] : result->gradients)
        update(name, inputs.parameters.at(name), gradient, scale);
    }
    out << llvm::format("%lld,%.9g,%.9g\n", static_cast<long long>(step), result->loss, norm);
  }
  return success();
}

LogicalResult galvatron::reference::runEvaluate(ModuleOp module, const EvaluateOptions &options, raw_ostream &out) {
  return Trainer(module, options, out).run();
}
