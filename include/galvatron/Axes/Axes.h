//===- Axes.h - the logical axes of a training step -----------------------===//
//
// Which dimensions of which tensors are the same axis of the model, and what kind of axis each is.
// Found from the loops that ops declare, over all layers, their backward regions and the calls of
// `@step`: no names, no patterns.
//
// A dimension is a list of *factors*, major first. Where two dimensions meet, their lists are matched
// with splitting: [512] against [8, 64] splits 512 into two factors, and every dimension that held
// the 512 now holds both. A class of factors that were matched is an *axis*.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_AXES_AXES_H
#define GALVATRON_AXES_AXES_H

#include "dialects/Graph/GraphStructure.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/MapVector.h"

namespace galvatron {

/// `Internal`: heads, feed-forward width, vocabulary. `Fixed`: never cut (head_dim, tables).
enum class AxisRole { Batch, Seq, Hidden, Internal, Expert, Fixed };
llvm::StringRef stringifyAxisRole(AxisRole role);

using AxisId = unsigned;

struct Axis {
  int64_t extent;
  AxisRole role;
  /// Indexed by data in some op: a vocabulary, whose size is whatever the model's author chose.
  bool routed = false;
};

/// A loop of an op, cut at the borders of axes.
struct FactorLoop {
  AxisId axis;
  graph::LoopKind kind;
  graph::ReduceKind reduction;
};

/// The loops of an op in terms of axes. For each dimension of each operand and result the loops that
/// index it, as many and in the same order as the axes of that dimension; none where the op's loops
/// and the dimension's axes do not fit (a reshape of 12 from 3x4 to 4x3): the dimension is then whole.
struct OpFactors {
  llvm::SmallVector<FactorLoop, 8> loops;
  llvm::SmallVector<graph::DimensionLoops, 4> operands, results;
};

/// The axes of each dimension of a value, major first.
using ValueAxes = llvm::SmallVector<llvm::SmallVector<AxisId, 2>, 4>;

class Axes {
public:
  /// Analyses every layer and the calls of `@step`, if there is one.
  explicit Axes(mlir::ModuleOp module);

  const ValueAxes &getAxes(mlir::Value value) const { return valueAxes.find(value)->second; }
  const OpFactors &getFactors(mlir::Operation *op) const { return opFactors.find(op)->second; }
  /// False of what holds ops: layers, backward regions, their terminators.
  bool hasFactors(mlir::Operation *op) const { return opFactors.contains(op); }
  const Axis &getAxis(AxisId axis) const { return axes[axis]; }
  size_t size() const { return axes.size(); }

  /// The axis that the step's samples lie along.
  std::optional<AxisId> getBatch() const { return batch; }

  /// A layer's axes of this role; those that lie side by side in one dimension form one group, major
  /// first: key/value heads before query heads of each, feed-forward width alone.
  llvm::SmallVector<llvm::SmallVector<AxisId>> getGroups(graph::LayerOp layer, AxisRole role) const;

  /// Whether the op has two loops along `seq` (or one whole): it mixes positions.
  bool isMixing(mlir::Operation *op) const;

  /// Whether the value is a parameter of its layer, or the gradient of one as backward returns it.
  bool isParameterLike(mlir::Value value) const { return parameterLike.contains(value); }

  /// A short name for people: the role, and a number where several axes of a role have one extent.
  std::string getName(AxisId axis) const;

private:
  friend class AxesBuilder;
  llvm::SmallVector<Axis> axes;
  std::optional<AxisId> batch;
  llvm::DenseMap<mlir::Value, ValueAxes> valueAxes;
  llvm::DenseMap<mlir::Operation *, OpFactors> opFactors;
  llvm::DenseSet<mlir::Value> parameterLike;
};

} // namespace galvatron

#endif // GALVATRON_AXES_AXES_H
