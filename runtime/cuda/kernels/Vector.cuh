//===- Vector.cuh - wide accesses, rounding and block-wide reductions -------------===//
//
// Kernels read and write memory as `W` elements of T at a time, 16 bytes where extents and addresses allow, else one
// element, and compute in f32. Reductions add in an order that depends on the launch alone, so results repeat bitwise.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_VECTOR_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_VECTOR_CUH

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

namespace galvatron::cuda {

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }
__device__ inline float widen(f16 x) { return __half2float(x); }

/// Rounds to nearest even.
template <typename T> __device__ T narrow(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __float2bfloat16_rn(x);
  else if constexpr (std::is_same_v<T, f16>)
    return __float2half_rn(x);
  else
    return x;
}

/// The widest access that carries `bytes` bytes in whole pieces.
template <int bytes>
using Piece = std::conditional_t<
    bytes % 16 == 0, uint4,
    std::conditional_t<bytes % 8 == 0, uint2,
                       std::conditional_t<bytes % 4 == 0, uint32_t,
                                          std::conditional_t<bytes % 2 == 0, unsigned short, unsigned char>>>>;

/// W elements as they lie in memory: what a thread keeps of loads that are under way.
template <int W, typename T> struct Packed {
  using P = Piece<W * sizeof(T)>;
  static constexpr int kPieces = W * sizeof(T) / sizeof(P), kEach = sizeof(P) / sizeof(T);
  P piece[kPieces];

  /// From `p`, which is aligned to them (to 16 bytes where they are more).
  __device__ void fetch(const T *p) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
      piece[i] = reinterpret_cast<const P *>(p)[i];
  }
  __device__ void unpack(float (&v)[W]) const {
#pragma unroll
    for (int i = 0; i < W; ++i)
      v[i] = widen(reinterpret_cast<const T *>(&piece[i / kEach])[i % kEach]);
  }
};

template <int W, typename T> __device__ void load(const T *p, float (&v)[W]) {
  Packed<W, T> packed;
  packed.fetch(p);
  packed.unpack(v);
}

template <int W, typename T> __device__ void store(T *p, const float (&v)[W]) {
  using P = Piece<W * sizeof(T)>;
  constexpr int kPieces = W * sizeof(T) / sizeof(P), kEach = sizeof(P) / sizeof(T);
  P piece[kPieces];
#pragma unroll
  for (int i = 0; i < W; ++i)
    reinterpret_cast<T *>(&piece[i / kEach])[i % kEach] = narrow<T>(v[i]);
#pragma unroll
  for (int i = 0; i < kPieces; ++i)
    reinterpret_cast<P *>(p)[i] = piece[i];
}

/// The two ways to reduce; a maximum is NaN where an element is.
struct Sum {
  static constexpr float kStart = 0;
  __device__ static float combine(float a, float b) { return a + b; }
};
struct Max {
  static constexpr float kStart = -__builtin_huge_valf();
  __device__ static float combine(float a, float b) { return b > a || b != b ? b : a; }
};

template <typename Op> __device__ float reduceWarp(float v) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    v = Op::combine(v, __shfl_xor_sync(0xFFFFFFFFu, v, step));
  return v;
}

/// Over all threads of a block (whole warps); every thread gets the result.
template <typename Op> __device__ float reduceBlock(float v) {
  __shared__ float perWarp[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = reduceWarp<Op>(v);
  if (warps == 1)
    return v;
  __syncthreads(); // an earlier reduction's reads
  if (lane == 0)
    perWarp[warp] = v;
  __syncthreads();
  return reduceWarp<Op>(lane < warps ? perWarp[lane] : Op::kStart);
}

} // namespace galvatron::cuda

#endif
