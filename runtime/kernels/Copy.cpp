//===- Copy.cpp - copies with any strides, fills, sums into place, shifts -----------------===//
//
// A copy's loops are merged where both sides run on, then ordered so that the result is written along its shortest
// stride. Where x is contiguous along another loop than y (a transpose), the two innermost loops go in square tiles
// that stay in the first-level cache.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/HalfTypes.h"
#include "runtime/kernels/Loops.h"
#include "runtime/kernels/Strided.h"

#include <algorithm>
#include <cstring>

namespace galvatron {

void mergeLoops(std::vector<StridedLoop> &loops) {
  std::vector<StridedLoop> merged;
  for (const StridedLoop &loop : loops) {
    if (loop.extent == 1)
      continue;
    if (!merged.empty()) {
      StridedLoop &outer = merged.back();
      if (outer.x == loop.x * loop.extent && outer.y == loop.y * loop.extent) {
        outer = {outer.extent * loop.extent, loop.x, loop.y};
        continue;
      }
    }
    merged.push_back(loop);
  }
  loops = std::move(merged);
}

std::vector<StridedLoop> mergedLoops(int64_t rank, const int64_t *extent, const int64_t *x, const int64_t *y) {
  std::vector<StridedLoop> loops;
  for (int64_t d = 0; d < rank; ++d)
    loops.push_back({extent[d], x[d], y[d]});
  mergeLoops(loops);
  return loops;
}

namespace {

constexpr int64_t kTile = 16;

template <typename T> void copyRow(const T *x, T *y, const StridedLoop &loop) {
  if (loop.x == 1 && loop.y == 1)
    std::memcpy(y, x, loop.extent * sizeof(T));
  else if (loop.x == 0 && loop.y == 1)
    std::fill_n(y, loop.extent, *x);
  else
    for (int64_t i = 0; i < loop.extent; ++i)
      y[i * loop.y] = x[i * loop.x];
}

template <typename T> void copyTiles(const T *x, T *y, const StridedLoop &a, const StridedLoop &b) {
  for (int64_t i = 0; i < a.extent; i += kTile)
    for (int64_t j = 0; j < b.extent; j += kTile) {
      int64_t iEnd = std::min(i + kTile, a.extent), jEnd = std::min(j + kTile, b.extent);
      for (int64_t p = i; p < iEnd; ++p)
        for (int64_t q = j; q < jEnd; ++q)
          y[p * a.y + q * b.y] = x[p * a.x + q * b.x];
    }
}

template <typename T> void copyLoops(const T *x, T *y, const StridedLoop *loops, size_t count) {
  if (count == 0) {
    *y = *x;
  } else if (count == 1) {
    copyRow(x, y, loops[0]);
  } else if (count == 2 && loops[1].x != 1 && loops[0].x == 1) {
    copyTiles(x, y, loops[0], loops[1]);
  } else {
    for (int64_t i = 0; i < loops[0].extent; ++i)
      copyLoops(x + i * loops[0].x, y + i * loops[0].y, loops + 1, count - 1);
  }
}

} // namespace

void copyStrided(const void *x, void *y, int64_t elementBytes, std::vector<StridedLoop> loops) {
  for (const StridedLoop &loop : loops)
    if (loop.extent == 0)
      return;
  // Largest stride of y outermost; the loop along which x is contiguous second innermost if it is not innermost.
  std::sort(loops.begin(), loops.end(),
            [](const StridedLoop &a, const StridedLoop &b) { return std::pair(a.y, a.x) > std::pair(b.y, b.x); });
  mergeLoops(loops);
  if (loops.size() > 2 && loops.back().x != 1)
    for (size_t i = 0; i + 2 < loops.size(); ++i)
      if (loops[i].x == 1)
        std::rotate(loops.begin() + i, loops.begin() + i + 1, loops.end() - 1);
  if (elementBytes == 8)
    copyLoops(static_cast<const uint64_t *>(x), static_cast<uint64_t *>(y), loops.data(), loops.size());
  else if (elementBytes == 4)
    copyLoops(static_cast<const uint32_t *>(x), static_cast<uint32_t *>(y), loops.data(), loops.size());
  else if (elementBytes == 2)
    copyLoops(static_cast<const uint16_t *>(x), static_cast<uint16_t *>(y), loops.data(), loops.size());
  else
    copyLoops(static_cast<const uint8_t *>(x), static_cast<uint8_t *>(y), loops.data(), loops.size());
}

} // namespace galvatron

using namespace galvatron;

void gvrt_copy(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t elementBytes = read.integer(), rank = read.integer();
  const int64_t *extent = read.list(rank), *x = read.list(rank), *y = read.list(rank);
  copyStrided(buffer[0], buffer[1], elementBytes, mergedLoops(rank, extent, x, y));
}

void gvrt_fill_zero(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  std::memset(buffer[0], 0, attribute[0]);
}

/// Calls function(x, y, count) with the buffers typed as the first two attributes say.
template <typename Function>
static void dispatch(gvrt_context *context, void *const *buffer, const int64_t *attribute, Function function) {
  Attributes read(attribute);
  int64_t xType = read.integer(), yType = read.integer(), count = read.integer();
  for (int64_t type : {xType, yType})
    GVRT_CHECK(context, type == GVRT_F32 || isHalf(type),
               "expects f32, bf16 or f16 (type 0, 2 or 3), but got type " << type);
  auto withType = [](int64_t type, auto &&f) { type == GVRT_F32 ? f(float()) : withHalf(type, f); };
  withType(xType, [&]<typename X>(X) {
    withType(yType,
             [&]<typename Y>(Y) { function(static_cast<const X *>(buffer[0]), static_cast<Y *>(buffer[1]), count); });
  });
}

void gvrt_accumulate(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  dispatch(context, buffer, attribute, []<typename X, typename Y>(const X *x, Y *y, int64_t count) {
    if constexpr (std::is_same_v<X, float> && std::is_same_v<Y, float>)
      loops().add(x, y, count);
    else
      for (int64_t i = 0; i < count; ++i)
        y[i] = Y((float)y[i] + (float)x[i]);
  });
}

void gvrt_convert(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  dispatch(context, buffer, attribute, []<typename X, typename Y>(const X *x, Y *y, int64_t count) {
    for (int64_t i = 0; i < count; ++i)
      y[i] = Y((float)x[i]);
  });
}

void gvrt_shift(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t outer = read.integer(), extent = read.integer(), inner = read.integer(), offset = read.integer(),
          fill = read.integer();
  auto *x = static_cast<const int64_t *>(buffer[0]);
  auto *y = static_cast<int64_t *>(buffer[1]);
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < extent; ++i) {
      int64_t from = i + offset;
      const int64_t *row = x + (o * extent + from) * inner;
      for (int64_t k = 0; k < inner; ++k)
        *y++ = from >= 0 && from < extent ? row[k] : fill;
    }
}
