//===- StepGraph.cpp - one step, captured once and replayed -------------------------===//
//
// Training has a graph, and so has evaluation. Where --trace is given, training has a second one, with events (StepTimes.h),
// for traced steps.
//
// The first step runs twice: once as it stands, in tuning mode, which loads kernels, builds plans, measures products
// and lets NCCL set up its connections, none of which may happen while a graph is captured; then as the graph. Nothing
// between `fill` and the update reads what a timetable left behind, so the second run starts from the same values.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/StepGraph.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/StepTimes.h"
#include "runtime/cuda/Ticks.h"
#include "runtime/cuda/Update.h"

namespace galvatron::cuda {

StepGraph::~StepGraph() {
  if (executable)
    cudaGraphExecDestroy(executable);
}

static void waitForCompute(gvrt_context *context) {
  State &state = stateOf(context);
  GVRT_CUDA(context, cudaEventRecord(state.idle, state.compute));
  waitFor(context, state.idle);
}

static void tune(gvrt_context *context, void (*walk)(void *argument), void *argument) {
  State &state = stateOf(context);
  state.tuning = true;
  state.entries = 0;
  // A kernel that fails is told by its entry's name.
  context->afterEntry = [](gvrt_context *context) {
    ++stateOf(context).entries;
    waitForCompute(context);
  };
  walk(argument);
  context->afterEntry = nullptr;
  synchronize(context);
  state.tuning = false;
}

/// After every so many of the entries that tuning counted.
static void tickSometimes(gvrt_context *context) {
  State &state = stateOf(context);
  int64_t every = state.entries / kMostTicks + 1;
  if (++state.captured % every != 0)
    return;
  launchTick(state.compute, state.ticks);
  GVRT_CUDA(context, cudaGetLastError());
}

/// `times`: told of the entries; null: of a step that is not traced.
static std::unique_ptr<StepGraph> capture(gvrt_context *context, void (*walk)(void *argument), void *argument,
                                          EntryTimes *times = nullptr) {
  State &state = stateOf(context);
  auto captured = std::make_unique<StepGraph>();
  cudaGraph_t graph = nullptr;
  // Thread-local: NCCL's own threads go on calling CUDA.
  GVRT_CUDA(context, cudaStreamBeginCapture(state.compute, cudaStreamCaptureModeThreadLocal));
  state.captured = 0;
  context->afterEntry = tickSometimes;
  context->entryTimes = times;
  walk(argument);
  context->entryTimes = nullptr;
  context->afterEntry = nullptr;
  joinAll(context);
  GVRT_CUDA(context, cudaStreamEndCapture(state.compute, &graph));
  GVRT_CUDA(context, cudaGraphInstantiate(&captured->executable, graph, 0));
  GVRT_CUDA(context, cudaGraphDestroy(graph));
  GVRT_CUDA(context, cudaGraphUpload(captured->executable, state.compute));
  return captured;
}

void run(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument) {
  State &state = stateOf(context);
  setScalars(context, rate);
  std::unique_ptr<StepGraph> &graph = context->isEvaluating ? state.evaluationGraph : state.graph;
  if (!graph) {
    tune(context, walk, argument);
    // A rank that is still tuning would let the others' collectives wait on their GPUs.
    GVRT_MPI(context, MPI_Barrier(MPI_COMM_WORLD));
    graph = capture(context, walk, argument);
    if (state.traces && !context->isEvaluating) {
      // Now, as it takes long: traced steps shall not take longer than others.
      state.times = std::make_unique<StepTimes>(context);
      state.tracedGraph = capture(context, walk, argument, state.times.get());
    }
  }
  bool isTraced = !context->isEvaluating && std::exchange(state.isNextTraced, false);
  if (isTraced)
    state.times->anchor();
  GVRT_CUDA(context, cudaGraphLaunch(isTraced ? state.tracedGraph->executable : graph->executable, state.compute));
}

void runOneByOne(gvrt_context *context, double rate, void (*walk)(void *argument), void *argument) {
  setScalars(context, rate);
  tune(context, walk, argument);
}

void synchronize(gvrt_context *context) {
  if (stateOf(context).communication)
    joinAll(context);
  waitForCompute(context);
}

} // namespace galvatron::cuda
