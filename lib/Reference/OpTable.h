// What the evaluator knows of single ops: one function per op name, on one device's tensors.
#ifndef GALVATRON_REFERENCE_OPTABLE_H
#define GALVATRON_REFERENCE_OPTABLE_H

#include "galvatron/Reference/Tensor.h"
#include "runtime/api/CounterRandom.h"

#include "mlir/IR/Operation.h"
#include "llvm/ADT/StringMap.h"

#include <functional>
#include <optional>

namespace galvatron::reference {

/// A part of a dimension: its extent, and the index that this device and micro-batch has of it; nothing
/// if the device has all of it.
struct SubAxis {
  int64_t extent;
  std::optional<int64_t> index;
  /// Counts from the other end where the sub-axis before it stands at an odd index.
  bool mirrored = false;
};

/// Where an op's tensor lies in the global one. Without sub-axes local and global are the same.
struct Position {
  /// For each dimension its sub-axes, major first; empty: everything is local.
  llvm::SmallVector<llvm::SmallVector<SubAxis, 2>, 4> dims;

  int64_t globalIndex(unsigned dim, int64_t local) const;
  /// `localExtent` where everything is local.
  int64_t globalExtent(unsigned dim, int64_t localExtent) const;
  /// Row-major position, in the global tensor, of an index into the local one of this shape.
  uint64_t globalElement(llvm::ArrayRef<int64_t> index, llvm::ArrayRef<int64_t> localShape) const;
};

/// One execution of an op on one device. `results` have their shapes and are zero.
struct OpCall {
  mlir::Operation *op;
  llvm::ArrayRef<const Tensor *> operands;
  llvm::MutableArrayRef<Tensor> results;
  Position position;
  /// Of an attention in a ring, where its keys lie; else as `position` without anything.
  Position keyPosition;
  /// Random bits: seed, step and the layer's path (hashed).
  uint64_t seed, step, layer;

  const Tensor &operand(unsigned i) const { return *operands[i]; }
  random::Stream dropoutStream(int64_t id) const { return random::dropoutStream(seed, step, layer, id); }
};

using OpFunction = std::function<mlir::LogicalResult(OpCall &)>;
using OpTable = llvm::StringMap<OpFunction>;

void addGraphOps(OpTable &table);
void addGraphLossOps(OpTable &table);
void addGraphShapeOps(OpTable &table);
void addArithmeticOps(OpTable &table);

/// Adds the function of an op whose meaning cannot fail.
template <typename Op> void define(OpTable &table, void (*function)(Op, OpCall &)) {
  table[Op::getOperationName()] = [function](OpCall &call) {
    function(llvm::cast<Op>(call.op), call);
    return mlir::success();
  };
}

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_OPTABLE_H
