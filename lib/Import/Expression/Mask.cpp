// Masks as bands: low ≤ i - j ≤ high over query i and key j. A causal mask bounds i - j from below, a
// sliding window from above, and conjunctions intersect.
#include "Mask.h"

#include <cmath>

using namespace galvatron::importer;

namespace {

struct Band {
  double low = -INFINITY, high = INFINITY;
};

/// Additive values at or below this hide a key: exp of it is 0 in every float type in use.
constexpr double kHidden = -1e4;

/// What a number of the mask says; nothing when it is a bias rather than a mask.
std::optional<bool> isVisible(double value, ElementType type) {
  if (type == ElementType::Bool)
    return value != 0;
  if (value == 0 || value <= kHidden)
    return value == 0;
  return std::nullopt;
}

std::optional<Band> bandOf(ExpressionRef visible) {
  if (visible->isSplat())
    return visible->constant != 0 ? std::optional(Band()) : std::nullopt;
  if (visible->isElementwise(Operator::And)) {
    auto a = bandOf(visible->operands[0]), b = bandOf(visible->operands[1]);
    if (!a || !b)
      return std::nullopt;
    return Band{std::max(a->low, b->low), std::min(a->high, b->high)};
  }
  if (!visible->isElementwise(Operator::LessEqual))
    return std::nullopt;
  auto left = asLinear(visible->operands[0]), right = asLinear(visible->operands[1]);
  size_t rank = visible->shape.size();
  if (!left || !right || rank < 2)
    return std::nullopt;
  // c + a·i + b·j ≤ 0
  double c = left->constant - right->constant;
  for (size_t d = 0; d + 2 < rank; ++d)
    if (left->factors[d] != right->factors[d])
      return std::nullopt;
  double a = double(left->factors[rank - 2] - right->factors[rank - 2]);
  double b = double(left->factors[rank - 1] - right->factors[rank - 1]);
  if (a == 0 || a != -b)
    return std::nullopt;
  if (a < 0)
    return Band{std::ceil(c / b), INFINITY};
  return Band{-INFINITY, std::floor(-c / a)};
}

std::optional<Mask> maskOf(const Band &band, int64_t queries, int64_t keys) {
  int64_t offset = keys - queries;
  Mask mask;
  if (band.low > double(-(keys - 1))) {
    if (band.low != double(-offset))
      return std::nullopt;
    mask.causal = true;
  }
  if (band.high < double(queries - 1)) {
    mask.window = int64_t(band.high) + offset + 1;
    if (!mask.causal || mask.window <= 0)
      return std::nullopt;
  }
  return mask;
}

bool isVisibleIn(const Mask &mask, int64_t position, int64_t key) {
  return (!mask.causal || key <= position) && (mask.window == 0 || position - key < mask.window);
}

std::optional<Mask> maskFromNumbers(const ExpressionContext &context, ExpressionRef mask) {
  constexpr int64_t kFullCheck = 1 << 22, kSampledRows = 64;
  size_t rank = mask->shape.size();
  int64_t queries = mask->shape[rank - 2], keys = mask->shape[rank - 1];
  Shape index(rank, 0);
  auto visible = [&](int64_t i, int64_t j) {
    index[rank - 2] = i, index[rank - 1] = j;
    return isVisible(context.evaluate(mask, index), mask->type);
  };
  // The first row tells whether the mask is causal, the last how far back it reaches.
  Mask guess;
  if (keys > 1)
    guess.causal = visible(0, keys - 1) == false;
  int64_t reach = 0;
  for (int64_t j = keys; j-- > 0 && visible(queries - 1, j) == true;)
    ++reach;
  if (guess.causal && reach < keys)
    guess.window = reach;
  int64_t step = queries * keys <= kFullCheck ? 1 : std::max<int64_t>(1, queries / kSampledRows);
  for (int64_t i = 0; i < queries; i += step)
    for (int64_t j = 0; j < keys; ++j)
      if (visible(i, j) != isVisibleIn(guess, i + keys - queries, j))
        return std::nullopt;
  return guess;
}

} // namespace

std::optional<Mask> galvatron::importer::recognizeMask(const ExpressionContext &context, ExpressionRef mask) {
  size_t rank = mask->shape.size();
  if (rank < 2 || (mask->depends >> (rank - 2) << (rank - 2)) != mask->depends)
    return std::nullopt;
  if (mask->isSplat()) // one number for every score does nothing, unless it hides them all
    return isVisible(mask->constant, mask->type) == false ? std::nullopt : std::optional(Mask());
  ExpressionRef visible = mask;
  if (mask->isElementwise(Operator::Select) && mask->operands[1]->isSplat(0) && mask->operands[2]->isSplat() &&
      mask->operands[2]->constant <= kHidden)
    visible = mask->operands[0];
  if (visible->type == ElementType::Bool)
    if (auto band = bandOf(visible))
      return maskOf(*band, mask->shape[rank - 2], mask->shape[rank - 1]);
  return maskFromNumbers(context, mask);
}
