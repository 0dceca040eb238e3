//===- UpdateKernels.cu - kernels behind Update.h ------------------------------------------------===//
//
// Bound by memory: adamw reads 16 and writes 12 bytes an element, 2 more for a copy of 16 bits. A block takes one chunk
// of one parameter in 16-byte accesses; pieces whose addresses are no multiple of 16 bytes (the compiler makes none) go
// element by element. Scalars are formed in double and rounded once, as on the CPU.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Update.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace galvatron::cuda {
namespace {

/// Large blocks over chunks of 32768 were the fastest of 24 combinations on H200: 3.84 TB/s for adamw with copies, 4.55
/// for the squares; a copy moves 4.27.
constexpr int kThreads = 1024;
/// Vectors that a thread loads before it uses the first, where only one array is read.
constexpr int kInFlight = 4;

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
  int i = threadIdx.x;
  for (; i + (kInFlight - 1) * kThreads < vectors; i += kInFlight * kThreads) {
    float4 v[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k)
      v[k] = __ldcs(wide + i + k * kThreads);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k)
      sum += (square(v[k].x) + square(v[k].y)) + (square(v[k].z) + square(v[k].w));
  }
  for (; i < vectors; i += kThreads)
    sum += (square(wide[i].x) + square(wide[i].y)) + (square(wide[i].z) + square(wide[i].w));
  for (i = vectors * 4 + threadIdx.x; i < count; i += kThreads)
    sum += square(g[i]);
  sum = blockSum(sum);
  if (threadIdx.x == 0)
    partials[blockIdx.x] = sum;
}

/// One block.
__global__ void ownSums(const double *partials, int64_t numPartials, const LossTerm *losses, int64_t numLosses,
                        const float *const *totals, int64_t numTotals, double peakBytes, double wantedEnd,
                        RankSums *own) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < numPartials; i += blockDim.x)
    sum += partials[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) {
    double loss = 0;
    // What is not finite is told by whoever sees it.
    for (int64_t i = 0; i < numLosses; ++i)
      if (float value = *losses[i].value; losses[i].counted || !isfinite(value))
        loss += value;
    double labels = numTotals > 0 ? 0 : -1;
    for (int64_t i = 0; i < numTotals; ++i)
      labels += fabsf(*totals[i]);
    *own = {loss, sum, labels, peakBytes, wantedEnd};
  }
}

__global__ void decide(const RankSums *all, int ranks, const StepScalars *scalars, Rule rule, Verdict *verdict) {
  double sum = 0, labels = -1;
  bool good = true;
  for (int r = 0; r < ranks; ++r) {
    good = good && isfinite(all[r].loss) && isfinite(all[r].squares);
    sum += all[r].squares;
    labels = max(labels, all[r].labels);
  }
  good = good && labels != 0;
  double lossScale = scalars->lossScale, norm = sqrt(sum / (lossScale * lossScale)), lr = scalars->lr;
  double scale = (rule.clip > 0 ? min(1.0, rule.clip / (norm + 1e-6)) : 1.0) / lossScale;
  *verdict = {good,
              lr,
              (float)scale,
              (float)lr,
              (float)(1 - rule.beta1),
              (float)rule.beta2,
              (float)(1 - rule.beta2),
              (float)rule.eps,
              (float)(lr / scalars->bias1),
              (float)(1 / sqrt(scalars->bias2))};
}

/// `decay`: what a parameter is multiplied by first.
struct Adamw {
  static constexpr bool kMoments = true;
  __device__ static float decay(const Verdict &step, double weightDecay) { return (float)(1 - step.lr * weightDecay); }
  __device__ static float update(const Verdict &step, float decay, float p, float g, float &m, float &v) {
    g *= step.scale;
    m += (g - m) * step.other1;
    v = v * step.beta2 + step.other2 * g * g;
    return p * decay - step.stepSize * m / (sqrtf(v) * step.unbias2 + step.eps);
  }
};

/// `decay`: what of a parameter is added to its gradient.
struct Sgd {
  static constexpr bool kMoments = false;
  __device__ static float decay(const Verdict &, double weightDecay) { return (float)weightDecay; }
  __device__ static float update(const Verdict &step, float decay, float p, float g, float &, float &) {
    return p - step.rate * (g * step.scale + decay * p);
  }
};

