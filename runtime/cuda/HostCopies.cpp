//===- HostCopies.cpp - the state of one step to pinned host memory ------------------------------------===//
#include "runtime/cuda/HostCopies.h"

namespace galvatron::cuda {

HostCopies::~HostCopies() {
  if (copied)
    cudaEventDestroy(copied);
  if (updated)
    cudaEventDestroy(updated);
  if (stream)
    cudaStreamDestroy(stream);
}

void *allocateHost(gvrt_context *context, int64_t bytes) {
  State &state = stateOf(context);
  if (!state.copies) {
    state.copies = std::make_unique<HostCopies>();
    GVRT_CUDA(context, cudaStreamCreateWithFlags(&state.copies->stream, cudaStreamNonBlocking));
    for (cudaEvent_t *event : {&state.copies->updated, &state.copies->copied})
      GVRT_CUDA(context, cudaEventCreateWithFlags(event, cudaEventDisableTiming));
  }
  void *memory = nullptr;
  if (cudaHostAlloc(&memory, bytes, cudaHostAllocDefault) == cudaSuccess)
    return memory;
  (void)cudaGetLastError(); // the caller goes on without
  return nullptr;
}

void releaseHost(gvrt_context *context, void *memory) { GVRT_CUDA(context, cudaFreeHost(memory)); }

void startCopies(gvrt_context *context, const DeviceCopy *copies, int64_t count) {
  State &state = stateOf(context);
  HostCopies &host = *state.copies;
  GVRT_CUDA(context, cudaEventRecord(host.updated, state.compute));
  GVRT_CUDA(context, cudaStreamWaitEvent(host.stream, host.updated, 0));
  for (int64_t i = 0; i < count; ++i)
    GVRT_CUDA(context,
              cudaMemcpyAsync(copies[i].to, copies[i].from, copies[i].bytes, cudaMemcpyDeviceToHost, host.stream));
  GVRT_CUDA(context, cudaEventRecord(host.copied, host.stream));
  host.isUnderWay = true;
}

bool areCopied(gvrt_context *context) {
  cudaError_t code = cudaEventQuery(stateOf(context).copies->copied);
  if (code != cudaErrorNotReady)
    GVRT_CUDA(context, code);
  return code == cudaSuccess;
}

void letUpdateWaitForCopies(gvrt_context *context) {
  State &state = stateOf(context);
  if (!state.copies || !state.copies->isUnderWay)
    return;
  GVRT_CUDA(context, cudaStreamWaitEvent(state.compute, state.copies->copied, 0));
  state.copies->isUnderWay = false;
}

} // namespace galvatron::cuda
