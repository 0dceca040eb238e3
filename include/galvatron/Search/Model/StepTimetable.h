//===- StepTimetable.h - What lowered stages do in a step -------*- C++ -*-===//
//
// The timetables that a compiler emitted, without MLIR and without their memory's proof: entries in order, what they
// touch and move, what bodies do. So that a step can be simulated, drawn and compared where no compiler is. The file
// timetable.json (Formats/TimetableFile.h) holds one; Check/StepSimulator.h walks it.
//
// All devices of a stage do the same, so a stage is described once.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_STEPTIMETABLE_H
#define GALVATRON_SEARCH_MODEL_STEPTIMETABLE_H

#include "galvatron/Search/Model/Cluster.h"
#include "galvatron/Search/Model/Problem.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace galvatron::search {

/// What an entry does, in the order of `kEntryKinds`.
enum class EntryKind {
  Forward,
  Backward,
  Total,
  Zero,
  One,
  LossScale,
  Accumulate,
  AllReduce,
  ReduceScatter,
  AllGather,
  Send,
  Receive,
  Wait
};

/// As timetable.json and `--print-timetable` name them.
inline constexpr std::string_view kEntryKinds[] = {
    "forward",    "backward",       "total",      "zero", "one",     "loss_scale", "accumulate",
    "all_reduce", "reduce_scatter", "all_gather", "send", "receive", "wait"};

/// Whether ranks of a group meet for it.
inline bool isCollective(EntryKind kind) {
  return kind == EntryKind::AllReduce || kind == EntryKind::ReduceScatter || kind == EntryKind::AllGather;
}
inline CollectiveKind collectiveOf(EntryKind kind) {
  return kind == EntryKind::AllReduce   ? CollectiveKind::AllReduce
         : kind == EntryKind::AllGather ? CollectiveKind::AllGather
                                        : CollectiveKind::ReduceScatter;
}

/// When something ran, in seconds from the step's begin.
struct StepSpan {
  double start = 0, seconds = 0;
};

/// Something that a body does: a kernel, a collective, or the wait for one.
struct BodyCall {
  std::string function; ///< of runtime/api/Functions.def, or "loops": generated
  /// Of a kernel. `pairs`: of attention, queries and keys that meet, as many as forward would take the time of.
  double flops = 0, bytes = 0, pairs = 0;
  bool isProduct = false;
  /// Of a collective, whose `bytes` are as in `Collective` (Problem.h).
  std::optional<CollectiveKind> collective = std::nullopt;
  int group = -1;    ///< of StageTimetable::groups, whatever stage runs it
  int handle = -1;   ///< under way until the wait of this handle; -1: done at once
  int waitsFor = -1; ///< a handle; -1: no wait
  /// Predicted of a collective, alone and in the first stage that runs the body; negative: not priced.
  double seconds = -1;
};

/// The layer that a body was compiled from, by which a profile has its figures.
struct BodyOrigin {
  std::string layerType, hash; ///< empty: of no whole layer
  Strategy strategy;
  std::int64_t samples = 0; ///< of one replica
  bool isBackward = false;
  bool recomputesSome = false; ///< of backward: values of a list, which no figure is of
};

struct StepBody {
  std::string name;
  std::vector<BodyCall> calls;
  BodyOrigin origin = {};
};

struct StepBuffer {
  std::string name, unit;
  /// weight, master, gradient, first_moment, second_moment, activation, gathered, communication, scratch, workspace or
  /// input.
  std::string kind;
  std::int64_t bytes = 0, offset = 0;
  /// Entries of first and last use; the whole step where `persistent`.
  std::int64_t first = 0, last = 0;
  bool persistent = false;
};

struct StepEntry {
  EntryKind kind = EntryKind::Forward;
  std::string name;
  std::string unit; ///< path of the layer, or of what is redistributed; empty: none
  std::int64_t microBatch = -1;
  /// Where it runs: "compute", "collectives", "gradients", "to stage N", "from stage N".
  std::string stream = "compute";
  /// What traces call it: compute, collective, send, receive, redistribute or update.
  std::string category = "compute";
  /// Moved between ranks, as in `Collective`; of what computes nothing but touches memory, those.
  std::int64_t bytes = 0;
  /// Of a backward: gradients of parameters that it adds to, which earlier micro-batches wrote; it reads them besides.
  std::int64_t addedBytes = 0;
  int body = -1;  ///< of StepTimetable::bodies
  int group = -1; ///< of StageTimetable::groups
  int peer = -1;  ///< stage
  /// Of a wait: the entry that it ends. Of what starts something: the entry that ends it; -1: itself.
  int ends = -1, endedBy = -1;
  std::vector<int> buffers = {}; ///< of StageTimetable::buffers, each once
  /// Predicted, in seconds from the step's begin; negative: not simulated.
  double start = -1, seconds = -1;
};

struct StepGroup {
  std::vector<int> axes, stages; ///< as in the manifest of a stage
  plan::GroupShape shape;
};

struct StageTimetable {
  std::int64_t arenaBytes = 0;
  /// Read and written by an update of the stage's parameters.
  std::int64_t updateBytes = 0;
  std::vector<StepBuffer> buffers;
  std::vector<StepGroup> groups;
  std::vector<StepEntry> entries;
  /// Predicted, after the entries: sums over all ranks, then the update. None: not simulated.
  std::optional<StepSpan> sums = std::nullopt, update = std::nullopt;
};

struct StepUnit {
  std::string path, layerType;
  int stage = 0;
};

struct StepTimetable {
  std::string version; ///< of the compiler
  std::string plan;    ///< hash of the lowered program with its plan
  std::string model;
  std::string command;         ///< that lowered it; empty: not known
  std::int64_t parameters = 0; ///< of the model; 0: not known
  std::string target = "cpu", precision = "fp32", schedule = "1f1b";
  std::int64_t devices = 1; ///< of a stage
  std::int64_t globalBatch = 1, microBatches = 1, sequence = 0;
  Cluster cluster; ///< that it was planned for
  std::vector<StepUnit> units;
  std::vector<StepBody> bodies;
  std::vector<StageTimetable> stages;
  /// Predicted; negative: not simulated.
  double predictedStepSeconds = -1;

  std::int64_t ranks() const { return devices * std::int64_t(stages.size()); }
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_STEPTIMETABLE_H
