// Every op's gradient against finite differences, through the whole way: parse, differentiate (merged
// and as a pair), evaluate. Values are doubles throughout, so central differences with step 1e-5 are
// exact to about 1e-9 relative; the tolerance leaves room for third derivatives.
#include "Program.h"

#include "llvm/Support/FormatVariadic.h"

using namespace galvatron::reference;

namespace {

/// A layer whose float arguments are all parameters: `body` computes %y of type `result`; the loss is
/// its product with random coefficients.
struct Case {
  const char *name;
  std::vector<std::pair<const char *, const char *>> parameters; // name, shape such as "2x3"
  const char *result;                                            // shape of %y
  const char *body;
  /// Added to the parameters: some functions want positive arguments.
  double shift = 0;
};

std::ostream &operator<<(std::ostream &stream, const Case &c) { return stream << c.name; }

Shape parseShape(llvm::StringRef text) {
  Shape shape;
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, 'x', -1, false);
  for (llvm::StringRef part : parts)
    shape.push_back(std::stoll(part.str()));
  return shape;
}

std::string tensorType(llvm::StringRef shape, llvm::StringRef element = "f32") {
  return llvm::formatv("tensor<{0}{1}{2}>", shape, shape.empty() ? "" : "x", element).str();
}

std::string programText(const Case &c) {
  std::string arguments = "%ids: tensor<2x3xi64>", names;
  for (auto [name, shape] : c.parameters) {
    arguments += llvm::formatv(", %{0}: {1} {{graph.parameter = \"{0}\"}", name, tensorType(shape)).str();
    names += llvm::formatv("\"{0}\", ", name).str();
  }
  std::string type = tensorType(c.result), dims;
  for (size_t dim = 0; dim < parseShape(c.result).size(); ++dim)
    dims += (dim ? ", " : "") + std::to_string(dim);
  arguments += ", %coefficients: " + type + " {graph.parameter = \"coefficients\"}";
  return "graph.layer @layer(" + arguments + ") -> tensor<f32> {\n" + c.body +
         "\n%product = arith.mulf %y, %coefficients : " + type + "\n%loss = graph.reduce sum %product dims [" + dims +
         "] : " + type + " -> tensor<f32>\ngraph.return %loss : tensor<f32>\n}\n" +
         "func.func @step(%ids: tensor<2x3xi64>) -> tensor<f32> {\n" + "%0 = graph.call @layer(%ids) parameters [" +
         names + "\"coefficients\"] path \"layer\" : (tensor<2x3xi64>) -> tensor<f32>\nreturn %0 : tensor<f32>\n}\n";
}

class Gradient : public testing::TestWithParam<Case> {};

TEST_P(Gradient, EqualsFiniteDifferences) {
  const Case &c = GetParam();
  StepInputs inputs;
  inputs.exact = true;
  inputs.inputs = {tensor({2, 3}, {1, 0, 3, 2, 2, 4})};
  for (auto [name, shape] : c.parameters) {
    inputs.parameters[name] = randomTensor(parseShape(shape), name);
    for (double &value : inputs.parameters[name].data)
      value += c.shift;
  }
  inputs.parameters["coefficients"] = randomTensor(parseShape(c.result), "coefficients");

  Program forward(programText(c)), merged(programText(c)), pair(programText(c));
  ASSERT_TRUE(merged.run("galvatron-flatten-sums,galvatron-differentiate,galvatron-expand-cross-entropy,"
                         "cse,canonicalize"));
  ASSERT_TRUE(pair.run("galvatron-differentiate{split-backward=true}"));
  auto result = evaluateStep(*merged.module, inputs), split = evaluateStep(*pair.module, inputs);
  ASSERT_TRUE(succeeded(result) && succeeded(split));

  auto lossAt = [&] {
    auto result = evaluateStep(*forward.module, inputs);
    EXPECT_TRUE(succeeded(result));
    return result->loss;
  };
  // Constants such as 1/6 are f32 in the program.
  EXPECT_NEAR(result->loss, lossAt(), 1e-7 * (1 + std::abs(result->loss)));
  constexpr double kStep = 1e-5;
  for (auto [name, shape] : c.parameters) {
    Tensor &parameter = inputs.parameters[name];
    const Tensor &gradient = result->gradients.at(name);
    for (int64_t i = 0; i < parameter.size(); ++i) {
      double value = parameter[i];
      parameter[i] = value + kStep;
      double above = lossAt();
      parameter[i] = value - kStep;
      double below = lossAt();
      parameter[i] = value;
      double expected = (above - below) / (2 * kStep);
      EXPECT_NEAR(gradient[i], expected, 1e-6 * (1 + std::abs(expected))) << name << "[" << i << "]";
      EXPECT_NEAR(split->gradients.at(name)[i], gradient[i], 1e-12 * (1 + std::abs(expected))) << name;
    }
  }
}

