//===- Rope.cu - rotary position embedding ------------------------------------------===//
//
// Cosines and sines of one position serve every batch row and head, so a block belongs to as many positions as it has
// threads for frequencies: it computes them once, into shared memory, then rotates its share of the rows. Where rows
// have positions of their own, these are positions of one row. The angle is rounded to f32 before its cosine is taken,
// as the frameworks do that models come from.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

constexpr int kThreads = 256, kMaxFrequencies = 256;

struct Frequencies {
  float value[kMaxFrequencies];
};

/// Strides over [position, outer row, inner row]; the last dimension has stride 1.
struct Strides {
  int64_t position, outer, inner;
};

struct Shape {
  int64_t positions, outer, inner, columns; // rows of a position: outer × inner
  int frequencies;
  bool interleaved, inverse;
  double scaling;
};

/// A thread takes W pairs: of halves (i, i + frequencies), or neighbours (2i, 2i + 1).
template <typename T, int W>
__global__ void __launch_bounds__(kThreads)
    rope(const T *x, T *y, Strides xStride, Strides yStride, Shape shape,
         __grid_constant__ const Frequencies frequencies, Positions positions, const int64_t *rowPositions) {
  __shared__ float cosine[kMaxFrequencies], sine[kMaxFrequencies];
  int inBlock = kMaxFrequencies / shape.frequencies;
  int64_t first = blockIdx.x * (int64_t)inBlock, row = blockIdx.z;
  int here = (int)(shape.positions - first < inBlock ? shape.positions - first : inBlock);
  for (int i = threadIdx.x; i < here * shape.frequencies; i += kThreads) {
    int64_t s = first + i / shape.frequencies;
    float position = (float)(rowPositions ? rowPositions[row * shape.positions + s] : positions.toGlobal(s));
    double sinus, cosinus;
    sincos((double)(position * frequencies.value[i % shape.frequencies]), &sinus, &cosinus);
    cosine[i] = (float)(cosinus * shape.scaling);
    sine[i] = (float)((shape.inverse ? -sinus : sinus) * shape.scaling);
  }
  __syncthreads();
  x += first * xStride.position + row * xStride.outer;
  y += first * yStride.position + row * yStride.outer;
  int pairs = shape.frequencies / W, tail = (int)((shape.columns - 2 * shape.frequencies) / W), items = pairs + tail;
  int64_t ofPosition = shape.outer * shape.inner * items, work = here * ofPosition;
  for (int64_t w = (int64_t)blockIdx.y * kThreads + threadIdx.x; w < work; w += (int64_t)gridDim.y * kThreads) {
    int64_t s = w / ofPosition, own = w - s * ofPosition;
    int item = (int)(own % items);
    int64_t line = own / items, outer = line / shape.inner, inner = line - outer * shape.inner;
    const T *from = x + s * xStride.position + outer * xStride.outer + inner * xStride.inner;
    T *to = y + s * yStride.position + outer * yStride.outer + inner * yStride.inner;
    const float *cosines = cosine + s * shape.frequencies, *sines = sine + s * shape.frequencies;
    if (item >= pairs) { // after the rotated columns
      int column = 2 * shape.frequencies + (item - pairs) * W;
      float v[W];
      load<W>(from + column, v);
      store<W>(to + column, v);
      continue;
    }
    int i = item * W;
    float a[W], b[W];
    if (!shape.interleaved) {
      load<W>(from + i, a);
      load<W>(from + i + shape.frequencies, b);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        float c = cosines[i + k], n = sines[i + k], first = a[k], second = b[k];
        a[k] = first * c - second * n;
        b[k] = second * c + first * n;
      }
      store<W>(to + i, a);
      store<W>(to + i + shape.frequencies, b);
    } else {
      load<W>(from + 2 * i, a);
      load<W>(from + 2 * i + W, b);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        // Pair k: elements 2k and 2k + 1 of a and b put together.
        float &left = 2 * k < W ? a[2 * k % W] : b[2 * k % W];
        float &right = 2 * k + 1 < W ? a[(2 * k + 1) % W] : b[(2 * k + 1) % W];
        float c = cosines[i + k], n = sines[i + k], first = left, second = right;
        left = first * c - second * n;
        right = second * c + first * n;
      }
      store<W>(to + 2 * i, a);
      store<W>(to + 2 * i + W, b);
    }
  }
}

} // namespace

void gvrt_rope(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer();
  const int64_t *extent = read.list(4), *xStride = read.list(3), *yStride = read.list(3);
  int64_t seqDim = read.integer(), rowDim = read.integer();
  Shape shape;
  shape.interleaved = read.integer() == 1;
  shape.inverse = read.integer();
  shape.scaling = read.real();
  shape.positions = extent[seqDim], shape.columns = extent[3];
  int64_t count = read.integer();
  GVRT_CHECK(context, count >= 1 && count <= kMaxFrequencies,
             "expects 1 to " << kMaxFrequencies << " frequencies, but got " << count);
  shape.frequencies = (int)count;
  Frequencies frequencies;
  for (int64_t i = 0; i < count; ++i)
    frequencies.value[i] = (float)read.real();
  const int64_t *words = read.list(0);
  Positions positions = readPositions(context, words);

  auto *rowPositions = at<const int64_t>(buffer, 1);
  int64_t outer = rowPositions ? rowDim : seqDim == 0 ? 1 : 0, inner = 3 - seqDim - outer;
  int64_t rows = rowPositions ? extent[outer] : 1; // with angles of their own
  shape.outer = rowPositions ? 1 : extent[outer];
  shape.inner = extent[inner];
  Strides from{xStride[seqDim], xStride[outer], xStride[inner]}, to{yStride[seqDim], yStride[outer], yStride[inner]};
  if (extent[seqDim] * rows * shape.outer * shape.inner * shape.columns == 0)
    return;
  GVRT_CHECK(context, rows <= 65535, "expects at most 65535 rows with positions of their own, but got " << rows);
  State &state = stateOf(context);
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int64_t kSize = sizeof(T);
    bool wide = aligned(16, buffer[0], buffer[2], from.position * kSize, from.outer * kSize, from.inner * kSize,
                        to.position * kSize, to.outer * kSize, to.inner * kSize, count * kSize, shape.columns * kSize);
    withWidth<T>(wide, [&](auto width) {
      constexpr int W = decltype(width)::value;
      int64_t inBlock = kMaxFrequencies / count, blocks = divideUp(shape.positions, inBlock);
      int64_t work = inBlock * shape.outer * shape.inner * (shape.columns - count) / W;
      // Few positions: several blocks share them.
      int64_t share = std::clamp<int64_t>(divideUp(8 * std::max(state.multiprocessors, 1), blocks * rows), 1,
                                          std::min<int64_t>(divideUp(work, kThreads), 65535));
      rope<T, W><<<dim3(blocks, share, rows), kThreads, 0, state.compute>>>(
          at<const T>(buffer, 0), at<T>(buffer, 2), from, to, shape, frequencies, positions, rowPositions);
    });
  });
  GVRT_CUDA(context, cudaGetLastError());
}
