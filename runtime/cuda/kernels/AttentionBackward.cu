//===- AttentionBackward.cu - gradients of q, k and v in tiles --------------------------------===//
//
// Probabilities are recomputed, tile by tile, from q, k and the saved lse. With D = rowsum(dy ∘ y), K the factors
// of dropout and t the tanh of softcap, per tile:
//
//   P = exp(scores - lse)        dv += (P ∘ K)ᵀ dy
//   dP = dy vᵀ                   dS = P ∘ (dP ∘ K - D) ∘ (1 - t²)
//   dq += scale · dS k           dk += scale · dSᵀ q
//
// Two kernels instead of atomics: one has a tile of queries and walks the keys (dq), one has a tile of keys and walks
// the queries of all heads that share it (dk, dv).
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/BlockedRows.h"
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/AttentionTiles.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

template <typename T> struct Buffers {
  const T *dy, *q, *k, *v, *y;
  const float *lse;
  const T *bias;
  T *dq, *dk, *dv;
};

/// D of one query, by the eight threads of its row.
template <typename T> __device__ float rowDelta(const float *dyRow, const T *yRow, bool there, int64_t size) {
  float sum = 0;
  for (int c = threadIdx.x % kRowLanes; there && c < size; c += kRowLanes)
    sum += dyRow[c] * widen(yRow[c]);
  return reduceRow<Sum>(sum);
}

/// One score's share: P ∘ K and dS.
struct Share {
  float weight, gradient;
};

template <typename T>
__device__ Share differentiate(const Scores &scores, const T *bias, float product, float dp, float lse, float delta,
                               int64_t query, int64_t key, int64_t queryAt, int64_t keyAt) {
  float tanh, s = scores.score(product, bias, query, key, queryAt, keyAt, tanh);
  if (s == kMinusInfinity || lse == kMinusInfinity)
    return {0, 0};
  float probability = isBlockedRow(lse) ? blockedShare(lse) : expf(s - lse), keep = scores.keep(query, key);
  return {probability * keep, probability * (dp * keep - delta) * (1 - tanh * tanh)};
}

int64_t queryKernelBytes(const AttentionProblem &p) {
  return (2 * kTile * (tileStride(p.keySize) + tileStride(p.valueSize)) + kTile * (kTile + 1)) * sizeof(float);
}

template <typename T>
__global__ void __launch_bounds__(kAttentionThreads)
    differentiateQueries(__grid_constant__ const AttentionProblem p, Buffers<T> buffers, RandomName name) {
  if (p.onlyIf && !*p.onlyIf)
    return;
  extern __shared__ float4 shared[];
  int keyStride = tileStride(p.keySize), valueStride = tileStride(p.valueSize);
  float *queries = reinterpret_cast<float *>(shared), *keys = queries + kTile * keyStride,
        *values = keys + kTile * keyStride, *dys = values + kTile * valueStride, *gradients = dys + kTile * valueStride;
  int64_t b = blockIdx.z, n = blockIdx.y, kn = n / (p.heads / p.keyHeads), first = (int64_t)blockIdx.x * kTile;
  int row = threadIdx.x / kRowLanes, lane = threadIdx.x % kRowLanes;
  int64_t query = first + row;
  bool there = query < p.queries;
  Scores scores(p, b, n, name.scalars, name.seed, name.layer);
  int64_t queryAt = scores.queryPosition(query);
  loadTile(queries, headOf(buffers.q, p.q, b, n), p.q.position, first, p.queries, p.keySize);
  loadTile(dys, headOf(buffers.dy, p.dy, b, n), p.dy.position, first, p.queries, p.valueSize);
  __syncthreads();
  float lse = there ? buffers.lse[(b * p.heads + n) * p.queries + query] : kMinusInfinity;
  float delta =
      rowDelta(dys + row * valueStride, headOf(buffers.y, p.y, b, n) + query * p.y.position, there, p.valueSize);
  float *gradient = gradients + row * (kTile + 1), dq[kGroups][4] = {};
  for (int64_t key = 0; key < p.keys; key += kTile) {
    if (!scores.tileSees(first, key))
      continue;
    __syncthreads();
    loadTile(keys, headOf(buffers.k, p.k, b, kn), p.k.position, key, p.keys, p.keySize);
    loadTile(values, headOf(buffers.v, p.v, b, kn), p.v.position, key, p.keys, p.valueSize);
    __syncthreads();
    for (int i = 0; i < kScores; ++i) {
      int j = lane + i * kRowLanes;
      float product = dotRows(queries + row * keyStride, keys + j * keyStride, p.keySize);
      float dp = dotRows(dys + row * valueStride, values + j * valueStride, p.valueSize);
      gradient[j] = differentiate(scores, buffers.bias, product, dp, lse, delta, query, key + j, queryAt,
                                  scores.keyPosition(key + j))
                        .gradient;
    }
    __syncwarp();
    addWeighted(dq, gradient, keys, p.keySize);
  }
  if (there)
    storeRow(headOf(buffers.dq, p.dq, b, n) + query * p.dq.position, dq, (float)p.scale, p.keySize);
}

