//===- Memory.cpp - device memory: allocated here, and as the driver counts it -----------------===//
//
// A context takes hundreds of MiB before its first allocation, so what a process takes in all can only be seen from
// outside: NVML comes with every driver, has no library to link and is asked for at run time.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Memory.h"

#include <algorithm>
#include <dlfcn.h>

namespace galvatron::cuda {

void *allocate(gvrt_context *context, int64_t bytes) {
  void *memory = nullptr;
  if (cudaMalloc(&memory, std::max<int64_t>(bytes, 1)) != cudaSuccess) {
    cudaGetLastError(); // told by the caller, in words
    return nullptr;
  }
  // Start values rely on it, as on mapped memory of the processor. Our streams do not wait for the default one, on
  // which this is done.
  GVRT_CUDA(context, cudaMemset(memory, 0, bytes));
  Waiting waiting(context->progress, "the GPU");
  GVRT_CUDA(context, cudaStreamSynchronize(cudaStreamLegacy));
  context->allocatedBytes += bytes;
  context->peakBytes = std::max(context->peakBytes, context->allocatedBytes);
  return memory;
}

void release(gvrt_context *context, void *memory, int64_t bytes) {
  if (!memory)
    return;
  cudaFree(memory);
  context->allocatedBytes -= bytes;
}

int64_t usedBytes(int gpu) {
  using Handle = struct nvmlDevice_st *;
  struct Usage {
    unsigned long long total, free, used;
  };
  char bus[32];
  if (cudaDeviceGetPCIBusId(bus, sizeof bus, gpu) != cudaSuccess)
    return -1;
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return -1;
  auto find = [&]<typename Function>(const char *name, Function *&function) {
    function = reinterpret_cast<Function *>(dlsym(library, name));
    return function != nullptr;
  };
  int (*initialize)(), (*shutdown)(), (*byBus)(const char *, Handle *), (*usage)(Handle, Usage *);
  int64_t used = -1;
  if (find("nvmlInit_v2", initialize) && find("nvmlShutdown", shutdown) &&
      find("nvmlDeviceGetHandleByPciBusId_v2", byBus) && find("nvmlDeviceGetMemoryInfo", usage) && initialize() == 0) {
    Handle device = nullptr;
    Usage now;
    if (byBus(bus, &device) == 0 && usage(device, &now) == 0)
      used = now.used;
    shutdown();
  }
  dlclose(library);
  return used;
}

} // namespace galvatron::cuda
