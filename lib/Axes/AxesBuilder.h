// What `Axes` is built from; private to lib/Axes.
#ifndef GALVATRON_AXES_AXESBUILDER_H
#define GALVATRON_AXES_AXESBUILDER_H

#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Axes/Axes.h"
#include "galvatron/Axes/AxesFactors.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace galvatron {

/// What the ops of a step do to an axis; roles follow from it.
struct AxisFacts {
  int64_t extent;
  /// A dimension of a value that depends on the batch and crosses layers.
  bool onBoundary = false;
  bool inParameter = false;
  /// Somewhere a loop that cannot be cut, or two loops of one op.
  bool whole = false, twice = false;
  /// Contracted between a parameter and something else; between two activations.
  bool contractedWithParameter = false, contractedInActivations = false;
  /// Addressed by data that depends on the batch; by a constant (a table of positions).
  bool routedByData = false, routedByConstant = false;
  /// Indexes parameter, activation and result of a contraction: one product per expert.
  bool perExpert = false;
};

class AxesBuilder {
public:
  struct OpLoops {
    mlir::Operation *op;
    graph::OpAxes axes;
    llvm::SmallVector<FactorList> loops;
  };

  explicit AxesBuilder(mlir::ModuleOp module) : module(module) {}

  void unify();
  void findRoles(Axes &result);
  llvm::SmallVector<AxisId, 2> getAxesOf(llvm::ArrayRef<unsigned> list);
  OpFactors getOpFactors(const OpLoops &op, const llvm::DenseMap<mlir::Value, ValueAxes> &valueAxes);

  FactorUnion factors;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<FactorList>> dims;
  llvm::SmallVector<mlir::Value> order; // keys of `dims`, as first seen
  std::vector<OpLoops> ops;
  llvm::DenseSet<mlir::Value> parameters, gradients;

private:
  static bool isStructure(mlir::Operation *op);
  llvm::SmallVector<FactorList> &getDims(mlir::Value value);
  void unite(mlir::Value a, mlir::Value b);
  void uniteOp(mlir::Operation *op);
  void uniteLayer(graph::LayerOp layer);
  void uniteBackward(graph::LayerOp layer, graph::BackwardOp backward, mlir::ValueRange results);
  void uniteCalls(mlir::func::FuncOp step);
  AxisId getAxis(unsigned factor);

  void findBatchDependence();
  void markBoundary(const Axes &result, mlir::Value value);
  void markOp(const Axes &result, const OpLoops &op);
  void markContraction(const Axes &result, const OpLoops &op, const OpFactors &loops);

  mlir::ModuleOp module;
  llvm::DenseMap<unsigned, AxisId> axisOf;
  llvm::SmallVector<AxisFacts> facts;
  llvm::DenseSet<mlir::Value> dependsOnBatch;
};

} // namespace galvatron

#endif // GALVATRON_AXES_AXESBUILDER_H
