// What is added to the scores of an attention, cut to the keys that one step of a ring has.
#ifndef GALVATRON_TRANSFORMS_SHARD_RINGBIAS_H
#define GALVATRON_TRANSFORMS_SHARD_RINGBIAS_H

#include "galvatron/Placement/Rings.h"

#include "llvm/ADT/DenseMap.h"

namespace galvatron {

/// Cuts values with a dimension of all keys to those of a step. What is computed of positions and gathered values in
/// front of them is computed anew on that piece alone, so no more of a mask than a step's is ever there:
///
///     all keys      documents ─► gather ─► broadcast ─► cmp ─► select
///     of a step     documents ─► gather ─► shard ─► broadcast ─► cmp ─► select
///
/// Positions need no gather: `dist.turn` says whose they are.
class RingBias {
public:
  RingBias(mlir::OpBuilder &builder, mlir::Location loc, const RingStep &step)
      : builder(builder), loc(loc), step(step) {}

  /// `x` with the step's keys along `dim`; itself where it has extent 1 there.
  mlir::Value cut(mlir::Value x, int64_t dim);

private:
  mlir::Value cutOp(mlir::Operation *op, int64_t dim);
  mlir::Value cutReshape(mlir::Operation *op, int64_t dim);
  mlir::Value cutPositions(mlir::Operation *op, int64_t dim);
  mlir::Value cutGather(dist::AllGatherOp op, int64_t dim);
  /// What `x`, which depends on positions alone, is on the device that the keys are from.
  mlir::Value turn(mlir::Value x);
  mlir::Value shard(mlir::Value x, int64_t dim);
  mlir::RankedTensorType cutType(mlir::Value x, int64_t dim);

  mlir::OpBuilder &builder;
  mlir::Location loc;
  const RingStep &step;
  llvm::DenseMap<std::pair<mlir::Value, int64_t>, mlir::Value> pieces;
  llvm::DenseMap<mlir::Value, mlir::Value> turned;
};

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_SHARD_RINGBIAS_H
