//===- Reduce.cpp - sums and maxima over any dimensions --------------------------------------===//
//
// After merging, two cases carry the work: rows that reduce to one element (the innermost loop of x is reduced) and
// rows that are added to one another (the innermost loop is kept). Other loops are walked outside them.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Loops.h"
#include "runtime/kernels/Strided.h"

#include <algorithm>
#include <limits>

using namespace galvatron;

namespace {

enum Kind { kSum, kMax };

void combine(Kind kind, float value, float &into) {
  if (kind == kSum)
    into += value;
  else if (value > into || value != value)
    into = value;
}

void reduceLoops(Kind kind, const float *x, float *y, const StridedLoop *loop, size_t count) {
  if (count == 0)
    return combine(kind, *x, *y);
  const StridedLoop &last = loop[count - 1];
  if (count == 1 && last.x == 1 && last.y == 0)
    return combine(kind, kind == kSum ? loops().sum(x, last.extent) : loops().max(x, last.extent), *y);
  bool rows = count == 2 && last.x == 1 && last.y == 1 && loop[0].y == 0;
  if (rows)
    return (kind == kSum ? loops().addRows : loops().maxRows)(x, loop[0].x, y, loop[0].extent, last.extent);
  if (count == 1 && last.x == 1 && last.y == 1 && kind == kSum)
    return loops().add(x, y, last.extent);
  for (int64_t i = 0; i < loop[0].extent; ++i)
    reduceLoops(kind, x + i * loop[0].x, y + i * loop[0].y, loop + 1, count - 1);
}

void fill(float *y, float value, const int64_t *extent, const int64_t *stride, int64_t rank) {
  if (rank == 0) {
    *y = value;
    return;
  }
  int64_t count = *stride == 0 ? 1 : *extent;
  for (int64_t i = 0; i < count; ++i)
    fill(y + i * *stride, value, extent + 1, stride + 1, rank - 1);
}

} // namespace

void gvrt_reduce(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context); // of x
  read.floats(context); // of y
  Kind kind = (Kind)read.integer();
  int64_t accumulate = read.integer(), rank = read.integer();
  const int64_t *extent = read.list(rank), *xStride = read.list(rank), *yStride = read.list(rank);
  auto *x = static_cast<const float *>(buffer[0]);
  auto *y = static_cast<float *>(buffer[1]);
  if (!accumulate)
    fill(y, kind == kSum ? 0.0f : -std::numeric_limits<float>::infinity(), extent, yStride, rank);
  std::vector<StridedLoop> loop = mergedLoops(rank, extent, xStride, yStride);
  // x's contiguous loop innermost.
  std::sort(loop.begin(), loop.end(),
            [](const StridedLoop &a, const StridedLoop &b) { return std::pair(a.x, a.y) > std::pair(b.x, b.y); });
  mergeLoops(loop);
  reduceLoops(kind, x, y, loop.data(), loop.size());
}
