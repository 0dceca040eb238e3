//===- Embedding.cu - rows of a table by index --------------------------------------===//
//
// A table cut by rows: each device handles the ids whose rows it holds and leaves zeros, so that the sum over devices
// is the whole.
//
// The gradient adds the rows of dy that belong to one row of the table in ascending order, whatever the launch: ids are
// counted per row (atomics on integers, whose result has no order), each row that occurs gets as many places, ids are
// put into their row's places in any order and then ranked within them. Then one block for each row that occurs, and
// strip of columns, adds its ids' rows of dy:
//
//   ids  7 3 7 9      count[3] 1, [7] 2, [9] 1      begin[9] 0, [7] 1, [3] 3      order 3 | 0 2 | 1
//
// Scratch, in the workspace: 8 bytes per row of the table, 8 per id, 4 more.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

/// Row of the local table that an id reads, or -1 where another device holds it. In the tuning walk ids may be
/// anything.
__device__ int64_t localRow(const Positions &rows, int64_t id, bool check) {
  if (check && (id < 0 || id >= rows.global)) {
    printf("expects token ids below %lld, but got %lld\n", (long long)rows.global, (long long)id);
    __trap();
  }
  return rows.toLocal(id);
}

/// A row is `pieces` pieces of type P.
template <typename P>
__global__ void embedding(const P *table, const int64_t *ids, P *y, int64_t pieces, Positions rows, bool check) {
  int64_t i = blockIdx.x, row = localRow(rows, ids[i], check);
  y += i * pieces;
  table += row * pieces;
#pragma unroll 4
  for (int64_t p = threadIdx.x; p < pieces; p += blockDim.x)
    y[p] = row < 0 ? P{} : table[p];
}

__global__ void countRows(const int64_t *ids, int64_t numIds, int *count, Positions rows, bool check) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < numIds)
    if (int64_t row = localRow(rows, ids[i], check); row >= 0)
      atomicAdd(&count[row], 1);
}

/// Gives every row that occurs its places: begin[r] … begin[r] + count[r] - 1. Which ones does not matter. Counts
/// become 0: they serve as cursors next.
__global__ void allotPlaces(int *count, int *begin, int *allotted, int64_t rows) {
  int64_t r = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (r >= rows || count[r] == 0)
    return;
  begin[r] = atomicAdd(allotted, count[r]);
  count[r] = 0;
}

/// Puts ids into their rows' places, in any order.
__global__ void placeIds(const int64_t *ids, int64_t numIds, int *cursor, const int *begin, int *placed,
                         Positions rows) {
  int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < numIds)
    if (int64_t row = rows.toLocal(ids[i]); row >= 0)
      placed[begin[row] + atomicAdd(&cursor[row], 1)] = (int)i;
}

/// Ranks an id among its row's: a warp compares it with all of them. `cursor` holds the rows' counts again.
__global__ void rankIds(const int64_t *ids, int64_t numIds, const int *count, const int *begin, const int *placed,
                        int *order, Positions rows) {
  int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (i >= numIds)
    return;
  int64_t row = rows.toLocal(ids[i]);
  if (row < 0)
    return;
  int rank = 0, size = count[row];
  const int *own = placed + begin[row];
  for (int j = threadIdx.x % 32; j < size; j += 32)
    rank += own[j] < i;
  rank = __reduce_add_sync(0xFFFFFFFFu, rank);
  if (threadIdx.x % 32 == 0)
    order[begin[row] + rank] = (int)i;
}

constexpr int kAddThreads = 128;

