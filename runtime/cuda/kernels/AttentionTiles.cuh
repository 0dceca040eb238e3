//===- AttentionTiles.cuh - tiles of scores, shared by both directions of plain attention --------------===//
//
// A block of 256 threads works on tiles of 32 queries × 32 keys in f32. Eight neighbouring threads share a row (a
// query, or in the kernel for dk and dv a key): of a tile's 32 scores each has four, of the row's result it has columns
// 4·lane … 4·lane + 3, plus multiples of 32:
//
//   thread        columns of the result, head size 64
//   8·row + 0     0 1 2 3   32 33 34 35
//   8·row + 1     4 5 6 7   36 37 38 39    …
//
// Rows of tiles in shared memory are padded by four floats, so that eight threads that read eight rows meet no bank
// twice.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONTILES_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONTILES_CUH

#include "runtime/api/CounterRandom.h"
#include "runtime/cuda/kernels/AttentionProblem.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Vector.cuh"

namespace galvatron::cuda {

constexpr int kTile = 32, kRowLanes = 8, kAttentionThreads = kTile * kRowLanes, kScores = kTile / kRowLanes;
constexpr int kMaxHeadSize = 256, kGroups = kMaxHeadSize / kTile; // groups of four columns that a thread has

constexpr float kMinusInfinity = -__builtin_huge_valf();

__host__ __device__ inline int paddedSize(int64_t size) { return (int)((size + 3) / 4 * 4); }
/// Floats between rows of a tile.
__host__ __device__ inline int tileStride(int64_t size) { return paddedSize(size) + 4; }

/// Rows first … first + 31 of a head; zeros after `rows` and after `size`.
template <typename T>
__device__ void loadTile(float *tile, const T *head, int64_t stride, int64_t first, int64_t rows, int64_t size) {
  int padded = paddedSize(size), ld = tileStride(size);
  for (int e = threadIdx.x; e < kTile * padded; e += kAttentionThreads) {
    int row = e / padded, column = e % padded;
    bool there = first + row < rows && column < size;
    tile[row * ld + column] = there ? widen(head[(first + row) * stride + column]) : 0.0f;
  }
}

__device__ inline float dotRows(const float *a, const float *b, int64_t size) {
  float sum = 0;
  for (int c = 0; c < paddedSize(size); c += 4) {
    float4 x = *reinterpret_cast<const float4 *>(a + c), y = *reinterpret_cast<const float4 *>(b + c);
    sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
  }
  return sum;
}

/// Over the eight threads of a row.
template <typename Op> __device__ float reduceRow(float v) {
  for (int step = 4; step > 0; step /= 2)
    v = Op::combine(v, __shfl_xor_sync(0xFFFFFFFFu, v, step));
  return v;
}

/// result[c] += Σj weight[j]·rows[j][c] over the 32 rows of a tile, for the thread's columns.
__device__ inline void addWeighted(float (&result)[kGroups][4], const float *weight, const float *rows, int64_t size) {
  int ld = tileStride(size), first = threadIdx.x % kRowLanes * 4;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    int column = first + g * kTile;
    if (column >= size)
      break;
    for (int j = 0; j < kTile; ++j) {
      float4 x = *reinterpret_cast<const float4 *>(rows + j * ld + column);
      float w = weight[j];
      result[g][0] += w * x.x;
      result[g][1] += w * x.y;
      result[g][2] += w * x.z;
      result[g][3] += w * x.w;
    }
  }
}

/// Writes the thread's columns of a row, times `factor`.
template <typename T> __device__ void storeRow(T *row, const float (&result)[kGroups][4], float factor, int64_t size) {
  int first = threadIdx.x % kRowLanes * 4;
#pragma unroll
  for (int g = 0; g < kGroups; ++g)
    for (int k = 0; k < 4; ++k)
      if (int column = first + g * kTile + k; column < size)
        row[column] = narrow<T>(result[g][k] * factor);
}

/// Positions and masks of one head's scores.
struct Scores {
  const AttentionProblem &p;
  int64_t b, n, queryShift;
  random::Stream stream;

  __device__ Scores(const AttentionProblem &p, int64_t b, int64_t n, const StepScalars *scalars, uint64_t seed,
                    uint64_t layer)
      : p(p), b(b), n(n), queryShift(p.positions.dim[3].global - p.positions.dim[2].global), stream{} {
    if (p.dropout > 0)
      stream = random::dropoutStream(seed, scalars->step, layer, p.id);
  }

  __device__ int64_t queryPosition(int64_t query) const {
    return p.positions.dim[2].toGlobal(min(query, p.queries - 1)) + queryShift;
  }
  __device__ int64_t keyPosition(int64_t key) const { return p.positions.dim[3].toGlobal(min(key, p.keys - 1)); }

