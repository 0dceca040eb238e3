// What is said of GPUs that others use, by figures.
#include "lib/Profile/Gpu.h"

#include <gtest/gtest.h>

using namespace galvatron::profile;

namespace {

GpuFacts idle() {
  GpuFacts gpu;
  gpu.isKnown = true, gpu.memoryBytes = 150ll << 30, gpu.usedBytes = 500 << 20;
  return gpu;
}

TEST(Gpu, what_others_use_is_refused_with_its_figures) {
  std::vector<GpuFacts> gpus = {idle(), idle()};
  EXPECT_EQ(describeBusyGpus(gpus, {"a", "a"}, 2, false), "");
  gpus[1].processes = 1, gpus[1].process = 77, gpus[1].usedBytes = 3ll << 30, gpus[1].utilization = 40;
  EXPECT_EQ(describeBusyGpus(gpus, {"a", "a"}, 2, false),
            "GPU 1 of host 'a' is in use: 1 processes, such as 77, 3.0 GiB, 40 % busy; wait until they are through, or "
            "give --allow-busy (the profile then says so)");
  EXPECT_EQ(describeBusyGpus(gpus, {"a", "a"}, 2, true),
            "GPU 1 of host 'a' is in use: 1 processes, such as 77, 3.0 GiB, 40 % busy; the profile is marked");
}

TEST(Gpu, of_one_without_nvml_nothing_is_known) {
  EXPECT_EQ(describeBusyGpus({GpuFacts()}, {"a"}, 1, false), "");
  EXPECT_EQ(kindOfGpu("NVIDIA H200"), "h200");
  EXPECT_EQ(kindOfGpu("NVIDIA A100-SXM4-80GB"), "a100");
  EXPECT_EQ(kindOfGpu("Tesla T4"), "");
}

} // namespace
