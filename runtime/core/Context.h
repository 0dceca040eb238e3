//===- Context.h - what one rank knows while it runs ----------------------===//
//
// The runtime's core fills a context at start and keeps its counters while it walks the timetable; the device library
// reads it. Compiled code sees only the name `gvrt_context`.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_CONTEXT_H
#define GALVATRON_RUNTIME_CORE_CONTEXT_H

#include "runtime/api/GalvatronRuntime.h"
#include "runtime/core/Progress.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mpi.h>
#include <string>
#include <vector>

namespace galvatron {

/// Ranks of the world that do a collective together.
struct Group {
  std::vector<int> ranks;                // of the world, in the order of the group
  int position = 0;                      // of this rank
  MPI_Comm communicator = MPI_COMM_NULL; // shared by all groups of the same ranks; owned by the device's communicators
};

class Events;
class EntryTimes;

/// Host memory that kernels and collectives borrow for the length of one call. One piece, grown to the largest request,
/// which every caller bounds: with the arena it is all that a rank allocates (docs/runtime.md, "Memory").
class Workspace {
public:
  static constexpr size_t kLimitBytes = 16u << 20;

  /// At least `bytes` bytes, 64-byte aligned, valid until the next request.
  void *bytes(size_t bytes);
  float *floats(size_t count) { return static_cast<float *>(this->bytes(count * sizeof(float))); }

private:
  std::unique_ptr<char[]> storage;
  size_t capacity = 0;
};

/// What a handle stands for until its wait.
struct UnderWay {
  std::vector<MPI_Request> requests; // none: the handle is free
  int sender = -1;                   // of a receive, and what is expected to come
  int64_t tag = 0, bytes = 0;
};

/// Called with a finished message when a function cannot go on; does not return.
using FailureHandler = void (*)(gvrt_context *context, const std::string &message);

} // namespace galvatron

struct gvrt_context {
  /// What this rank executes; outlives the context.
  const gvrt_program *program = nullptr;

  // Place. World rank = stage · devices + device; coordinates per mesh axis, major first.
  int rank = 0, ranks = 1, stage = 0, stages = 1, device = 0, devices = 1;
  std::vector<int64_t> coordinates;

  // What random bits and positions depend on. `layer` is the hash of the layer's path (api/CounterRandom.h).
  uint64_t seed = 0, layer = 0;
  int64_t step = 0, microBatch = 0;
  /// Rows may hold several documents: --reset-at-documents, or packed samples.
  bool keepsDocuments = false;
  /// Evaluation: dropout keeps everything.
  bool isEvaluating = false;
  double dropoutOf(double p) const { return isEvaluating ? 0 : p; }
  /// Number of this step's update, from 1: batches without a label have none, nor have steps that overflow.
  int64_t update = 0;
  /// The gradient of the loss in this step, by which all others are multiplied; 1 but in fp16 (optim/LossScale.h).
  float lossScale = 1;
  /// Why this rank wants to end after the step (core/Ends.h); the ranks agree by it together with their sums.
  int64_t wantedEnd = 0;

  // Communication. Opposite channels between two stages never share a communicator, so that neither waits for the
  // other's order.
  std::vector<galvatron::Group> groups;
  MPI_Comm towardsLaterStages = MPI_COMM_NULL, towardsEarlierStages = MPI_COMM_NULL;
  std::vector<galvatron::UnderWay> underWay; // by handle

  // Memory of the device, counted where it is allocated, in bytes.
  int64_t allocatedBytes = 0, peakBytes = 0;
  galvatron::Workspace workspace;

  /// What happens to this rank, for --events: writeEvent in core/Events.h. Null where nobody listens.
  galvatron::Events *events = nullptr;

  /// Whatever the device library keeps for this rank, from `prepare` on; null where it keeps nothing.
  void *deviceState = nullptr;

  /// Name of the timetable entry that runs now, for messages; null between entries.
  const char *volatile entry = nullptr;
  /// The collective or transfer that runs now, for messages: its name and with whom; null outside.
  const char *volatile operation = nullptr;
  const galvatron::Group *operationGroup = nullptr;
  int operationPeer = -1;
  galvatron::Progress progress;
  galvatron::FailureHandler onFailure = nullptr;
  /// Called after every entry unless null: a device that finds errors late looks for them there.
  void (*afterEntry)(gvrt_context *context) = nullptr;
  /// Told of every entry, for --trace; null where nobody listens.
  galvatron::EntryTimes *entryTimes = nullptr;
};

#endif
