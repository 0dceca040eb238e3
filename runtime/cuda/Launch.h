//===- Launch.h - kernels that the compiler generated for this stage ---------------===//
#ifndef GALVATRON_RUNTIME_CUDA_LAUNCH_H
#define GALVATRON_RUNTIME_CUDA_LAUNCH_H

#include "runtime/cuda/State.h"

namespace galvatron::cuda {

/// Hands the program's kernels to the driver, which compiles PTX now. Does nothing where there are none.
void loadKernels(gvrt_context *context);
void unloadKernels(State &state);

} // namespace galvatron::cuda

#endif
