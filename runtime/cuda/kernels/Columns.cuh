//===- Columns.cuh - sums and maxima over rows, for every column ------------------===//
//
// Two stages, without atomics. A block takes a strip of columns and a range of rows and writes one partial result per
// column to the workspace; then a thread per column adds the ranges in order:
//
//   rows      ┌── strip 0 ──┬── strip 1 ──┐
//   range 0   │  block 0,0  │  block 1,0  │ → partial[0, :]  ┐
//   range 1   │  block 0,1  │  block 1,1  │ → partial[1, :]  ┴→ result[:]
//             └─────────────┴─────────────┘
//
// Few rows (the parts of sums that generated kernels made) need one stage: a block takes 32 columns and all rows.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNS_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNS_CUH

#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Vector.cuh"

namespace galvatron::cuda {

constexpr int kStripThreads = 32, kRowThreads = 8;

/// `values.read<W>(row, column, v)` gives W neighbouring values.
template <typename Op, int W, typename Values>
__global__ void __launch_bounds__(kStripThreads *kRowThreads)
    columnPartials(Values values, int64_t rows, int64_t columns, int64_t rowsPerRange, float *partial) {
  __shared__ float shared[kRowThreads][kStripThreads * W];
  int64_t column = ((int64_t)blockIdx.x * kStripThreads + threadIdx.x) * W;
  int64_t first = blockIdx.y * rowsPerRange, end = min(first + rowsPerRange, rows);
  float total[W];
  for (int i = 0; i < W; ++i)
    total[i] = Op::kStart;
  if (column < columns) {
#pragma unroll 4
    for (int64_t row = first + threadIdx.y; row < end; row += kRowThreads) {
      float v[W];
      values.template read<W>(row, column, v);
      for (int i = 0; i < W; ++i)
        total[i] = Op::combine(total[i], v[i]);
    }
  }
  for (int i = 0; i < W; ++i)
    shared[threadIdx.y][i * kStripThreads + threadIdx.x] = total[i];
  __syncthreads();
  // Element i·32 + x of the strip is column x·W + i.
  for (int e = threadIdx.y * kStripThreads + threadIdx.x; e < kStripThreads * W; e += kStripThreads * kRowThreads) {
    float result = shared[0][e];
    for (int y = 1; y < kRowThreads; ++y)
      result = Op::combine(result, shared[y][e]);
    int64_t c = (int64_t)blockIdx.x * kStripThreads * W + e % kStripThreads * W + e / kStripThreads;
    if (c < columns)
      partial[blockIdx.y * columns + c] = result;
  }
}

template <typename Op, typename Y>
__global__ void finishColumns(const float *partial, int64_t ranges, int64_t columns, Y *y, bool accumulate) {
  int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns)
    return;
  float result = Op::kStart;
#pragma unroll 8
  for (int64_t r = 0; r < ranges; ++r)
    result = Op::combine(result, partial[r * columns + column]);
  if (accumulate)
    result = Op::combine(widen(y[column]), result);
  y[column] = narrow<Y>(result);
}

constexpr int64_t kFewRows = 1056; // 33 for each of 32 warps

template <typename Op, typename Values, typename Y>
__global__ void __launch_bounds__(1024)
    reduceFewRows(Values values, int64_t rows, int64_t columns, Y *y, bool accumulate) {
  __shared__ float shared[32][33];
  int64_t column = (int64_t)blockIdx.x * 32 + threadIdx.x;
  float total = Op::kStart;
  if (column < columns) {
#pragma unroll 8
    for (int64_t row = threadIdx.y; row < rows; row += 32) {
      float v[1];
      values.template read<1>(row, column, v);
      total = Op::combine(total, v[0]);
    }
  }
  shared[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns)
    return;
  total = accumulate ? widen(y[column]) : Op::kStart;
  for (int r = 0; r < 32; ++r)
    total = Op::combine(total, shared[r][threadIdx.x]);
  y[column] = narrow<Y>(total);
}

/// y[c] = Op over rows of values(r, c), combined with what is there if `accumulate`.
template <typename Op, int W, typename Values, typename Y>
void reduceColumns(gvrt_context *context, const Values &values, int64_t rows, int64_t columns, Y *y, bool accumulate) {
  if (columns == 0)
    return;
  State &state = stateOf(context);
  if (rows <= kFewRows) {
    reduceFewRows<Op><<<divideUp(columns, 32), dim3(32, 32), 0, state.compute>>>(values, rows, columns, y, accumulate);
    GVRT_CUDA(context, cudaGetLastError());
    return;
  }
  int64_t strips = divideUp(columns, kStripThreads * W);
  // About six blocks for each multiprocessor; at least four rows for each thread; what the workspace holds.
  int64_t ranges = std::min(divideUp(6 * std::max(state.multiprocessors, 1), strips), divideUp(rows, 4 * kRowThreads));
  ranges = std::clamp<int64_t>(ranges, 1, std::max<int64_t>(state.workspaceBytes / (columns * 4), 1));
  GVRT_CHECK(context, ranges * columns * 4 <= state.workspaceBytes,
             "expects a workspace of " << ranges * columns * 4 << " bytes, but got " << state.workspaceBytes);
  int64_t rowsPerRange = divideUp(std::max<int64_t>(rows, 1), ranges);
  ranges = std::max<int64_t>(divideUp(rows, rowsPerRange), 1);
  float *partial = static_cast<float *>(state.workspace);
  columnPartials<Op, W><<<dim3(strips, ranges), dim3(kStripThreads, kRowThreads), 0, state.compute>>>(
      values, rows, columns, rowsPerRange, partial);
  GVRT_CUDA(context, cudaGetLastError());
  finishColumns<Op><<<divideUp(columns, 128), 128, 0, state.compute>>>(partial, ranges, columns, y, accumulate);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace galvatron::cuda

#endif
