//===- AttentionBackward.cpp - gradients of q, k and v in blocks ----------------------------------===//
//
// Probabilities are recomputed, block by block, from q, k and the saved lse. With D = rowsum(dy ∘ y), K the factors
// of dropout and t the tanh of softcap, per block:
//
//   P = exp(scores - lse)        dv += (P ∘ K)ᵀ dy
//   dP = dy vᵀ                   dS = P ∘ (dP ∘ K - D) ∘ (1 - t²)
//   dq += scale · dS k           dk += scale · dSᵀ q
//
// Heads of a group add to the same dk and dv; queries' blocks are the outer loop, so dq stays in the cache.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/BlockedRows.h"
#include "runtime/api/Functions.h"
#include "runtime/kernels/AttentionShape.h"
#include "runtime/kernels/Gemm.h"

#include <algorithm>
#include <cstring>
#include <limits>

using namespace galvatron;

namespace {

struct Head {
  const float *dy, *q, *k, *v, *y, *lse, *bias;
  float *dq, *dk, *dv;
  int64_t b, n;
};

struct GradientStrides {
  HeadStrides dy, dq, dk, dv;
};

/// kQueryBlock × kKeyBlock each but for `factors`, a row.
struct Blocks {
  float *probabilities, *gradients, *tanh, *factors;
  float delta[kQueryBlock];
};

/// Rebuilds a row of probabilities from its scores.
void rebuildRow(const AttentionShape &shape, const Head &head, int64_t query, int64_t key, int64_t count, float *p,
                float *tanh) {
  if (shape.softcap > 0)
    loops().softcap(p, tanh, shape.softcap, count);
  if (head.bias)
    shape.addBias(head.bias, p, head.b, head.n, query, key, count);
  shape.mask(p, head.b, query, key, count);
  if (head.lse[query] == -std::numeric_limits<float>::infinity())
    std::fill_n(p, count, 0.0f); // the row saw no key
  else if (isBlockedRow(head.lse[query]))
    std::transform(p, p + count, p, [share = blockedShare(head.lse[query])](float score) {
      return score == -std::numeric_limits<float>::infinity() ? 0.0f : share;
    });
  else
    loops().expInPlace(p, head.lse[query], count);
}

/// From a row of scores and dP: dS in place of dP, and in the scores' place what dv is made of.
void differentiateRow(const AttentionShape &shape, const Head &head, Blocks &blocks, int64_t row, int64_t query,
                      int64_t firstKey, int64_t keyCount) {
  float *p = blocks.probabilities + row * kKeyBlock, *ds = blocks.gradients + row * kKeyBlock;
  auto [begin, end] = shape.visiblePiece(query, firstKey, keyCount);
  for (float *block : {p, ds}) {
    std::fill(block, block + begin, 0.0f);
    std::fill(block + end, block + keyCount, 0.0f);
  }
  p += begin;
  ds += begin;
  int64_t first = firstKey + begin, count = end - begin;
  float *tanh = shape.softcap > 0 ? blocks.tanh + row * kKeyBlock : nullptr;
  rebuildRow(shape, head, query, first, count, p, tanh);
  float *keep = nullptr;
  if (shape.dropout > 0) {
    keep = blocks.factors;
    shape.dropFactors(keep, head.b, head.n, query, first, count);
  }
  loops().scoreGradient(p, ds, keep, tanh, blocks.delta[row], count);
  if (keep)
    loops().multiply(p, keep, p, count);
}

void differentiateBlock(gvrt_context *context, const AttentionShape &shape, const GradientStrides &strides,
                        const Head &head, Blocks &blocks, int64_t first, int64_t end) {
  int64_t count = end - first;
  const float *q = head.q + first * shape.q.position, *dy = head.dy + first * strides.dy.position;
  float *dq = head.dq + first * strides.dq.position;
  for (int64_t row = 0; row < count; ++row)
    blocks.delta[row] =
        loops().dot(dy + row * strides.dy.position, head.y + (first + row) * shape.y.position, shape.valueSize);
  auto [firstKey, endKey] = shape.visibleKeys(head.b, first, end);
  if (firstKey >= endKey)
    for (int64_t row = 0; row < count; ++row)
      std::memset(dq + row * strides.dq.position, 0, shape.keySize * sizeof(float));
  for (int64_t key = firstKey; key < endKey; key += kKeyBlock) {
    int64_t keyCount = std::min(kKeyBlock, endKey - key);
    const float *k = head.k + key * shape.k.position, *v = head.v + key * shape.v.position;
    gemm(context, {q, shape.q.position, false}, {k, shape.k.position, true}, blocks.probabilities, kKeyBlock, count,
         keyCount, shape.keySize, shape.scale, 0.0f);
    gemm(context, {dy, strides.dy.position, false}, {v, shape.v.position, true}, blocks.gradients, kKeyBlock, count,
         keyCount, shape.valueSize, 1.0f, 0.0f);
    for (int64_t row = 0; row < count; ++row)
      differentiateRow(shape, head, blocks, row, first + row, key, keyCount);
    gemm(context, {blocks.probabilities, kKeyBlock, true}, {dy, strides.dy.position, false},
         head.dv + key * strides.dv.position, strides.dv.position, keyCount, shape.valueSize, count, 1.0f, 1.0f);
    gemm(context, {blocks.gradients, kKeyBlock, false}, {k, shape.k.position, false}, dq, strides.dq.position, count,
         shape.keySize, keyCount, shape.scale, key == firstKey ? 0.0f : 1.0f);
    gemm(context, {blocks.gradients, kKeyBlock, true}, {q, shape.q.position, false},
         head.dk + key * strides.dk.position, strides.dk.position, keyCount, shape.keySize, count, shape.scale, 1.0f);
  }
}

void zeroRows(float *rows, int64_t ld, int64_t count, int64_t columns) {
  for (int64_t r = 0; r < count; ++r)
    std::memset(rows + r * ld, 0, columns * sizeof(float));
}

/// With two buffers of documents before the bias, or none.
void differentiate(gvrt_context *context, void *const *buffer, const int64_t *attribute, int numDocuments) {
  Attributes read(attribute);
  if (numDocuments)
    read.integer(); // as in forward
  read.floats(context);
  read.integer(); // bytes of workspace: scores go through the context's
  AttentionShape shape(read);
  GradientStrides strides;
  for (HeadStrides *s : {&strides.dy, &strides.dq, &strides.dk, &strides.dv}) {
    const int64_t *words = read.list(3);
    *s = {words[0], words[1], words[2]};
  }
  shape.readPositions(*context, read);
  if (numDocuments)
    shape.readDocuments(buffer[6], buffer[7]);
  constexpr int64_t kBlock = kQueryBlock * kKeyBlock;
  float *memory = context->workspace.floats(3 * kBlock + kKeyBlock);
  Blocks blocks{memory, memory + kBlock, memory + 2 * kBlock, memory + 3 * kBlock, {}};
  auto input = [&](int i) { return static_cast<const float *>(buffer[i]); };
  auto output = [&](int i) { return static_cast<float *>(buffer[numDocuments + i]); };
  int64_t group = shape.heads / shape.keyHeads;
  for (int64_t b = 0; b < shape.batch; ++b)
    for (int64_t n = 0; n < shape.heads; ++n) {
      int64_t kn = n / group;
      Head head{input(0) + strides.dy.at(b, n, 0),
                input(1) + shape.q.at(b, n, 0),
                input(2) + shape.k.at(b, kn, 0),
                input(3) + shape.v.at(b, kn, 0),
                input(4) + shape.y.at(b, n, 0),
                input(5) + (b * shape.heads + n) * shape.queries,
                input(6 + numDocuments),
                output(7) + strides.dq.at(b, n, 0),
                output(8) + strides.dk.at(b, kn, 0),
                output(9) + strides.dv.at(b, kn, 0),
                b,
                n};
      if (n % group == 0) {
        zeroRows(head.dk, strides.dk.position, shape.keys, shape.keySize);
        zeroRows(head.dv, strides.dv.position, shape.keys, shape.valueSize);
      }
      for (int64_t first = 0; first < shape.queries; first += kQueryBlock)
        differentiateBlock(context, shape, strides, head, blocks, first, std::min(first + kQueryBlock, shape.queries));
    }
}

} // namespace

void gvrt_attention_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  differentiate(context, buffer, attribute, /*numDocuments=*/0);
}

void gvrt_document_attention_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  differentiate(context, buffer, attribute, /*numDocuments=*/2);
}
