// Buffers that a module computed once, from positions: mask bands and tables of sines and cosines. They
// are turned back into the formula, so that no table of S rows or S×S numbers is carried along, and
// masks and rotary tables look the same whether a model stores or computes them.
#include "Expression.h"

#include <cmath>

using namespace galvatron::importer;

ExpressionRef ExpressionContext::bandOfNumbers(ExpressionRef dense) {
  constexpr int64_t kFullCheck = 1 << 24, kSampledRows = 64;
  size_t rank = dense->shape.size();
  if (dense->kind != Expression::Kind::Dense || rank < 2 || dense->shape[rank - 1] != dense->shape[rank - 2] ||
      dense->depends != uint64_t(3) << (rank - 2))
    return nullptr;
  int64_t extent = dense->shape[rank - 1], rowStride = dense->factors[rank - 2], stride = dense->factors[rank - 1];
  auto at = [&](int64_t i, int64_t j) { return dense->data->at(dense->offset + i * rowStride + j * stride); };
  // The first row shows how far the band reaches ahead, the last how far back.
  double inside = at(0, 0), outside = inside;
  int64_t ahead = 0, back = 0;
  while (ahead + 1 < extent && at(0, ahead + 1) == inside)
    ++ahead;
  while (back + 1 < extent && at(extent - 1, extent - 2 - back) == inside)
    ++back;
  if (ahead + 1 < extent)
    outside = at(0, ahead + 1);
  else if (back + 1 < extent)
    outside = at(extent - 1, extent - 2 - back);
  else
    return nullptr;
  int64_t step = extent * extent <= kFullCheck ? 1 : extent / kSampledRows;
  for (int64_t i = 0; i < extent; i += step)
    for (int64_t j = 0; j < extent; ++j)
      if (at(i, j) != (j - i <= ahead && i - j <= back ? inside : outside))
        return nullptr;
  auto position = [&](size_t dim, int64_t offset) {
    Linear value{double(offset), Shape(rank, 0), true};
    value.factors[dim] = 1;
    return linear(ElementType::Int64, dense->shape, value);
  };
  using enum Operator;
  ExpressionRef visible = splat(ElementType::Bool, dense->shape, 1);
  if (ahead + 1 < extent)
    visible = elementwise(LessEqual, {position(rank - 1, 0), position(rank - 2, ahead)}, ElementType::Bool);
  if (back + 1 < extent) {
    ExpressionRef recent = elementwise(LessEqual, {position(rank - 2, 0), position(rank - 1, back)}, ElementType::Bool);
    visible = elementwise(And, {visible, recent}, ElementType::Bool);
  }
  return elementwise(Select,
                     {visible, splat(dense->type, dense->shape, inside), splat(dense->type, dense->shape, outside)},
                     dense->type);
}

namespace {
/// A column sin(p·f) or cos(p·f).
struct Sinusoid {
  bool cosine = false;
  float frequency = 0;

  /// The angle is rounded to float32, as a table computed in that type has it.
  double at(int64_t position) const {
    double angle = float(double(position) * double(frequency));
    return cosine ? std::cos(angle) : std::sin(angle);
  }
};
} // namespace

/// Sinusoid whose values at positions 0, 1, … are `at`, with a frequency up to π/2.
static std::optional<Sinusoid> fitSinusoid(llvm::function_ref<double(int64_t)> at, int64_t rows) {
  constexpr double kTolerance = 2e-6;
  Sinusoid result;
  if (at(0) != 0 && at(0) != 1)
    return std::nullopt;
  result.cosine = at(0) == 1;
  // A cosine says nothing near 1, so it is read where it has fallen for the first time.
  int64_t first = 1;
  while (result.cosine && first + 1 < rows && at(first) > 0.9)
    ++first;
  double frequency = (result.cosine ? std::acos(at(first)) : std::asin(at(first))) / double(first);
  if (!(frequency >= 0) || frequency > M_PI_2 + 1e-6)
    return std::nullopt;
  // Newton's step at ever later positions sharpens the frequency; flat places tell nothing.
  for (int64_t p = first; p < rows; p = p + std::max<int64_t>(1, p / 4)) {
    double angle = double(p) * frequency;
    double model = result.cosine ? std::cos(angle) : std::sin(angle);
    double slope = double(p) * (result.cosine ? -std::sin(angle) : std::cos(angle));
    if (std::abs(slope) > 0.3 * double(p))
      frequency -= (model - at(p)) / slope;
  }
  auto worst = [&](float candidate) {
    result.frequency = candidate;
    double error = 0;
    for (int64_t p = 1; p < rows; p += std::max<int64_t>(1, rows / 64))
      error = std::max(error, std::abs(result.at(p) - at(p)));
    return error;
  };
  float best = float(frequency);
  double least = worst(best);
  for (int step = 1; step <= 4; ++step)
    for (float toward : {0.0f, 4.0f}) {
      float candidate = float(frequency);
      for (int i = 0; i < step; ++i)
        candidate = std::nextafter(candidate, toward);
      if (double error = worst(candidate); error < least)
        least = error, best = candidate;
    }
  result.frequency = best;
  for (int64_t p = 0; p < rows; ++p)
    if (!(std::abs(result.at(p) - at(p)) <= kTolerance))
      return std::nullopt;
  return result;
}

ExpressionRef ExpressionContext::sinusoidsOfNumbers(ExpressionRef dense) {
  constexpr int64_t kFewestRows = 8;
  constexpr auto f32 = ElementType::Float32;
  size_t rank = dense->shape.size();
  if (dense->kind != Expression::Kind::Dense || dense->type != f32 || rank < 2 ||
      dense->depends != uint64_t(3) << (rank - 2) || dense->shape[rank - 2] < kFewestRows)
    return nullptr;
  int64_t rows = dense->shape[rank - 2], columns = dense->shape[rank - 1];
  std::vector<double> cosine(columns), frequencies(columns);
  for (int64_t c = 0; c < columns; ++c) {
    auto at = [&](int64_t p) {
      return dense->data->at(dense->offset + p * dense->factors[rank - 2] + c * dense->factors[rank - 1]);
    };
    std::optional<Sinusoid> column = fitSinusoid(at, rows);
    if (!column)
      return nullptr;
    cosine[c] = column->cosine;
    frequencies[c] = column->frequency;
  }
  Shape unit(rank, 1);
  unit.back() = columns;
  Linear position{0, Shape(rank, 0), true};
  position.factors[rank - 2] = 1;
  using enum Operator;
  ExpressionRef angles =
      elementwise(Multiply, {linear(f32, dense->shape, position), this->dense(f32, unit, frequencies)}, f32);
  ExpressionRef isCosine = this->dense(ElementType::Bool, unit, cosine);
  return elementwise(Select, {isCosine, elementwise(Cosine, {angles}, f32), elementwise(Sine, {angles}, f32)}, f32);
}
