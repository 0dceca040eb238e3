//===- Memory.h - device memory: allocated here, and as the driver counts it -------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_MEMORY_H
#define GALVATRON_RUNTIME_CUDA_MEMORY_H

#include "runtime/cuda/State.h"

namespace galvatron::cuda {

/// The one way to device memory; counted, filled with zeros. Null if refused.
void *allocate(gvrt_context *context, int64_t bytes);
void release(gvrt_context *context, void *memory, int64_t bytes);

/// Bytes of GPU `gpu` in use by anybody, as the driver's management library (NVML) counts them without a context; -1
/// where there is none.
int64_t usedBytes(int gpu);

} // namespace galvatron::cuda

#endif
