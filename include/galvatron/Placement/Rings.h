// Attention that reads gathered keys and values, as one attention for each device that these are from.
#ifndef GALVATRON_PLACEMENT_RINGS_H
#define GALVATRON_PLACEMENT_RINGS_H

#include "dialects/Dist/Dist.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/STLFunctionalExtras.h"

namespace galvatron {

/// Whose keys a step of a ring has.
struct RingStep {
  /// Of the keys, along their positions, as they would be gathered.
  llvm::ArrayRef<int64_t> axes;
  int64_t outer;
  bool mirrored;
  /// How long each axis of the mesh is, and by how much its coordinate is less where the keys are from.
  llvm::ArrayRef<int64_t> mesh, turns;
  /// For each position of the group, that which the keys are from.
  llvm::SmallVector<int64_t> sources;

  /// Of a tensor whose dimension `dim` has these positions; all others are whole.
  dist::PlacementAttr getPosition(mlir::MLIRContext *context, llvm::ArrayRef<int64_t> localShape, int64_t dim) const;
};

/// What is added to the scores of all keys, cut to those of a step.
using CutBias = llvm::function_ref<mlir::Value(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value bias,
                                               const RingStep &step)>;

/// On ops of a ring that stand for several steps: for how many. Only where a body is made to be counted.
inline constexpr llvm::StringLiteral kStepsAttrName = "ring.steps";

/// Unrolls each attention of a body, forward or backward, along a mesh of these sizes, and erases the gathers that
/// nothing reads any more. Values are local, or whole with their placements. How many there were; an error where keys
/// and values are not gathered along their positions. `mostSteps`: of a longer ring the last of so many stands for all
/// that follow, too (`kStepsAttrName`); 0: all are unrolled.
mlir::FailureOr<unsigned> insertRings(mlir::Block &body, llvm::ArrayRef<int64_t> mesh, CutBias cutBias,
                                      int64_t mostSteps = 0);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_RINGS_H
