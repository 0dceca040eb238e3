// The inputs of steps on a device that copies from memory of its own, later than it is asked to.
#include "runtime/data/Batches.h"

#include <cstdlib>
#include <cstring>
#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::ElementsAre;

namespace {

constexpr int64_t kBatch = 4, kSequence = 2, kMicroBatches = 2, kSteps = 5;

/// Sample n is n0, n1.
struct Numbers : Samples {
  Status check(int64_t, int64_t, int, int) const override { return Status::success(); }
  int64_t numInEpoch() const override { return 0; }
  Status read(int64_t number, Sample &sample) const override {
    sample = {{10 * number, 10 * number + 1}, {}, {}};
    return Status::success();
  }
};

struct Copy {
  void *to;
  const void *from;
  int64_t bytes;
};
std::vector<Copy> issued;
int numHeld = 0;

void synchronize() {
  for (const Copy &copy : issued)
    std::memcpy(copy.to, copy.from, copy.bytes);
  issued.clear();
}

DeviceHooks hooks() {
  DeviceHooks hooks{};
  hooks.copyToDevice = [](gvrt_context *, void *to, const void *from, int64_t bytes) {
    issued.push_back({to, from, bytes});
  };
  hooks.allocateHost = [](gvrt_context *, int64_t bytes) {
    ++numHeld;
    return std::malloc(bytes);
  };
  hooks.releaseHost = [](gvrt_context *, void *memory) {
    --numHeld;
    std::free(memory);
  };
  return hooks;
}

TEST(Batches, WhatTheDeviceHasNotCopiedYetStays) {
  Manifest manifest;
  manifest.globalBatch = kBatch, manifest.microBatches = kMicroBatches, manifest.sequence = kSequence;
  // Rows of a micro-batch, then its tokens.
  Placement placement = {2, kMicroBatches, PositionMap::kTime, 2, PositionMap::kLocal, 1, kSequence, PositionMap::kLocal};
  manifest.inputs = {{"input_ids", 0, 2 * kSequence * 8, {kBatch, kSequence}, placement}};
  gvrt_context context;
  const DeviceHooks deferred = hooks();
  Device device;
  device.hooks = &deferred;
  std::vector<int64_t> arena(kBatch * kSequence);
  {
    Batches batches(manifest, std::make_shared<Numbers>(), {}, kSteps * kBatch);
    ASSERT_EQ(batches.begin(context, device, 0).message, "");
    for (int64_t step = 0; step < kSteps; ++step) {
      ASSERT_EQ(batches.fill(context, device, reinterpret_cast<char *>(arena.data()), step * kBatch).message, "");
      ASSERT_EQ(batches.lookAhead().message, ""); // the next one is prepared
      synchronize();
      int64_t n = step * kBatch * 10;
      EXPECT_THAT(arena, ElementsAre(n, n + 1, n + 10, n + 11, n + 20, n + 21, n + 30, n + 31));
    }
    // A step that is done again, as where a value began that is not finite.
    ASSERT_EQ(batches.fill(context, device, reinterpret_cast<char *>(arena.data()), kBatch).message, "");
    synchronize();
    EXPECT_EQ(arena[0], kBatch * 10);
    EXPECT_EQ(numHeld, 2);
  }
  EXPECT_EQ(numHeld, 0);
}

} // namespace
