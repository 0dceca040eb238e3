//===- UpdateKernels.cu - kernels behind Update.h ------------------------------------------------===//
//
// Bound by memory: adamw reads 16 and writes 12 bytes an element, 2 more for a bf16 copy. A block takes one chunk of
// one parameter in 16-byte accesses, two of each array in flight per thread; pieces whose addresses are no multiple of
// 16 bytes (the compiler makes none) go element by element. Scalars are formed in double and rounded once, as on the
// CPU.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Update.h"

#include <cuda_bf16.h>

namespace galvatron::cuda {
namespace {

constexpr int kThreads = 512;

/// Adds up a block's values; the result is thread 0's. The order depends on nothing but the number of threads.
__device__ double blockSum(double value) {
  __shared__ double warps[32];
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_down_sync(~0u, value, offset);
  if (threadIdx.x % 32 == 0)
    warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x < blockDim.x / 32 ? warps[threadIdx.x] : 0;
  if (threadIdx.x < 32)
    for (int offset = 16; offset > 0; offset /= 2)
      value += __shfl_down_sync(~0u, value, offset);
  return value;
}

__device__ bool isAligned(const void *address, int bytes) { return reinterpret_cast<uintptr_t>(address) % bytes == 0; }

__device__ double square(float x) { return (double)x * (double)x; }

__global__ void __launch_bounds__(kThreads)
    squares(const UpdateTensor *tensors, const UpdateChunk *chunks, double *partials) {
  UpdateChunk chunk = chunks[blockIdx.x];
  const UpdateTensor &tensor = tensors[chunk.tensor];
  int64_t first = chunk.index * kUpdateChunk;
  const float *g = tensor.gradient + first;
  int count = (int)min(kUpdateChunk, tensor.count - first), vectors = isAligned(g, 16) ? count / 4 : 0;
  auto *wide = reinterpret_cast<const float4 *>(g);
  double sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < vectors; i += kThreads) {
    float4 v = wide[i];
    sum += (square(v.x) + square(v.y)) + (square(v.z) + square(v.w));
  }
  for (int i = vectors * 4 + threadIdx.x; i < count; i += kThreads)
    sum += square(g[i]);
  sum = blockSum(sum);
  if (threadIdx.x == 0)
    partials[blockIdx.x] = sum;
}

/// One block.
__global__ void ownSums(const double *partials, int64_t numPartials, const float *loss, bool answersForLoss,
                        double peakBytes, RankSums *own) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < numPartials; i += blockDim.x)
    sum += partials[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) {
    float value = loss ? *loss : 0;
    // A loss that is not finite is told by whoever sees it.
    *own = {answersForLoss || !isfinite(value) ? (double)value : 0.0, sum, peakBytes};
  }
}

__global__ void decide(const RankSums *all, int ranks, double clip, Verdict *verdict) {
  double sum = 0;
  bool good = true;
  for (int r = 0; r < ranks; ++r) {
    good = good && isfinite(all[r].loss) && isfinite(all[r].squares);
    sum += all[r].squares;
  }
  *verdict = {clip > 0 ? min(1.0, clip / (sqrt(sum) + 1e-6)) : 1.0, good};
}

/// Numbers of the update of one tensor, rounded to f32 once.
struct Factors {
  float scale, decay, other1, beta2, other2, eps, stepSize, rootBias2, lr;
};

struct Adamw {
  static constexpr bool kMoments = true;
  __device__ static Factors factors(const Rule &rule, const StepScalars &s, double scale, double decay) {
    return {(float)scale,
            (float)(1 - s.lr * decay),
            (float)(1 - rule.beta1),
            (float)rule.beta2,
            (float)(1 - rule.beta2),
            (float)rule.eps,
            (float)(s.lr / s.bias1),
            (float)sqrt(s.bias2),
            0};
  }
  __device__ static float update(const Factors &f, float p, float g, float &m, float &v) {
    g *= f.scale;
    m += (g - m) * f.other1;
    v = v * f.beta2 + f.other2 * g * g;
    return p * f.decay - f.stepSize * m / (sqrtf(v) / f.rootBias2 + f.eps);
  }
};

struct Sgd {
  static constexpr bool kMoments = false;
  __device__ static Factors factors(const Rule &, const StepScalars &s, double scale, double decay) {
    return {(float)scale, (float)decay, 0, 0, 0, 0, 0, 0, (float)s.lr};
  }
  __device__ static float update(const Factors &f, float p, float g, float &, float &) {
    return p - f.lr * (g * f.scale + f.decay * p);
  }
};

