//===- Columns.cuh - sums and maxima over rows, for every column ------------------===//
//
// Without atomics, in an order that depends on the shape alone. A block takes a strip of columns and a range of rows:
//
//   rows      ┌── strip 0 ──┬── strip 1 ──┐
//   range 0   │  block 0,0  │  block 1,0  │ ┐
//   range 1   │  block 0,1  │  block 1,1  │ ┴→ result[:]
//             └─────────────┴─────────────┘
//
// The ranges of a strip are put together, in order, either by the blocks of a cluster, which read each other's shared
// memory, so that it is one kernel (compute capability 9, where at most eight ranges fill the device), or through the
// workspace, by a second kernel. A bias gradient of [16384, 1600] reads 52 MB, 12 µs on H200: a second kernel over some
// hundred ranges would take two thirds of that again.
//
// Few rows (the parts of sums that generated kernels made) that no cluster suits need one stage: a block takes 32
// columns and all rows.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNS_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNS_CUH

#include "runtime/cuda/kernels/ColumnCut.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Vector.cuh"

#include <cooperative_groups.h>

namespace galvatron::cuda {

/// The totals of a block's strip and range, in `totals`: element i · lanes + x is column x · W + i of the strip.
/// `values.fetch(row, column, item)` starts to load what `values.unpack(item, v)` makes W neighbouring values of; a
/// thread fetches Values::kRows rows before it uses the first.
template <typename Op, int W, typename Values>
__device__ void sumRange(const Values &values, int64_t rows, int64_t columns, int64_t rowsPerRange, float *totals) {
  using Item = typename Values::template Item<W>;
  constexpr int kRows = Values::kRows;
  int lanes = blockDim.x, rowThreads = blockDim.y;
  int64_t column = ((int64_t)blockIdx.x * lanes + threadIdx.x) * W;
  int64_t row = blockIdx.y * rowsPerRange + threadIdx.y, end = min((blockIdx.y + 1) * rowsPerRange, rows);
  float total[W];
  for (int i = 0; i < W; ++i)
    total[i] = Op::kStart;
  auto add = [&](const Item &item) {
    float v[W];
    values.unpack(item, v);
    for (int i = 0; i < W; ++i)
      total[i] = Op::combine(total[i], v[i]);
  };
  if (column < columns) {
    for (; row + (kRows - 1) * rowThreads < end; row += kRows * rowThreads) {
      Item items[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        values.fetch(row + k * rowThreads, column, items[k]);
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        add(items[k]);
    }
    for (; row < end; row += rowThreads) {
      Item item;
      values.fetch(row, column, item);
      add(item);
    }
  }
  for (int i = 0; i < W; ++i)
    totals[(threadIdx.y * W + i) * lanes + threadIdx.x] = total[i];
  __syncthreads();
  int strip = lanes * W;
  for (int e = threadIdx.y * lanes + threadIdx.x; e < strip; e += kColumnThreads) {
    float result = totals[e];
#pragma unroll 8
    for (int y = 1; y < rowThreads; ++y)
      result = Op::combine(result, totals[y * strip + e]);
    totals[e] = result; // read by no other thread
  }
  __syncthreads();
}

/// Column of the matrix that element e of a strip's totals belongs to.
template <int W> __device__ int64_t columnOf(int e) {
  int lanes = blockDim.x;
  return (int64_t)blockIdx.x * lanes * W + e % lanes * W + e / lanes;
}

template <typename Op, typename Y> __device__ void writeColumn(Y *y, int64_t column, float result, bool accumulate) {
  y[column] = narrow<Y>(accumulate ? Op::combine(widen(y[column]), result) : result);
}

/// The ranges of a strip are one cluster; its first block writes.
template <typename Op, int W, typename Values, typename Y>
__global__ void __launch_bounds__(kColumnThreads, kBlocksAMultiprocessor)
    columnSums(Values values, int64_t rows, int64_t columns, int64_t rowsPerRange, Y *y, bool accumulate) {
#if __CUDA_ARCH__ >= 900
  __shared__ float totals[kColumnThreads * W];
  cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  sumRange<Op, W>(values, rows, columns, rowsPerRange, totals);
  cluster.sync();
  if (blockIdx.y == 0)
    for (int e = threadIdx.y * blockDim.x + threadIdx.x; e < (int)blockDim.x * W; e += kColumnThreads) {
      float range[kMostRanges], result = totals[e];
#pragma unroll
      for (int r = 1; r < kMostRanges; ++r)
        if (r < (int)gridDim.y)
          range[r] = cluster.map_shared_rank(totals, r)[e];
#pragma unroll
      for (int r = 1; r < kMostRanges; ++r)
        if (r < (int)gridDim.y)
          result = Op::combine(result, range[r]);
      if (int64_t column = columnOf<W>(e); column < columns)
        writeColumn<Op>(y, column, result, accumulate);
    }
  cluster.sync(); // until then every block's shared memory must be there
#endif
}

template <typename Op, int W, typename Values>
__global__ void __launch_bounds__(kColumnThreads, kBlocksAMultiprocessor)
    columnPartials(Values values, int64_t rows, int64_t columns, int64_t rowsPerRange, float *partial) {
  __shared__ float totals[kColumnThreads * W];
  sumRange<Op, W>(values, rows, columns, rowsPerRange, totals);
  for (int e = threadIdx.y * blockDim.x + threadIdx.x; e < (int)blockDim.x * W; e += kColumnThreads)
    if (int64_t column = columnOf<W>(e); column < columns)
      partial[blockIdx.y * columns + column] = totals[e];
}

constexpr int kFinishColumns = 32, kFinishRanges = 16;

/// A thread adds every kFinishRanges-th range of a column, then one of them adds up the column's threads.
template <typename Op, typename Y>
__global__ void __launch_bounds__(kFinishColumns *kFinishRanges)
    finishColumns(const float *partial, int64_t ranges, int64_t columns, Y *y, bool accumulate) {
  __shared__ float shared[kFinishRanges][kFinishColumns];
  int64_t column = (int64_t)blockIdx.x * kFinishColumns + threadIdx.x;
  float result = Op::kStart;
  if (column < columns)
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < ranges; r += kFinishRanges)
      result = Op::combine(result, partial[r * columns + column]);
  shared[threadIdx.y][threadIdx.x] = result;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns)
    return;
#pragma unroll
  for (int i = 1; i < kFinishRanges; ++i)
    result = Op::combine(result, shared[i][threadIdx.x]);
  writeColumn<Op>(y, column, result, accumulate);
}

