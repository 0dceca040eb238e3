// What the core hands to a device's optimizer: bf16 copies in calls from the host, and the table of a device that
// updates everything at once.
#include "runtime/optim/Update.h"
#include "RuntimeFixture.h"
#include "runtime/optim/UpdateTable.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

ParameterInfo parameter(int64_t offset, std::vector<int64_t> shape, int64_t copy, bool counted = true) {
  ParameterInfo info;
  info.names = {"p" + std::to_string(offset)};
  info.shape = shape;
  info.count = 1;
  for (int64_t extent : shape) {
    info.placement.insert(info.placement.end(), {1, extent, -1});
    info.count *= extent;
  }
  info.parameter = offset;
  info.gradient = offset + 1;
  info.firstMoment = offset + 2;
  info.secondMoment = offset + 3;
  info.copy = copy;
  info.counted = counted;
  return info;
}

/// Buffers of every call of a device's functions, as offsets (-1: null), in front of them what was called.
std::vector<std::vector<int64_t>> calls;
char *arenaOfCalls;

template <char name, int numBuffers> void record(gvrt_context *, void *const *buffers, const int64_t *attributes) {
  std::vector<int64_t> call = {name};
  for (int i = 0; i < numBuffers; ++i)
    call.push_back(buffers[i] ? static_cast<char *>(buffers[i]) - arenaOfCalls : -1);
  if (name == 'c')
    call.insert(call.end(), attributes, attributes + 3);
  calls.push_back(call);
}

class UpdateTest : public ::testing::Test {
protected:
  UpdateTest() {
    calls.clear();
    arenaOfCalls = arena;
    hooks.synchronize = [](gvrt_context *) {};
    device.hooks = &hooks;
    device.adamw = record<'a', 5>;
    device.sgd = record<'s', 3>;
    device.convert = record<'c', 2>;
    manifest.parameters = {parameter(0, {4, 8}, 512), parameter(100, {8}, -1)};
  }

  char arena[1024] = {};
  gvrt_context context;
  DeviceHooks hooks = {};
  Device device;
  Manifest manifest;
  Options options;
};

TEST_F(UpdateTest, CopiesAreMadeOfStartValues) {
  ASSERT_TRUE(fillCopies(context, device, manifest, arena).ok());
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{{'c', 0, 512, GVRT_F32, GVRT_BF16, 32}}));
  calls.clear();
  manifest.precision = "fp16";
  ASSERT_TRUE(fillCopies(context, device, manifest, arena).ok());
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{{'c', 0, 512, GVRT_F32, GVRT_F16, 32}}));
}

TEST_F(UpdateTest, ADeviceThatCannotConvertIsAnErrorOnlyWhereThereAreCopies) {
  device.convert = nullptr;
  EXPECT_THAT(fillCopies(context, device, manifest, arena).message,
              HasSubstr("wants copies of its parameters in 16 bits"));
  manifest.parameters.erase(manifest.parameters.begin());
  EXPECT_TRUE(fillCopies(context, device, manifest, arena).ok());
}

TEST_F(UpdateTest, CopiesGoToTheOptimizer) {
  updateParameters(context, device, manifest, options, arena, 0.1, 1);
  options.optimizer = "sgd";
  updateParameters(context, device, manifest, options, arena, 0.1, 1);
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{
                       {'a', 0, 1, 2, 3, 512}, {'a', 100, 101, 102, 103, -1}, {'s', 0, 1, 512}, {'s', 100, 101, -1}}));
}

TEST_F(UpdateTest, ATableHasCountedChunksFirst) {
  constexpr int64_t kLong = 2 * kUpdateChunk + 1;
  manifest.parameters = {parameter(0, {64}, 512, /*counted=*/false), parameter(100, {kLong}, -1),
                         parameter(200, {2, kUpdateChunk}, 600)};
  options.weightDecay = 0.5;
  UpdateTable table = makeUpdateTable(context, manifest, options, arena);
  auto offset = [&](const void *address) { return static_cast<const char *>(address) - arena; };
  ASSERT_EQ(table.tensors.size(), 3u);
  EXPECT_EQ(offset(table.tensors[0].parameter), 100);
  EXPECT_EQ(offset(table.tensors[0].gradient), 101);
  EXPECT_EQ(offset(table.tensors[0].first), 102);
  EXPECT_EQ(offset(table.tensors[0].second), 103);
  EXPECT_EQ(table.tensors[0].copy, nullptr);
  EXPECT_EQ(table.tensors[0].decay, 0); // matrices only
  EXPECT_EQ(offset(table.tensors[1].copy), 600);
  EXPECT_EQ(table.tensors[1].decay, 0.5);
  EXPECT_EQ(offset(table.tensors[2].parameter), 0);
  std::vector<std::pair<int, int>> chunks;
  for (UpdateChunk chunk : table.chunks)
    chunks.push_back({chunk.tensor, chunk.index});
  EXPECT_EQ(chunks, (std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {2, 0}}));
  EXPECT_EQ(table.counted, 5);
  options.optimizer = "sgd";
  options.weightDecayOn = "all";
  table = makeUpdateTable(context, manifest, options, arena);
  EXPECT_EQ(table.tensors[0].first, nullptr);
  EXPECT_EQ(table.tensors[0].decay, 0.5);
}

TEST_F(UpdateTest, FrozenParametersAreLeftAlone) {
  ParameterInfo &frozen = manifest.parameters[0];
  frozen.gradient = frozen.firstMoment = frozen.secondMoment = -1;
  device.squareSum = record<'q', 1>;
  squareSum(context, device, manifest, arena);
  updateParameters(context, device, manifest, options, arena, 0.1, 1);
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{{'q', 101}, {'a', 100, 101, 102, 103, -1}}));
  UpdateTable table = makeUpdateTable(context, manifest, options, arena);
  ASSERT_EQ(table.tensors.size(), 1u);
  EXPECT_EQ(reinterpret_cast<char *>(table.tensors[0].parameter) - arena, 100);
  // But bodies may read them in bf16.
  calls.clear();
  ASSERT_TRUE(fillCopies(context, device, manifest, arena).ok());
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{{'c', 0, 512, GVRT_F32, GVRT_BF16, 32}}));
  calls.clear();
  manifest.precision = "fp16";
  ASSERT_TRUE(fillCopies(context, device, manifest, arena).ok());
  EXPECT_EQ(calls, (std::vector<std::vector<int64_t>>{{'c', 0, 512, GVRT_F32, GVRT_F16, 32}}));
}

TEST_F(UpdateTest, ALossCountsOnceAmongEqualOnes) {
  context.coordinates = {1, 0};
  EXPECT_FALSE(answersForLoss(context, {0, {}}));
  EXPECT_TRUE(answersForLoss(context, {0, {0}}));
  context.coordinates = {0, 0};
  EXPECT_TRUE(answersForLoss(context, {0, {}}));
}

} // namespace
