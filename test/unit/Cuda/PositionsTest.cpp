// What kernels know of positions, on the host: against core/PositionMap.h, of which it is the device's form.
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/api/MeshAxisWord.h"
#include "runtime/core/Context.h"

#include <gtest/gtest.h>

using namespace galvatron;

namespace {

constexpr int64_t kLocal = PositionMap::kLocal, kTime = PositionMap::kTime;

/// Rank and words of position maps: whole, cut by one or two axes and by time, inside and outside, extents of 1;
/// mirrored, by one axis and by two, after a local half or a fixed one; of keys that came round a ring.
const std::pair<int64_t, std::vector<int64_t>> kMaps[] = {
    {1, {1, 40, kLocal}},
    {3, {1, 3, kLocal, 2, 2, kLocal, 5, kLocal, 1, 8, kLocal}},
    {2, {1, 6, kLocal, 2, 2, 0, 40, kLocal}},
    {2, {2, 2, 0, 3, kLocal, 2, 5, kLocal, 2, 1}},
    {3, {3, 2, kTime, 2, 1, 3, kLocal, 1, 1, kLocal, 5, 2, kLocal, 2, 0, 2, kLocal, 3, 1, 8, kLocal}},
    {1, {3, 2, kLocal, 2, meshAxisWord(0, true), 3, kLocal}},
    {1, {5, 3, kLocal, 2, kLocal, 2, meshAxisWord(0, true), 3, meshAxisWord(1, true), 2, kLocal}},
    {1, {3, 2, 0, 3, meshAxisWord(1, true), 4, kLocal}},
    {1, {4, 4, kLocal, 2, meshAxisWord(0, true, 1), 3, meshAxisWord(1, true, 2), 2, kLocal}},
    {4, {2, 1, kLocal, 4, kLocal, 2, 2, 0, 2, 1, 1, 7, kLocal, 4, 2, 0, 1, kLocal, 2, 1, 8, kLocal}},
};

struct Placed : gvrt_context {
  Placed() {
    coordinates = {1, 1};
    microBatch = 1;
  }
};

TEST(CudaPositionsTest, EqualTheMapsOfTheCpu) {
  Placed context;
  for (const auto &[rank, words] : kMaps) {
    PositionMap map(context.coordinates, context.microBatch, words.data(), rank);
    cuda::TensorPositions positions = cuda::readTensorPositions(&context, words.data(), rank);
    for (int64_t d = 0; d < rank; ++d) {
      ASSERT_EQ(positions.dim[d].local, map.localExtent(d));
      ASSERT_EQ(positions.dim[d].global, map.globalExtent(d));
      for (int64_t i = 0; i < map.localExtent(d); ++i)
        ASSERT_EQ(positions.dim[d].toGlobal(i), map.toGlobal(d, i));
      for (int64_t i = 0; i < map.globalExtent(d); ++i)
        ASSERT_EQ(positions.dim[d].toLocal(i), map.toLocal(d, i));
      ASSERT_EQ(positions.dim[d].toLocal(map.globalExtent(d)), -1);
    }
  }
}

TEST(CudaPositionsTest, NumberElementsOfTheGlobalTensor) {
  Placed context;
  for (const auto &[rank, words] : kMaps) {
    PositionMap map(context.coordinates, context.microBatch, words.data(), rank);
    cuda::TensorPositions positions = cuda::readTensorPositions(&context, words.data(), rank);
    int64_t count = 1;
    for (int64_t d = 0; d < rank; ++d)
      count *= map.localExtent(d);
    std::vector<int64_t> numbers(count);
    for (int64_t e = 0; e < count; ++e) {
      int64_t rest = e, place = 1;
      for (int64_t d = rank - 1; d >= 0; rest /= map.localExtent(d), place *= map.globalExtent(d), --d)
        numbers[e] += map.toGlobal(d, rest % map.localExtent(d)) * place;
      ASSERT_EQ(positions.toGlobal(e), numbers[e]) << "element " << e;
    }
    // A piece of `run` elements from a multiple of it has no gap.
    for (int64_t e = 0; e < count; ++e)
      ASSERT_EQ(numbers[e], numbers[e - e % positions.run()] + e % positions.run());
  }
}

} // namespace
