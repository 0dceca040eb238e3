// Arithmetic, comparisons, logic, activations and conversions: one table of ATen names and operators.
#include "Importer.h"

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

struct Entry {
  const char *name;
  Operator op;
  /// Integers are computed in float32.
  bool toFloat = false;
  /// The right operand comes first.
  bool swapped = false;
};

constexpr Entry kUnary[] = {
    {"aten::neg", Operator::Negate},
    {"aten::abs", Operator::Absolute},
    {"aten::exp", Operator::Exponential, true},
    {"aten::log", Operator::Logarithm, true},
    {"aten::sqrt", Operator::SquareRoot, true},
    {"aten::rsqrt", Operator::ReciprocalSquareRoot, true},
    {"aten::cos", Operator::Cosine, true},
    {"aten::sin", Operator::Sine, true},
    {"aten::erf", Operator::Erf, true},
    {"aten::floor", Operator::Floor},
    {"aten::ceil", Operator::Ceiling},
    {"aten::relu", Operator::Relu},
    {"aten::silu", Operator::Silu, true},
    {"aten::sigmoid", Operator::Sigmoid, true},
    {"aten::tanh", Operator::Tanh, true},
    {"aten::logical_not", Operator::Not},
    {"aten::bitwise_not", Operator::Not},
};

constexpr Entry kBinary[] = {
    {"aten::add", Operator::Add},
    {"aten::sub", Operator::Subtract},
    {"aten::rsub", Operator::Subtract, false, true},
    {"aten::mul", Operator::Multiply},
    {"aten::div", Operator::Divide, true},
    {"aten::true_divide", Operator::Divide, true},
    {"aten::floor_divide", Operator::FloorDivide},
    {"aten::remainder", Operator::Remainder},
    {"aten::maximum", Operator::Maximum},
    {"aten::minimum", Operator::Minimum},
    {"aten::eq", Operator::Equal},
    {"aten::ne", Operator::NotEqual},
    {"aten::lt", Operator::Less},
    {"aten::le", Operator::LessEqual},
    {"aten::gt", Operator::Less, false, true},
    {"aten::ge", Operator::LessEqual, false, true},
    {"aten::logical_and", Operator::And},
    {"aten::logical_or", Operator::Or},
    {"aten::logical_xor", Operator::Xor},
    {"aten::bitwise_and", Operator::And},
    {"aten::bitwise_or", Operator::Or},
    {"aten::bitwise_xor", Operator::Xor},
    {"aten::__and__", Operator::And},
    {"aten::__or__", Operator::Or},
    {"aten::__xor__", Operator::Xor},
};

const Entry &entryOf(llvm::ArrayRef<Entry> table, llvm::StringRef name) {
  return *llvm::find_if(table, [&](const Entry &entry) { return name == entry.name; });
}

ElementType floatOf(ElementType type) { return isFloat(type) ? type : ElementType::Float32; }

Results unary(Call &call) {
  const Entry &entry = entryOf(kUnary, call.op);
  Tensor x = call.tensor("self");
  ElementType type = entry.toFloat ? floatOf(x.type) : x.type;
  if (call.op == "aten::logical_not")
    type = ElementType::Bool;
  if (!isFloat(type) && (entry.op == Operator::Floor || entry.op == Operator::Ceiling))
    return {Value(x)};
  return {Value(call.importer.elementwise(entry.op, {x}, type, type))};
}

/// Tensors, or plain numbers when neither operand is a tensor (sizes computed in the program).
Results binary(Call &call) {
  const Entry &entry = entryOf(kBinary, call.op);
  Importer &importer = call.importer;
  llvm::SmallVector<Value, 2> values{call.arguments[0].value, call.arguments[1].value};
  ElementType type = promote(values, importer);
  Tensor a = call.tensorOrNumber(values[0]), b = call.tensorOrNumber(values[1]);
  double alpha = call.number("alpha", 1.0);
  Operator op = entry.op;
  if (const Value *mode = call.find("rounding_mode")) {
    if (mode->string() != "floor")
      throw ImportError("expects rounding_mode floor or none, but got " + mode->string());
    op = Operator::FloorDivide;
  } else if (entry.toFloat) {
    type = floatOf(type);
  }
  if (llvm::StringRef(call.op).contains("logical_"))
    type = ElementType::Bool;
  if (alpha != 1.0) {
    Tensor factor = Tensor::of(call.expressions.splat(type, {}, alpha));
    Tensor &scaled = entry.swapped ? a : b;
    scaled = importer.elementwise(Operator::Multiply, {scaled, factor}, type, type);
  }
  if (entry.swapped)
    std::swap(a, b);
  return {Value(importer.elementwise(op, {a, b}, type, isComparison(op) ? ElementType::Bool : type))};
}

