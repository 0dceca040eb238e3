//===- Placements.h - what a strategy asks of each grid axis --------------===//
//
// A strategy is, for each axis of the device grid, a short list of logical axes in order of
// preference, each under a condition. The list of each parallelism is one row of a table
// (PlacementsTable.cpp); everything after it, down to the collectives, follows from the ops' loops.
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
  /// In ops that do not mix positions.
  NotMixing,
  /// In ops none of whose loops is internal.
  NoInternalLoop,
};

struct Preference {
  AxisRole role;
  When when = When::Always;
};

/// One kind of parallelism: how many devices it uses and what these want, in order.
struct Parallelism {
  llvm::StringLiteral name;
  int64_t (*getDegree)(plan::StrategyAttr);
  llvm::SmallVector<Preference> wants;
};

/// The rows that apply to a strategy, major to minor in the device grid.
llvm::SmallVector<Parallelism> getParallelisms(plan::StrategyAttr strategy);

/// A preference of one owner (a grid axis or time), settled for one layer: the logical axis, one digit
/// of which the owner has.
struct Choice {
  AxisId axis;
  When when;
};

/// The digits that the axes of one layer are cut into under one strategy, and who wants them.
class LayerDigits {
public:
  struct Owner {
    /// Grid axis, or `PlacementAttr::kTime`.
    int64_t id;
    int64_t size;
    llvm::StringRef parallelism;
    llvm::SmallVector<Choice> choices;
  };

  /// Deals digits. An error where the layer cannot use a degree at all; a remark where one of its axes
  /// cannot, which then stays whole.
  static mlir::FailureOr<LayerDigits> get(const Axes &axes, graph::LayerOp layer, plan::StrategyAttr strategy,
                                          plan::PipelineAttr pipeline, mlir::Location loc);

  /// Time first, if there are several micro-batches, then every grid axis.
  llvm::ArrayRef<Owner> getOwners() const { return owners; }
  /// Sizes of the grid's axes.
  llvm::ArrayRef<int64_t> getGrid() const { return grid; }
  /// An axis' digits, major first, each with the owner that may have it; their product divides the
  /// axis' extent, and the rest is local.
  llvm::ArrayRef<dist::Digit> getDigits(AxisId axis) const;

private:
  bool deal(const Axes &axes, llvm::ArrayRef<AxisId> group, When when, Owner &owner);

  llvm::SmallVector<int64_t> grid;
  llvm::SmallVector<Owner> owners;
  llvm::DenseMap<AxisId, llvm::SmallVector<dist::Digit>> digits;
};

/// Where one owner stands with one value.
struct OwnerPlace {
  enum Kind { Replicated, Sharded, Partial } kind = Replicated;
  /// Sharded: the dimension, and which of its axes.
  unsigned dim = 0, position = 0;
  /// Partial: how the pieces combine.
  graph::ReduceKind reduction = graph::ReduceKind(0);

  static OwnerPlace sharded(unsigned dim, unsigned position) { return {Sharded, dim, position}; }
  static OwnerPlace partial(graph::ReduceKind kind) { return {Partial, 0, 0, kind}; }
  bool isPartialSum() const { return kind == Partial && reduction == graph::ReduceKind::Sum; }
  friend bool operator==(const OwnerPlace &a, const OwnerPlace &b) = default;
};

/// One entry for each of `LayerDigits::getOwners()`.
using ValuePlace = llvm::SmallVector<OwnerPlace, 4>;

/// The attribute that says the same.
dist::PlacementAttr getPlacementAttr(mlir::RankedTensorType type, const ValueAxes &valueAxes, const ValuePlace &place,
                                     const Axes &axes, const LayerDigits &digits);

/// The loop of an op that an owner takes: of the first choice that is present and allowed, the first
/// loop, parallel ones before contracted ones. None if no choice is.
std::optional<unsigned> chooseLoop(mlir::Operation *op, const LayerDigits::Owner &owner, const Axes &axes);

/// Where a value stands when it crosses a layer: as an elementwise op would have it.
ValuePlace getBoundaryPlace(const ValueAxes &valueAxes, const Axes &axes, const LayerDigits &digits);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_PLACEMENTS_H
