//===- Loss.cu - statistics and gradient of cross-entropy ----------------------------===//
//
// On local logits: where the vocabulary is cut, the maximum, the sum of exponentials and the target's logit of all
// devices are combined by collectives between these functions. A block takes a row; logits are read in their own type
// and never written in f32.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

constexpr int kMostThreads = 512, kBatch = 4;

/// From device memory, so that a captured launch reads the scale of each step.
__global__ void lossScale(const StepScalars *scalars, float *y) { *y = scalars->lossScale; }

/// Local column of a label; -1 where ignored or on another device. In the tuning walk labels may be anything.
__device__ int64_t localColumn(const Positions &columns, int64_t label, int64_t ignored, bool check) {
  if (label == ignored)
    return -1;
  if (check && (label < 0 || label >= columns.global)) {
    printf("expects labels below %lld, but got %lld\n", (long long)columns.global, (long long)label);
    __trap();
  }
  return columns.toLocal(label);
}

/// Calls f(column, values) for the thread's pieces of a row, kBatch loads in flight.
template <int W, typename T, typename F> __device__ void forRow(const T *x, int64_t columns, F &&f) {
  int64_t step = (int64_t)blockDim.x * W, c = (int64_t)threadIdx.x * W;
  for (; c + (kBatch - 1) * step < columns; c += kBatch * step) {
    float v[kBatch][W];
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      load<W>(x + c + k * step, v[k]);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      f(c + k * step, v[k]);
  }
  for (; c < columns; c += step) {
    float v[W];
    load<W>(x + c, v);
    f(c, v);
  }
}

template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads) sumExp(const T *x, const float *max, float *y, int64_t columns) {
  float m = max[blockIdx.x], sum = 0;
  forRow<W>(x + blockIdx.x * columns, columns, [&](int64_t, float (&v)[W]) {
    for (int i = 0; i < W; ++i)
      sum += __expf(v[i] - m);
  });
  sum = reduceBlock<Sum>(sum);
  if (threadIdx.x == 0)
    y[blockIdx.x] = sum;
}

template <typename T>
__global__ void targetLogit(const T *logits, const int64_t *labels, float *y, int64_t rows, int64_t columns,
                            int64_t ignored, Positions positions, bool check) {
  int64_t row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows)
    return;
  int64_t column = localColumn(positions, labels[row], ignored, check);
  y[row] = column < 0 ? 0.0f : widen(logits[row * columns + column]);
}

/// dlogits = dy·(exp(logits - max) / sumExp - [column is the label's]), 0 in ignored rows.
template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads)
    crossEntropyBackward(const float *dy, const T *logits, const float *sumExp, const float *max, const int64_t *labels,
                         T *dlogits, int64_t columns, int64_t ignored, Positions positions, bool check) {
  int64_t row = blockIdx.x, label = labels[row];
  T *result = dlogits + row * columns;
  if (label == ignored) {
    float zero[W] = {};
    for (int64_t c = (int64_t)threadIdx.x * W; c < columns; c += (int64_t)blockDim.x * W)
      store<W>(result + c, zero);
    return;
  }
  int64_t target = localColumn(positions, label, ignored, check);
  float g = dy[row], m = max[row], factor = g / sumExp[row];
  forRow<W>(logits + row * columns, columns, [&](int64_t c, float (&v)[W]) {
    for (int i = 0; i < W; ++i) {
      v[i] = __expf(v[i] - m) * factor;
      if (c + i == target)
        v[i] -= g;
    }
    store<W>(result + c, v);
  });
}

} // namespace

void gvrt_loss_scale(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  State &state = stateOf(context);
  lossScale<<<1, 1, 0, state.compute>>>(state.scalars, at<float>(buffer, 0));
  GVRT_CUDA(context, cudaGetLastError());
}

void gvrt_sum_exp(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer();
  launchRows(context, type, rows, columns, {buffer[0]}, kBatch,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               sumExp<T, decltype(width)::value><<<blocks, threads, 0, stream>>>(
                   at<const T>(buffer, 0), at<const float>(buffer, 1), at<float>(buffer, 2), columns);
             });
}

void gvrt_target_logit(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer(), ignored = read.integer();
  const int64_t *words = read.list(0);
  Positions positions = readPositions(context, words);
  if (rows == 0)
    return;
  State &state = stateOf(context);
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    targetLogit<T><<<divideUp(rows, 128), 128, 0, state.compute>>>(at<const T>(buffer, 0), at<const int64_t>(buffer, 1),
                                                                   at<float>(buffer, 2), rows, columns, ignored,
                                                                   positions, !state.tuning);
  });
  GVRT_CUDA(context, cudaGetLastError());
}

void gvrt_cross_entropy_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer(), ignored = read.integer();
  const int64_t *words = read.list(0);
  Positions positions = readPositions(context, words);
  bool check = !stateOf(context).tuning;
  launchRows(context, type, rows, columns, {buffer[1], buffer[5]}, kBatch,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               crossEntropyBackward<T, decltype(width)::value><<<blocks, threads, 0, stream>>>(
                   at<const float>(buffer, 0), at<const T>(buffer, 1), at<const float>(buffer, 2),
                   at<const float>(buffer, 3), at<const int64_t>(buffer, 4), at<T>(buffer, 5), columns, ignored,
                   positions, check);
             });
}
