//===- Update.h - loss, gradient norm and all parameters' update on the GPU ---------------------===//
//
//   squares of chunks -> own sums -> every rank's sums (NCCL) -> scale, or nothing if a sum is not finite -> update
//
// All of it is issued after the step's graph; the host waits once, for the sums, and not for the update: what it does
// next, up to the launch of the next step's graph, takes less time than the update of a large model.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_UPDATE_H
#define GALVATRON_RUNTIME_CUDA_UPDATE_H

#include "runtime/core/Device.h"
#include "runtime/cuda/State.h"
#include "runtime/optim/UpdateTable.h"

namespace galvatron::cuda {

/// One rank's sums as they travel: StepSums in doubles (bytes are exact up to 2^53).
struct RankSums {
  double loss, squares, labels, peakBytes, wantedEnd;
};

/// What all ranks' sums decide, and the numbers of this step's update, each rounded to f32 once.
struct Verdict {
  int64_t good; // 0: a sum is not finite, or the batch has no label: leave everything as it is
  double lr;
  float scale; // of gradients: clipping, and 1 / loss scale
  float rate;  // lr
  // adamw: 1 - beta1, beta2, 1 - beta2, eps, lr / bias1, 1 / sqrt(bias2)
  float other1, beta2, other2, eps, stepSize, unbias2;
};

/// A term of the loss, and whether this rank answers for it.
struct LossTerm {
  const float *value;
  int64_t counted;
};

/// Constants of the optimizer, and the type of parameters' copies.
struct Rule {
  bool adamw, copiesAreF16;
  double beta1, beta2, eps, clip;
};

struct UpdatePlan {
  Rule rule;
  int64_t numChunks = 0, numCounted = 0;
  int64_t numLosses = 0, numTotals = 0;

  // Device memory, one piece from DeviceHooks::allocate.
  char *memory = nullptr;
  int64_t memoryBytes = 0;
  StepScalars *scalars = nullptr;
  Verdict *verdict = nullptr;
  RankSums *own = nullptr, *all = nullptr; // all: by rank
  double *partials = nullptr;              // by counted chunk
  LossTerm *losses = nullptr;              // of this stage, numLosses of them
  const float **totals = nullptr;          // of the batch's labels, numTotals of them
  UpdateTensor *tensors = nullptr;
  UpdateChunk *chunks = nullptr;

  // Pinned host memory: what is uploaded before and read after a step.
  StepScalars *hostScalars = nullptr;
  RankSums *hostAll = nullptr;

  UpdatePlan() = default;
  UpdatePlan(const UpdatePlan &) = delete;
  ~UpdatePlan();
};

/// DeviceHooks::start and ::update.
void startUpdates(gvrt_context *context, const Manifest &manifest, const Options &options, char *arena);
std::vector<StepSums> update(gvrt_context *context);

/// Uploads the numbers of step context->step.
void setScalars(gvrt_context *context, double rate);

// Kernels: UpdateKernels.cu.

/// partials[c] = Σ g² of counted chunk c, in f64.
void launchSquares(cudaStream_t stream, const UpdatePlan &plan);
/// *own = this rank's share.
void launchOwnSums(cudaStream_t stream, const UpdatePlan &plan, double peakBytes, double wantedEnd);
/// *verdict from the sums of `ranks` ranks.
void launchVerdict(cudaStream_t stream, const UpdatePlan &plan, int ranks);
void launchUpdate(cudaStream_t stream, const UpdatePlan &plan);

} // namespace galvatron::cuda

#endif
