//===- Copy.cu - copies with any strides, fills, shifts and shards ------------------------===//
//
// After merging loops (Loops.cuh) a copy is one of:
//
//   runs        both sides are contiguous along the innermost loop: its elements move as pieces of up to 16 bytes
//   transpose   x is contiguous along another loop than y: square tiles through shared memory, so that both the reads
//               and the writes of a warp are runs; 2-byte elements in tiles of 64 × 64, others of 32 × 32
//   any         an element at a time
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/comm/Pieces.h"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Loops.cuh"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

constexpr int kThreads = 256;

/// A thread moves kEach elements that lie a block apart, to have their loads in flight together.
template <typename P> __global__ void __launch_bounds__(kThreads) copyAny(const P *x, P *y, Nest nest, int64_t size) {
  constexpr int kEach = 4;
  int64_t first = (int64_t)blockIdx.x * kThreads * kEach + threadIdx.x;
  P piece[kEach];
  int64_t to[kEach];
#pragma unroll
  for (int k = 0; k < kEach; ++k)
    if (int64_t e = first + k * kThreads; e < size) {
      Offsets at = nest.offsets(e);
      piece[k] = x[at.x];
      to[k] = at.y;
    }
#pragma unroll
  for (int k = 0; k < kEach; ++k)
    if (first + k * kThreads < size)
      y[to[k]] = piece[k];
}

/// Loops `a` (y runs along it) and `b` (x runs along it), for each element of `outer`. Strides: a.y == 1, b.x == 1.
template <typename P, int kTile>
__global__ void __launch_bounds__(kThreads) transpose(const P *x, P *y, Loop a, Loop b, Nest outer) {
  __shared__ P tile[kTile][kTile + 4 / (sizeof(P) < 4 ? sizeof(P) : 4)];
  Offsets at = outer.offsets(blockIdx.z);
  x += at.x;
  y += at.y;
  constexpr int kRows = kThreads / kTile;
  int column = threadIdx.x % kTile, firstRow = threadIdx.x / kTile;
  int64_t a0 = (int64_t)blockIdx.y * kTile, b0 = (int64_t)blockIdx.x * kTile;
#pragma unroll 8
  for (int row = firstRow; row < kTile; row += kRows)
    if (a0 + row < a.extent && b0 + column < b.extent)
      tile[row][column] = x[(a0 + row) * a.x + b0 + column];
  __syncthreads();
#pragma unroll 8
  for (int row = firstRow; row < kTile; row += kRows)
    if (b0 + row < b.extent && a0 + column < a.extent)
      y[(b0 + row) * b.y + a0 + column] = tile[column][row];
}

template <typename P> void launchAny(gvrt_context *context, const void *x, void *y, const std::vector<Loop> &loops) {
  Nest nest = nestOf(context, loops);
  int64_t size = nest.size();
  if (size == 0)
    return;
  copyAny<<<divideUp(size, 4 * kThreads), kThreads, 0, stateOf(context).compute>>>(static_cast<const P *>(x),
                                                                                   static_cast<P *>(y), nest, size);
  GVRT_CUDA(context, cudaGetLastError());
}

/// The widest piece that carries the innermost run and that all distances are multiples of.
int64_t pieceBytes(const void *x, const void *y, int64_t elementBytes, const std::vector<Loop> &loops) {
  const Loop &last = loops.back();
  if (last.x != 1 || last.y != 1)
    return elementBytes;
  for (int64_t bytes = 16; bytes > elementBytes; bytes /= 2) {
    bool fits = aligned(bytes, x, y, last.extent * elementBytes);
    for (size_t i = 0; i + 1 < loops.size(); ++i)
      fits = fits && aligned(bytes, loops[i].x * elementBytes, loops[i].y * elementBytes);
    if (fits)
      return bytes;
  }
  return elementBytes;
}

template <typename P> bool tryTranspose(gvrt_context *context, const void *x, void *y, const std::vector<Loop> &loops) {
  constexpr int kTile = sizeof(P) <= 2 ? 64 : 32;
  int a = -1, b = -1;
  for (int i = 0; i < (int)loops.size(); ++i) {
    if (loops[i].y == 1 && loops[i].x != 1)
      a = i;
    if (loops[i].x == 1 && loops[i].y != 1)
      b = i;
  }
  if (a < 0 || b < 0 || loops[a].x == 0 || loops[b].y == 0 || loops[a].extent < 8 || loops[b].extent < 8)
    return false;
  std::vector<Loop> others;
  for (int i = 0; i < (int)loops.size(); ++i)
    if (i != a && i != b)
      others.push_back(loops[i]);
  Nest outer = nestOf(context, others);
  int64_t down = divideUp(loops[a].extent, kTile), across = divideUp(loops[b].extent, kTile), count = outer.size();
  if (count > 65535 || down > 65535 || across > kMaxBlocks)
    return false;
  if (count == 0)
    return true;
  transpose<P, kTile><<<dim3(across, down, count), kThreads, 0, stateOf(context).compute>>>(
      static_cast<const P *>(x), static_cast<P *>(y), loops[a], loops[b], outer);
  GVRT_CUDA(context, cudaGetLastError());
  return true;
}

