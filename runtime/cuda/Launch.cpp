//===- Launch.cpp - kernels that the compiler generated for this stage -------------===//
#include "runtime/cuda/Launch.h"
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"

using namespace galvatron;
using namespace galvatron::cuda;

namespace galvatron::cuda {

void loadKernels(gvrt_context *context) {
  State &state = stateOf(context);
  if (!context->program->kernels)
    return;
  char log[4096] = "";
  cudaJitOption options[] = {cudaJitErrorLogBuffer, cudaJitErrorLogBufferSizeBytes};
  void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
  cudaError_t code =
      cudaLibraryLoadData(&state.library, context->program->kernels, options, values, 2, nullptr, nullptr, 0);
  GVRT_CHECK(context, code == cudaSuccess,
             "the program's kernels cannot be loaded on this GPU: " << cudaGetErrorString(code) << (*log ? ": " : "")
                                                                    << log);
  unsigned count = 0;
  GVRT_CUDA(context, cudaLibraryGetKernelCount(&count, state.library));
  // A driver that loads lazily takes what is no code.
  GVRT_CHECK(context, count > 0, "the program's kernels cannot be loaded on this GPU: there is none in them");
  state.kernels.resize(count);
  for (unsigned k = 0; k < count; ++k) {
    std::string name = "kernel_" + std::to_string(k);
    GVRT_CUDA(context, cudaLibraryGetKernel(&state.kernels[k], state.library, name.c_str()));
  }
}

void unloadKernels(State &state) {
  if (state.library)
    cudaLibraryUnload(state.library);
  state.library = nullptr;
  state.kernels.clear();
}

} // namespace galvatron::cuda

void gvrt_launch(gvrt_context *context, void *const *buffers, const int64_t *attributes) {
  Attributes read(attributes);
  int64_t kernel = read.integer(), blocks = read.integer(), threads = read.integer(), count = read.integer();
  State &state = stateOf(context);
  GVRT_CHECK(context, kernel >= 0 && kernel < (int64_t)state.kernels.size(),
             "expects a generated kernel below " << state.kernels.size() << ", but got " << kernel);
  constexpr int64_t kMaxBuffers = 64;
  void *parameters[kMaxBuffers];
  GVRT_CHECK(context, count <= kMaxBuffers, "expects at most " << kMaxBuffers << " buffers, but got " << count);
  for (int64_t i = 0; i < count; ++i)
    parameters[i] = const_cast<void **>(&buffers[i]);
  GVRT_CUDA(context, cudaLaunchKernel(reinterpret_cast<const void *>(state.kernels[kernel]), dim3(blocks),
                                      dim3(threads), parameters, 0, state.compute));
}
