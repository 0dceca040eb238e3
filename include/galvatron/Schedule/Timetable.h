// The timetable of one pipeline stage: a step as a straight list of entries with the memory they touch.
//
// The IR keeps a line a layer (`dist.stage`) and an order of micro-batches; what a device walks is their
// product, expanded once, by `plan-memory`: the timetable whose memory is planned and whose transfers are
// proved to end is the one that the object file holds and that `--print-timetable` prints.
//
// A step ends with whole gradients: parameters are updated by the runtime, which walks no list for it.
//
// Evaluation is a list of its own on the same arena: the forwards of all micro-batches, one after another, and what
// they need (transfers, gathers, sums of the loss and of labels). What lives between steps lies where training has it;
// what a forward saves for a backward is free again after it.
#ifndef GALVATRON_SCHEDULE_TIMETABLE_H
#define GALVATRON_SCHEDULE_TIMETABLE_H

#include "galvatron/Schedule/TimetableEntry.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphDialect.h"

#include "mlir/IR/BuiltinOps.h"

#include <set>
#include <string>
#include <vector>

namespace galvatron {

/// ZeRO: parameters of one layer whose states the ranks of a group share among them. They lie one after another in one
/// list of elements, which has a piece for each rank, one after another; a rank updates its piece, whatever parameters
/// that is of:
///
///   elements   │ q ········│ k ··│ v ··│ norm │ padding │
///   pieces     │ rank 0        │ rank 1            │
/// Moments and gradients are kept as pieces. So are parameters at level 3, which are gathered for each use; at levels 1
/// and 2 what bodies read is there whole, and gathered once a step.
struct StateBucket {
  std::string path; // of the layer, or the name of a parameter that stages share
  int64_t level = 0;
  std::vector<int64_t> axes; // of the ranks: where gradients are partial
  int64_t ranks = 1;
  int64_t elements = 0; // all of them, padding too
  int64_t pieceElements() const { return elements / ranks; }
  /// Types in which bodies read the parameters.
  bool isReadAsF32 = false, isReadAsCopy = false;
  /// Whether the f32 parameters are there whole; else this rank's piece.
  bool isWhole() const { return level < 3 && isReadAsF32; }
  bool isCopyWhole() const { return level < 3; }
  /// Gradients are reduced after each micro-batch's backward; else once a step.
  bool reducesEveryMicroBatch = false;
  /// Indices into Timetable::buffers. The f32 parameters, and their copy where one is read; gradients, moments.
  int parameterBuffer = -1, gradientBuffer = -1, firstMomentBuffer = -1, secondMomentBuffer = -1, copyBuffer = -1;
};

/// A parameter begins at a multiple of so many elements, and so does a piece: a cache line of its copy.
inline constexpr int64_t kStateAlignment = 32;

/// A parameter as one stage holds it.
struct StageParameter {
  std::vector<std::string> names; // canonical first
  dist::PlacementAttr home;
  /// As bodies leave it; null where none in this stage does.
  dist::PlacementAttr gradient;
  /// Some body of the model leaves a gradient. Without one there are no moments either, and nothing changes it.
  bool trained = false;
  /// Mesh axes on which the gradient is partial, to be summed.
  std::vector<int64_t> partialAxes;
  /// ZeRO's, as its layers want it; 0 where no axis is partial.
  int64_t zero = 0;
  /// Its gradient is reduced after each micro-batch's backward, as its layers want it; else once a step.
  bool reducesEveryMicroBatch = false;
  /// Index into Timetable::buckets, and where it begins there, in elements; -1: states are not shared. The buffers
  /// below are then the bucket's.
  int bucket = -1;
  int64_t bucketOffset = 0;
  mlir::DictionaryAttr init;
  /// Which of its elements files hold; null: all.
  graph::PaddingAttr padding;
  /// The shape in files.
  llvm::SmallVector<int64_t> ownShape() const { return padding ? padding.getOwnShape() : home.getGlobalShape(); }
  /// Indices into Timetable::buffers; -1: there is none.
  int parameterBuffer = -1, gradientBuffer = -1, firstMomentBuffer = -1, secondMomentBuffer = -1;
  /// Bodies read a copy (Timetable::copyType) instead of the f32 master, or beside it.
  bool hasCopy = false, isReadAsF32 = false;
  /// What nothing changes and nothing reads in f32 is in memory as its copy alone.
  bool hasMaster() const { return trained || isReadAsF32; }
  int copyBuffer = -1;
  int64_t count; // local elements
  /// False for a tied copy whose first stage is another one.
  bool counted = true;
  /// Stages that hold it; more than one if tied across stages.
  std::vector<int64_t> stages;
};

/// Data of all micro-batches, one after another.
struct StageInput {
  std::string name;
  int buffer;
  int64_t bytesPerMicroBatch;
  dist::PlacementAttr placement;
};

/// Terms of the loss that are partial alike, added up over micro-batches: one f32.
struct StageLoss {
  int buffer;
  dist::PlacementAttr placement;
};

/// Ranks that a collective or a reduction joins: of one stage along mesh axes, or of the same device
/// index in several stages.
struct RankGroup {
  std::vector<int64_t> axes, stages;
  /// Whether a rank exchanges pieces with each of the others, and else the permutations it takes part in, by sources.
  bool exchangesWithAll = false;
  std::set<std::vector<int64_t>> permutations = {};
  bool operator==(const RankGroup &) const = default;
};

struct Timetable {
  int64_t stage = 0;
  std::vector<Buffer> buffers;
  std::vector<TimetableEntry> entries;
  std::vector<StageParameter> parameters;
  std::vector<StateBucket> buckets;
  std::vector<StageInput> inputs;
  /// Buffers of sums over the whole batch that labels decide, f32 each.
  std::vector<int> totals;
  /// By index, as collectives name them; those that nothing in this stage joins are of one rank alone.
  std::vector<RankGroup> groups;
  std::vector<std::string> layerPaths;                   // paths, of the whole model
  int gradientRegionFirst = -1, gradientRegionLast = -1; // buffers, contiguous in memory
  std::vector<StageLoss> losses;
  /// Of the bodies that have any: how many collectives one call of them joins.
  llvm::StringMap<int64_t> collectivesOf;
  int workspaceBuffer = -1; // of the device's products
  /// The type of parameters' copies.
  gvrt_type copyType = GVRT_BF16;
  /// In fp16 the gradient of the loss is the loss scale of the step.
  bool isLossScaled = false;
  std::string device = "cpu";
  int64_t arenaBytes = 0; // after planArena
  /// The stage's forwards alone: one timetable, with the same groups; none in that itself.
  std::vector<Timetable> evaluation;
  bool isEvaluation = false;
};

/// The evaluation of each stage.
std::vector<Timetable> evaluationsOf(llvm::ArrayRef<Timetable> timetables);

/// All names of a parameter, as files may have them; `canonical` first.
std::vector<std::string> namesOf(mlir::ModuleOp module, llvm::StringRef canonical);

/// Expands the stage `stage` of a module in which every `dist.stage` has its order and bodies are
/// `exec.function`s. Fails with a message on the op at fault.
mlir::FailureOr<Timetable> buildTimetable(mlir::ModuleOp module, dist::StageOp stage);

/// The functions that entries call, each once, in the order in which an object lists them. Evaluation calls no others.
std::vector<std::string> functionsOf(const Timetable &timetable);

/// Gives every buffer an offset: persistent ones first (gradients contiguous), then, largest first, the
/// lowest place that is free over the buffer's life. All offsets are multiples of `exec::kBufferAlignment`. Plans the
/// evaluation likewise, in the same arena.
void planArena(Timetable &timetable);

/// What a rank of a stage exchanges values with.
struct Communicators {
  /// Ranks of each group of several that its collectives join, each set of ranks once.
  std::vector<int64_t> groupSizes;
  /// Stages it sends to, and stages it receives from.
  int64_t channels = 0;
  /// Other ranks of its groups with which it exchanges pieces one to one, summed over groups.
  int64_t peers = 0;
  /// Collectives that it joins, and transfers, of a step and of an evaluated batch.
  int64_t calls = 0;
  /// Of a step and of an evaluated batch, that call a function.
  int64_t entries = 0;
};

/// `mesh`: the axes of a stage's devices.
Communicators communicatorsOf(const Timetable &timetable, llvm::ArrayRef<int64_t> mesh);

/// Prints the timetables of all stages of the module for people and tests. First a drawing of the orders, a column a
/// unit of time, backward taking two:
///
///   stage 0  F0 F1 .  B0 B0 B1 B1
///   stage 1  .  F0 B0 B0 F1 B1 B1
///
/// then each stage's entries, one a line: its number, a bar for each transfer or collective under way (`┌` begins, `└`
/// ends), the kind of entry, its name, and its buffers as name@offset. After `planArena`.
void printTimetables(mlir::ModuleOp module, llvm::ArrayRef<Timetable> timetables, llvm::raw_ostream &out);

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_TIMETABLE_H
