// Training through the evaluator: files, optimizers, errors; whole models against finite differences.
#include "Program.h"

#include "galvatron/Reference/Evaluate.h"
#include "galvatron/Support/Safetensors.h"

#include <fstream>
#include <sstream>

using namespace galvatron;
using namespace galvatron::reference;

namespace {

// Tests run from the source tree.
std::string readInput(const std::string &name) {
  std::ifstream file("test/Inputs/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

constexpr const char *kDifferentiate =
    "galvatron-flatten-sums,galvatron-differentiate,galvatron-expand-cross-entropy,cse";

// One row of two logits, each its own parameter: loss = log(1 + exp(w1 - w0)), label 0; at w = 0 the
// gradient is (-1/2, 1/2).
constexpr const char *kTwoLogits = R"(
module attributes {graph.vocabulary = 1 : i64} {
  graph.layer @head(%labels: tensor<1x1xi64>, %w: tensor<1x1x2xf32> {graph.parameter = "w", graph.init = {constant = 0.0}}) -> tensor<f32> {
    %loss = graph.cross_entropy %w, %labels : (tensor<1x1x2xf32>, tensor<1x1xi64>) -> tensor<f32>
    graph.return %loss : tensor<f32>
  }
  func.func @step(%ids: tensor<1x1xi64>, %labels: tensor<1x1xi64>) -> tensor<f32> {
    %0 = graph.call @head(%labels) parameters ["w"] path "head" : (tensor<1x1xi64>) -> tensor<f32>
    return %0 : tensor<f32>
  }
})";

std::string train(const std::string &text, const EvaluateOptions &options) {
  Program program(text);
  EXPECT_TRUE(program.run(kDifferentiate));
  std::string log;
  llvm::raw_string_ostream stream(log);
  EXPECT_TRUE(succeeded(runEvaluate(*program.module, options, stream)));
  return log;
}

TEST(Evaluate, SgdGoesDownTheGradient) {
  EvaluateOptions options;
  options.optimizer.sgd = true;
  options.optimizer.lr = 1;
  options.steps = 2;
  // log 2, then w = (0.5, -0.5): log(1 + e^-1), rounded to f32 op by op; the gradient's norm is √2·p.
  double loss, norm;
  std::string log = train(kTwoLogits, options);
  ASSERT_EQ(sscanf(log.c_str(), "step,loss,grad_norm\n1,0.693147182,0.707106781\n2,%lf,%lf\n", &loss, &norm), 2) << log;
  EXPECT_NEAR(loss, std::log1p(std::exp(-1)), 1e-6);
  EXPECT_NEAR(norm, std::sqrt(2) / (1 + std::exp(1)), 1e-6);
}

TEST(Evaluate, ClippingScalesTheGradient) {
  EvaluateOptions options;
  options.optimizer.sgd = true;
  options.optimizer.lr = 1;
  options.steps = 2;
  options.optimizer.clipGrad = 0.001;
  std::string log = train(kTwoLogits, options);
  // A step of length 0.001 against a slope of 0.7071.
  double second = std::stod(log.substr(log.find("\n2,") + 3));
  EXPECT_NEAR(second, std::log(2) - 0.0007071, 1e-6);
}

// The first step of AdamW has length lr in each element, whatever the gradient.
TEST(Evaluate, AdamWNormalizes) {
  EvaluateOptions options;
  options.optimizer.lr = 0.5;
  options.steps = 2;
  std::string log = train(kTwoLogits, options);
  EXPECT_NEAR(std::stod(log.substr(log.find("\n2,") + 3)), std::log1p(std::exp(-1)), 1e-6);
}

TEST(Evaluate, WritesGradientsAndReadsWeightsAndData) {
  std::string folder = testing::TempDir() + "/galvatron-evaluate", error;
  EvaluateOptions options;
  options.dumpGradients = folder;
  options.weights = testing::TempDir() + "/galvatron-w.safetensors";
  options.data = testing::TempDir() + "/galvatron-tokens.bin";
  ASSERT_TRUE(safetensors::writeAll(options.weights, {{"w", {{1, 1, 2}, {0, 1}}}}, error)) << error;
  std::ofstream(options.data, std::ios::binary) << '\1';
  train(kTwoLogits, options);
  std::map<std::string, safetensors::FloatTensor> gradients;
  ASSERT_TRUE(safetensors::readAll(folder + "/step_000001.safetensors", gradients, error)) << error;
  // Label 1: p - onehot.
  double p = 1 / (1 + std::exp(1));
  EXPECT_NEAR(gradients.at("w").values[0], p, 1e-6);
  EXPECT_NEAR(gradients.at("w").values[1], -p, 1e-6);
}

class Model : public testing::TestWithParam<const char *> {};

/// dloss/dθ along a random direction, over all parameters at once.
TEST_P(Model, GradientEqualsDirectionalDerivative) {
  Program program(readInput(GetParam()));
  ASSERT_TRUE(program.run(kDifferentiate));
  StepInputs inputs;
  inputs.exact = true;
  auto parameters = initialParameters(*program.module, 1);
  ASSERT_TRUE(succeeded(parameters));
  NamedTensors directions;
  for (auto &[name, value] : *parameters) {
    directions[name] = randomTensor(value.shape, name);
    for (int64_t i = 0; i < value.size(); ++i)
      value[i] += 0.3 * randomTensor(value.shape, name + " offset")[0];
  }
  inputs.parameters = *parameters;
  for (mlir::Type type : program.module->lookupSymbol<mlir::func::FuncOp>("step").getArgumentTypes()) {
    Tensor &ids = inputs.inputs.emplace_back(llvm::cast<mlir::RankedTensorType>(type).getShape());
    for (int64_t i = 0; i < ids.size(); ++i)
      ids[i] = (7 * i + i / 5) % 32;
  }
  auto result = evaluateStep(*program.module, inputs);
  ASSERT_TRUE(succeeded(result));
  double expected = 0;
  for (auto &[name, gradient] : result->gradients)
    for (int64_t i = 0; i < gradient.size(); ++i)
      expected += gradient[i] * directions.at(name)[i];
  constexpr double kStep = 1e-5;
  double losses[2];
  for (int side : {0, 1}) {
    for (auto &[name, value] : inputs.parameters)
      for (int64_t i = 0; i < value.size(); ++i)
        value[i] = parameters->at(name)[i] + (side ? kStep : -kStep) * directions.at(name)[i];
    losses[side] = evaluateStep(*program.module, inputs)->loss;
  }
  EXPECT_NEAR((losses[1] - losses[0]) / (2 * kStep), expected, 1e-6 * (1 + std::abs(expected)));
}

INSTANTIATE_TEST_SUITE_P(Inputs, Model, testing::Values("llama.mlir", "gpt2.mlir"), [](const auto &info) {
  return std::string(info.param).substr(0, std::string(info.param).find('.'));
});

//===----------------------------------------------------------------------===//
// Errors
//===----------------------------------------------------------------------===//

/// What a failing run says.
std::string errorOf(const std::string &text, const EvaluateOptions &options) {
  Program program(text);
  return errorsOf(program.context.get(),
                  [&] { EXPECT_TRUE(failed(runEvaluate(*program.module, options, llvm::nulls()))); });
}

std::string stepProgram(const std::string &body) {
  return "module attributes {graph.vocabulary = 4 : i64} { func.func @step(%ids: tensor<1x2xi64>) -> tensor<f32> {\n" +
         body + "\nreturn %loss : tensor<f32> } }";
}

TEST(EvaluateErrors, AreClear) {
  EvaluateOptions options;
  EXPECT_EQ(errorOf("", options), "expects a function @step that returns the loss");
  EXPECT_NE(errorOf(stepProgram("%x = tensor.empty() : tensor<f32>\n%loss = arith.negf %x : tensor<f32>"), options)
                .find("expects an op that the reference evaluator knows"),
            std::string::npos);
  options.weights = "missing.safetensors";
  EXPECT_NE(errorOf(kTwoLogits, options).find("cannot open missing.safetensors"), std::string::npos);
  options.weights.clear();
  options.data = "missing.bin";
  EXPECT_NE(errorOf(kTwoLogits, options).find("cannot open missing.bin"), std::string::npos);
  options.data = testing::TempDir();
  EXPECT_EQ(errorOf(kTwoLogits, options), "expects a file of tokens, but " + options.data + " is none");
  options.dataType = "f64";
  EXPECT_EQ(errorOf(kTwoLogits, options), "expects tokens of type u8, u16, u32, i32 or i64, but got f64");
}

TEST(EvaluateErrors, TokenOutsideTheVocabulary) {
  EvaluateOptions options;
  options.data = testing::TempDir() + "/galvatron-large.bin";
  std::ofstream(options.data, std::ios::binary) << "\1\7";
  std::string table = "%t = graph.parameter [\"t\"] : tensor<4x3xf32>\n"
                      "%y = graph.embedding %t, %ids : (tensor<4x3xf32>, tensor<1x2xi64>) -> tensor<1x2x3xf32>\n"
                      "%loss = graph.reduce sum %y dims [0, 1, 2] : tensor<1x2x3xf32> -> tensor<f32>";
  EXPECT_NE(errorOf(stepProgram(table), options).find("expects each index to be in [0, 4), but got 7"),
            std::string::npos);
  std::ofstream(options.data, std::ios::binary | std::ios::trunc) << "\1";
  EXPECT_NE(errorOf(stepProgram(table), options).find("has 1 tokens, but one batch needs 2"), std::string::npos);
}

} // namespace