/// Calls f with a value as wide as `bytes`.
template <typename F> void withPiece(gvrt_context *context, int64_t bytes, F &&f) {
  switch (bytes) {
  case 1:
    return f((unsigned char)0);
  case 2:
    return f((unsigned short)0);
  case 4:
    return f((uint32_t)0);
  case 8:
    return f(uint2{});
  case 16:
    return f(uint4{});
  default:
    GVRT_FAIL(context, "expects elements of 1, 2, 4 or 8 bytes, but got " << bytes);
  }
}

void copyStrided(gvrt_context *context, const void *x, void *y, int64_t elementBytes, std::vector<Loop> loops) {
  for (const Loop &loop : loops)
    if (loop.extent == 0)
      return;
  std::stable_sort(loops.begin(), loops.end(),
                   [](const Loop &a, const Loop &b) { return std::pair(a.y, a.x) > std::pair(b.y, b.x); });
  mergeLoops(loops);
  if (loops.empty())
    loops.push_back({1, 1, 1});
  int64_t bytes = pieceBytes(x, y, elementBytes, loops);
  if (bytes == elementBytes) {
    bool done = false;
    withPiece(context, bytes, [&](auto piece) { done = tryTranspose<decltype(piece)>(context, x, y, loops); });
    if (done)
      return;
  }
  int64_t each = bytes / elementBytes;
  for (size_t i = 0; i + 1 < loops.size() && each > 1; ++i) {
    loops[i].x /= each;
    loops[i].y /= each;
  }
  loops.back().extent /= each;
  withPiece(context, bytes, [&](auto piece) { launchAny<decltype(piece)>(context, x, y, loops); });
}

__global__ void shift(const int64_t *x, int64_t *y, int64_t size, int64_t extent, int64_t inner, int64_t offset,
                      int64_t fill) {
  int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= size)
    return;
  int64_t from = e / inner % extent + offset;
  y[e] = from >= 0 && from < extent ? x[e + offset * inner] : fill;
}

} // namespace

void gvrt_copy(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t elementBytes = read.integer(), rank = read.integer();
  const int64_t *extent = read.list(rank), *x = read.list(rank), *y = read.list(rank);
  std::vector<Loop> loops;
  for (int64_t d = 0; d < rank; ++d)
    loops.push_back({extent[d], x[d], y[d]});
  copyStrided(context, buffer[0], buffer[1], elementBytes, loops);
}

void gvrt_shard(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  const Group &group = context->groups[read.integer()];
  int64_t elementBytes = read.integer(), outer = read.integer(), inner = read.integer();
  bool mirrored = read.integer();
  int64_t pieces = (int64_t)group.ranks.size(), count = read.integer();
  int64_t piece = pieceOf(read.list(count), count, group.position);
  auto *x = at<const char>(buffer, 0);
  auto *y = at<char>(buffer, 1);
  for (const PieceHalf &half : pieceHalves(outer, mirrored))
    copyStrided(context, x + (half.first * pieces + half.place(piece, pieces)) * inner * elementBytes,
                y + half.first * inner * elementBytes, elementBytes,
                {{half.count, half.step * pieces * inner, half.step * inner}, {inner, 1, 1}});
}

void gvrt_fill_zero(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  GVRT_CUDA(context, cudaMemsetAsync(buffer[0], 0, attribute[0], stateOf(context).compute));
}

void gvrt_shift(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t outer = read.integer(), extent = read.integer(), inner = read.integer(), offset = read.integer(),
          fill = read.integer(), size = outer * extent * inner;
  if (size == 0)
    return;
  shift<<<divideUp(size, kThreads), kThreads, 0, stateOf(context).compute>>>(
      at<const int64_t>(buffer, 0), at<int64_t>(buffer, 1), size, extent, inner, offset, fill);
  GVRT_CUDA(context, cudaGetLastError());
}
