// Phase `import` changes no result: for each imported model, the loss and every gradient of what it
// makes equal those of the program as imported, which is only formed into layers.
//
// Values stay doubles. What differs is the constants: an inverse frequency or 1/n that was rounded to
// f32 in arithmetic and is exact in an op, or the reverse, so results agree to about 1e-7 times the
// condition of the model; an op that means something else is off by 1e-3 and more.
#include "../Reference/Program.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace galvatron::reference;

namespace {

constexpr const char *kModels = "test/Inputs/imported"; // tests run from the source tree
constexpr double kTolerance = 1e-5;

std::vector<std::string> importedModels() {
  std::vector<std::string> names;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(kModels, error), end; it != end && !error; it.increment(error))
    if (llvm::sys::path::extension(it->path()) == ".mlir")
      names.push_back(llvm::sys::path::stem(it->path()).str());
  std::sort(names.begin(), names.end());
  return names;
}

/// Words that are in every model's table.
StepInputs inputsOf(Program &program) {
  StepInputs inputs;
  inputs.exact = true;
  auto step = program.module->lookupSymbol<mlir::func::FuncOp>("step");
  for (auto [i, type] : llvm::enumerate(step.getArgumentTypes())) {
    Tensor words(llvm::cast<mlir::RankedTensorType>(type).getShape());
    for (int64_t position = 0; position < words.size(); ++position)
      words[position] = (position * 37 + i * 11) % 251;
    inputs.inputs.push_back(words);
  }
  mlir::FailureOr<NamedTensors> shapes = initialParameters(*program.module, 3);
  EXPECT_TRUE(succeeded(shapes));
  // Not as drawn at the start: a weight of ones or a bias of zeros would hide that it is misplaced.
  for (auto &[name, tensor] : *shapes) {
    Tensor noise = randomTensor(tensor.shape, name);
    for (int64_t i = 0; i < tensor.size(); ++i)
      tensor[i] += 0.1 * noise[i];
  }
  inputs.parameters = *shapes;
  return inputs;
}

double norm(const Tensor &tensor) {
  double sum = 0;
  for (double value : tensor.data)
    sum += value * value;
  return std::sqrt(sum);
}

class ImportPhase : public testing::TestWithParam<std::string> {};

TEST_P(ImportPhase, KeepsLossAndGradients) {
  auto file = llvm::MemoryBuffer::getFile(std::string(kModels) + "/" + GetParam() + ".mlir");
  ASSERT_TRUE(bool(file));
  Program imported((*file)->getBuffer().str()), raised((*file)->getBuffer().str());
  const char *passes = "galvatron-form-layers,galvatron-flatten-sums,galvatron-differentiate";
  ASSERT_TRUE(imported.run(passes));
  ASSERT_TRUE(raised.run("galvatron-phase-import,galvatron-flatten-sums,galvatron-differentiate"));

  StepInputs inputs = inputsOf(imported);
  auto expected = evaluateStep(*imported.module, inputs), actual = evaluateStep(*raised.module, inputs);
  ASSERT_TRUE(succeeded(expected) && succeeded(actual));
  EXPECT_NEAR(actual->loss, expected->loss, kTolerance * std::abs(expected->loss));
  ASSERT_EQ(actual->gradients.size(), expected->gradients.size());
  double global = 0;
  for (const auto &[name, gradient] : expected->gradients)
    global += norm(gradient) * norm(gradient);
  for (const auto &[name, gradient] : expected->gradients) {
    Tensor difference = actual->gradients.at(name);
    ASSERT_EQ(difference.shape, gradient.shape) << name;
    for (int64_t i = 0; i < gradient.size(); ++i)
      difference[i] -= gradient[i];
    // A key's bias has no gradient in exact arithmetic.
    EXPECT_LE(norm(difference), kTolerance * std::max(norm(gradient), 1e-3 * std::sqrt(global))) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ImportPhase, testing::ValuesIn(importedModels()), [](const auto &info) {
  std::string name = info.param;
  std::replace_if(name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
  return name;
});

} // namespace
