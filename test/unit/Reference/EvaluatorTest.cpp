// The evaluator against values computed by hand, and its errors.
#include "Program.h"

using namespace galvatron::reference;

namespace {

/// Expects the elements of a function's first result.
void expectResult(const std::string &text, llvm::ArrayRef<Tensor> inputs, std::vector<double> expected) {
  Program program(text);
  std::vector<Tensor> results = program.call("f", inputs);
  ASSERT_EQ(results.size(), 1u);
  ASSERT_EQ(results[0].data.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(results[0].data[i], expected[i], 1e-9) << i;
}

TEST(Evaluator, Einsum) {
  expectResult("func.func @f(%a: tensor<2x2xf32>, %b: tensor<2x2xf32>) -> tensor<2x2xf32> {"
               "%0 = graph.einsum %a, %b \"ij,kj->ik\" : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>"
               " return %0 : tensor<2x2xf32> }",
               {tensor({2, 2}, {1, 2, 3, 4}), tensor({2, 2}, {5, 6, 7, 8})}, {17, 23, 39, 53});
}

// Two keys with scores 0 and log 3: probabilities 1/4 and 3/4; the first query sees one key.
TEST(Evaluator, CausalAttention) {
  expectResult("func.func @f(%q: tensor<1x1x2x1xf32>, %k: tensor<1x1x2x1xf32>, %v: tensor<1x1x2x1xf32>) -> "
               "tensor<1x1x2x1xf32> {"
               "%0, %1 = graph.attention %q, %k, %v {scale = 1.0 : f64, causal} : (tensor<1x1x2x1xf32>, "
               "tensor<1x1x2x1xf32>, tensor<1x1x2x1xf32>) -> (tensor<1x1x2x1xf32>, tensor<1x1x2xf32>)"
               " return %0 : tensor<1x1x2x1xf32> }",
               {tensor({1, 1, 2, 1}, {1, 1}), tensor({1, 1, 2, 1}, {0, std::log(3)}), tensor({1, 1, 2, 1}, {8, 4})},
               {8, 5});
}

// A query that is not a number has no finite result; nor has one any of whose keys is none.
TEST(Evaluator, AttentionKeepsNaN) {
  Program program("func.func @f(%q: tensor<1x1x3x1xf32>, %k: tensor<1x1x3x1xf32>, %v: tensor<1x1x3x1xf32>) -> "
                  "tensor<1x1x3x1xf32> {"
                  "%0, %1 = graph.attention %q, %k, %v {scale = 1.0 : f64, causal} : (tensor<1x1x3x1xf32>, "
                  "tensor<1x1x3x1xf32>, tensor<1x1x3x1xf32>) -> (tensor<1x1x3x1xf32>, tensor<1x1x3xf32>)"
                  " return %0 : tensor<1x1x3x1xf32> }");
  Tensor values = tensor({1, 1, 3, 1}, {8, 4, 2});
  auto call = [&](std::vector<double> q, std::vector<double> k) {
    std::vector<Tensor> results = program.call("f", {tensor({1, 1, 3, 1}, q), tensor({1, 1, 3, 1}, k), values});
    std::vector<bool> isNaN;
    for (double y : results[0].data)
      isNaN.push_back(std::isnan(y));
    return isNaN;
  };
  EXPECT_EQ(call({1, NAN, 1}, {1, 1, 1}), (std::vector<bool>{false, true, false}));
  EXPECT_EQ(call({1, 1, 1}, {1, 1, NAN}), (std::vector<bool>{false, false, true}));
}

TEST(Evaluator, RmsNorm) {
  expectResult("func.func @f(%x: tensor<1x2xf32>, %w: tensor<2xf32>) -> tensor<1x2xf32> {"
               "%0, %1, %2 = graph.norm rms %x weight %w {epsilon = 0.0} : (tensor<1x2xf32>, tensor<2xf32>) -> "
               "(tensor<1x2xf32>, tensor<1xf32>, tensor<1xf32>)"
               " return %0 : tensor<1x2xf32> }",
               {tensor({1, 2}, {1, 7}), tensor({2}, {1, 2})}, {0.2, 2.8});
}

// Where a body does not read the mean, a timetable leaves the argument out.
TEST(Evaluator, RmsNormsGradientHasNoMean) {
  expectResult("func.func @f(%dy: tensor<1x2xf32>, %x: tensor<1x2xf32>, %m: tensor<1xf32>, %r: tensor<1xf32>) -> "
               "tensor<1x2xf32> {"
               "%0 = graph.norm_backward rms %dy, %x, %m, %r : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xf32>, "
               "tensor<1xf32>) -> tensor<1x2xf32>"
               " return %0 : tensor<1x2xf32> }",
               {tensor({1, 2}, {1, 0}), tensor({1, 2}, {1, 7}), tensor({1}, {std::nan("")}), tensor({1}, {0.2})},
               {0.196, -0.028});
}

TEST(Evaluator, LayerNorm) {
  expectResult("func.func @f(%x: tensor<1x2xf32>, %b: tensor<2xf32>) -> tensor<1x2xf32> {"
               "%0, %1, %2 = graph.norm layer %x bias %b {epsilon = 0.0} : (tensor<1x2xf32>, tensor<2xf32>) -> "
               "(tensor<1x2xf32>, tensor<1xf32>, tensor<1xf32>)"
               " return %0 : tensor<1x2xf32> }",
               {tensor({1, 2}, {1, 5}), tensor({2}, {10, 20})}, {9, 21});
}

// A quarter turn of the pair (x0, x2) at position 1.
TEST(Evaluator, RopeHalf) {
  expectResult("func.func @f(%x: tensor<2x4xf32>) -> tensor<2x4xf32> {"
               "%0 = graph.rope %x half {inverse_frequencies = array<f64: 1.5707963267948966, 0.0>, "
               "seq_dim = 0 : i64} : tensor<2x4xf32> -> tensor<2x4xf32>"
               " return %0 : tensor<2x4xf32> }",
               {tensor({2, 4}, {1, 2, 3, 4, 1, 2, 3, 4})}, {1, 2, 3, 4, -3, 2, 1, 4});
}

TEST(Evaluator, ShiftFillsTheEnd) {
  expectResult("func.func @f(%x: tensor<2x3xi64>) -> tensor<2x3xi64> {"
               "%0 = graph.shift %x {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<2x3xi64> -> "
               "tensor<2x3xi64> return %0 : tensor<2x3xi64> }",
               {tensor({2, 3}, {1, 2, 3, 4, 5, 6})}, {2, 3, -100, 5, 6, -100});
}

// Uniform logits: log 4 for each row that counts.
TEST(Evaluator, CrossEntropyIgnoresLabels) {
  const char *text = "func.func @f(%x: tensor<2x2x4xf32>, %ids: tensor<2x2xi64>) -> tensor<f32> {"
                     "%l = graph.shift %ids {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : "
                     "tensor<2x2xi64> -> tensor<2x2xi64>"
                     "%0 = graph.cross_entropy %x, %l : (tensor<2x2x4xf32>, tensor<2x2xi64>) -> tensor<f32>"
                     " return %0 : tensor<f32> }";
  std::vector<Tensor> inputs = {tensor({2, 2, 4}, {0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 8, 9}),
                                tensor({2, 2}, {0, 1, 2, 3})};
  expectResult(text, inputs, {std::log(4)});
  Program expanded(text);
  ASSERT_TRUE(expanded.run("galvatron-expand-cross-entropy"));
  EXPECT_NEAR(expanded.call("f", inputs)[0].data[0], std::log(4), 1e-9);
}

} // namespace
