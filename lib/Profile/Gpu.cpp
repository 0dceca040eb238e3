// NVML's functions by name: a machine without GPUs has no such library, and this tool links none.
#include "Gpu.h"

#include "galvatron/Search/Model/Cluster.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

namespace galvatron::profile {

namespace {

/// Of others' processes and contexts, what may be there without disturbing.
constexpr std::int64_t kIdleBytes = 1ll << 30;
constexpr int kIdlePercent = 10;

// Structures and numbers as NVIDIA's header of the library has them.
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
struct Process {
  unsigned pid;
  unsigned long long usedBytes;
  unsigned gpuInstance, computeInstance;
};
constexpr int kSuccess = 0, kStreamingClock = 1, kGpuTemperature = 0;
using Handle = void *;

class Nvml {
public:
  Nvml() {
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    isThere = library && call<int()>("nvmlInit_v2", -1) == kSuccess;
  }
  ~Nvml() {
    if (isThere)
      call<int()>("nvmlShutdown", 0);
    if (library)
      dlclose(library);
  }
  Nvml(const Nvml &) = delete;

  bool isThere = false;

  /// The function's result, or `missing` where this driver has none.
  template <typename Function, typename... Arguments> int call(const char *name, int missing, Arguments... arguments) {
    auto *function = reinterpret_cast<Function *>(dlsym(library, name));
    return function ? function(arguments...) : missing;
  }

private:
  void *library = nullptr;
};

/// Bits of nvmlDeviceGetCurrentClocksEventReasons.
std::string describeReasons(unsigned long long bits) {
  std::string text;
  for (auto [bit, word] : {std::pair{0x4ull, "power limit"},
                           {0x8ull, "hardware slow-down"},
                           {0x20ull, "heat"},
                           {0x40ull, "heat (hardware)"},
                           {0x80ull, "power brake"}})
    if (bits & bit)
      text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

} // namespace

std::int64_t countGpus() {
  if (const char *seen = std::getenv("CUDA_VISIBLE_DEVICES"))
    return *seen ? 1 + std::count(seen, seen + std::strlen(seen), ',') : 0;
  Nvml nvml;
  unsigned count = 0;
  bool isKnown = nvml.isThere && nvml.call<int(unsigned *)>("nvmlDeviceGetCount_v2", -1, &count) == kSuccess;
  return isKnown ? count : 0;
}

GpuFacts lookAtGpu(int index) {
  GpuFacts facts;
  Nvml nvml;
  Handle gpu = nullptr;
  if (!nvml.isThere ||
      nvml.call<int(unsigned, Handle *)>("nvmlDeviceGetHandleByIndex_v2", -1, unsigned(index), &gpu) != kSuccess)
    return facts;
  facts.isKnown = true;
  nvml.call<int(Handle, char *, unsigned)>("nvmlDeviceGetName", 0, gpu, facts.name, unsigned(sizeof facts.name));
  Memory memory = {};
  if (nvml.call<int(Handle, Memory *)>("nvmlDeviceGetMemoryInfo", -1, gpu, &memory) == kSuccess)
    facts.memoryBytes = std::int64_t(memory.total), facts.usedBytes = std::int64_t(memory.used);
  Utilization utilization = {};
  if (nvml.call<int(Handle, Utilization *)>("nvmlDeviceGetUtilizationRates", -1, gpu, &utilization) == kSuccess)
    facts.utilization = int(utilization.gpu);
  unsigned value = 0;
  if (nvml.call<int(Handle, int, unsigned *)>("nvmlDeviceGetClockInfo", -1, gpu, kStreamingClock, &value) == kSuccess)
    facts.clockMhz = value;
  if (nvml.call<int(Handle, unsigned *)>("nvmlDeviceGetPowerUsage", -1, gpu, &value) == kSuccess)
    facts.powerWatts = value / 1e3;
  if (nvml.call<int(Handle, unsigned *)>("nvmlDeviceGetEnforcedPowerLimit", -1, gpu, &value) == kSuccess)
    facts.limitWatts = value / 1e3;
  if (nvml.call<int(Handle, int, unsigned *)>("nvmlDeviceGetTemperature", -1, gpu, kGpuTemperature, &value) == kSuccess)
    facts.celsius = value;
  unsigned long long bits = 0;
  if (nvml.call<int(Handle, unsigned long long *)>("nvmlDeviceGetCurrentClocksThrottleReasons", -1, gpu, &bits) ==
      kSuccess) {
    std::string reasons = describeReasons(bits);
    reasons.copy(facts.reasons, sizeof facts.reasons - 1);
  }
  Process processes[64] = {};
  unsigned count = 64;
  if (nvml.call<int(Handle, unsigned *, Process *)>("nvmlDeviceGetComputeRunningProcesses_v3", -1, gpu, &count,
                                                    processes) == kSuccess) {
    facts.processes = int(count);
    facts.process = count ? std::int64_t(processes[0].pid) : 0;
  }
  return facts;
}

std::string describeBusyGpus(const std::vector<GpuFacts> &gpus, const std::vector<std::string> &hosts,
                             std::int64_t ranksOfHost, bool isAllowed) {
  for (std::size_t rank = 0; rank < gpus.size(); ++rank) {
    const GpuFacts &gpu = gpus[rank];
    if (!gpu.isKnown || (gpu.processes == 0 && gpu.usedBytes <= kIdleBytes && gpu.utilization <= kIdlePercent))
      continue;
    char text[320];
    std::snprintf(text, sizeof text, "GPU %lld of host '%s' is in use: %d processes, such as %lld, %s, %d %% busy; %s",
                  (long long)(std::int64_t(rank) % ranksOfHost), hosts[rank].c_str(), gpu.processes,
                  (long long)gpu.process, search::formatBytes(double(gpu.usedBytes)).c_str(), gpu.utilization,
                  isAllowed ? "the profile is marked"
                            : "wait until they are through, or give --allow-busy (the profile then says so)");
    return text;
  }
  return "";
}

std::string kindOfGpu(const std::string &name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char *kind : {"h200", "h100", "a100"})
    if (lower.find(kind) != std::string::npos && search::findDeviceKind(kind))
      return kind;
  return "";
}

} // namespace galvatron::profile
