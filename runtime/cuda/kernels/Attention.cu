//===- Attention.cu - softmax(q kᵀ) v: the choice of a kernel, and one of our own ----------------------===//
//
// cuDNN takes what it can (CudnnAttention.cpp). The kernel here takes the rest: f32, where it is the check of
// everything else, and masks, biases, dropout and cut positions in either type. Dao et al., FlashAttention (2022): a
// block keeps a tile of queries and walks the tiles of keys with the running maximum m and sum l of exponentials; where
// a tile raises m, what has been summed so far is scaled by exp(m_old - m_new).
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/BlockedRows.h"
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/AttentionTiles.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

int64_t sharedBytes(const AttentionProblem &p) {
  return (2 * kTile * tileStride(p.keySize) + kTile * tileStride(p.valueSize) + kTile * (kTile + 1)) * sizeof(float);
}

template <typename T>
__global__ void __launch_bounds__(kAttentionThreads)
    attend(__grid_constant__ const AttentionProblem p, const T *q, const T *k, const T *v, const T *bias, T *y,
           float *lse, RandomName name) {
  extern __shared__ float4 shared[];
  int keyStride = tileStride(p.keySize), valueStride = tileStride(p.valueSize);
  float *queries = reinterpret_cast<float *>(shared), *keys = queries + kTile * keyStride,
        *values = keys + kTile * keyStride, *weights = values + kTile * valueStride;
  int64_t b = blockIdx.z, n = blockIdx.y, kn = n / (p.heads / p.keyHeads), first = (int64_t)blockIdx.x * kTile;
  int row = threadIdx.x / kRowLanes, lane = threadIdx.x % kRowLanes;
  int64_t query = first + row;
  if (p.onlyIf && !*p.onlyIf)
    return;
  Scores scores(p, b, n, name.scalars, name.seed, name.layer);
  int64_t queryAt = scores.queryPosition(query);
  loadTile(queries, headOf(q, p.q, b, n), p.q.position, first, p.queries, p.keySize);
  float *weight = weights + row * (kTile + 1);
  float max = kMinusInfinity, sum = 0, result[kGroups][4] = {};
  for (int64_t key = 0; key < p.keys; key += kTile) {
    if (!scores.tileSees(first, key))
      continue;
    __syncthreads();
    loadTile(keys, headOf(k, p.k, b, kn), p.k.position, key, p.keys, p.keySize);
    loadTile(values, headOf(v, p.v, b, kn), p.v.position, key, p.keys, p.valueSize);
    __syncthreads();
    float s[kScores], newMax = max, tanh;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      int j = lane + i * kRowLanes;
      float product = dotRows(queries + row * keyStride, keys + j * keyStride, p.keySize);
      s[i] = scores.score(product, bias, query, key + j, queryAt, scores.keyPosition(key + j), tanh);
      newMax = Max::combine(newMax, s[i]);
    }
    newMax = reduceRow<Max>(newMax);
    bool nothing = newMax == kMinusInfinity;
    float correction = nothing ? 1.0f : expf(max - newMax);
    sum *= correction;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      int j = lane + i * kRowLanes;
      float e = nothing ? 0.0f : expf(s[i] - newMax);
      sum += e;
      weight[j] = e * scores.keep(query, key + j);
    }
    max = newMax;
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
      for (int c = 0; c < 4; ++c)
        result[g][c] *= correction;
    __syncwarp(); // a row's weights come from threads of one warp
    addWeighted(result, weight, values, p.valueSize);
  }
  sum = reduceRow<Sum>(sum);
  if (query >= p.queries)
    return;
  bool blind = sum == 0; // sees no key
  storeRow(headOf(y, p.y, b, n) + query * p.y.position, result, blind ? 0.0f : 1.0f / sum, p.valueSize);
  if (lane == 0)
    lse[(b * p.heads + n) * p.queries + query] = blind ? kMinusInfinity : keptLogSum(max, sum, max + logf(sum));
}

} // namespace

namespace galvatron::cuda {

void plainAttention(gvrt_context *context, const AttentionProblem &p, const AttentionBuffers &buffers) {
  RandomName name{stateOf(context).scalars, context->seed, context->layer};
  withType(context, p.type, [&](auto zero) {
    using T = decltype(zero);
    launchTiles(context, attend<T>, p, p.queries, p.heads, sharedBytes(p), (const T *)buffers.q, (const T *)buffers.k,
                (const T *)buffers.v, (const T *)buffers.bias, (T *)buffers.y, (float *)buffers.lse, name);
  });
}

} // namespace galvatron::cuda

static void attention(gvrt_context *context, void *const *buffer, const int64_t *attribute, bool documents) {
  AttentionProblem problem = readAttention(context, attribute, false, documents);
  AttentionBuffers buffers = readBuffers(buffer, problem, false, documents);
  bool isTaken = cudnnTakes(problem, buffers.bias);
  if (isTaken)
    cudnnAttention(context, problem, buffers);
  if (!isTaken || problem.onlyIf)
    plainAttention(context, problem, buffers);
}

void gvrt_attention(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attention(context, buffer, attribute, false);
}

void gvrt_document_attention(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  attention(context, buffer, attribute, true);
}
