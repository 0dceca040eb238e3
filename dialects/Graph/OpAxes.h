//===- OpAxes.h - the loops of an op --------------------------------------===//
//
// What sharding knows of an op. Kept apart from the ops so that the analysis of logical axes needs
// nothing else of this dialect.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_OPAXES_H
#define GALVATRON_DIALECTS_GRAPH_OPAXES_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/SmallVector.h"

namespace galvatron::graph {

enum class ReduceKind : uint32_t;

/// `Free`: may be cut. Where a result does not have the loop, cutting it leaves that result partial.
/// `Whole`: cannot be cut (a norm's normalized dimension, head_dim in attention, slices, concats).
/// `Routed`: addressed by data (an embedding's rows, the vocabulary where a label selects); may be
/// cut only on an operand or result that is a parameter, its gradient, or the logits.
enum class LoopKind { Free, Whole, Routed };

struct Loop {
  int64_t extent;
  LoopKind kind = LoopKind::Free;
  /// How pieces combine in a result that lacks the loop.
  ReduceKind reduction = ReduceKind(0);
};

/// For each dimension the loops that index it, major first. A dimension of extent 1 has none.
/// Worked case, `q = reshape %x : [B,S,K*G*D] to [B,S,K*G,D]` with no more known than shapes:
/// loops b, s, h, d; operand 0: [[b],[s],[h,d]]; result 0: [[b],[s],[h],[d]].
using DimensionLoops = llvm::SmallVector<llvm::SmallVector<unsigned, 2>, 4>;

struct OpAxes {
  llvm::SmallVector<Loop, 8> loops;
  llvm::SmallVector<DimensionLoops, 4> operands, results;

  unsigned addLoop(int64_t extent, LoopKind kind = LoopKind::Free, ReduceKind reduction = ReduceKind(0)) {
    loops.push_back({extent, kind, reduction});
    return loops.size() - 1;
  }
};

/// The loops of any op: its `AxisOpInterface` if it has one, one free loop per dimension for
/// elementwise arithmetic on tensors of equal shape and for constants, else a barrier (every loop
/// of every operand and result whole and its own).
OpAxes getOpAxes(mlir::Operation *op);

/// Whether a partial sum in `operand` alone may pass through to `result`; any op, `arith` included:
/// negf, mulf, the dividend of divf, and select where its other value is zero.
bool isLinear(mlir::Operation *op, unsigned operand, unsigned result);

/// Whether the results are partial sums if all float operands are: `graph.sum`, `graph.concat`, addf,
/// subf, select, and every op linear in its only float operand.
bool isJointlyLinear(mlir::Operation *op);

/// Default of `CostOpInterface::getBytesMoved`.
int64_t bytesOfOperandsAndResults(mlir::Operation *op);

} // namespace galvatron::graph

#endif