int64_t keyKernelBytes(const AttentionProblem &p) {
  return (2 * kTile * (tileStride(p.keySize) + tileStride(p.valueSize)) + 2 * kTile * (kTile + 1) + 2 * kTile) *
         sizeof(float);
}

template <typename T>
__global__ void __launch_bounds__(kAttentionThreads)
    differentiateKeys(__grid_constant__ const AttentionProblem p, Buffers<T> buffers, RandomName name) {
  if (p.onlyIf && !*p.onlyIf)
    return;
  extern __shared__ float4 shared[];
  int keyStride = tileStride(p.keySize), valueStride = tileStride(p.valueSize);
  float *queries = reinterpret_cast<float *>(shared), *keys = queries + kTile * keyStride,
        *values = keys + kTile * keyStride, *dys = values + kTile * valueStride, *weights = dys + kTile * valueStride,
        *gradients = weights + kTile * (kTile + 1), *deltas = gradients + kTile * (kTile + 1), *lses = deltas + kTile;
  int64_t b = blockIdx.z, kn = blockIdx.y, group = p.heads / p.keyHeads, first = (int64_t)blockIdx.x * kTile;
  int row = threadIdx.x / kRowLanes, lane = threadIdx.x % kRowLanes;
  int64_t key = first + row;
  loadTile(keys, headOf(buffers.k, p.k, b, kn), p.k.position, first, p.keys, p.keySize);
  loadTile(values, headOf(buffers.v, p.v, b, kn), p.v.position, first, p.keys, p.valueSize);
  float *weight = weights + row * (kTile + 1), *gradient = gradients + row * (kTile + 1);
  float dk[kGroups][4] = {}, dv[kGroups][4] = {};
  for (int64_t n = kn * group; n < (kn + 1) * group; ++n) {
    Scores scores(p, b, n, name.scalars, name.seed, name.layer);
    int64_t keyAt = scores.keyPosition(key);
    for (int64_t query = 0; query < p.queries; query += kTile) {
      if (!scores.tileSees(query, first))
        continue;
      __syncthreads();
      loadTile(queries, headOf(buffers.q, p.q, b, n), p.q.position, query, p.queries, p.keySize);
      loadTile(dys, headOf(buffers.dy, p.dy, b, n), p.dy.position, query, p.queries, p.valueSize);
      __syncthreads();
      bool there = query + row < p.queries; // here a row is a query
      float delta = rowDelta(dys + row * valueStride, headOf(buffers.y, p.y, b, n) + (query + row) * p.y.position,
                             there, p.valueSize);
      if (lane == 0) {
        deltas[row] = delta;
        lses[row] = there ? buffers.lse[(b * p.heads + n) * p.queries + query + row] : kMinusInfinity;
      }
      __syncthreads();
      for (int i = 0; i < kScores; ++i) {
        int j = lane + i * kRowLanes;
        float product = dotRows(keys + row * keyStride, queries + j * keyStride, p.keySize);
        float dp = dotRows(values + row * valueStride, dys + j * valueStride, p.valueSize);
        Share share = differentiate(scores, buffers.bias, product, dp, lses[j], deltas[j], query + j, key,
                                    scores.queryPosition(query + j), keyAt);
        weight[j] = share.weight;
        gradient[j] = share.gradient;
      }
      __syncwarp();
      addWeighted(dk, gradient, queries, p.keySize);
      addWeighted(dv, weight, dys, p.valueSize);
    }
  }
  if (key < p.keys) {
    storeRow(headOf(buffers.dk, p.dk, b, kn) + key * p.dk.position, dk, (float)p.scale, p.keySize);
    storeRow(headOf(buffers.dv, p.dv, b, kn) + key * p.dv.position, dv, 1.0f, p.valueSize);
  }
}

} // namespace

namespace galvatron::cuda {

void plainAttentionBackward(gvrt_context *context, const AttentionProblem &p, const AttentionBuffers &of) {
  RandomName name{stateOf(context).scalars, context->seed, context->layer};
  withType(context, p.type, [&](auto zero) {
    using T = decltype(zero);
    Buffers<T> buffers{(const T *)of.dy,      (const T *)of.q,    (const T *)of.k, (const T *)of.v, (const T *)of.y,
                       (const float *)of.lse, (const T *)of.bias, (T *)of.dq,      (T *)of.dk,      (T *)of.dv};
    launchTiles(context, differentiateQueries<T>, p, p.queries, p.heads, queryKernelBytes(p), buffers, name);
    launchTiles(context, differentiateKeys<T>, p, p.keys, p.keyHeads, keyKernelBytes(p), buffers, name);
  });
}

} // namespace galvatron::cuda

static void attentionBackward(gvrt_context *context, void *const *buffer, const int64_t *attribute, bool documents) {
  AttentionProblem problem = readAttention(context, attribute, true, documents);
  AttentionBuffers buffers = readBuffers(buffer, problem, true, documents);
  bool isTaken = cudnnTakes(problem, buffers.bias);
  if (isTaken)
    cudnnAttentionBackward(context, problem, buffers);
  if (!isTaken || problem.onlyIf)
    plainAttentionBackward(context, problem, buffers);
}

void gvrt_attention_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attentionBackward(context, buffer, attribute, false);
}

void gvrt_document_attention_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attentionBackward(context, buffer, attribute, true);
}