/// Whether the GPU has clusters.
inline bool hasClusters(gvrt_context *context) {
  int major = 0;
  GVRT_CUDA(context, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, stateOf(context).gpu));
  return major >= 9;
}

template <typename Op, int W, typename Values, typename Y>
void launchCluster(gvrt_context *context, const ColumnCut &cut, const Values &values, int64_t rows, int64_t columns,
                   Y *y, bool accumulate) {
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {1, (unsigned)cut.ranges, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(cut.strips, cut.ranges);
  config.blockDim = dim3(cut.lanes, kColumnThreads / cut.lanes);
  config.stream = stateOf(context).compute;
  config.attrs = &cluster;
  config.numAttrs = 1;
  GVRT_CUDA(context, cudaLaunchKernelEx(&config, columnSums<Op, W, Values, Y>, values, rows, columns,
                                        divideUp(rows, cut.ranges), y, accumulate));
}

/// By way of the workspace: as many ranges as fill the device, at least four rows for each thread.
template <typename Op, int W, typename Values, typename Y>
void launchPartials(gvrt_context *context, const Values &values, int64_t rows, int64_t columns, Y *y, bool accumulate) {
  State &state = stateOf(context);
  int lanes = columns <= 8 * W ? 8 : columns <= 16 * W ? 16 : 32, rowThreads = kColumnThreads / lanes;
  int64_t strips = divideUp(columns, lanes * W);
  int64_t ranges = std::min(divideUp(kBlocksAMultiprocessor * std::max(state.multiprocessors, 1), strips),
                            divideUp(rows, 4 * rowThreads));
  ranges = std::clamp<int64_t>(ranges, 1, std::max<int64_t>(state.workspaceBytes / (columns * 4), 1));
  GVRT_CHECK(context, ranges * columns * 4 <= state.workspaceBytes,
             "expects a workspace of " << ranges * columns * 4 << " bytes, but got " << state.workspaceBytes);
  int64_t rowsPerRange = divideUp(std::max<int64_t>(rows, 1), ranges);
  ranges = std::max<int64_t>(divideUp(rows, rowsPerRange), 1);
  float *partial = static_cast<float *>(state.workspace);
  columnPartials<Op, W><<<dim3(strips, ranges), dim3(lanes, rowThreads), 0, state.compute>>>(values, rows, columns,
                                                                                             rowsPerRange, partial);
  GVRT_CUDA(context, cudaGetLastError());
  finishColumns<Op><<<divideUp(columns, kFinishColumns), dim3(kFinishColumns, kFinishRanges), 0, state.compute>>>(
      partial, ranges, columns, y, accumulate);
  GVRT_CUDA(context, cudaGetLastError());
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
      typename Values::template Item<1> item;
      values.fetch(row, column, item);
      float v[1];
      values.unpack(item, v);
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
  ColumnCut cut = clusterCut(std::max(stateOf(context).multiprocessors, 1), rows, columns, W);
  if (cut.share >= 0.6 && hasClusters(context))
    return launchCluster<Op, W>(context, cut, values, rows, columns, y, accumulate);
  if (rows > kFewRows)
    return launchPartials<Op, W>(context, values, rows, columns, y, accumulate);
  reduceFewRows<Op>
      <<<divideUp(columns, 32), dim3(32, 32), 0, stateOf(context).compute>>>(values, rows, columns, y, accumulate);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace galvatron::cuda

#endif
