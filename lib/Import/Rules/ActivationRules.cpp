// Nonlinearities: those with an op of their own, and formulas of what there is for the others.
#include "Formula.h"

#include <cmath>

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

/// Beyond this, log(1 + exp(x)) is x in single precision.
constexpr double kLinearSoftplus = 30;

Results gelu(Call &call) {
  const Value *form = call.find("approximate");
  bool tanh = form && form->string() == "tanh";
  Tensor x = call.tensor("self");
  return {Value(call.importer.elementwise(tanh ? Operator::GeluTanh : Operator::Gelu, {x}, x.type, x.type))};
}

/// x > 0 ? x : slope · x
Tensor leaky(const Formula &f, const Tensor &x, const Tensor &slope) {
  return f.choose(f.less(f.number(0), x), x, f.multiply(x, slope));
}

Results leakyRelu(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(leaky(f, x, f.number(call.number("negative_slope", 0.01))))};
}

/// One slope, or one for each element of the second dimension.
Results prelu(Call &call) {
  Tensor x = call.tensor("self"), weight = call.tensor("weight");
  Shape shape(x.rank(), 1);
  if (x.rank() > 1)
    shape[1] = numElements(weight.shape);
  return {Value(leaky(Formula{call, x.type}, x, call.importer.reshape(weight, shape)))};
}

Results randomizedRelu(Call &call) {
  if (call.flag("training", false))
    throw ImportError("draws random slopes in training, which is unsupported; use leaky_relu");
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(leaky(f, x, f.number((call.number("lower", 1.0 / 8) + call.number("upper", 1.0 / 3)) / 2)))};
}

Results softplus(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  double beta = call.number("beta", 1), threshold = call.number("threshold", 20);
  Tensor scaled = f.softplus(f.multiply(x, beta), std::min(threshold, kLinearSoftplus));
  return {Value(f.multiply(scaled, 1 / beta))};
}

Results logSigmoid(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(f.negate(f.softplus(f.negate(x), kLinearSoftplus)))};
}

Results mish(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(f.multiply(x, f(Operator::Tanh, {f.softplus(x, 20)})))};
}

/// x > 0 ? scale · x : scale · alpha · (exp(inner · x) - 1)
Tensor exponentialUnit(const Formula &f, const Tensor &x, double alpha, double scale, double inner) {
  Tensor positive = f.less(f.number(0), x);
  Tensor grown = f.subtract(f.exponential(f.multiply(f.choose(positive, f.number(0), x), inner)), f.number(1));
  return f.choose(positive, f.multiply(x, scale), f.multiply(grown, alpha * scale));
}

Results elu(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(exponentialUnit(Formula{call, x.type}, x, call.number("alpha", 1), call.number("scale", 1),
                                call.number("input_scale", 1)))};
}

Results celu(Call &call) {
  Tensor x = call.tensor("self");
  double alpha = call.number("alpha", 1);
  return {Value(exponentialUnit(Formula{call, x.type}, x, alpha, 1, 1 / alpha))};
}

/// Klambauer et al., Self-normalizing neural networks (2017).
Results selu(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(exponentialUnit(Formula{call, x.type}, x, 1.6732632423543772848, 1.0507009873554804934, 1))};
}

/// Between the bounds x, outside of them and at them without gradient.
Tensor hardTanh(const Formula &f, const Tensor &x, double low, double high) {
  Tensor bounded = f.choose(f.lessEqual(f.number(high), x), f.number(high), x);
  return f.choose(f.lessEqual(x, f.number(low)), f.number(low), bounded);
}

Results hardTanh(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(hardTanh(Formula{call, x.type}, x, call.number("min_val", -1), call.number("max_val", 1)))};
}

Results relu6(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(hardTanh(Formula{call, x.type}, x, 0, 6))};
}

/// relu6(x + 3) / 6
Results hardSigmoid(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(f.multiply(hardTanh(f, f.add(x, f.number(3)), 0, 6), 1.0 / 6))};
}

/// x · relu6(x + 3) / 6
Results hardSwish(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor inside = f.multiply(f.multiply(x, f.add(x, f.number(3))), 1.0 / 6);
  Tensor upper = f.choose(f.lessEqual(f.number(3), x), x, inside);
  return {Value(f.choose(f.lessEqual(x, f.number(-3)), f.number(0), upper))};
}

Results threshold(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor below = f.lessEqual(x, f.number(call.number("threshold")));
  return {Value(f.choose(below, f.number(call.number("value")), x))};
}

Results hardShrink(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor small = f.lessEqual(f.absolute(x), f.number(call.number("lambd", 0.5)));
  return {Value(f.choose(small, f.number(0), x))};
}

Results softShrink(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor width = f.number(call.number("lambd", 0.5));
  Tensor outside = f.choose(f.less(width, x), f.subtract(x, width), f.add(x, width));
  return {Value(f.choose(f.lessEqual(f.absolute(x), width), f.number(0), outside))};
}

/// The first half, gated by the second.
Results glu(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank());
  if (x.shape[dim] % 2 != 0)
    throw ImportError("expects dimension " + std::to_string(dim) + " of " + describe(x.shape) + " to be even");
  Shape offsets(x.rank(), 0), half = x.shape;
  half[dim] /= 2;
  Tensor value = importer.slice(x, offsets, half);
  offsets[dim] = half[dim];
  Formula f{call, x.type};
  return {Value(f.multiply(value, f(Operator::Sigmoid, {importer.slice(x, offsets, half)})))};
}

} // namespace

void galvatron::importer::addActivationRules(RuleTable &table) {
  table.add("aten::gelu", gelu);
  table.add("aten::leaky_relu", leakyRelu);
  table.add("aten::prelu", prelu);
  table.add("aten::rrelu", randomizedRelu);
  table.add("aten::softplus", softplus);
  table.add("aten::log_sigmoid", logSigmoid);
  table.add("aten::mish", mish);
  table.add("aten::elu", elu);
  table.add("aten::celu", celu);
  table.add("aten::selu", selu);
  table.add("aten::hardtanh", hardTanh);
  table.add("aten::relu6", relu6);
  table.add("aten::hardsigmoid", hardSigmoid);
  table.add("aten::hardswish", hardSwish);
  table.add("aten::threshold", threshold);
  table.add("aten::hardshrink", hardShrink);
  table.add("aten::softshrink", softShrink);
  table.add("aten::glu", glu);
}
