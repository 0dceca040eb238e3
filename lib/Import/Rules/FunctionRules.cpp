// Functions of one or a few numbers, as formulas of what there is. Derivatives where they jump are torch's
// (see Formula.h).
#include "Formula.h"

#include <cmath>
#include <numbers>

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

/// Of the operand `self`, computed in floating point.
template <Tensor (*function)(const Formula &, const Tensor &)> Results ofOne(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, floatOf(x.type)};
  return {Value(function(f, call.importer.convert(x, f.type)))};
}

/// Of the first two operands, tensors or numbers.
template <Tensor (*function)(const Formula &, const Tensor &, const Tensor &)> Results ofTwo(Call &call) {
  Value a = call.arguments[0].value, b = call.arguments[1].value;
  Formula f{call, promote({a, b}, call.importer)};
  return {Value(function(f, call.tensorOrNumber(a), call.tensorOrNumber(b)))};
}

//===----------------------------------------------------------------------===//
// Of one number
//===----------------------------------------------------------------------===//

Tensor reciprocal(const Formula &f, const Tensor &x) { return f.divide(f.number(1), x); }
Tensor expm1(const Formula &f, const Tensor &x) { return f.subtract(f.exponential(x), f.number(1)); }
Tensor log1p(const Formula &f, const Tensor &x) { return f.logarithm(f.add(x, f.number(1))); }
Tensor exp2(const Formula &f, const Tensor &x) { return f.exponential(f.multiply(x, std::numbers::ln2)); }
Tensor log2(const Formula &f, const Tensor &x) { return f.multiply(f.logarithm(x), std::numbers::log2e); }
Tensor log10(const Formula &f, const Tensor &x) { return f.multiply(f.logarithm(x), std::numbers::log10e); }
Tensor erfc(const Formula &f, const Tensor &x) { return f.subtract(f.number(1), f(Operator::Erf, {x})); }
Tensor tan(const Formula &f, const Tensor &x) { return f.divide(f(Operator::Sine, {x}), f(Operator::Cosine, {x})); }

/// (exp(x) ± exp(-x)) / 2
Tensor hyperbolic(const Formula &f, const Tensor &x, Operator op) {
  return f.multiply(f(op, {f.exponential(x), f.exponential(f.negate(x))}), 0.5);
}
Tensor sinh(const Formula &f, const Tensor &x) { return hyperbolic(f, x, Operator::Subtract); }
Tensor cosh(const Formula &f, const Tensor &x) { return hyperbolic(f, x, Operator::Add); }

/// log((1 + x) / (1 - x)) / 2
Tensor atanh(const Formula &f, const Tensor &x) {
  Tensor one = f.number(1);
  return f.multiply(f.logarithm(f.divide(f.add(one, x), f.subtract(one, x))), 0.5);
}

Tensor frac(const Formula &f, const Tensor &x) { return f.subtract(x, f(Operator::Truncate, {x})); }
Tensor degrees(const Formula &f, const Tensor &x) { return f.multiply(x, 180 / std::numbers::pi); }
Tensor radians(const Formula &f, const Tensor &x) { return f.multiply(x, std::numbers::pi / 180); }

Results square(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(Formula{call, x.type}.multiply(x, x))};
}

/// Integers keep their type.
Results sign(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor negative = f.choose(f.less(x, f.number(0)), f.number(-1), f.number(0));
  return {Value(f.choose(f.less(f.number(0), x), f.number(1), negative))};
}

Results round(Call &call) {
  Tensor x = call.tensor("self");
  if (!isFloat(x.type))
    return {Value(x)};
  Formula f{call, x.type};
  double scale = std::pow(10, double(call.integer("decimals", 0)));
  return {Value(f.multiply(f(Operator::Round, {f.multiply(x, scale)}), 1 / scale))};
}

/// log(x / (1 - x)) of x kept `eps` away from 0 and 1, without gradient beyond.
Results logit(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, floatOf(x.type)};
  double epsilon = call.number("eps", -1);
  if (epsilon >= 0) {
    x = f.choose(f.less(x, f.number(epsilon)), f.number(epsilon), x);
    x = f.choose(f.less(f.number(1 - epsilon), x), f.number(1 - epsilon), x);
  }
  return {Value(f.logarithm(f.divide(x, f.subtract(f.number(1), x))))};
}

//===----------------------------------------------------------------------===//
// NaN and infinities
//===----------------------------------------------------------------------===//

Tensor isNan(const Formula &f, const Tensor &x) { return f(Operator::NotEqual, {x, x}); }
Tensor isInfinite(const Formula &f, const Tensor &x) { return f.equal(f.absolute(x), f.number(INFINITY)); }
Tensor isFinite(const Formula &f, const Tensor &x) { return f.less(f.absolute(x), f.number(INFINITY)); }

Results nanToNum(Call &call) {
  Tensor x = call.tensor("self");
  if (!isFloat(x.type))
    return {Value(x)};
  Formula f{call, x.type};
  double largest = x.type == ElementType::Float16 ? 65504 : double(std::numeric_limits<float>::max());
  Tensor above = f.number(call.number("posinf", largest)), below = f.number(call.number("neginf", -largest));
  Tensor result = f.choose(isNan(f, x), f.number(call.number("nan", 0)), x);
  result = f.choose(f.equal(x, f.number(INFINITY)), above, result);
  return {Value(f.choose(f.equal(x, f.number(-INFINITY)), below, result))};
}