  __device__ bool sees(int64_t queryAt, int64_t keyAt) const {
    return !(p.causal && keyAt > queryAt) && !(p.window > 0 && queryAt - keyAt >= p.window);
  }
  /// The least and greatest document of a tile of one side, by all threads of a warp.
  __device__ int2 tileDocuments(const int64_t *documents, int64_t first, int64_t count) const {
    int64_t at = min(first + (int64_t)(threadIdx.x % 32), count - 1);
    int low = (int)documents[b * count + at], high = low;
    for (int step = 16; step > 0; step /= 2) {
      low = min(low, __shfl_xor_sync(0xFFFFFFFFu, low, step));
      high = max(high, __shfl_xor_sync(0xFFFFFFFFu, high, step));
    }
    return make_int2(low, high);
  }

  /// Whether any query of a tile can see any key of another; positions ascend with indices. Called by all threads.
  __device__ bool tileSees(int64_t query, int64_t key) const {
    if (p.queryDocuments) {
      int2 own = tileDocuments(p.queryDocuments, query, p.queries), of = tileDocuments(p.keyDocuments, key, p.keys);
      if (own.x > of.y || own.y < of.x)
        return false;
    }
    int64_t lowQuery = queryPosition(query), highQuery = queryPosition(query + kTile - 1);
    int64_t lowKey = keyPosition(key), highKey = keyPosition(key + kTile - 1);
    return !(p.causal && lowKey > highQuery) && !(p.window > 0 && lowQuery - highKey >= p.window);
  }

  /// From q·k to the score, -inf where the query does not see the key; `tanh` is softcap's.
  template <typename T>
  __device__ float score(float product, const T *bias, int64_t query, int64_t key, int64_t queryAt, int64_t keyAt,
                         float &tanh) const {
    tanh = 0;
    if (query >= p.queries || key >= p.keys || !sees(queryAt, keyAt))
      return kMinusInfinity;
    if (p.queryDocuments && p.queryDocuments[b * p.queries + query] != p.keyDocuments[b * p.keys + key])
      return kMinusInfinity;
    float s = product * (float)p.scale;
    if (p.softcap > 0) {
      tanh = tanhf(s / (float)p.softcap);
      s = tanh * (float)p.softcap;
    }
    if (bias)
      s += widen(bias[b * p.biasStride[0] + n * p.biasStride[1] + query * p.biasStride[2] + key * p.biasStride[3]]);
    return s;
  }

  /// Dropout's factor of a probability.
  __device__ float keep(int64_t query, int64_t key) const {
    if (p.dropout == 0 || query >= p.queries || key >= p.keys)
      return 1;
    const Positions *dim = p.positions.dim;
    int64_t e = ((dim[0].toGlobal(b) * dim[1].global + dim[1].toGlobal(n)) * dim[2].global + dim[2].toGlobal(query)) *
                    dim[3].global +
                dim[3].toGlobal(key);
    return random::keeps(stream, e, p.dropout) ? (float)(1.0 / (1.0 - p.dropout)) : 0.0f;
  }
};

/// What both directions' kernels are told beside the problem.
struct RandomName {
  const StepScalars *scalars;
  uint64_t seed, layer;
};

template <typename T> __device__ T *headOf(T *data, const HeadStrides &strides, int64_t b, int64_t n) {
  return data + b * strides.batch + n * strides.head;
}

/// Launches a kernel with a block for each tile of `positions`, head and batch row, and so much shared memory, after
/// checking that the problem is one that tiles hold. Nothing where there is no block.
template <typename... Parameters, typename... Arguments>
void launchTiles(gvrt_context *context, void (*kernel)(AttentionProblem, Parameters...), const AttentionProblem &p,
                 int64_t positions, int64_t heads, int64_t sharedBytes, const Arguments &...arguments) {
  GVRT_CHECK(context, p.keySize <= kMaxHeadSize && p.valueSize <= kMaxHeadSize,
             "expects head sizes up to " << kMaxHeadSize << ", but got " << p.keySize << " and " << p.valueSize);
  GVRT_CHECK(context, p.batch <= 65535 && p.heads <= 65535,
             "expects at most 65535 batch rows and heads, but got " << p.batch << " and " << p.heads);
  if (positions * heads * p.batch == 0)
    return;
  GVRT_CUDA(context, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)sharedBytes));
  kernel<<<dim3(divideUp(positions, kTile), heads, p.batch), kAttentionThreads, sharedBytes,
           stateOf(context).compute>>>(p, arguments...);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace galvatron::cuda

#endif
