//===- State.h - what a rank keeps of its GPU --------------------------------===//
//
// Every function of Functions.def issues its work to `State::compute` and returns: nothing there allocates, nothing
// waits, because after the first step all of it replays as one CUDA graph. The exception is the tuning walk before the
// first step (`State::tuning`), which runs the timetable once, uncaptured: kernels are loaded then, plans are built,
// and products are measured.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_STATE_H
#define GALVATRON_RUNTIME_CUDA_STATE_H

#include "runtime/core/Check.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <nccl.h>

namespace galvatron::cuda {

/// What changes from step to step, in device memory; written before each step, so a captured graph reads new values.
/// Random bits take `step` from here, never from an argument.
struct StepScalars {
  int64_t step;        // from 1
  double lr;           // learning rate of this step
  double bias1, bias2; // 1 - beta1^u, 1 - beta2^u, of update u
  float lossScale;     // the gradient of the loss; gradients are multiplied by it
};

struct Communication; // NCCL's side: Communication.h
struct UpdatePlan;    // optimizer's side: Update.h
struct StepGraph;     // the captured step: StepGraph.h
class StepTimes;      // traced steps: StepTimes.h
struct HostCopies;    // checkpoints' side: HostCopies.h

struct State {
  int64_t number = 0;                   // of this process' states: what is built with its handles is of it alone
  int gpu = 0;                          // CUDA's index of this rank's GPU
  int multiprocessors = 0;              // of it
  int maxBlocks = 32;                   // thread blocks of a group's communicator at most
  cudaStream_t compute = nullptr;       // every function of Functions.def issues here
  cublasLtHandle_t cublas = nullptr;    // one per rank
  cudnnHandle_t cudnn = nullptr;        // bound to `compute`
  void *workspace = nullptr;            // device memory for cuBLASLt, a planned piece of the arena;
  int64_t workspaceBytes = 0;           //   only for work on `compute`
  const StepScalars *scalars = nullptr; // device memory
  bool tuning = false;                  // the walk before the first step; the only place to wait or build
  cudaEvent_t idle = nullptr;           // to wait with for a point of `compute`
  int64_t *ticks = nullptr;             // pinned host memory: grows while a step runs (Ticks.h)
  int64_t ticksSeen = 0;                // of them, by `waitFor`
  int64_t entries = 0, captured = 0;    // of the timetable that was tuned last, and so far captured
  cudaLibrary_t library = nullptr;      // the stage's generated kernels, by number
  std::vector<cudaKernel_t> kernels;
  int64_t usedBefore = 0;         // bytes of the GPU's memory that were in use before this process came
  MPI_Comm stage = MPI_COMM_NULL; // the ranks of this stage, by device index
  std::unique_ptr<Communication> communication;
  std::unique_ptr<UpdatePlan> update;
  std::unique_ptr<StepGraph> graph, evaluationGraph;
  std::unique_ptr<StepGraph> tracedGraph; // training's, with events
  std::unique_ptr<StepTimes> times;       // of it
  bool traces = false;                    // some step is to be traced: --trace
  bool isNextTraced = false;
  std::unique_ptr<HostCopies> copies; // from the first one on

  State();
  ~State();
};

inline State &stateOf(gvrt_context *context) { return *static_cast<State *>(context->deviceState); }

/// Blocks until the ranks of this stage have the bytes of its device index 0. All of them call it, in the same order;
/// only while tuning. `data` is host memory.
void broadcastInStage(gvrt_context *context, void *data, int64_t bytes);

[[noreturn]] void failCuda(gvrt_context *context, cudaError_t code, const char *call, const char *file, int line);
[[noreturn]] void failCublas(gvrt_context *context, cublasStatus_t code, const char *call, const char *file, int line);
[[noreturn]] void failCudnn(gvrt_context *context, cudnnStatus_t code, const char *call, const char *file, int line);
[[noreturn]] void failNccl(gvrt_context *context, ncclResult_t code, const char *call, const char *file, int line);

} // namespace galvatron::cuda

#define GVRT_CUDA_RESULT(context, type, good, report, call)                                                            \
  do {                                                                                                                 \
    if (type gvrtCode = (call); gvrtCode != good) [[unlikely]]                                                         \
      ::galvatron::cuda::report(context, gvrtCode, #call, __FILE__, __LINE__);                                         \
  } while (false)

/// GVRT_CUDA(context, cudaMemcpyAsync(…)): a failure ends the run, naming rank, stage, entry and place. After a kernel
/// launch: GVRT_CUDA(context, cudaGetLastError()).
#define GVRT_CUDA(context, call) GVRT_CUDA_RESULT(context, cudaError_t, cudaSuccess, failCuda, call)
#define GVRT_CUBLAS(context, call) GVRT_CUDA_RESULT(context, cublasStatus_t, CUBLAS_STATUS_SUCCESS, failCublas, call)
#define GVRT_CUDNN(context, call) GVRT_CUDA_RESULT(context, cudnnStatus_t, CUDNN_STATUS_SUCCESS, failCudnn, call)
#define GVRT_NCCL(context, call) GVRT_CUDA_RESULT(context, ncclResult_t, ncclSuccess, failNccl, call)

#endif
