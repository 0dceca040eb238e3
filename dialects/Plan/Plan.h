// The plan dialect: one include for its attributes.
#ifndef GALVATRON_DIALECTS_PLAN_PLAN_H
#define GALVATRON_DIALECTS_PLAN_PLAN_H

#include "dialects/Plan/Ranks.h"
#include "dialects/Plan/Strategy.h"

#include "mlir/IR/Attributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/Operation.h"

namespace galvatron::plan {
llvm::hash_code hash_value(const StrategyValues &values);
} // namespace galvatron::plan

#include "dialects/Plan/PlanDialect.h.inc"
#include "dialects/Plan/PlanEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttributes.h.inc"

namespace galvatron::plan {

/// On the module: the `#plan.pipeline`.
inline constexpr llvm::StringLiteral kPipelineAttrName = "plan.pipeline";
/// On each `graph.call`: its `#plan.strategy`, and the pipeline stage it belongs to.
inline constexpr llvm::StringLiteral kStrategyAttrName = "plan.strategy";
inline constexpr llvm::StringLiteral kStageAttrName = "plan.stage";
/// Where a stage has several parts, on each `graph.call`, and in a `dist.stage` on what it sends, receives and adds to
/// the loss, too: which of them it belongs to; left out in the first.
inline constexpr llvm::StringLiteral kChunkAttrName = "plan.chunk";
/// On a `graph.call` of a plan that says so: whether gradients of weights have a backward of their own; left out the
/// compiler chooses.
inline constexpr llvm::StringLiteral kSplitBackwardAttrName = "plan.split_backward";
/// On a `graph.layer` of which a plan recomputes values: the names that its bits stand for; and on ops: their bit.
inline constexpr llvm::StringLiteral kValuesAttrName = "plan.values";
inline constexpr llvm::StringLiteral kValueAttrName = "plan.value";

/// Sizes of the axes of a stage's device mesh, major to minor. Null: one device, without axes.
llvm::SmallVector<int64_t> getMesh(PipelineAttr pipeline);

/// Which of its stage's parts an op belongs to.
int64_t getChunk(mlir::Operation *op);
/// Says it where it is not the first.
void setChunk(mlir::Operation *op, int64_t chunk);

} // namespace galvatron::plan

#endif // GALVATRON_DIALECTS_PLAN_PLAN_H
