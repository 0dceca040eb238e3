//===- Placements.h - what a strategy asks of each mesh axis --------------===//
//
// A strategy is, for each axis of the device mesh, a short list of logical axes in order of
// preference, each under a condition. The list of each parallelism is one row of a table
// (dialects/Plan/Strategy.def); everything after it, down to the collectives, follows from the ops' loops.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_PLACEMENT_PLACEMENTS_H
#define GALVATRON_PLACEMENT_PLACEMENTS_H

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Axes/Axes.h"

namespace galvatron {

/// What to do where micro-batches are refused.
inline constexpr llvm::StringLiteral kUseOneMicroBatch =
    "; use one micro-batch: --micro-batches 1 with --search, \"micro_batches\": 1 in a plan";

/// In which ops a preference holds.
enum class When {
  Always,
  /// In ops that mix positions.
  Mixing,
  /// In ops that do not.
  NotMixing,
  /// In ops none of whose loops is internal.
  NoInternalLoop,
};

struct Preference {
  AxisRole role;
  When when = When::Always;
};

/// One kind of parallelism under a strategy: its key, its devices, the axes of the device mesh that these are, major to
/// minor, and what they want, in order.
struct Parallelism {
  llvm::StringRef name;
  int64_t degree;
  llvm::SmallVector<int64_t> meshAxes;
  llvm::SmallVector<Preference> wants;
  /// Each device has a piece from either end of what it cuts.
  bool mirrored = false;
};

/// The kinds of parallelism, in the order in which they cut axes: what stays cut longest first. Those that a strategy
/// does not use have no mesh axes.
llvm::SmallVector<Parallelism> getParallelisms(plan::StrategyAttr strategy, const plan::MeshAxes &axes);

/// Words of the strategy's choices, as dialects/Plan/Strategy.def numbers them.
enum class CpKind : int64_t { Any, Gathered, Ring };
enum class CpZigzag : int64_t { Any, No, Yes };

/// A preference of one mesh axis (or time), settled for one layer: the logical axis, one sub-axis
/// of which the mesh axis has.
struct Choice {
  AxisId axis;
  When when;
};

/// Whether a plan says that what a degree does not divide is to be padded, could say so, or is of a format that has no
/// word for it: the remedy that an error names.
enum class PadWord { Said, Sayable, Missing };

/// The sub-axes that the axes of one layer are cut into under one strategy, and who wants them.
class LayerSubAxes {
public:
  struct MeshAxis {
    /// Mesh axis, or `PlacementAttr::kTime`.
    int64_t id;
    int64_t size;
    llvm::StringRef parallelism;
    llvm::SmallVector<Choice> choices;
  };

  /// Deals sub-axes. An error where a degree does not divide an axis that the layer would cut by it; a remark where
  /// that is a table other than the vocabulary, which then stays whole. `canSayPad`: whether the plan's format has a
  /// word for padding, for the error's remedy.
  static mlir::FailureOr<LayerSubAxes> get(const Axes &axes, graph::LayerOp layer, plan::StrategyAttr strategy,
                                           plan::PipelineAttr pipeline, mlir::Location loc, bool canSayPad = true);

  /// Time first, if there are several micro-batches, then every mesh axis.
  llvm::ArrayRef<MeshAxis> getMeshAxes() const { return meshAxes; }
  /// Sizes of the mesh's axes.
  llvm::ArrayRef<int64_t> getMesh() const { return mesh; }
  /// An axis' sub-axes, major first, each with the mesh axis that may have it; their product divides the
  /// axis' extent, and the rest is local.
  llvm::ArrayRef<dist::SubAxis> getSubAxes(AxisId axis) const;

private:
  mlir::LogicalResult deal(const Axes &axes, graph::LayerOp layer, const Parallelism &row,
                           llvm::MutableArrayRef<MeshAxis> dealt, PadWord pad, mlir::Location loc);
  bool deal(const Axes &axes, llvm::ArrayRef<AxisId> group, When when, MeshAxis &meshAxis);
  bool dealMirrored(const Axes &axes, llvm::ArrayRef<AxisId> group, When when, const Parallelism &row,
                    MeshAxis &meshAxis);