__device__ uint16_t roundToBf16(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

/// Four elements of every array.
template <typename How> struct Vector {
  float4 p, g, m, v;

  __device__ void load(const UpdateTensor &t, int64_t i) {
    p = reinterpret_cast<const float4 *>(t.parameter)[i];
    g = __ldcs(reinterpret_cast<const float4 *>(t.gradient) + i);
    if (How::kMoments) {
      m = __ldcs(reinterpret_cast<const float4 *>(t.first) + i);
      v = __ldcs(reinterpret_cast<const float4 *>(t.second) + i);
    }
  }
  __device__ void update(const Factors &f) {
    p.x = How::update(f, p.x, g.x, m.x, v.x);
    p.y = How::update(f, p.y, g.y, m.y, v.y);
    p.z = How::update(f, p.z, g.z, m.z, v.z);
    p.w = How::update(f, p.w, g.w, m.w, v.w);
  }
  __device__ void store(const UpdateTensor &t, int64_t i) const {
    __stcs(reinterpret_cast<float4 *>(t.parameter) + i, p);
    if (How::kMoments) {
      __stcs(reinterpret_cast<float4 *>(t.first) + i, m);
      __stcs(reinterpret_cast<float4 *>(t.second) + i, v);
    }
    if (t.copy)
      reinterpret_cast<ushort4 *>(t.copy)[i] =
          make_ushort4(roundToBf16(p.x), roundToBf16(p.y), roundToBf16(p.z), roundToBf16(p.w));
  }
};

template <typename How>
__global__ void __launch_bounds__(kThreads) updateAll(const UpdateTensor *tensors, const UpdateChunk *chunks,
                                                      const StepScalars *scalars, const Verdict *verdict, Rule rule) {
  if (!verdict->good)
    return;
  UpdateChunk chunk = chunks[blockIdx.x];
  UpdateTensor t = tensors[chunk.tensor];
  Factors f = How::factors(rule, *scalars, verdict->scale, t.decay);
  int64_t first = chunk.index * kUpdateChunk, end = min(first + kUpdateChunk, t.count);
  bool aligned = isAligned(t.parameter, 16) && isAligned(t.gradient, 16) && isAligned(t.first, 16) &&
                 isAligned(t.second, 16) && isAligned(t.copy, 8);
  int64_t firstVector = first / 4, endVector = aligned ? end / 4 : firstVector; // chunks start at multiples of 4
  int64_t i = firstVector + threadIdx.x;
  for (; i + kThreads < endVector; i += 2 * kThreads) {
    Vector<How> a, b;
    a.load(t, i);
    b.load(t, i + kThreads);
    a.update(f);
    b.update(f);
    a.store(t, i);
    b.store(t, i + kThreads);
  }
  if (i < endVector) {
    Vector<How> a;
    a.load(t, i);
    a.update(f);
    a.store(t, i);
  }
  for (int64_t e = endVector * 4 + threadIdx.x; e < end; e += kThreads) {
    float m = How::kMoments ? t.first[e] : 0, v = How::kMoments ? t.second[e] : 0;
    float p = How::update(f, t.parameter[e], t.gradient[e], m, v);
    t.parameter[e] = p;
    if (How::kMoments) {
      t.first[e] = m;
      t.second[e] = v;
    }
    if (t.copy)
      t.copy[e] = roundToBf16(p);
  }
}

} // namespace

void launchSquares(cudaStream_t stream, const UpdatePlan &plan) {
  if (plan.numCounted > 0)
    squares<<<plan.numCounted, kThreads, 0, stream>>>(plan.tensors, plan.chunks, plan.partials);
}

void launchOwnSums(cudaStream_t stream, const UpdatePlan &plan, double peakBytes) {
  ownSums<<<1, 1024, 0, stream>>>(plan.partials, plan.numCounted, plan.loss, plan.answersForLoss, peakBytes, plan.own);
}

void launchVerdict(cudaStream_t stream, const UpdatePlan &plan, int ranks) {
  decide<<<1, 1, 0, stream>>>(plan.all, ranks, plan.rule.clip, plan.verdict);
}

void launchUpdate(cudaStream_t stream, const UpdatePlan &plan) {
  if (plan.numChunks == 0)
    return;
  auto kernel = plan.rule.adamw ? updateAll<Adamw> : updateAll<Sgd>;
  kernel<<<plan.numChunks, kThreads, 0, stream>>>(plan.tensors, plan.chunks, plan.scalars, plan.verdict, plan.rule);
}

} // namespace galvatron::cuda
