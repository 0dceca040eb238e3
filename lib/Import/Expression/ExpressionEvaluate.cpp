// What expressions are worth in numbers. Everything is computed in double and rounded to the element
// type after each operator, as PyTorch's kernels do.
#include "Expression.h"

#include "Value.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <cstring>

using namespace galvatron::importer;
using llvm::ArrayRef;
using llvm::SmallVector;

constexpr double kLargestExact = 0x1p53;

static float fromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t toBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static double roundToHalf(double value) {
  if (!std::isfinite(value) || value == 0)
    return value;
  int exponent = std::max(std::ilogb(value), -14);
  double step = std::ldexp(1.0, exponent - 10), rounded = std::nearbyint(value / step) * step;
  return std::abs(rounded) > 65504 ? std::copysign(INFINITY, value) : rounded;
}

double galvatron::importer::roundTo(ElementType type, double value) {
  switch (type) {
  case ElementType::Bool:
    return value != 0;
  case ElementType::UInt8:
    return double(uint8_t(int64_t(value)));
  case ElementType::Int32:
  case ElementType::Int64:
    return std::trunc(value);
  case ElementType::Float16:
    return roundToHalf(value);
  case ElementType::BFloat16: {
    if (!std::isfinite(value))
      return value;
    uint32_t bits = toBits(float(value));
    return fromBits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
  }
  case ElementType::Float32:
    return float(value);
  case ElementType::Float64:
    return value;
  }
  return value;
}

/// Constants of a program are computed in double precision, which holds integers up to 2^53 and no others surely.
double galvatron::importer::exactDouble(int64_t value) {
  double result = double(value);
  if (result >= 0x1p63 || int64_t(result) != value)
    throw ImportError("holds the integer " + std::to_string(value) +
                      ", but constants are exact up to 2^53 only; use smaller ones");
  return result;
}