/// x², x³ and roots as products and roots, whose derivatives are cheaper than a power's.
Results power(Call &call) {
  Importer &importer = call.importer;
  Value base = call.arguments[0].value, exponent = call.arguments[1].value;
  ElementType type = promote({base, exponent}, importer);
  Tensor x = call.tensorOrNumber(base), e = call.tensorOrNumber(exponent);
  auto product = [&](const Tensor &a, const Tensor &b) {
    return importer.elementwise(Operator::Multiply, {a, b}, type, type);
  };
  if (e.lazy && e.lazy->isSplat() && !x.lazy) {
    double value = e.lazy->constant;
    Tensor converted = importer.convert(x, type);
    if (value == 1)
      return {Value(converted)};
    if (value == 2)
      return {Value(product(converted, converted))};
    if (value == 3)
      return {Value(product(product(converted, converted), converted))};
    if (value == 0.5 || value == -0.5)
      return {Value(
          importer.elementwise(value > 0 ? Operator::SquareRoot : Operator::ReciprocalSquareRoot, {x}, type, type))};
  }
  return {Value(importer.elementwise(Operator::Power, {x, e}, type, type))};
}

Results square(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(call.importer.elementwise(Operator::Multiply, {x, x}, x.type, x.type))};
}

Results reciprocal(Call &call) {
  Tensor x = call.tensor("self");
  ElementType type = floatOf(x.type);
  Tensor one = Tensor::of(call.expressions.splat(type, {}, 1));
  return {Value(call.importer.elementwise(Operator::Divide, {one, x}, type, type))};
}

Results gelu(Call &call) {
  const Value *form = call.find("approximate");
  bool tanh = form && form->string() == "tanh";
  Tensor x = call.tensor("self");
  return {Value(call.importer.elementwise(tanh ? Operator::GeluTanh : Operator::Gelu, {x}, x.type, x.type))};
}

/// max(x, 0) + slope · min(x, 0)
Results leakyRelu(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  auto splat = [&](double value) { return Tensor::of(call.expressions.splat(x.type, {}, value)); };
  Tensor scaled =
      importer.elementwise(Operator::Multiply, {x, splat(call.number("negative_slope", 0.01))}, x.type, x.type);
  Tensor positive = importer.elementwise(Operator::Less, {splat(0), x}, x.type, ElementType::Bool);
  return {Value(importer.elementwise(Operator::Select, {positive, x, scaled}, x.type, x.type))};
}

/// Activations without an op of their own, from those that have one. `F` builds on x's type.
struct Formula {
  Call &call;
  ElementType type;

  Tensor number(double value) const { return Tensor::of(call.expressions.splat(type, {}, value)); }
  Tensor operator()(Operator op, llvm::ArrayRef<Tensor> operands) const {
    return call.importer.elementwise(op, operands, type, isComparison(op) ? ElementType::Bool : type);
  }
  Tensor add(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Add, {a, b}); }
  Tensor multiply(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Multiply, {a, b}); }
  Tensor exponential(const Tensor &a) const { return (*this)(Operator::Exponential, {a}); }
  /// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))
  Tensor softplus(const Tensor &x) const {
    Tensor decay = exponential((*this)(Operator::Negate, {(*this)(Operator::Absolute, {x})}));
    return add((*this)(Operator::Relu, {x}), (*this)(Operator::Logarithm, {add(number(1), decay)}));
  }
};

Results softplus(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  double beta = call.number("beta", 1); // beyond `threshold` torch returns x, as this does but for rounding
  Tensor result = f.softplus(f.multiply(x, f.number(beta)));
  return {Value(f.multiply(result, f.number(1 / beta)))};
}

Results logSigmoid(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(f(Operator::Negate, {f.softplus(f(Operator::Negate, {x}))}))};
}

Results mish(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  return {Value(f.multiply(x, f(Operator::Tanh, {f.softplus(x)})))};
}

