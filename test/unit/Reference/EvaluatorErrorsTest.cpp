// What the evaluator says of programs and inputs that it cannot run.
#include "Program.h"

#include "galvatron/Reference/Evaluate.h"
#include "galvatron/Support/Safetensors.h"

#include "mlir/IR/Diagnostics.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;
using ::testing::HasSubstr;

namespace {

/// What a run says that fails.
template <typename Run> std::string errorOf(Program &program, Run run) {
  return errorsOf(program.context.get(), [&] { EXPECT_TRUE(failed(run())); });
}

std::string errorOfStep(const std::string &text, const StepInputs &inputs) {
  Program program(text);
  return errorOf(program, [&] { return evaluateStep(*program.module, inputs); });
}

std::string errorOfTraining(const std::string &text, const EvaluateOptions &options) {
  Program program(text);
  return errorOf(program, [&] { return runEvaluate(*program.module, options, llvm::nulls()); });
}

std::string errorOfFunction(const std::string &text, llvm::ArrayRef<Tensor> inputs, llvm::ArrayRef<int64_t> mesh = {}) {
  Program program(text);
  return errorOf(program,
                 [&] { return evaluateFunction(program.module->lookupSymbol<mlir::func::FuncOp>("f"), inputs, mesh); });
}

/// The sum of a parameter of two elements; `arguments` of the step.
std::string sumOfParameter(const std::string &arguments = "") {
  return R"(
module {
  graph.layer @layer(%w: tensor<2xf32> {graph.parameter = "w", graph.init = {constant = 0.0}}) -> tensor<f32> {
    %loss = graph.reduce sum %w dims [0] : tensor<2xf32> -> tensor<f32>
    graph.return %loss : tensor<f32>
  }
  func.func @step()" +
         arguments + R"() -> tensor<f32> {
    %0 = graph.call @layer() parameters ["w"] path "layer" : () -> tensor<f32>
    return %0 : tensor<f32>
  }
})";
}

TEST(EvaluatorErrors, Parameters) {
  StepInputs inputs;
  EXPECT_THAT(errorOfStep(sumOfParameter(), inputs),
              HasSubstr("expects a parameter named w, but the weights have none"));
  inputs.parameters["w"] = tensor({3}, {1, 2, 3});
  EXPECT_THAT(errorOfStep(sumOfParameter(), inputs),
              HasSubstr("expects parameter w of 2 elements in its own shape, but got another of 3"));
}

TEST(EvaluatorErrors, Weights) {
  EvaluateOptions options;
  options.weights = testing::TempDir() + "/galvatron-weights.safetensors";
  std::string error;
  ASSERT_TRUE(safetensors::writeAll(options.weights, {{"w", {{3}, {1, 2, 3}}}}, error)) << error;
  EXPECT_EQ(errorOfTraining(sumOfParameter(), options), options.weights + " has another shape for w than the model");
}

TEST(EvaluatorErrors, Tokens) {
  std::string text = sumOfParameter("%ids: tensor<4xi64>");
  EXPECT_EQ(errorOfTraining(text, {}), "expects graph.vocabulary, to draw random tokens; name a file with --data");
  text.insert(text.find('{'), "attributes {graph.vocabulary = 4 : i64} ");
  EXPECT_EQ(errorOfTraining(text, {}), "expects inputs [batch, positions], but got one of 1 dimensions");
}

TEST(EvaluatorErrors, CalleeOfNoBody) {
  EXPECT_THAT(errorOfStep(R"(
  func.func @layer() -> tensor<f32> {
    %0 = arith.constant dense<1.0> : tensor<f32>
    return %0 : tensor<f32>
  }
  func.func @step() -> tensor<f32> {
    %0 = graph.call @layer() parameters [] path "layer" : () -> tensor<f32>
    return %0 : tensor<f32>
  })",
                          {}),
              HasSubstr("expects a callee that the reference evaluator knows, but got @layer"));
}

TEST(EvaluatorErrors, ValuesThatAreNoTensors) {
  EXPECT_THAT(errorOfFunction("func.func @f() -> tensor<f32> { %x = arith.constant 1.0 : f32"
                              " %y = arith.constant dense<1.0> : tensor<f32> return %y : tensor<f32> }",
                              {}),
              HasSubstr("expects tensors, but got 'f32'"));
}

TEST(EvaluatorErrors, SparseConstants) {
  EXPECT_THAT(errorOfFunction("func.func @f() -> tensor<2xf32> {"
                              " %x = arith.constant sparse<[[0]], [1.0]> : tensor<2xf32> return %x : tensor<2xf32> }",
                              {}),
              HasSubstr("expects a dense constant, but got sparse"));
}

TEST(EvaluatorErrors, AxesOfNoCollective) {
  EXPECT_THAT(errorOfFunction("func.func @f(%x: tensor<2xf32>) -> tensor<2xf32> {"
                              " %y = arith.negf %x {axes = array<i64: 0>} : tensor<2xf32> return %y : tensor<2xf32> }",
                              {tensor({2}, {1, 2})}, {2}),
              HasSubstr("expects a collective that the reference evaluator knows"));
}

TEST(EvaluatorErrors, PermuteOfAnotherGroup) {
  EXPECT_THAT(errorOfFunction("func.func @f(%x: tensor<2xf32>) -> tensor<2xf32> {"
                              "%y = dist.permute %x axes [0] {sources = array<i64: 1, 0>} : tensor<2xf32> -> "
                              "tensor<2xf32> return %y : tensor<2xf32> }",
                              {tensor({2}, {1, 2})}, {3}),
              HasSubstr("expects a source for each of 3 devices, but got 2"));
}

// Device 0 ends up with (1, 3), device 1 with (2, 4), under a type that says that both hold the same.
TEST(EvaluatorErrors, ReplicasThatDiffer) {
  EXPECT_THAT(errorOfFunction("func.func @f(%x: tensor<4xf32, #dist.placement<[2@g0 * 2]>>) -> "
                              "tensor<2xf32, #dist.placement<[2]>> {"
                              "%y = dist.all_to_all %x axes [0] {split_dim = 0 : i64, split_outer = 1 : i64, "
                              "concat_dim = 0 : i64, concat_outer = 1 : i64} : "
                              "tensor<4xf32, #dist.placement<[2@g0 * 2]>> -> tensor<2xf32, #dist.placement<[2]>>"
                              " return %y : tensor<2xf32, #dist.placement<[2]>> }",
                              {tensor({4}, {1, 2, 3, 4})}, {2}),
              HasSubstr("expects equal replicas, but devices 0 and 1 differ in micro-batch 0"));
}

} // namespace