static double halfToDouble(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  double sign = half & 0x8000 ? -1 : 1;
  if (exponent == 31)
    return mantissa ? NAN : sign * INFINITY;
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

double DenseData::at(int64_t index) const {
  if (!raw)
    return values[index];
  switch (rawType) {
  case ElementType::Bool:
  case ElementType::UInt8:
    return static_cast<const uint8_t *>(raw)[index];
  case ElementType::Int32:
    return static_cast<const int32_t *>(raw)[index];
  case ElementType::Int64:
    return exactDouble(static_cast<const int64_t *>(raw)[index]);
  case ElementType::Float16:
    return halfToDouble(static_cast<const uint16_t *>(raw)[index]);
  case ElementType::BFloat16:
    return fromBits(uint32_t(static_cast<const uint16_t *>(raw)[index]) << 16);
  case ElementType::Float32:
    return static_cast<const float *>(raw)[index];
  case ElementType::Float64:
    return static_cast<const double *>(raw)[index];
  }
  return 0;
}

bool galvatron::importer::isComparison(Operator op) {
  return op == Operator::Equal || op == Operator::NotEqual || op == Operator::Less || op == Operator::LessEqual;
}

static double evaluate(Operator op, ArrayRef<double> v, ElementType type) {
  double a = v[0], b = v.size() > 1 ? v[1] : 0;
  auto remainder = [&] {
    double r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  };
  switch (op) {
  case Operator::Add:
    return a + b;
  case Operator::Subtract:
    return a - b;
  case Operator::Multiply:
    return a * b;
  case Operator::Divide:
    return a / b;
  case Operator::FloorDivide:
    return std::floor(a / b);
  case Operator::TruncateDivide:
    return std::trunc(a / b);
  case Operator::Arctangent2:
    return std::atan2(a, b);
  case Operator::Arctangent:
    return std::atan(a);
  case Operator::Truncate:
    return std::trunc(a);
  case Operator::Round:
    return std::nearbyint(a);
  case Operator::Remainder:
    return remainder();
  case Operator::Power:
    return std::pow(a, b);
  case Operator::Maximum:
    return std::isnan(a) ? a : std::isnan(b) ? b : std::max(a, b);
  case Operator::Minimum:
    return std::isnan(a) ? a : std::isnan(b) ? b : std::min(a, b);
  case Operator::Equal:
    return a == b;
  case Operator::NotEqual:
    return a != b;
  case Operator::Less:
    return a < b;
  case Operator::LessEqual:
    return a <= b;
  case Operator::And:
    return double(int64_t(a) & int64_t(b));
  case Operator::Or:
    return double(int64_t(a) | int64_t(b));
  case Operator::Xor:
    return double(int64_t(a) ^ int64_t(b));
  case Operator::Select:
    return a != 0 ? b : v[2];
  case Operator::Not:
    return type == ElementType::Bool ? double(a == 0) : double(~int64_t(a));
  case Operator::Negate:
    return -a;
  case Operator::Absolute:
    return std::abs(a);
  case Operator::Exponential:
    return std::exp(a);
  case Operator::Logarithm:
    return std::log(a);
  case Operator::SquareRoot:
    return std::sqrt(a);
  case Operator::ReciprocalSquareRoot:
    return 1 / std::sqrt(a);
  case Operator::Cosine:
    return std::cos(a);
  case Operator::Sine:
    return std::sin(a);
  case Operator::Floor:
    return std::floor(a);
  case Operator::Ceiling:
    return std::ceil(a);
  case Operator::Erf:
    return std::erf(a);
  case Operator::Relu:
    return std::max(a, 0.0);
  case Operator::Gelu:
    return a * 0.5 * (1 + std::erf(a * M_SQRT1_2));
  case Operator::GeluTanh:
    return 0.5 * a * (1 + std::tanh(std::sqrt(2 / M_PI) * (a + 0.044715 * a * a * a)));
  case Operator::Silu:
    return a / (1 + std::exp(-a));
  case Operator::Sigmoid:
    return 1 / (1 + std::exp(-a));
  case Operator::Tanh:
    return std::tanh(a);
  case Operator::Convert:
    return a;
  }
  return 0;
}

double galvatron::importer::evaluateOperator(Operator op, ArrayRef<double> operands, ElementType type) {
  double result = ::evaluate(op, operands, type);
  bool grows = op == Operator::Add || op == Operator::Subtract || op == Operator::Multiply || op == Operator::Power;
  double largest = type == ElementType::Int64 ? kLargestExact : type == ElementType::Int32 ? 0x1p31 - 1 : HUGE_VAL;
  if (grows && std::abs(result) > largest)
    throw ImportError("computes an integer of about " + llvm::formatv("{0:e2}", result).str() +
                      " from constants, which are exact up to " + (type == ElementType::Int32 ? "2^31" : "2^53") +
                      " only; use smaller ones");
  return result;
}

double ExpressionContext::evaluate(ExpressionRef x, ShapeRef index) const {
  switch (x->kind) {
  case Expression::Kind::Splat:
    return x->constant;
  case Expression::Kind::Affine: {
    double value = x->constant;
    for (auto [factor, i] : llvm::zip_equal(x->factors, index))
      value += double(factor) * double(i);
    return value;
  }
  case Expression::Kind::Dense: {
    int64_t position = x->offset;
    for (auto [stride, i] : llvm::zip_equal(x->factors, index))
      position += stride * i;
    return roundTo(x->type, x->data->at(position));
  }
  case Expression::Kind::Elementwise:
    break;
  }
  SmallVector<double, 3> values;
  for (ExpressionRef operand : x->operands)
    values.push_back(evaluate(operand, index));
  return roundTo(x->type, evaluateOperator(x->op, values, x->type));
}

std::vector<double> ExpressionContext::materialize(ExpressionRef x) const {
  if (numElements(x->shape) > kMostNumbers)
    throw ImportError("computes " + std::to_string(numElements(x->shape)) + " numbers of shape " + describe(x->shape) +
                      " in advance, but at most " + std::to_string(kMostNumbers) +
                      " are supported; make them a parameter or a buffer");
  std::vector<double> values;
  values.reserve(numElements(x->shape));
  Shape index(x->shape.size(), 0);
  for (int64_t n = numElements(x->shape); n > 0; --n) {
    values.push_back(evaluate(x, index));
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < x->shape[d])
        break;
      index[d] = 0;
    }
  }
  return values;
}

ExpressionRef ExpressionContext::fit(ElementType type, ShapeRef shape, std::vector<double> values, bool positional) {
  Linear ramp{values.empty() ? 0 : values[0], Shape(shape.size(), 0), positional};
  int64_t stride = 1;
  bool integral = true;
  for (size_t d = shape.size(); d-- > 0; stride *= shape[d])
    if (shape[d] > 1 && !values.empty()) {
      double step = values[stride] - values[0];
      integral &= step == std::floor(step) && std::abs(step) < 0x1p53;
      ramp.factors[d] = integral ? int64_t(step) : 0;
    }
  integral &= ramp.constant == std::floor(ramp.constant) && std::abs(ramp.constant) < 0x1p53;
  ExpressionRef candidate = integral && type != ElementType::Bool ? linear(type, shape, ramp) : nullptr;
  if (candidate && materialize(candidate) == values)
    return candidate;
  return dense(type, shape, std::move(values));
}