/// dtable[row,:] += Σ dy[i,:] over the ids of a row. The block of the row's first id works; the others have nothing to
/// do.
template <typename T, int W>
__global__ void __launch_bounds__(kAddThreads)
    addRows(const T *dy, const int64_t *ids, const int *count, const int *begin, const int *order, float *dtable,
            int64_t columns, Positions rows) {
  int64_t row = rows.toLocal(ids[blockIdx.x]);
  if (row < 0)
    return;
  const int *own = order + begin[row];
  if (own[0] != (int)blockIdx.x)
    return;
  int64_t c = ((int64_t)blockIdx.y * kAddThreads + threadIdx.x) * W;
  if (c >= columns)
    return;
  float sum[W];
  load<W>(dtable + row * columns + c, sum);
#pragma unroll 8
  for (int j = 0, size = count[row]; j < size; ++j) {
    float v[W];
    load<W>(dy + own[j] * columns + c, v);
    for (int k = 0; k < W; ++k)
      sum[k] += v[k];
  }
  store<W>(dtable + row * columns + c, sum);
}

} // namespace

void gvrt_embedding(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer();
  read.integer(); // rows of the local table: the position map has them
  int64_t columns = read.integer(), numIds = read.integer();
  const int64_t *words = read.list(0);
  Positions rows = readPositions(context, words);
  if (numIds == 0)
    return;
  State &state = stateOf(context);
  int64_t rowBytes = columns * bytesOfElement(type);
  auto launch = [&](auto piece) {
    using P = decltype(piece);
    int64_t pieces = rowBytes / sizeof(P);
    embedding<P><<<numIds, threadsFor(pieces, 2, 256), 0, state.compute>>>(
        at<const P>(buffer, 0), at<const int64_t>(buffer, 1), at<P>(buffer, 2), pieces, rows, !state.tuning);
  };
  if (aligned(16, buffer[0], buffer[2], rowBytes))
    launch(uint4{});
  else if (isHalf(type))
    launch((unsigned short)0);
  else
    launch(0u);
  GVRT_CUDA(context, cudaGetLastError());
}

void gvrt_embedding_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), tableRows = read.integer(), columns = read.integer(), numIds = read.integer(),
          accumulate = read.integer();
  const int64_t *words = read.list(0);
  Positions rows = readPositions(context, words);
  State &state = stateOf(context);
  cudaStream_t stream = state.compute;
  auto *ids = at<const int64_t>(buffer, 1);
  auto *dtable = at<float>(buffer, 2);
  if (!accumulate)
    GVRT_CUDA(context, cudaMemsetAsync(dtable, 0, tableRows * columns * sizeof(float), stream));
  if (numIds == 0 || columns == 0)
    return;
  int64_t bytes = 8 * tableRows + 8 * numIds + 4;
  GVRT_CHECK(context, bytes <= state.workspaceBytes,
             "expects a workspace of " << bytes << " bytes, but got " << state.workspaceBytes);
  int *count = static_cast<int *>(state.workspace), *allotted = count + tableRows, *begin = allotted + 1,
      *placed = begin + tableRows, *order = placed + numIds;
  GVRT_CUDA(context, cudaMemsetAsync(count, 0, (tableRows + 1) * sizeof(int), stream));
  int64_t blocks = divideUp(numIds, 256);
  countRows<<<blocks, 256, 0, stream>>>(ids, numIds, count, rows, !state.tuning);
  GVRT_CUDA(context, cudaGetLastError());
  allotPlaces<<<divideUp(tableRows, 256), 256, 0, stream>>>(count, begin, allotted, tableRows);
  GVRT_CUDA(context, cudaGetLastError());
  placeIds<<<blocks, 256, 0, stream>>>(ids, numIds, count, begin, placed, rows);
  GVRT_CUDA(context, cudaGetLastError());
  rankIds<<<divideUp(numIds, 8), 256, 0, stream>>>(ids, numIds, count, begin, placed, order, rows);
  GVRT_CUDA(context, cudaGetLastError());
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    withWidth<T>(aligned(16, buffer[0], dtable, columns * sizeof(T)), [&](auto width) {
      constexpr int W = decltype(width)::value;
      addRows<T, W><<<dim3(numIds, divideUp(columns, kAddThreads * W)), kAddThreads, 0, stream>>>(
          at<const T>(buffer, 0), ids, count, begin, order, dtable, columns, rows);
    });
  });
  GVRT_CUDA(context, cudaGetLastError());
}
