//===- Ticks.h - how far the GPU is in a step, told to the host -------------------===//
//
// A captured step is one launch, in which the host sees nothing. So that a long step is not taken for one that hangs
// (core/Watchdog.h), a few kernels in it count in host memory: some kMostTicks a step, of a microsecond or two each.
//
//===------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_TICKS_H
#define GALVATRON_RUNTIME_CUDA_TICKS_H

#include <cstdint>
#include <cuda_runtime_api.h>

namespace galvatron::cuda {

inline constexpr int64_t kMostTicks = 16;

/// Adds 1 to `counter`, pinned host memory, once what was issued to the stream before is done.
void launchTick(cudaStream_t stream, int64_t *counter);

} // namespace galvatron::cuda

#endif
