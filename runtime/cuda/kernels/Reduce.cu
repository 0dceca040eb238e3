//===- Reduce.cu - sums and maxima over any dimensions ---------------------------------------===//
//
// Loops are sorted into kept and reduced ones. Three kernels, in a fixed order of additions each:
//
//   rows     the innermost loop of x is reduced: a block for each result
//   columns  rows are combined with one another: Columns.cuh (bias gradients)
//   any      a thread for each result walks the reduced loops
//
// Where there are too few results to fill the device, the reduced loops are cut into ranges whose partial results go
// through the workspace.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/Columns.cuh"
#include "runtime/cuda/kernels/Loops.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

/// Where a result goes: combined into y, or to the workspace as range `range`'s part of it.
template <typename Op, typename Y> struct Output {
  Y *y;
  float *partial; // null: y
  int64_t results;
  bool accumulate;

  __device__ void write(int64_t result, int64_t offset, int64_t range, float value) const {
    if (partial)
      partial[range * results + result] = value;
    else
      y[offset] = narrow<Y>(accumulate ? Op::combine(widen(y[offset]), value) : value);
  }
};

template <typename Op, typename T, int W, typename Y>
__global__ void __launch_bounds__(512)
    reduceRows(const T *x, Output<Op, Y> output, Nest kept, int64_t columns, int64_t perRange) {
  Offsets at = kept.offsets(blockIdx.x);
  x += at.x;
  int64_t first = blockIdx.y * perRange, end = min(first + perRange, columns);
  float total = Op::kStart;
#pragma unroll 4
  for (int64_t c = first + (int64_t)threadIdx.x * W; c < end; c += (int64_t)blockDim.x * W) {
    float v[W];
    load<W>(x + c, v);
    for (int i = 0; i < W; ++i)
      total = Op::combine(total, v[i]);
  }
  total = reduceBlock<Op>(total);
  if (threadIdx.x == 0)
    output.write(blockIdx.x, at.y, blockIdx.y, total);
}

template <typename Op, typename T, typename Y>
__global__ void reduceAny(const T *x, Output<Op, Y> output, Nest kept, Nest reduced, int64_t size, int64_t perRange) {
  int64_t result = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (result >= output.results)
    return;
  Offsets at = kept.offsets(result);
  int64_t first = blockIdx.y * perRange, end = min(first + perRange, size);
  float total = Op::kStart;
#pragma unroll 4
  for (int64_t i = first; i < end; ++i)
    total = Op::combine(total, widen(x[at.x + reduced.offsets(i).x]));
  output.write(result, at.y, blockIdx.y, total);
}

template <typename Op, typename Y>
__global__ void finishAny(const float *partial, int64_t ranges, Output<Op, Y> output, Nest kept) {
  int64_t result = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (result >= output.results)
    return;
  float total = Op::kStart;
#pragma unroll 8
  for (int64_t r = 0; r < ranges; ++r)
    total = Op::combine(total, partial[r * output.results + result]);
  output.write(result, kept.offsets(result).y, 0, total);
}

/// What Columns.cuh reads of a plain tensor.
template <typename T> struct Plain {
  static constexpr int kRows = 8;
  const T *x;
  int64_t stride;

  template <int W> using Item = Packed<W, T>;
  template <int W> __device__ void fetch(int64_t row, int64_t column, Item<W> &item) const {
    item.fetch(x + row * stride + column);
  }
  template <int W> __device__ static void unpack(const Item<W> &item, float (&v)[W]) { item.unpack(v); }
};

struct Reduction {
  std::vector<Loop> kept, reduced;
  bool accumulate;
};

template <typename Op, typename T, typename Y>
void reduce(gvrt_context *context, const Reduction &r, const T *x, Y *y) {
  State &state = stateOf(context);
  if (r.kept.size() == 1 && r.reduced.size() == 1 && r.kept[0].x == 1 && r.kept[0].y == 1) {
    bool wide = aligned(16, x, r.kept[0].extent * sizeof(T), r.reduced[0].x * sizeof(T));
    return withWidth<T>(wide, [&](auto width) {
      reduceColumns<Op, decltype(width)::value>(context, Plain<T>{x, r.reduced[0].x}, r.reduced[0].extent,
                                                r.kept[0].extent, y, r.accumulate);
    });
  }
  Nest kept = nestOf(context, r.kept), reduced = nestOf(context, r.reduced);
  int64_t results = kept.size(), size = reduced.size();
  if (results == 0)
    return;
  bool rows = r.reduced.size() == 1 && r.reduced[0].x == 1 && results <= kMaxBlocks;
  bool wide = rows && aligned(16, x, size * sizeof(T));
  for (const Loop &loop : r.kept)
    wide = wide && aligned(16, loop.x * sizeof(T));
  // Elements that a block (rows) or a thread (any) should have at least before its work is cut.
  int64_t least = rows ? 16384 : 64, blocks = rows ? results : divideUp(results, 128);
  int64_t ranges = std::min(divideUp(4 * std::max(state.multiprocessors, 1), blocks), divideUp(size, least));
  ranges = std::clamp<int64_t>(ranges, 1, std::max<int64_t>(state.workspaceBytes / (results * 4), 1));
  int64_t perRange = divideUp(divideUp(size, ranges), 8) * 8;
  ranges = std::max<int64_t>(divideUp(size, std::max<int64_t>(perRange, 1)), 1);
  Output<Op, Y> whole{y, nullptr, results, r.accumulate}, output = whole;
  if (ranges > 1)
    output.partial = static_cast<float *>(state.workspace);
  if (rows)
    withWidth<T>(wide, [&](auto width) {
      constexpr int W = decltype(width)::value;
      reduceRows<Op, T, W><<<dim3(results, ranges), threadsFor(perRange / W, 4, 512), 0, state.compute>>>(
          x, output, kept, size, perRange);
    });
  else
    reduceAny<Op>
        <<<dim3(divideUp(results, 128), ranges), 128, 0, state.compute>>>(x, output, kept, reduced, size, perRange);
  GVRT_CUDA(context, cudaGetLastError());
  if (ranges > 1) {
    finishAny<Op><<<divideUp(results, 128), 128, 0, state.compute>>>(output.partial, ranges, whole, kept);
    GVRT_CUDA(context, cudaGetLastError());
  }
}

} // namespace

void gvrt_reduce(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), yType = read.integer(), kind = read.integer();
  Reduction r;
  r.accumulate = read.integer();
  int64_t rank = read.integer();
  const int64_t *extent = read.list(rank), *xStride = read.list(rank), *yStride = read.list(rank);
  std::vector<Loop> loops;
  for (int64_t d = 0; d < rank; ++d)
    loops.push_back({extent[d], xStride[d], yStride[d]});
  // x's contiguous loop innermost: neighbouring threads read neighbouring elements.
  std::stable_sort(loops.begin(), loops.end(), [](const Loop &a, const Loop &b) { return a.x > b.x; });
  for (const Loop &loop : loops)
    (loop.y == 0 ? r.reduced : r.kept).push_back(loop);
  mergeLoops(r.kept);
  mergeLoops(r.reduced);
  withType(context, type, [&](auto x) {
    withType(context, yType, [&](auto y) {
      auto *from = at<const decltype(x)>(buffer, 0);
      auto *to = at<decltype(y)>(buffer, 1);
      if (kind == 0)
        reduce<Sum>(context, r, from, to);
      else
        reduce<Max>(context, r, from, to);
    });
  });
}
