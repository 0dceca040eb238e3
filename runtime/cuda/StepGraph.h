//===- StepGraph.h - one step, captured once and replayed -------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_STEPGRAPH_H
#define GALVATRON_RUNTIME_CUDA_STEPGRAPH_H

#include "runtime/cuda/State.h"

namespace galvatron::cuda {

struct StepGraph {
  cudaGraphExec_t executable = nullptr;

  StepGraph() = default;
  StepGraph(const StepGraph &) = delete;
  ~StepGraph();
};

/// DeviceHooks::run: the first time a walk in tuning mode and a captured one, then and later a launch of the graph.
void run(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument);

/// DeviceHooks::runOneByOne: a walk in tuning mode.
void runOneByOne(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument);

/// Waits for everything issued to any stream.
void synchronize(gvrt_context *context);

} // namespace galvatron::cuda

#endif
