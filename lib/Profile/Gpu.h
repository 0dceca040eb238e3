// What NVIDIA's management library (NVML, loaded when it is there) says of a rank's GPU.
#ifndef GALVATRON_LIB_PROFILE_GPU_H
#define GALVATRON_LIB_PROFILE_GPU_H

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::profile {

/// Of one GPU; texts are cut to what fits, so that ranks can exchange it as bytes.
struct GpuFacts {
  char name[80] = "", reasons[96] = ""; ///< reasons: why its clocks are below what it could have
  std::int64_t memoryBytes = 0, usedBytes = 0, process = 0;
  int processes = 0, utilization = 0; ///< of others; percent
  double clockMhz = 0, powerWatts = 0, limitWatts = 0, celsius = 0;
  bool isKnown = false;
};

/// That this host has, or CUDA_VISIBLE_DEVICES leaves; 0 where nothing is known.
std::int64_t countGpus();

/// Of GPU `index` as NVML counts them; nothing known where there is no NVML.
GpuFacts lookAtGpu(int index);

/// "GPU 0 of host 'a' is in use: process 12, 3 GiB, 40 %; …", with the remedy or what follows; empty: none is.
std::string describeBusyGpus(const std::vector<GpuFacts> &gpus, const std::vector<std::string> &hosts,
                             std::int64_t ranksOfHost, bool isAllowed);

/// "h200" of "NVIDIA H200", as clusters name kinds of devices; empty: no kind that there are prices for.
std::string kindOfGpu(const std::string &name);

} // namespace galvatron::profile

#endif