/// A copy's bits.
template <bool f16> __device__ uint16_t rounded(float x) {
  return f16 ? __half_as_ushort(__float2half_rn(x)) : __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/// Four elements of every array.
template <typename How, bool f16Copy> struct Vector {
  float4 p, g, m, v;

  __device__ void load(const UpdateTensor &t, int64_t i) {
    p = __ldcs(reinterpret_cast<const float4 *>(t.parameter) + i);
    g = __ldcs(reinterpret_cast<const float4 *>(t.gradient) + i);
    if (How::kMoments) {
      m = __ldcs(reinterpret_cast<const float4 *>(t.first) + i);
      v = __ldcs(reinterpret_cast<const float4 *>(t.second) + i);
    }
  }
  __device__ void update(const Verdict &step, float decay) {
    p.x = How::update(step, decay, p.x, g.x, m.x, v.x);
    p.y = How::update(step, decay, p.y, g.y, m.y, v.y);
    p.z = How::update(step, decay, p.z, g.z, m.z, v.z);
    p.w = How::update(step, decay, p.w, g.w, m.w, v.w);
  }
  __device__ void store(const UpdateTensor &t, int64_t i) const {
    __stcs(reinterpret_cast<float4 *>(t.parameter) + i, p);
    if (How::kMoments) {
      __stcs(reinterpret_cast<float4 *>(t.first) + i, m);
      __stcs(reinterpret_cast<float4 *>(t.second) + i, v);
    }
    if (t.copy)
      reinterpret_cast<ushort4 *>(t.copy)[i] =
          make_ushort4(rounded<f16Copy>(p.x), rounded<f16Copy>(p.y), rounded<f16Copy>(p.z), rounded<f16Copy>(p.w));
  }
};

template <typename How, bool f16Copy>
__global__ void __launch_bounds__(kThreads)
    updateAll(const UpdateTensor *tensors, const UpdateChunk *chunks, const Verdict *verdict) {
  Verdict step = *verdict;
  if (!step.good)
    return;
  UpdateChunk chunk = chunks[blockIdx.x];
  UpdateTensor t = tensors[chunk.tensor];
  float decay = How::decay(step, t.decay);
  int64_t first = chunk.index * kUpdateChunk, end = min(first + kUpdateChunk, t.count);
  bool aligned = isAligned(t.parameter, 16) && isAligned(t.gradient, 16) && isAligned(t.first, 16) &&
                 isAligned(t.second, 16) && isAligned(t.copy, 8);
  int64_t firstVector = first / 4, endVector = aligned ? end / 4 : firstVector; // chunks start at multiples of 4
  for (int64_t i = firstVector + threadIdx.x; i < endVector; i += kThreads) {
    Vector<How, f16Copy> vector;
    vector.load(t, i);
    vector.update(step, decay);
    vector.store(t, i);
  }
  for (int64_t e = endVector * 4 + threadIdx.x; e < end; e += kThreads) {
    float m = How::kMoments ? t.first[e] : 0, v = How::kMoments ? t.second[e] : 0;
    float p = How::update(step, decay, t.parameter[e], t.gradient[e], m, v);
    t.parameter[e] = p;
    if (How::kMoments) {
      t.first[e] = m;
      t.second[e] = v;
    }
    if (t.copy)
      t.copy[e] = rounded<f16Copy>(p);
  }
}

} // namespace

void launchSquares(cudaStream_t stream, const UpdatePlan &plan) {
  if (plan.numCounted > 0)
    squares<<<plan.numCounted, kThreads, 0, stream>>>(plan.tensors, plan.chunks, plan.partials);
}

void launchOwnSums(cudaStream_t stream, const UpdatePlan &plan, double peakBytes, double wantedEnd) {
  ownSums<<<1, 1024, 0, stream>>>(plan.partials, plan.numCounted, plan.losses, plan.numLosses, plan.totals,
                                  plan.numTotals, peakBytes, wantedEnd, plan.own);
}

void launchVerdict(cudaStream_t stream, const UpdatePlan &plan, int ranks) {
  decide<<<1, 1, 0, stream>>>(plan.all, ranks, plan.scalars, plan.rule, plan.verdict);
}

void launchUpdate(cudaStream_t stream, const UpdatePlan &plan) {
  if (plan.numChunks == 0)
    return;
  auto kernel = plan.rule.adamw ? updateAll<Adamw, false> : updateAll<Sgd, false>;
  if (plan.rule.copiesAreF16)
    kernel = plan.rule.adamw ? updateAll<Adamw, true> : updateAll<Sgd, true>;
  kernel<<<plan.numChunks, kThreads, 0, stream>>>(plan.tensors, plan.chunks, plan.verdict);
}

} // namespace galvatron::cuda
