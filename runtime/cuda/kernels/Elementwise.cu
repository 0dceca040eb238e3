//===- Elementwise.cu - sums into place, conversions, dropout and iota ------------------------===//
//
// Contiguous tensors, a piece of up to eight elements a thread. Dropout's bits are those of every device
// (api/CounterRandom.h): a function of seed, step, layer, op and the element's number in the global tensor. The step is
// read from device memory, so that a captured launch draws new bits at every replay.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

constexpr int kThreads = 256, kPiece = 8;

/// Calls f(first, number as a constant) for the thread's piece: whole, or element by element at the ragged end.
template <typename F> __device__ void forPiece(int64_t count, bool wide, F &&f) {
  int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * kPiece;
  if (wide && first + kPiece <= count)
    return f(first, std::integral_constant<int, kPiece>{});
  for (int64_t i = first; i < first + kPiece && i < count; ++i)
    f(i, std::integral_constant<int, 1>{});
}

template <typename X, typename Y>
__global__ void __launch_bounds__(kThreads) convert(const X *x, Y *y, int64_t count, bool wide, bool accumulate) {
  forPiece(count, wide, [&](int64_t i, auto number) {
    constexpr int n = decltype(number)::value;
    float v[n], old[n];
    load<n>(x + i, v);
    if (accumulate) {
      load<n>(y + i, old);
      for (int k = 0; k < n; ++k)
        v[k] += old[k];
    }
    store<n>(y + i, v);
  });
}

struct DropoutStream {
  const StepScalars *scalars;
  uint64_t seed, layer, id;
};

template <typename T>
__global__ void __launch_bounds__(kThreads) dropout(const T *x, T *y, int64_t count, bool wide, DropoutStream name,
                                                    uint32_t threshold, float factor, TensorPositions positions) {
  random::Stream stream = random::dropoutStream(name.seed, name.scalars->step, name.layer, name.id);
  forPiece(count, wide, [&](int64_t i, auto number) {
    constexpr int n = decltype(number)::value;
    int64_t global = positions.toGlobal(i); // the others of the piece follow it
    float v[n];
    load<n>(x + i, v);
    random::Block block = random::philox((uint64_t)global / 4, stream.high, stream.key);
    for (int k = 0; k < n; ++k) {
      uint64_t e = global + k;
      if (k > 0 && e % 4 == 0)
        block = random::philox(e / 4, stream.high, stream.key);
      uint32_t word = e % 4 == 0   ? block.word[0]
                      : e % 4 == 1 ? block.word[1]
                      : e % 4 == 2 ? block.word[2]
                                   : block.word[3];
      v[k] *= word >= threshold ? factor : 0.0f;
    }
    store<n>(y + i, v);
  });
}

template <typename T> __global__ void iota(T *y, int64_t count, int64_t extent, int64_t inner, Positions positions) {
  int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (e < count)
    y[e] = (T)positions.toGlobal(e / inner % extent);
}

void launchConvert(gvrt_context *context, void *const *buffer, const int64_t *attribute, bool accumulate) {
  Attributes read(attribute);
  int64_t type = read.integer(), yType = read.integer(), count = read.integer();
  if (count == 0)
    return;
  withType(context, type, [&](auto x) {
    withType(context, yType, [&](auto y) {
      bool wide = aligned(16, buffer[0], buffer[1]);
      convert<<<divideUp(count, kThreads * kPiece), kThreads, 0, stateOf(context).compute>>>(
          at<const decltype(x)>(buffer, 0), at<decltype(y)>(buffer, 1), count, wide, accumulate);
    });
  });
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace

void gvrt_accumulate(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  launchConvert(context, buffer, attribute, true);
}

void gvrt_convert(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  launchConvert(context, buffer, attribute, false);
}

void gvrt_dropout(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer();
  double p = context->dropoutOf(read.real());
  int64_t id = read.integer(), rank = read.integer(), count = 1;
  const int64_t *extent = read.list(rank);
  for (int64_t d = 0; d < rank; ++d)
    count *= extent[d];
  if (count == 0)
    return;
  TensorPositions positions = readTensorPositions(context, read.list(0), rank);
  // A piece must not leave a run of elements that follow one another globally.
  bool wide = aligned(16, buffer[0], buffer[1]) && positions.run() % kPiece == 0;
  State &state = stateOf(context);
  DropoutStream name{state.scalars, context->seed, context->layer, (uint64_t)id};
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    dropout<<<divideUp(count, kThreads * kPiece), kThreads, 0, state.compute>>>(
        at<const T>(buffer, 0), at<T>(buffer, 1), count, wide, name, random::dropThreshold(p), (float)(1.0 / (1.0 - p)),
        positions);
  });
  GVRT_CUDA(context, cudaGetLastError());
}

void gvrt_iota(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), dim = read.integer(), rank = read.integer();
  const int64_t *extent = read.list(rank), *words = read.list(0);
  Positions positions = readTensorPositions(context, words, rank).dim[dim];
  int64_t count = 1, inner = 1;
  for (int64_t d = 0; d < rank; ++d) {
    count *= extent[d];
    if (d > dim)
      inner *= extent[d];
  }
  if (count == 0)
    return;
  auto launch = [&](auto *y) {
    iota<<<divideUp(count, kThreads), kThreads, 0, stateOf(context).compute>>>(y, count, extent[dim], inner, positions);
  };
  if (type == GVRT_I64)
    launch(at<int64_t>(buffer, 0));
  else if (type == GVRT_F32)
    launch(at<float>(buffer, 0));
  else
    GVRT_FAIL(context, "expects element type 0 (f32) or 1 (i64), but got " << type);
  GVRT_CUDA(context, cudaGetLastError());
}
