//===- UpdateTable.h - what one kernel needs to update all parameters -------===//
//
// A device that updates all parameters in one launch gives each of its blocks a chunk of one of them. Chunks that this
// rank answers for in the gradient norm come first, so the norm's kernel takes the first `counted` of them; their order
// depends on the program alone, so sums over chunks are the same in every run.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_OPTIM_UPDATETABLE_H
#define GALVATRON_RUNTIME_OPTIM_UPDATETABLE_H

#include "runtime/core/Context.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"

namespace galvatron {

/// One parameter's local piece; addresses of the device. Moments are null for sgd, `copy` where there is none.
struct UpdateTensor {
  float *parameter;
  const float *gradient;
  float *first, *second;
  uint16_t *copy;
  int64_t count;
  double decay;
};

/// Elements index·kUpdateChunk … of a tensor.
struct UpdateChunk {
  int32_t tensor, index;
};
inline constexpr int64_t kUpdateChunk = 32768;

struct UpdateTable {
  std::vector<UpdateTensor> tensors;
  std::vector<UpdateChunk> chunks;
  int64_t counted = 0;
};

/// Of the parameters that are trained.
UpdateTable makeUpdateTable(const gvrt_context &context, const Manifest &manifest, const Options &options, char *arena);

} // namespace galvatron

#endif
