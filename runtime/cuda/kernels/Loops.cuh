//===- Loops.cuh - nests of loops over strided tensors ---------------------------------===//
//
// Extents of 1 disappear and neighbouring loops that run on in both tensors become one, so that most nests end as one
// to three loops. A kernel gets the nest as a parameter and takes an element's number apart, innermost loop last.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_LOOPS_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_LOOPS_CUH

#include "runtime/core/Check.h"

#include <vector>

namespace galvatron::cuda {

/// One loop over x and y; strides in elements.
struct Loop {
  int64_t extent, x, y;
};

struct Offsets {
  int64_t x, y;
};

/// At most kMaxLoops loops, outermost first.
struct Nest {
  static constexpr int kMaxLoops = 6;
  Loop loop[kMaxLoops];
  int count = 0;

  __host__ __device__ int64_t size() const {
    int64_t result = 1;
    for (int i = 0; i < count; ++i)
      result *= loop[i].extent;
    return result;
  }

  /// Where element `index` of the nest lies. Divides in 32 bits where it can: many times faster than in 64.
  __device__ Offsets offsets(int64_t index) const {
    Offsets result{0, 0};
    for (int i = count - 1; i > 0; --i) {
      int64_t at;
      if ((index | loop[i].extent) >> 32) {
        at = index % loop[i].extent;
        index /= loop[i].extent;
      } else {
        uint32_t quotient = (uint32_t)index / (uint32_t)loop[i].extent;
        at = (uint32_t)index - quotient * (uint32_t)loop[i].extent;
        index = quotient;
      }
      result.x += at * loop[i].x;
      result.y += at * loop[i].y;
    }
    if (count > 0) {
      result.x += index * loop[0].x;
      result.y += index * loop[0].y;
    }
    return result;
  }
};

inline void mergeLoops(std::vector<Loop> &loops) {
  std::vector<Loop> merged;
  for (const Loop &loop : loops) {
    if (loop.extent == 1)
      continue;
    if (!merged.empty()) {
      Loop &outer = merged.back();
      if (outer.x == loop.x * loop.extent && outer.y == loop.y * loop.extent) {
        outer = {outer.extent * loop.extent, loop.x, loop.y};
        continue;
      }
    }
    merged.push_back(loop);
  }
  loops = std::move(merged);
}

inline Nest nestOf(gvrt_context *context, const std::vector<Loop> &loops) {
  GVRT_CHECK(context, loops.size() <= Nest::kMaxLoops,
             "expects strides that merge into at most " << Nest::kMaxLoops << " loops, but got " << loops.size());
  Nest nest;
  for (const Loop &loop : loops)
    nest.loop[nest.count++] = loop;
  return nest;
}

} // namespace galvatron::cuda

#endif
