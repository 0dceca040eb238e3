//===- Attention.cpp - softmax(q kᵀ) v in blocks ------------------------------------------------===//
//
// Dao et al., FlashAttention (2022), with library products on blocks. Of the scores of one head only a block of
// kQueryBlock × kKeyBlock exists at a time. Per row of queries the running maximum m and sum l of exponentials are
// kept; when a key block raises m, what has been summed so far is scaled by exp(m_old - m_new):
//
//            keys 0…255   256…511          causal: blocks right of the diagonal are skipped,
//   queries  ┌──────────┬──────────┐       the one on it is cut to the keys that its
//   0…127    │ cut, mask│  skipped │       last query sees, then masked
//   128…255  │ mask     │  skipped │
//            └──────────┴──────────┘
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/BlockedRows.h"
#include "runtime/api/Functions.h"
#include "runtime/kernels/AttentionShape.h"
#include "runtime/kernels/Gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace galvatron;

namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Head {
  const float *q, *k, *v, *bias;
  float *y, *lse;
  int64_t b, n;
};

/// Running statistics of a block's rows, and room for its scores.
struct BlockState {
  float max[kQueryBlock], sum[kQueryBlock];
  float *scores, *factors;
};

/// Turns the scores of one row into probabilities relative to the row's new maximum; scales the row of the result.
void foldRow(const AttentionShape &shape, const Head &head, BlockState &state, int64_t row, int64_t query,
             int64_t firstKey, int64_t keyCount) {
  float *block = state.scores + row * kKeyBlock, *y = head.y + query * shape.y.position;
  auto [begin, end] = shape.visiblePiece(query, firstKey, keyCount);
  std::fill(block, block + begin, 0.0f);
  std::fill(block + end, block + keyCount, 0.0f);
  float *scores = block + begin;
  int64_t first = firstKey + begin, count = end - begin;
  if (shape.softcap > 0)
    loops().softcap(scores, nullptr, shape.softcap, count);
  if (head.bias)
    shape.addBias(head.bias, scores, head.b, head.n, query, first, count);
  shape.mask(scores, head.b, query, first, count);
  float max = loops().max(scores, count);
  float newMax = max > state.max[row] || max != max ? max : state.max[row];
  if (newMax == kMinusInfinity) { // nothing visible so far
    std::fill_n(scores, count, 0.0f);
    return;
  }
  float correction = std::exp(state.max[row] - newMax);
  state.sum[row] = state.sum[row] * correction + loops().expInPlace(scores, newMax, count);
  if (correction != 1.0f && state.max[row] != kMinusInfinity)
    loops().scale(y, correction, shape.valueSize);
  state.max[row] = newMax;
  if (shape.dropout > 0) {
    shape.dropFactors(state.factors, head.b, head.n, query, first, count);
    loops().multiply(scores, state.factors, scores, count);
  }
}

void finishRow(const AttentionShape &shape, const Head &head, const BlockState &state, int64_t row, int64_t query) {
  float *y = head.y + query * shape.y.position;
  if (state.sum[row] == 0) { // sees no key
    std::memset(y, 0, shape.valueSize * sizeof(float));
    head.lse[query] = kMinusInfinity;
    return;
  }
  loops().scale(y, 1.0f / state.sum[row], shape.valueSize);
  head.lse[query] = keptLogSum(state.max[row], state.sum[row], state.max[row] + std::log(state.sum[row]));
}

void attendBlock(gvrt_context *context, const AttentionShape &shape, const Head &head, BlockState &state, int64_t first,
                 int64_t end) {
  int64_t count = end - first;
  std::fill_n(state.max, count, kMinusInfinity);
  std::fill_n(state.sum, count, 0.0f);
  auto [firstKey, endKey] = shape.visibleKeys(head.b, first, end);
  for (int64_t key = firstKey; key < endKey; key += kKeyBlock) {
    int64_t keyCount = std::min(kKeyBlock, endKey - key);
    gemm(context, {head.q + first * shape.q.position, shape.q.position, false},
         {head.k + key * shape.k.position, shape.k.position, true}, state.scores, kKeyBlock, count, keyCount,
         shape.keySize, shape.scale, 0.0f);
    for (int64_t row = 0; row < count; ++row)
      foldRow(shape, head, state, row, first + row, key, keyCount);
    gemm(context, {state.scores, kKeyBlock, false}, {head.v + key * shape.v.position, shape.v.position, false},
         head.y + first * shape.y.position, shape.y.position, count, shape.valueSize, keyCount, 1.0f,
         key == firstKey ? 0.0f : 1.0f);
  }
  for (int64_t row = 0; row < count; ++row)
    finishRow(shape, head, state, row, first + row);
}

/// With two buffers of documents before the bias, or none.
void attend(gvrt_context *context, void *const *buffer, const int64_t *attribute, int numDocuments) {
  Attributes read(attribute);
  if (numDocuments)
    read.integer(); // whether they are the run's own: they are looked at anyway
  read.floats(context);
  read.integer(); // bytes of workspace: scores go through the context's
  AttentionShape shape(read);
  shape.readPositions(*context, read);
  if (numDocuments)
    shape.readDocuments(buffer[3], buffer[4]);
  void *const *rest = buffer + 3 + numDocuments;
  BlockState state;
  state.scores = context->workspace.floats((kQueryBlock + 1) * kKeyBlock);
  state.factors = state.scores + kQueryBlock * kKeyBlock;
  int64_t group = shape.heads / shape.keyHeads;
  for (int64_t b = 0; b < shape.batch; ++b)
    for (int64_t n = 0; n < shape.heads; ++n) {
      Head head{static_cast<const float *>(buffer[0]) + shape.q.at(b, n, 0),
                static_cast<const float *>(buffer[1]) + shape.k.at(b, n / group, 0),
                static_cast<const float *>(buffer[2]) + shape.v.at(b, n / group, 0),
                static_cast<const float *>(rest[0]),
                static_cast<float *>(rest[1]) + shape.y.at(b, n, 0),
                static_cast<float *>(rest[2]) + (b * shape.heads + n) * shape.queries,
                b,
                n};
      for (int64_t first = 0; first < shape.queries; first += kQueryBlock)
        attendBlock(context, shape, head, state, first, std::min(first + kQueryBlock, shape.queries));
    }
}

} // namespace

void gvrt_attention(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attend(context, buffer, attribute, /*numDocuments=*/0);
}

void gvrt_document_attention(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attend(context, buffer, attribute, /*numDocuments=*/2);
}