#define BINARY(OP) {#OP, {{"a", "2x3"}, {"b", "2x3"}}, "2x3", "%y = " #OP " %a, %b : tensor<2x3xf32>"}
#define UNARY(OP) {#OP, {{"a", "2x3"}}, "2x3", "%y = " #OP " %a : tensor<2x3xf32>"}
#define POSITIVE(OP) {#OP, {{"a", "2x3"}}, "2x3", "%y = " #OP " %a : tensor<2x3xf32>", 4}
#define ACTIVATION(KIND)                                                                                               \
  {"activation_" #KIND,                                                                                                \
   {{"a", "2x3"}},                                                                                                     \
   "2x3",                                                                                                              \
   "%y = graph.activation " #KIND " %a : tensor<2x3xf32> -> tensor<2x3xf32>"},                                         \
      {"gated_" #KIND,                                                                                                 \
       {{"a", "2x3"}, {"b", "2x3"}},                                                                                   \
       "2x3",                                                                                                          \
       "%y = graph.gated_activation " #KIND " %a, %b : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>"}
#define ATTENTION_TYPES                                                                                                \
  "(tensor<2x4x3x5xf32>, tensor<2x2x3x5xf32>, tensor<2x2x3x6xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x4x3xf32>)"
#define ATTENTION(NAME, ATTRIBUTES)                                                                                    \
  {NAME,                                                                                                               \
   {{"q", "2x4x3x5"}, {"k", "2x2x3x5"}, {"v", "2x2x3x6"}},                                                             \
   "2x4x3x6",                                                                                                          \
   "%y, %lse = graph.attention %q, %k, %v {scale = 0.5 : f64" ATTRIBUTES "} : " ATTENTION_TYPES}

const Case kCases[] = {
    BINARY(arith.addf),
    BINARY(arith.subf),
    BINARY(arith.mulf),
    BINARY(arith.divf),
    BINARY(arith.maximumf),
    BINARY(arith.minimumf),
    BINARY(arith.maxnumf),
    BINARY(arith.minnumf),
    UNARY(arith.negf),
    UNARY(math.exp),
    UNARY(math.exp2),
    UNARY(math.expm1),
    POSITIVE(math.log),
    POSITIVE(math.log1p),
    POSITIVE(math.sqrt),
    POSITIVE(math.rsqrt),
    UNARY(math.tanh),
    UNARY(math.sin),
    UNARY(math.cos),
    UNARY(math.erf),
    UNARY(math.atan),
    BINARY(math.atan2),
    UNARY(math.absf),
    UNARY(math.floor),
    UNARY(math.ceil),
    UNARY(math.round),
    UNARY(math.roundeven),
    UNARY(math.trunc),
    {"math.powf", {{"a", "2x3"}, {"b", "2x3"}}, "2x3", "%y = math.powf %a, %b : tensor<2x3xf32>", 4},
    {"arith.select",
     {{"a", "2x3"}, {"b", "2x3"}},
     "2x3",
     "%c = arith.cmpf olt, %a, %b : tensor<2x3xf32>\n"
     "%y = arith.select %c, %a, %b : tensor<2x3xi1>, tensor<2x3xf32>"},
    {"arith.extf_truncf",
     {{"a", "2x3"}},
     "2x3",
     "%h = arith.truncf %a : tensor<2x3xf32> to tensor<2x3xbf16>\n"
     "%y = arith.extf %h : tensor<2x3xbf16> to tensor<2x3xf32>"},
    {"several_uses",
     {{"a", "2x3"}},
     "2x3",
     "%s = arith.mulf %a, %a : tensor<2x3xf32>\n%t = arith.addf %s, %a : tensor<2x3xf32>\n"
     "%y = arith.addf %t, %a : tensor<2x3xf32>"},
    {"einsum_linear",
     {{"x", "2x3x4"}, {"w", "5x4"}},
     "2x3x5",
     "%y = graph.einsum %x, %w \"bsi,oi->bso\" : (tensor<2x3x4xf32>, tensor<5x4xf32>) -> tensor<2x3x5xf32>"},
    {"einsum_outer",
     {{"a", "2"}, {"b", "3"}},
     "3x2",
     "%y = graph.einsum %a, %b \"i,j->ji\" : (tensor<2xf32>, tensor<3xf32>) -> tensor<3x2xf32>"},
    {"einsum_subscript_of_one_operand",
     {{"a", "2x3"}, {"b", "3x4"}},
     "4",
     "%y = graph.einsum %a, %b \"ij,jk->k\" : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<4xf32>"},
    ATTENTION("attention", ""),
    ATTENTION("attention_causal", ", causal"),
    ATTENTION("attention_window", ", causal, window = 2 : i64"),
    ATTENTION("attention_softcap", ", causal, softcap = 1.5 : f64"),
    ATTENTION("attention_dropout", ", dropout = 0.3 : f64, id = 5 : i64"),
    {"attention_bias",
     {{"q", "2x4x3x5"}, {"k", "2x2x3x5"}, {"v", "2x2x3x6"}},
     "2x4x3x6",
     "%i = graph.iota {dim = 2 : i64} : tensor<4x1x3xf32>\n"
     "%y, %lse = graph.attention %q, %k, %v bias %i {scale = 0.5 : f64} : (tensor<2x4x3x5xf32>, "
     "tensor<2x2x3x5xf32>, tensor<2x2x3x6xf32>, tensor<4x1x3xf32>) -> (tensor<2x4x3x6xf32>, tensor<2x4x3xf32>)"},
    {"rope_half",
     {{"x", "2x3x6"}},
     "2x3x6",
     "%y = graph.rope %x half {inverse_frequencies = array<f64: 1.0, 0.3>, seq_dim = 1 : i64, "
     "scaling = 1.5 : f64} : tensor<2x3x6xf32> -> tensor<2x3x6xf32>"},
    {"rope_interleaved",
     {{"x", "3x2x6"}},
     "3x2x6",
     "%y = graph.rope %x interleaved {inverse_frequencies = array<f64: 1.0, 0.3, 0.1>, seq_dim = 0 : i64} : "
     "tensor<3x2x6xf32> -> tensor<3x2x6xf32>"},
    {"rope_of_rows",
     {{"x", "2x3x6"}},
     "2x3x6",
     "%p = arith.constant dense<[[0, 1, 0], [5, 0, 1]]> : tensor<2x3xi64>\n"
     "%y = graph.rope %x half positions %p : tensor<2x3xi64> {inverse_frequencies = array<f64: 1.0, 0.3>, "
     "seq_dim = 1 : i64} : tensor<2x3x6xf32> -> tensor<2x3x6xf32>"},
    {"norm_rms",
     {{"x", "2x3x4"}, {"w", "4"}},
     "2x3x4",
     "%y, %m, %r = graph.norm rms %x weight %w {epsilon = 0.1, offset = 1.0 : f64} : (tensor<2x3x4xf32>, "
     "tensor<4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3xf32>, tensor<2x3xf32>)"},
    {"norm_layer",
     {{"x", "2x3x4"}, {"w", "4"}, {"b", "4"}},
     "2x3x4",
     "%y, %m, %r = graph.norm layer %x weight %w bias %b {epsilon = 0.1} : (tensor<2x3x4xf32>, tensor<4xf32>, "
     "tensor<4xf32>) -> (tensor<2x3x4xf32>, tensor<2x3xf32>, tensor<2x3xf32>)"},
    {"norm_without_weight",
     {{"x", "3x4"}, {"b", "4"}},
     "3x4",
     "%y, %m, %r = graph.norm layer %x bias %b {epsilon = 0.1} : (tensor<3x4xf32>, tensor<4xf32>) -> "
     "(tensor<3x4xf32>, tensor<3xf32>, tensor<3xf32>)"},
    {"softmax", {{"x", "2x4"}}, "2x4", "%y = graph.softmax %x : tensor<2x4xf32> -> tensor<2x4xf32>"},
    ACTIVATION(relu),
    ACTIVATION(gelu),
    ACTIVATION(gelu_tanh),
    ACTIVATION(silu),
    ACTIVATION(relu2),
    ACTIVATION(sigmoid),
    ACTIVATION(tanh),
    {"dropout",
     {{"x", "4x8"}},
     "4x8",
     "%y = graph.dropout %x {p = 0.4 : f64, id = 2 : i64} : tensor<4x8xf32> -> tensor<4x8xf32>"},
    {"sum",
     {{"a", "2x3"}, {"b", "2x3"}},
     "2x3",
     "%y = graph.sum %a, %b, %a : (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>"},
    {"embedding",
     {{"t", "5x4"}},
     "2x3x4",
     "%y = graph.embedding %t, %ids : (tensor<5x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>"},
    {"cross_entropy",
     {{"x", "2x3x5"}},
     "",
     "%y = graph.cross_entropy %x, %ids : (tensor<2x3x5xf32>, tensor<2x3xi64>) -> tensor<f32>"},
    {"cross_entropy_ignored",
     {{"x", "2x3x5"}},
     "",
     "%next = graph.shift %ids {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<2x3xi64> -> "
     "tensor<2x3xi64>\n"
     "%y = graph.cross_entropy %x, %next : (tensor<2x3x5xf32>, tensor<2x3xi64>) -> tensor<f32>"},
    {"reduce_sum", {{"x", "2x3x4"}}, "2x4", "%y = graph.reduce sum %x dims [1] : tensor<2x3x4xf32> -> tensor<2x4xf32>"},
    {"reduce_max", {{"x", "2x3x4"}}, "3", "%y = graph.reduce max %x dims [0, 2] : tensor<2x3x4xf32> -> tensor<3xf32>"},
    {"broadcast",
     {{"x", "2x4"}},
     "2x3x4",
     "%y = graph.broadcast %x dims [0, 2] : tensor<2x4xf32> -> tensor<2x3x4xf32>"},
    {"reshape", {{"x", "2x6"}}, "3x4", "%y = graph.reshape %x : tensor<2x6xf32> -> tensor<3x4xf32>"},
    {"transpose",
     {{"x", "2x3x4"}},
     "4x2x3",
     "%y = graph.transpose %x [2, 0, 1] : tensor<2x3x4xf32> -> tensor<4x2x3xf32>"},
    {"slice", {{"x", "4x5"}}, "2x3", "%y = graph.slice %x offsets [1, 2] : tensor<4x5xf32> -> tensor<2x3xf32>"},
    {"pad", {{"x", "2x3"}}, "4x5", "%y = graph.pad %x offsets [1, 2] : tensor<2x3xf32> -> tensor<4x5xf32>"},
    {"concat",
     {{"a", "2x3"}, {"b", "2x1"}},
     "2x4",
     "%y = graph.concat %a, %b {dim = 1 : i64} : (tensor<2x3xf32>, tensor<2x1xf32>) -> tensor<2x4xf32>"},
};

INSTANTIATE_TEST_SUITE_P(Ops, Gradient, testing::ValuesIn(kCases), [](const auto &info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
});

// No finite difference shows this one: the value depends on what it is detached from.
TEST(Detach, StopsTheGradient) {
  Case c{"detach",
         {{"a", "2x3"}, {"b", "2x3"}},
         "2x3",
         "%d = graph.detach %b : tensor<2x3xf32>\n%y = arith.mulf %a, %d : tensor<2x3xf32>"};
  StepInputs inputs;
  inputs.exact = true;
  inputs.inputs = {tensor({2, 3}, {1, 0, 3, 2, 2, 4})};
  for (const char *name : {"a", "b", "coefficients"})
    inputs.parameters[name] = randomTensor({2, 3}, name);
  Program program(programText(c));
  ASSERT_TRUE(program.run("galvatron-differentiate,galvatron-verify-differentiate"));
  auto result = evaluateStep(*program.module, inputs);
  ASSERT_TRUE(succeeded(result));
  for (int64_t i = 0; i < 6; ++i) {
    EXPECT_EQ(result->gradients.at("b")[i], 0);
    EXPECT_DOUBLE_EQ(result->gradients.at("a")[i], inputs.parameters["coefficients"][i] * inputs.parameters["b"][i]);
  }
}

} // namespace