//===----------------------------------------------------------------------===//
// Of several numbers
//===----------------------------------------------------------------------===//

/// a - trunc(a / b) · b, which has a's sign.
Tensor fmod(const Formula &f, const Tensor &a, const Tensor &b) {
  Tensor quotient = isFloat(f.type) ? f(Operator::Truncate, {f.divide(a, b)}) : f(Operator::TruncateDivide, {a, b});
  return f.subtract(a, f.multiply(quotient, b));
}

/// The larger, or the one that is a number; a tie is the first's.
Tensor fmax(const Formula &f, const Tensor &a, const Tensor &b) {
  return f.choose(f.either(f.lessEqual(b, a), isNan(f, b)), a, b);
}
Tensor fmin(const Formula &f, const Tensor &a, const Tensor &b) {
  return f.choose(f.either(f.lessEqual(a, b), isNan(f, b)), a, b);
}

/// log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-|a - b|))
Tensor logAddExp(const Formula &f, const Tensor &a, const Tensor &b) {
  Tensor decay = f.exponential(f.negate(f.absolute(f.subtract(a, b))));
  return f.add(f(Operator::Maximum, {a, b}), f.logarithm(f.add(f.number(1), decay)));
}

Tensor logAddExp2(const Formula &f, const Tensor &a, const Tensor &b) {
  auto scaled = [&](const Tensor &x) { return f.multiply(x, std::numbers::ln2); };
  return f.multiply(logAddExp(f, scaled(a), scaled(b)), std::numbers::log2e);
}

Tensor hypot(const Formula &f, const Tensor &a, const Tensor &b) {
  return f.rootOfSquares(f.add(f.multiply(a, a), f.multiply(b, b)));
}

Tensor atan2(const Formula &f, const Tensor &a, const Tensor &b) { return f(Operator::Arctangent2, {a, b}); }

/// x · log(y), and 0 where x is 0 and y has no logarithm.
Tensor xlogy(const Formula &f, const Tensor &x, const Tensor &y) {
  Tensor none = f.both(f.equal(x, f.number(0)), f.lessEqual(y, f.number(0)));
  return f.choose(none, f.number(0), f.multiply(x, f.logarithm(f.choose(none, f.number(1), y))));
}

/// self + weight · (end - self)
Results lerp(Call &call) {
  Tensor from = call.tensor("self");
  Formula f{call, from.type};
  Tensor weight = call.tensorOrNumber(call.value("weight"));
  return {Value(f.add(from, f.multiply(weight, f.subtract(call.tensor("end"), from))))};
}

/// self + value · tensor1 (· or /) tensor2
template <Operator op> Results addCombined(Call &call) {
  Formula f{call, promote({call.value("self"), call.value("tensor1"), call.value("tensor2")}, call.importer)};
  Tensor combined = f(op, {call.tensor("tensor1"), call.tensor("tensor2")});
  return {Value(f.add(call.tensor("self"), f.multiply(combined, call.number("value", 1))))};
}

} // namespace

void galvatron::importer::addFunctionRules(RuleTable &table) {
  table.add("aten::reciprocal", ofOne<reciprocal>);
  table.add("aten::expm1", ofOne<expm1>);
  table.add("aten::log1p", ofOne<log1p>);
  table.add("aten::exp2", ofOne<exp2>);
  table.add("aten::log2", ofOne<log2>);
  table.add("aten::log10", ofOne<log10>);
  table.add("aten::erfc", ofOne<erfc>);
  table.add("aten::tan", ofOne<tan>);
  table.add("aten::sinh", ofOne<sinh>);
  table.add("aten::cosh", ofOne<cosh>);
  table.add("aten::atanh", ofOne<atanh>);
  table.add("aten::frac", ofOne<frac>);
  table.add("aten::rad2deg", ofOne<degrees>);
  table.add("aten::deg2rad", ofOne<radians>);
  table.add("aten::isnan", ofOne<isNan>);
  table.add("aten::isinf", ofOne<isInfinite>);
  table.add("aten::isfinite", ofOne<isFinite>);
  table.add("aten::square", square);
  table.add("aten::sign", sign);
  table.add("aten::sgn", sign);
  table.add("aten::round", round);
  table.add("aten::logit", logit);
  table.add("aten::nan_to_num", nanToNum);
  table.add("aten::fmod", ofTwo<fmod>);
  table.add("aten::fmax", ofTwo<fmax>);
  table.add("aten::fmin", ofTwo<fmin>);
  table.add("aten::logaddexp", ofTwo<logAddExp>);
  table.add("aten::logaddexp2", ofTwo<logAddExp2>);
  table.add("aten::hypot", ofTwo<hypot>);
  table.add("aten::atan2", ofTwo<atan2>);
  table.add("aten::arctan2", ofTwo<atan2>);
  table.add("aten::xlogy", ofTwo<xlogy>);
  table.add("aten::lerp", lerp);
  table.add("aten::addcmul", addCombined<Operator::Multiply>);
  table.add("aten::addcdiv", addCombined<Operator::Divide>);
}