/// scale · (x > 0 ? x : alpha · (exp(input_scale · min(x, 0)) - 1))
Results elu(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  Tensor negative = f(Operator::Minimum, {x, f.number(0)});
  Tensor grown = f(Operator::Subtract,
                   {f.exponential(f.multiply(negative, f.number(call.number("input_scale", 1)))), f.number(1)});
  Tensor chosen = f(Operator::Select,
                    {f(Operator::Less, {f.number(0), x}), x, f.multiply(grown, f.number(call.number("alpha", 1)))});
  return {Value(f.multiply(chosen, f.number(call.number("scale", 1))))};
}

Results exponentialLessOne(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, floatOf(x.type)};
  return {Value(f(Operator::Subtract, {f.exponential(x), f.number(1)}))};
}

Results logarithmOneMore(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, floatOf(x.type)};
  return {Value(f(Operator::Logarithm, {f.add(x, f.number(1))}))};
}

Results clamp(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  for (auto [name, op] : {std::pair("min", Operator::Maximum), std::pair("max", Operator::Minimum)})
    if (const Value *bound = call.find(name))
      x = importer.elementwise(op, {x, call.tensorOrNumber(*bound)}, x.type, x.type);
  return {Value(x)};
}

Results where(Call &call) {
  if (!call.has("self") || !call.has("other"))
    throw ImportError("the form that returns indices has a shape that depends on data, which is unsupported");
  Value a = call.value("self"), b = call.value("other");
  ElementType type = promote({a, b}, call.importer);
  llvm::SmallVector<Tensor, 3> operands{call.tensor("condition"), call.tensorOrNumber(a), call.tensorOrNumber(b)};
  return {Value(call.importer.elementwise(Operator::Select, operands, type, type))};
}

Results maskedFill(Call &call) {
  Tensor x = call.tensor("self");
  Tensor value = call.tensorOrNumber(call.value("value"));
  return {Value(call.importer.elementwise(Operator::Select, {call.tensor("mask"), value, x}, x.type, x.type))};
}

Results convertTo(Call &call) {
  Tensor x = call.tensor("self");
  ElementType type = call.elementType("dtype", x.type);
  if (const Value *other = call.find("other"))
    type = call.importer.read(*other->cell()).type;
  return {Value(call.importer.convert(x, type))};
}

template <ElementType type> Results convertToFixed(Call &call) {
  return {Value(call.importer.convert(call.tensor("self"), type))};
}

Results isNan(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(call.importer.elementwise(Operator::NotEqual, {x, x}, x.type, ElementType::Bool))};
}

} // namespace

void galvatron::importer::addElementwiseRules(RuleTable &table) {
  for (const Entry &entry : kUnary)
    table.add(entry.name, unary);
  for (const Entry &entry : kBinary)
    table.add(entry.name, binary);
  table.add("aten::pow", power);
  table.add("aten::square", square);
  table.add("aten::reciprocal", reciprocal);
  table.add("aten::gelu", gelu);
  table.add("aten::leaky_relu", leakyRelu);
  table.add("aten::softplus", softplus);
  table.add("aten::log_sigmoid", logSigmoid);
  table.add("aten::mish", mish);
  table.add("aten::elu", elu);
  table.add("aten::expm1", exponentialLessOne);
  table.add("aten::log1p", logarithmOneMore);
  table.add("aten::clamp", clamp);
  table.add("aten::clamp_min", clamp);
  table.add("aten::clamp_max", clamp);
  table.add("aten::where", where);
  table.add("aten::masked_fill", maskedFill);
  table.add("aten::isnan", isNan);
  table.add("aten::to", convertTo, RuleTable::View);
  table.add("aten::type_as", convertTo, RuleTable::View);
  table.add("aten::float", convertToFixed<ElementType::Float32>, RuleTable::View);
  table.add("aten::double", convertToFixed<ElementType::Float64>, RuleTable::View);
  table.add("aten::half", convertToFixed<ElementType::Float16>, RuleTable::View);
  table.add("aten::bfloat16", convertToFixed<ElementType::BFloat16>, RuleTable::View);
  table.add("aten::long", convertToFixed<ElementType::Int64>, RuleTable::View);
  table.add("aten::int", convertToFixed<ElementType::Int32>, RuleTable::View);
  table.add("aten::bool", convertToFixed<ElementType::Bool>, RuleTable::View);
}
