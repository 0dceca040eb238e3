//===- StepTimes.cpp - when the entries of a traced step ran on the GPU ---------------------------===//
#include "runtime/cuda/StepTimes.h"
#include "runtime/core/TraceClock.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/StepGraph.h"

#include <algorithm>

namespace galvatron::cuda {

/// CUDA's events are to half a microsecond; an anchor is tried until the host saw it within so long, or so often.
constexpr double kResolution = 500, kGoodError = 5000; // nanoseconds
constexpr int kMostTries = 10;

StepTimes::~StepTimes() {
  std::vector<cudaEvent_t> events = between;
  for (const Beside &beside : besides)
    events.insert(events.end(), {beside.begin, beside.end});
  events.insert(events.end(), {before.event, after.event});
  for (cudaEvent_t event : events)
    if (event)
      cudaEventDestroy(event);
}

/// As a node of the graph, which has the event's time anew after each launch.
void StepTimes::record(cudaEvent_t &event, cudaStream_t stream) {
  if (!event)
    GVRT_CUDA(context, cudaEventCreate(&event));
  GVRT_CUDA(context, cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal));
}

void StepTimes::begin(int64_t number) {
  current = number;
  between.resize(number + 2);
  besides.resize(number + 1);
  if (number == 0)
    record(between[0], stateOf(context).compute);
}

void StepTimes::end(int64_t number) {
  record(between[number + 1], stateOf(context).compute);
  current = -1;
}

void StepTimes::beginBeside(cudaStream_t stream) {
  if (current >= 0 && !besides[current].begin)
    record(besides[current].begin, stream);
}

void StepTimes::endBeside(cudaStream_t stream) {
  if (current >= 0 && besides[current].begin && !besides[current].end)
    record(besides[current].end, stream);
}

void StepTimes::set(Anchor &anchor) {
  State &state = stateOf(context);
  if (!anchor.event)
    GVRT_CUDA(context, cudaEventCreate(&anchor.event));
  for (int tries = 0; tries < kMostTries; ++tries) {
    int64_t sent = traceTime();
    GVRT_CUDA(context, cudaEventRecord(anchor.event, state.compute));
    waitFor(context, anchor.event);
    int64_t seen = traceTime();
    anchor.time = sent + (seen - sent) / 2;
    anchor.error = 0.5 * (double)(seen - sent);
    if (anchor.error <= kGoodError)
      return;
  }
}

void StepTimes::anchor() { set(before); }

double StepTimes::sinceAnchor(cudaEvent_t event) {
  float milliseconds = 0;
  GVRT_CUDA(context, cudaEventElapsedTime(&milliseconds, before.event, event));
  return (double)milliseconds * 1e6;
}

double StepTimes::read(std::vector<EntryTime> &times) {
  set(after);
  double whole = sinceAnchor(after.event);
  double pace = whole > 0 ? (double)(after.time - before.time) / whole : 1; // the host's seconds in one of the GPU's
  auto timeOf = [&](cudaEvent_t event) { return before.time + (int64_t)(sinceAnchor(event) * pace); };
  times.assign(besides.size(), {});
  int64_t begin = between.empty() ? 0 : timeOf(between[0]);
  for (size_t entry = 0; entry < times.size(); ++entry) {
    int64_t end = timeOf(between[entry + 1]);
    times[entry] = {begin, end};
    if (besides[entry].end) {
      times[entry].besideBegin = timeOf(besides[entry].begin);
      times[entry].besideEnd = timeOf(besides[entry].end);
    }
    begin = end;
  }
  // Elapsed times are floats.
  return std::max(before.error, after.error) + kResolution + whole * 0x1p-23;
}

void traceNext(gvrt_context *context) {
  synchronize(context);
  stateOf(context).isNextTraced = true;
}

double readTimes(gvrt_context *context, std::vector<EntryTime> &times) {
  synchronize(context);
  return stateOf(context).times->read(times);
}

} // namespace galvatron::cuda
