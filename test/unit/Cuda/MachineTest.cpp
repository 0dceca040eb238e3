// What a user reads on a machine that cannot run a program; needs no GPU.
#include "runtime/cuda/Machine.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

using namespace galvatron::cuda;
using ::testing::HasSubstr;

namespace {

std::string problem(Machine machine) { return checkMachine("rank 3 (stage 1, host)", machine).message; }

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

// Kernels that wait for other ranks hold their multiprocessors: all that may wait at once must find room.
TEST(CudaMachine, EveryCommunicatorFindsRoom) {
  for (int multiprocessors : {16, 108, 132})
    for (int channels : {0, 1, 4, 8}) {
      CommunicatorBlocks blocks = communicatorBlocks(multiprocessors, channels);
      EXPECT_LE(2 * blocks.group + channels * blocks.channel, multiprocessors) << channels;
      EXPECT_GE(blocks.channel, 1);
    }
  EXPECT_EQ(communicatorBlocks(132, 4).group, 32);
  EXPECT_EQ(communicatorBlocks(132, 4).channel, 8);
}

} // namespace
