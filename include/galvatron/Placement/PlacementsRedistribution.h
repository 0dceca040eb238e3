//===- PlacementsRedistribution.h - from one placement to another ---------===//
//
// Redistribution is algebra per mesh axis. An axis has a sub-axis, has a reduction due, or neither:
//
//     nothing  -> sub-axis   shard (moves nothing)
//     partial  -> sub-axis   reduce-scatter
//     sub-axis -> sub-axis   all-to-all
//     partial  -> nothing    all-reduce
//     sub-axis -> nothing    all-gather
//
// Neighbouring axes move as one group. Axes that only hand each other their sub-axes do so in one permute: a device
// gets the value of another one, as it is. What is left is the order (steps that make the local tensor smaller should
// come first), found by a shortest path over the few states.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_PLACEMENT_PLACEMENTSREDISTRIBUTION_H
#define GALVATRON_PLACEMENT_PLACEMENTSREDISTRIBUTION_H

#include "dialects/Dist/Dist.h"

#include "mlir/IR/Builders.h"

namespace galvatron {

enum class RedistributionKind { Shard, ReduceScatter, AllToAll, AllReduce, AllGather, Permute };

/// One collective along mesh axes. `dim` and `outer` are as in the op of that name; an all-to-all cuts
/// `dim` and joins along `joinDim`.
struct RedistributionStep {
  RedistributionKind kind;
  llvm::SmallVector<int64_t> axes;
  int64_t dim = 0, outer = 1, joinDim = 0, joinOuter = 1;
  graph::ReduceKind reduction = graph::ReduceKind(0);
  /// Of an all-gather, a reduce-scatter or a shard: as in the op.
  bool mirrored = false;
  /// Of a permute, for each position in the group, whose value it gets.
  llvm::SmallVector<int64_t> sources;
  /// The placement after the step.
  dist::PlacementAttr result;
  /// Elements that each device sends, on average.
  double traffic = 0;
};

/// The steps from one placement of a tensor to another on a mesh of these axis sizes; empty if they
/// are equal. Null where there are none: nothing becomes partial, and no step moves a sub-axis of time.
std::optional<llvm::SmallVector<RedistributionStep>>
planRedistribution(dist::PlacementAttr from, dist::PlacementAttr to, llvm::ArrayRef<int64_t> mesh);

/// The same of placements without mirrored sub-axes.
std::optional<llvm::SmallVector<RedistributionStep>> planUnmirrored(dist::PlacementAttr from, dist::PlacementAttr to,
                                                                    llvm::ArrayRef<int64_t> mesh);

/// Elements that each device of a group sends in a collective other than a permute, on average.
double getStepTraffic(RedistributionKind kind, int64_t localElements, int64_t groupSize);

/// Sum of the steps' traffic, and a little for each step.
double getTraffic(llvm::ArrayRef<RedistributionStep> steps);

/// Builds the collective op of a step.
mlir::Value buildStep(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, const RedistributionStep &step);

/// Expands every `dist.redistribute` below `root` into collectives along the axes of a mesh of these sizes. How many
/// there were; an error where collectives do not reach a target.
mlir::FailureOr<unsigned> insertCollectives(mlir::Operation *root, llvm::ArrayRef<int64_t> mesh);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_PLACEMENTSREDISTRIBUTION_H
