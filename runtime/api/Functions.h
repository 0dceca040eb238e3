// Declarations of every function of Functions.def, for the files that define them: apart from GalvatronRuntime.h, so that
// a new function recompiles nothing else of the runtime.
#ifndef GALVATRON_RUNTIME_API_FUNCTIONS_H
#define GALVATRON_RUNTIME_API_FUNCTIONS_H

#include "GalvatronRuntime.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GVRT_FUNCTION(name, buffers, attributes)                                                                       \
  void gvrt_##name(gvrt_context *context, void *const *buffer, const int64_t *attribute);
#include "Functions.def"
#undef GVRT_FUNCTION

/// Starts a generated kernel with the buffers as its parameters; exported only by devices that run such kernels.
/// attributes: kernel, blocks, threads (of a block), num_buffers.
void gvrt_launch(gvrt_context *context, void *const *buffers, const int64_t *attributes);

#ifdef __cplusplus
}
#endif

#endif
