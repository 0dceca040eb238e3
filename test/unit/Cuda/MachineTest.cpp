// What a user reads on a machine that cannot run a program; needs no GPU.
#include "runtime/cuda/Machine.h"
#include "runtime/cuda/NcclSettings.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <unistd.h>

using namespace galvatron::cuda;
using ::testing::HasSubstr;

namespace {

std::string problem(Machine machine) { return checkMachine("rank 3 (stage 1, host)", machine).message; }

TEST(CudaMachine, RanksTakeWhatTheyAreShown) {
  auto choices = [](const std::vector<std::vector<std::string>> &shown) {
    std::string text;
    for (size_t i = 0; i < shown.size(); ++i) {
      GpuChoice choice = chooseGpu(shown, (int)i);
      text += std::to_string(choice.gpu) + "/" + std::to_string(choice.sharing) + " ";
    }
    return text;
  };
  EXPECT_EQ(choices({{"a", "b"}, {"a", "b"}}), "0/0 1/0 ");
  EXPECT_EQ(choices({{"a"}, {"b"}}), "0/0 0/0 "); // --gpus-per-task=1
  EXPECT_EQ(choices({{"a", "b"}, {"a", "b"}, {"c"}}), "0/0 1/0 0/0 ");
  EXPECT_EQ(choices({{"a"}, {"a"}}), "0/0 0/1 ");
  EXPECT_EQ(choices({{"a", "b"}, {"b", "a"}, {"b"}}), "0/0 0/0 0/1 ");
  EXPECT_EQ(checkShared("rank 1", {{"a"}, {"b"}}, 1, false).message, "");
  EXPECT_EQ(checkShared("rank 1", {{"a"}, {"a"}}, 1, true).message, "");
  EXPECT_THAT(checkShared("rank 1", {{"a"}, {"a"}}, 1, false).message,
              HasSubstr("rank 1 has the same GPU as another rank of its machine, a; show each its own"));
}

TEST(CudaMachine, DriverAndGpus) {
  EXPECT_THAT(problem({0, 13000, 0, 1}), HasSubstr("rank 3 (stage 1, host) finds no NVIDIA driver"));
  EXPECT_THAT(problem({12080, 13000, 0, 1}), HasSubstr("has a driver for CUDA 12.8, but this program needs one for "
                                                       "CUDA 13.0; install NVIDIA's driver 580 or a newer one"));
  EXPECT_THAT(problem({13000, 14000, 0, 1}), HasSubstr("needs one for CUDA 14.0; install a newer driver"));
  EXPECT_THAT(problem({13000, 13000, 0, 1}), HasSubstr("finds no GPU; this program was compiled for cuda"));
  EXPECT_THAT(problem({13000, 13000, 1, 2}), HasSubstr("runs with 2 ranks on a machine with 1 GPU; each needs one"));
  EXPECT_EQ(problem({13000, 13000, 1, 2, /*sharesGpus=*/true}), "");
  EXPECT_THAT(problem({13000, 13000, 0, 2, /*sharesGpus=*/true}), HasSubstr("finds no GPU"));
  EXPECT_EQ(problem({13000, 13010, 2, 2}), ""); // a newer minor version of CUDA
  EXPECT_EQ(problem({14000, 13000, 2, 1}), "");
}

TEST(CudaMachine, Memory) {
  EXPECT_TRUE(checkMemory("rank 0", 1, "H200", 1 << 20, 1 << 20, 1 << 21).ok());
  EXPECT_EQ(checkMemory("rank 0", 1, "H200", (1 << 20) + 1, 1 << 20, 1 << 21).message,
            "rank 0 needs 1.0 MiB (1048577 bytes) on GPU 1 (H200), but only 1.0 MiB (1048576 bytes) of its 2.0 MiB are "
            "free; end what else uses it, or compile with a smaller --memory");
}

TEST(CudaMachine, WhatIsToComeIsTheArenaAndWhatIsLeftOfTheOverhead) {
  EXPECT_EQ(bytesToCome(/*arena=*/1000, /*overhead=*/300, /*taken=*/200), 1100);
  EXPECT_EQ(bytesToCome(1000, 300, 400), 1000);
  EXPECT_EQ(bytesToCome(1000, 300, -1), 1000);
  EXPECT_EQ(bytesToCome(1000, 0, 200), 1000);
}

TEST(CudaMachine, TheOverheadIsReadFromThePlan) {
  std::string file = ::testing::TempDir() + "galvatron-plan-" + std::to_string(getpid()) + ".json";
  auto written = [&](const char *text) {
    std::ofstream(file) << text;
    return file;
  };
  EXPECT_EQ(overheadBytes(written(R"({"reserved_bytes_per_rank": [5, 700]})"), 1), 700);
  EXPECT_EQ(overheadBytes(written(R"({"reserved_bytes_per_rank": [5, 700]})"), 2), 0);
  EXPECT_EQ(overheadBytes(written(R"({"reserved_bytes_per_rank": ["much"]})"), 0), 0);
  EXPECT_EQ(overheadBytes(written(R"({"ranks": 1})"), 0), 0);
  EXPECT_EQ(overheadBytes(written("2 2 huge"), 0), 0);
  std::remove(file.c_str());
  EXPECT_EQ(overheadBytes(file, 0), 0);
}

/// Sets variables of the environment, and puts them back.
class CudaNccl : public ::testing::Test {
protected:
  void SetUp() override {
    for (const char *name : kNames) {
      const char *value = std::getenv(name);
      before.push_back(value ? std::optional<std::string>(value) : std::nullopt);
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (size_t i = 0; i < std::size(kNames); ++i)
      before[i] ? setenv(kNames[i], before[i]->c_str(), 1) : unsetenv(kNames[i]);
  }

  /// With one variable as the user has it.
  std::string problem(const char *name, const char *value, NcclSettings settings) {
    for (const char *each : kNames)
      unsetenv(each);
    setenv(name, value, 1);
    return settleNccl("rank 3 (stage 1, host)", settings).message;
  }

  static constexpr const char *kNames[] = {"NCCL_NVLS_ENABLE", "NCCL_MAX_CTAS", "NCCL_MIN_CTAS"};
  std::vector<std::optional<std::string>> before;
};

TEST_F(CudaNccl, VariablesAreSetSoThatNoFileSetsThem) {
  EXPECT_TRUE(settleNccl("rank 0", {}).ok());
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "0");
  EXPECT_STREQ(std::getenv("NCCL_MAX_CTAS"), "");
  EXPECT_STREQ(std::getenv("NCCL_MIN_CTAS"), "");
  EXPECT_TRUE(settleNccl("rank 0", {}).ok()); // what it set itself does not contradict it
  unsetenv("NCCL_NVLS_ENABLE");
  EXPECT_TRUE(settleNccl("rank 0", {.nvls = true}).ok());
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "1");
}

