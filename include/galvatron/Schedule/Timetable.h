// The timetable of one pipeline stage: a step as a straight list of entries with the memory they touch.
//
// The IR keeps a line a layer (`dist.stage`) and an order of micro-batches; what a device walks is their
// product, expanded here, once for memory planning, for the proof that no wait is circular and for the
// object file, so that the three cannot disagree.
#ifndef GALVATRON_SCHEDULE_TIMETABLE_H
#define GALVATRON_SCHEDULE_TIMETABLE_H

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphDialect.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

#include <string>
#include <vector>

namespace galvatron {

/// A piece of memory with one owner and one life.
struct Slot {
  std::string name;
  int64_t bytes = 0;
  /// Entries of first and last use; the whole step for what lives between steps.
  int64_t first = -1, last = -1;
  bool persistent = false;
  /// In bytes from the start of the arena; set by `planArena`.
  int64_t offset = -1;
};

/// A place in a slot, or nothing (`slot` < 0: an optional buffer that is absent).
struct SlotReference {
  int slot = -1;
  int64_t offset = 0; // bytes
};

/// Floats that a body computes and hands on.
struct EntryResult {
  int64_t buffer; // of the entry
  int64_t type;   // by code, runtime/api/ElementType.h
  int64_t count;
  bool operator==(const EntryResult &) const = default;
};

struct TimetableEntry {
  /// A body (`exec.function`) or a runtime function (`gvrt_…`).
  std::string function;
  /// For messages: "forward model.layers.3 micro-batch 1".
  std::string name;
  int64_t microBatch = -1;
  /// Index of the layer in the whole model, or -1.
  int64_t unit = -1;
  std::vector<SlotReference> buffers;
  std::vector<int64_t> attributes;
  /// Of a forward its outputs, of a backward the gradients of inputs and parameters; the same for every entry of a
  /// body.
  std::vector<EntryResult> results;
};

/// A parameter as one stage holds it.
struct StageParameter {
  std::vector<std::string> names; // canonical first
  dist::PlacementAttr home;
  /// As bodies leave it; null where none in this stage does.
  dist::PlacementAttr gradient;
  /// Some body of the model leaves a gradient. Without one there are no moments either, and nothing changes it.
  bool trained = false;
  /// Grid axes on which the gradient is partial, to be summed once per step.
  std::vector<int64_t> partialAxes;
  mlir::DictionaryAttr init;
  int parameterSlot = -1, gradientSlot = -1, firstMomentSlot = -1, secondMomentSlot = -1;
  /// Bodies read a bf16 copy instead of the f32 master.
  bool hasCopy = false;
  int copySlot = -1;
  int64_t count; // local elements
  /// False for a tied copy whose first stage is another one.
  bool counted = true;
  /// Stages that hold it; more than one if tied across stages.
  std::vector<int64_t> stages;
};

struct StageInput {
  std::string name;
  int slot;
  int64_t bytesPerMicroBatch;
  dist::PlacementAttr placement;
};

/// Terms of the loss that are partial alike, added up over micro-batches: one f32.
struct StageLoss {
  int slot;
  dist::PlacementAttr placement;
};

/// Ranks that a collective or a reduction joins: of one stage along grid axes, or of the same device
/// index in several stages.
struct RankGroup {
  std::vector<int64_t> axes, stages;
  bool operator==(const RankGroup &) const = default;
};

struct Timetable {
  int64_t stage = 0;
  std::vector<Slot> slots;
  std::vector<TimetableEntry> entries;
  std::vector<StageParameter> parameters;
  std::vector<StageInput> inputs;
  /// Slots of sums over the whole batch that labels decide, f32 each.
  std::vector<int> totals;
  /// By index, as collectives name them; those that nothing in this stage joins are of one rank alone.
  std::vector<RankGroup> groups;
  std::vector<std::string> units;                        // paths, of the whole model
  int gradientRegionFirst = -1, gradientRegionLast = -1; // slots, contiguous in memory
  std::vector<StageLoss> losses;
  int workspaceSlot = -1; // of the device's products
  std::string device = "cpu";
  int64_t arenaBytes = 0; // after planArena
};

/// All names of a parameter, as files may have them; `canonical` first.
std::vector<std::string> namesOf(mlir::ModuleOp module, llvm::StringRef canonical);

/// Expands the stage `stage` of a module in which every `dist.stage` has its order and bodies are
/// `exec.function`s. Fails with a message on the op at fault.
mlir::FailureOr<Timetable> buildTimetable(mlir::ModuleOp module, dist::StageOp stage);

/// The functions that entries name, each once, in the order in which an object lists them.
std::vector<std::string> functionsOf(const Timetable &timetable);

/// Gives every slot an offset: persistent ones first (gradients contiguous), then, largest first, the
/// lowest place that is free over the slot's life. All offsets are multiples of 64 bytes.
void planArena(Timetable &timetable);

/// What a rank of a stage exchanges values with.
struct Communicators {
  /// Ranks of each group of several that its collectives join, each set of ranks once.
  std::vector<int64_t> groupSizes;
  /// Stages it sends to, and stages it receives from.
  int64_t directions = 0;
};

/// `grid`: the axes of a stage's devices.
Communicators communicatorsOf(const Timetable &timetable, llvm::ArrayRef<int64_t> grid);

/// Proves that the stages' timetables end: executes them together with unbuffered transfers (a send
/// starts without blocking and completes when received; a receive blocks; a collective over stages ends
/// when all of them start it). As every rank's list is straight, one execution that ends means that all do.
/// Otherwise reports who waits for whom. Also that stages issue the collectives of a communicator that
/// they share in one order, that values are received in the order they are sent, and that nothing touches what
/// is being reduced or received. After `planArena`.
mlir::LogicalResult verifyTransfers(mlir::ModuleOp module, llvm::ArrayRef<Timetable> timetables);

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_TIMETABLE_H
