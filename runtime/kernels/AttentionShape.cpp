//===- AttentionShape.cpp - attention's attributes, positions and masks -----------------------===//
#include "runtime/kernels/AttentionShape.h"

#include <algorithm>
#include <limits>

namespace galvatron {

static HeadStrides readStrides(Attributes &read) {
  const int64_t *words = read.list(3);
  return {words[0], words[1], words[2]};
}

AttentionShape::AttentionShape(Attributes &read) {
  for (int64_t *word : {&batch, &heads, &keyHeads, &queries, &keys, &keySize, &valueSize})
    *word = read.integer();
  scale = read.real();
  causal = read.integer();
  window = read.integer();
  softcap = read.real();
  dropout = read.real();
  id = read.integer();
  for (HeadStrides *strides : {&q, &k, &v, &y})
    *strides = readStrides(read);
  std::copy_n(read.list(4), 4, biasStride);
}

void AttentionShape::readPositions(const gvrt_context &context, const Attributes &read) {
  PositionMap positions = read.positions(context, 4);
  queryPosition = positions.indices(2);
  keyPosition = positions.indices(3);
  for (int64_t &position : queryPosition)
    position += positions.globalExtent(3) - positions.globalExtent(2);
  ascending = std::is_sorted(keyPosition.begin(), keyPosition.end());
  dropout = context.dropoutOf(dropout);
  if (dropout > 0) {
    int64_t extent[] = {batch, heads, queries, keys};
    rows.emplace(positions, 4, extent);
    stream = random::dropoutStream(context.seed, context.step, context.layer, id);
  }
}

void AttentionShape::readDocuments(const void *ofQueries, const void *ofKeys) {
  queryDocuments = static_cast<const int64_t *>(ofQueries);
  keyDocuments = static_cast<const int64_t *>(ofKeys);
  for (int64_t b = 0; b < batch; ++b)
    documentsAscend &= std::is_sorted(keyDocuments + b * keys, keyDocuments + (b + 1) * keys);
}

std::pair<int64_t, int64_t> AttentionShape::visibleKeys(int64_t b, int64_t first, int64_t end) const {
  int64_t begin = 0, stop = keys;
  if (queryDocuments && documentsAscend) {
    const int64_t *own = queryDocuments + b * queries, *of = keyDocuments + b * keys;
    auto [lowest, highest] = std::minmax_element(own + first, own + end);
    begin = std::lower_bound(of, of + keys, *lowest) - of;
    stop = std::upper_bound(of, of + keys, *highest) - of;
  }
  if (!causal && window == 0)
    return {begin, stop};
  auto [low, high] = std::minmax_element(queryPosition.begin() + first, queryPosition.begin() + end);
  while (causal && stop > begin && keyPosition[stop - 1] > *high)
    --stop;
  while (window > 0 && begin < stop && keyPosition[begin] <= *low - window)
    ++begin;
  return {begin, stop};
}

std::pair<int64_t, int64_t> AttentionShape::visiblePiece(int64_t query, int64_t first, int64_t count) const {
  if (!ascending || (!causal && window == 0))
    return {0, count};
  auto keysBegin = keyPosition.begin() + first, keysEnd = keysBegin + count;
  int64_t position = queryPosition[query], begin = 0, end = count;
  if (causal && keysEnd[-1] > position)
    end = std::upper_bound(keysBegin, keysEnd, position) - keysBegin;
  if (window > 0 && *keysBegin <= position - window)
    begin = std::upper_bound(keysBegin, keysEnd, position - window) - keysBegin;
  return {std::min(begin, end), end};
}

void AttentionShape::mask(float *scores, int64_t b, int64_t query, int64_t first, int64_t count) const {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  if (queryDocuments) {
    const int64_t own = queryDocuments[b * queries + query], *of = keyDocuments + b * keys + first;
    for (int64_t j = 0; j < count; ++j)
      scores[j] = of[j] == own ? scores[j] : kHidden;
  }
  if (ascending || (!causal && window == 0))
    return;
  for (int64_t j = 0; j < count; ++j) {
    int64_t back = queryPosition[query] - keyPosition[first + j];
    if ((causal && back < 0) || (window > 0 && back >= window))
      scores[j] = kHidden;
  }
}

void AttentionShape::addBias(const float *bias, float *scores, int64_t b, int64_t n, int64_t query, int64_t first,
                             int64_t count) const {
  const float *row = bias + b * biasStride[0] + n * biasStride[1] + query * biasStride[2] + first * biasStride[3];
  if (biasStride[3] == 1)
    return loops().add(row, scores, count);
  for (int64_t j = 0; j < count; ++j)
    scores[j] += row[j * biasStride[3]];
}

void AttentionShape::dropFactors(float *factors, int64_t b, int64_t n, int64_t query, int64_t first,
                                 int64_t count) const {
  int64_t base = rows->base((b * heads + n) * queries + query);
  dropoutFactors(stream, dropout, *rows, base, first, count, factors);
}

} // namespace galvatron