TEST_F(CudaNccl, WhatContradictsThePlanIsRefusedWithBothValues) {
  for (const char *value : {"1", "2", "on", " "})
    EXPECT_EQ(problem("NCCL_NVLS_ENABLE", value, {}),
              "rank 3 (stage 1, host) has NCCL_NVLS_ENABLE=" + std::string(value) +
                  " in its environment, but this program was planned with 0 (plan.json, nccl: nvls false), by which its "
                  "memory is known; unset it, or compile with another 'nccl' in the cluster file");
  EXPECT_THAT(problem("NCCL_NVLS_ENABLE", "0", {.nvls = true}), HasSubstr("planned with 1 (plan.json, nccl: nvls true)"));
  EXPECT_THAT(problem("NCCL_MAX_CTAS", "64", {}), HasSubstr("has NCCL_MAX_CTAS=64 in its environment, but this program was "
                                                            "planned with 32 (plan.json, nccl: max_blocks)"));
  EXPECT_THAT(problem("NCCL_MIN_CTAS", "8", {}), HasSubstr("planned with 1 (plan.json, nccl: at least one block)"));
  EXPECT_EQ(problem("NCCL_NVLS_ENABLE", "0", {}), "");
  EXPECT_EQ(problem("NCCL_NVLS_ENABLE", "", {}), "");
  EXPECT_EQ(problem("NCCL_MAX_CTAS", "16", {.maxBlocks = 16}), "");
  EXPECT_STREQ(std::getenv("NCCL_MAX_CTAS"), ""); // of channels it is another number
}

TEST(CudaMachine, SettingsOfNcclAreReadFromThePlan) {
  std::string file = ::testing::TempDir() + "galvatron-nccl-" + std::to_string(getpid()) + ".json";
  auto read = [&](const char *text) {
    std::ofstream(file) << text;
    return readNcclSettings(file);
  };
  NcclSettings own = read(R"({"nccl": {"nvls": true, "max_blocks": 16}})");
  EXPECT_TRUE(own.nvls);
  EXPECT_EQ(own.maxBlocks, 16);
  for (const char *text : {R"({"ranks": 1})", R"({"nccl": {"nvls": 1, "max_blocks": 99}})", R"({"nccl": 3})", "[1]", "{"}) {
    own = read(text);
    EXPECT_FALSE(own.nvls) << text;
    EXPECT_EQ(own.maxBlocks, 32) << text;
  }
  std::remove(file.c_str());
  EXPECT_FALSE(readNcclSettings(file).nvls);
}

// Kernels that wait for other ranks hold their multiprocessors: all that may wait at once must find room.
TEST(CudaMachine, EveryCommunicatorFindsRoom) {
  for (int multiprocessors : {16, 108, 132})
    for (int groups : {2, 3, 5})
      for (int channels : {0, 1, 4, 8}) {
        CommunicatorBlocks blocks = communicatorBlocks(multiprocessors, groups, channels);
        EXPECT_LE(groups * blocks.group + channels * blocks.channel, multiprocessors) << groups << ", " << channels;
        EXPECT_GE(blocks.group, 1);
        EXPECT_GE(blocks.channel, 1);
      }
  EXPECT_EQ(communicatorBlocks(132, 2, 4).group, 32);
  EXPECT_EQ(communicatorBlocks(132, 2, 4).channel, 8);
  EXPECT_EQ(communicatorBlocks(132, 2, 4, /*most=*/16).group, 16);
}

} // namespace
