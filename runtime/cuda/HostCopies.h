//===- HostCopies.h - the state of one step to pinned host memory, beside compute ---------------------===//
//
// On a stream of their own: they begin when the last update is done, and the next update waits for them. Forward and
// backward in between only read what is copied (the gathers of ZeRO write elsewhere, or the same bytes).
//
//===--------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_HOSTCOPIES_H
#define GALVATRON_RUNTIME_CUDA_HOSTCOPIES_H

#include "runtime/core/Device.h"
#include "runtime/cuda/State.h"

namespace galvatron::cuda {

struct HostCopies {
  cudaStream_t stream = nullptr;
  cudaEvent_t updated = nullptr, copied = nullptr; // when they may begin; when they are through
  bool isUnderWay = false;                         // no update has waited for them yet

  ~HostCopies();
};

/// DeviceHooks' functions of these names.
void *allocateHost(gvrt_context *context, int64_t bytes);
void releaseHost(gvrt_context *context, void *memory);
void startCopies(gvrt_context *context, const DeviceCopy *copies, int64_t count);
bool areCopied(gvrt_context *context);

/// Called before an update is issued.
void letUpdateWaitForCopies(gvrt_context *context);

} // namespace galvatron::cuda

#endif
