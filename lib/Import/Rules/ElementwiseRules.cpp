// Arithmetic, comparisons, logic and conversions: one table of ATen names and operators.
#include "Formula.h"

#include <bit>
#include <cmath>

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

/// Larger powers are left to `pow`.
constexpr double kLargestProduct = 16;

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
    {"aten::trunc", Operator::Truncate},
    {"aten::fix", Operator::Truncate},
    {"aten::atan", Operator::Arctangent, true},
    {"aten::arctan", Operator::Arctangent, true},
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

Results unary(Call &call) {
  const Entry &entry = entryOf(kUnary, call.op);
  Tensor x = call.tensor("self");
  ElementType type = entry.toFloat ? floatOf(x.type) : x.type;
  if (call.op == "aten::logical_not")
    type = ElementType::Bool;
  bool rounds = entry.op == Operator::Floor || entry.op == Operator::Ceiling || entry.op == Operator::Truncate;
  if (!isFloat(type) && rounds)
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
    op = mode->string() == "trunc" ? Operator::TruncateDivide : Operator::FloorDivide;
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

/// Whole powers and roots as products and roots, whose derivatives are cheaper than a power's, and right at 0.
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
    if (value == 0)
      return {Value(Tensor::of(call.expressions.splat(type, x.shape, 1)))};
    if (value == 1)
      return {Value(converted)};
    if (value == std::trunc(value) && std::abs(value) <= kLargestProduct && (value > 0 || isFloat(type))) {
      // x^(2n) = (x^n)², x^(2n+1) = x^(2n) · x
      Tensor result = converted;
      int64_t count = int64_t(std::abs(value));
      for (int64_t bit = int64_t(std::bit_floor(uint64_t(count))) >> 1; bit > 0; bit >>= 1) {
        result = product(result, result);
        if (count & bit)
          result = product(result, converted);
      }
      if (value < 0)
        result = importer.elementwise(Operator::Divide, {Tensor::of(call.expressions.splat(type, {}, 1)), result}, type,
                                      type);
      return {Value(result)};
    }
    if (value == 0.5 || value == -0.5)
      return {Value(
          importer.elementwise(value > 0 ? Operator::SquareRoot : Operator::ReciprocalSquareRoot, {x}, type, type))};
  }
  return {Value(importer.elementwise(Operator::Power, {x, e}, type, type))};
}

/// Bounds are numbers or tensors. At a bound the gradient is x's, beyond it the bound's.
Results clamp(Call &call) {
  Tensor x = call.tensor("self");
  Formula f{call, x.type};
  if (const Value *low = call.find("min")) {
    Tensor bound = call.tensorOrNumber(*low);
    x = f.choose(f.less(x, bound), bound, x);
  }
  if (const Value *high = call.find("max")) {
    Tensor bound = call.tensorOrNumber(*high);
    x = f.choose(f.less(bound, x), bound, x);
  }
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

} // namespace

void galvatron::importer::addElementwiseRules(RuleTable &table) {
  for (const Entry &entry : kUnary)
    table.add(entry.name, unary);
  for (const Entry &entry : kBinary)
    table.add(entry.name, binary);
  table.add("aten::pow", power);
  table.add("aten::clamp", clamp);
  table.add("aten::clamp_min", clamp);
  table.add("aten::clamp_max", clamp);
  table.add("aten::where", where);
  table.add("aten::masked_fill", maskedFill);
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