  llvm::SmallVector<int64_t> mesh;
  llvm::SmallVector<MeshAxis> meshAxes;
  llvm::DenseMap<AxisId, llvm::SmallVector<dist::SubAxis>> subAxes;
};

/// Whether a ring has something to go round for: attention, all of it ops of that name.
bool canTakeRing(const Axes &axes, graph::LayerOp layer);

/// Whether sub-axes can be dealt to the layers of these calls under their strategies. What is only remarked on is said
/// where layers are placed.
mlir::LogicalResult checkStrategies(mlir::ModuleOp module, llvm::ArrayRef<graph::CallOp> calls, bool canSayPad = true);

/// Refuses degrees that no padding mends: Ulysses over more ranks than a layer has query heads.
mlir::LogicalResult checkPaddedStrategies(mlir::ModuleOp module, llvm::ArrayRef<graph::CallOp> calls);

/// Axes that lie side by side in one dimension of a layer, major first, and what their product is to be divisible by.
struct PaddableGroup {
  llvm::SmallVector<AxisId> axes;
  int64_t degree = 1;
  /// A table other than the vocabulary, which stays whole where the degree does not divide it.
  bool isMinorTable = false;
};

/// What the strategy cuts in the layer, of a role that plans may have padded: `Internal` or `Seq`.
llvm::SmallVector<PaddableGroup> getPaddableGroups(const Axes &axes, graph::LayerOp layer, plan::StrategyAttr strategy,
                                                   plan::PipelineAttr pipeline, AxisRole role);

/// Which part of a value of a layer each device of one mesh axis holds (or, of time, each micro-batch has).
struct MeshAxisPlace {
  /// Replicated: each holds the value. Sharded: each holds the part at its sub-axis of one of the value's axes.
  /// Partial: each holds a tensor of the value's shape, and the value is what they combine to.
  enum Kind { Replicated, Sharded, Partial } kind = Replicated;
  /// Sharded: the dimension of the tensor, and the index of the axis in the dimension's list (`ValueAxes`), from 0,
  /// major first: dimension 2 of [batch, seq, heads x size] cut by heads is dim 2, factor 0. Else both 0.
  unsigned dim = 0, factor = 0;
  /// Partial: how the tensors combine.
  graph::ReduceKind reduction = graph::ReduceKind(0);

  static MeshAxisPlace sharded(unsigned dim, unsigned factor) { return {Sharded, dim, factor}; }
  static MeshAxisPlace partial(graph::ReduceKind kind) { return {Partial, 0, 0, kind}; }
  bool isPartialSum() const { return kind == Partial && reduction == graph::ReduceKind::Sum; }
  friend bool operator==(const MeshAxisPlace &a, const MeshAxisPlace &b) = default;
};

/// Where a value of a layer is: one entry for each of `LayerSubAxes::getMeshAxes()`, in their order. It says nothing by
/// itself of extents: those are the mesh axes', and the sub-axes that the layer's axes are cut into. x [batch, seq,
/// hidden] under dp 2 and tp 2 with several micro-batches, so mesh axes time, axis 0, axis 1, is {sharded(0, 0),
/// sharded(0, 0), replicated}, the attribute [4@t * 2@g0 * 2, 16, 64].
using ValuePlace = llvm::SmallVector<MeshAxisPlace, 4>;

/// The attribute that says the same.
dist::PlacementAttr getPlacementAttr(mlir::RankedTensorType type, const ValueAxes &valueAxes, const ValuePlace &place,
                                     const Axes &axes, const LayerSubAxes &subAxes);

/// The loop of an op that a mesh axis takes: of the first choice that is present and allowed, the first
/// loop, parallel ones before contracted ones. None if no choice is.
std::optional<unsigned> chooseLoop(mlir::Operation *op, const LayerSubAxes::MeshAxis &meshAxis, const Axes &axes);

/// Where a value stands when it crosses a layer: as an elementwise op would have it.
ValuePlace getBoundaryPlace(const ValueAxes &valueAxes, const Axes &axes, const LayerSubAxes &subAxes);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_PLACEMENTS_H
