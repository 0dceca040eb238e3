//===- StepTimes.h - when the entries of a traced step ran on the GPU -----------------------------===//
//
// Events inside of a graph that is captured for traced steps alone:
//
//   compute   0 ──A── 1 ──send── 2 ──B── 3       A, B: entries; numbers: events, one between any two entries
//   to stage 1          └ b ═══════ e            b, e: of what an entry starts beside compute
//
// Their times are told from two events outside of the graph, one before its launch and one after it, of which the host
// knows when they happened but for the time that it took to see them. So the clocks of GPU and host may drift.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_STEPTIMES_H
#define GALVATRON_RUNTIME_CUDA_STEPTIMES_H

#include "runtime/core/Device.h"
#include "runtime/core/EntryTimes.h"
#include "runtime/cuda/State.h"

namespace galvatron::cuda {

class StepTimes final : public EntryTimes {
public:
  explicit StepTimes(gvrt_context *context) : context(context) {}
  ~StepTimes() override;
  StepTimes(const StepTimes &) = delete;

  /// While a graph is captured: around each entry, and around what one starts on a side stream, the first of several.
  void begin(int64_t number) override;
  void end(int64_t number) override;
  void beginBeside(cudaStream_t stream);
  void endBeside(cudaStream_t stream);

  /// Before a launch of that graph, once nothing else is under way.
  void anchor();
  /// After it, once it is done: the times of all entries. Returns by how much they may be off, in nanoseconds.
  double read(std::vector<EntryTime> &times);

private:
  /// A moment that both clocks know.
  struct Anchor {
    cudaEvent_t event = nullptr;
    int64_t time = 0; // of the host, in nanoseconds
    double error = 0; // of it
  };
  struct Beside {
    cudaEvent_t begin = nullptr, end = nullptr;
  };
  void record(cudaEvent_t &event, cudaStream_t stream);
  void set(Anchor &anchor);
  /// Nanoseconds of the GPU's clock since the first anchor.
  double sinceAnchor(cudaEvent_t event);

  gvrt_context *context;
  std::vector<cudaEvent_t> between; // before each entry, and after the last
  std::vector<Beside> besides;      // of each entry
  int64_t current = -1;             // the entry that is captured
  Anchor before, after;
};

/// DeviceHooks::traceNext and readTimes.
void traceNext(gvrt_context *context);
double readTimes(gvrt_context *context, std::vector<EntryTime> &times);

} // namespace galvatron::cuda

#endif
