// Between the two halves of `form-layers`: cutting a step into segments, and forming layers from them.
#ifndef GALVATRON_TRANSFORMS_FORM_FORMLAYERS_H
#define GALVATRON_TRANSFORMS_FORM_FORMLAYERS_H

#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>
#include <vector>

namespace galvatron::layers {

/// Which ops compute activations. The others are *free*: computed from constants, parameters or the
/// step's integers alone, they are cloned into every layer that reads them, and cross none.
class FreeOps {
public:
  explicit FreeOps(mlir::func::FuncOp step);
  /// Of a layer's forward.
  explicit FreeOps(graph::LayerOp layer);
  bool isFree(mlir::Operation *op) const { return !activations.contains(op); }

private:
  void findActivations(mlir::Block &body, llvm::function_ref<bool(mlir::BlockArgument)> isParameter);

  llvm::DenseSet<mlir::Operation *> activations;
};

/// Which values of a step have a gradient.
class GradientFlow {
public:
  explicit GradientFlow(mlir::func::FuncOp step);
  /// Of a layer's forward, by what is frozen of its arguments and results.
  explicit GradientFlow(graph::LayerOp layer);
  /// It comes from the loss, and a trained parameter waits for it.
  bool hasGradient(mlir::Value value) const { return required.contains(value) && reached.contains(value); }
  /// Whether a gradient comes to this op and goes on to its operands.
  bool passes(mlir::Operation *op) const;

private:
  /// From what needs a gradient and what has one, through the block.
  void spread(mlir::Block &body);
  static void insertFloats(llvm::DenseSet<mlir::Value> &set, mlir::ValueRange values);

  llvm::DenseSet<mlir::Value> required, reached;
};

/// What one `graph.call` will stand for.
struct Segment {
  /// Module path, of each segment another; relative names of parameters are below `module`, which several calls of one
  /// module share.
  std::string path, module;
  /// Its activations, in program order.
  llvm::SmallVector<mlir::Operation *> ops;
  /// First and last of the step: everything before and after the repeated blocks.
  bool isPrologue = false, isEpilogue = false;
};

/// The module path of `op`, which the importer wrote as its location; empty if there is none.
llvm::StringRef pathOf(mlir::Operation *op);

/// Cuts `step` into segments, in an order in which each reads only earlier ones: the members of module
/// lists, what comes before the first, between two lists and after the last. Without module paths,
/// the periods of a repeating structure.
std::vector<Segment> cutIntoSegments(mlir::func::FuncOp step, const FreeOps &freeOps);

/// Where several segments add to the loss, makes `step` return one term of each, their sum being the loss: what a layer
/// adds then crosses no other. Terms that no activation decides go to the last. Returns whether it did, and `segments`,
/// which the step was cut into, are outdated.
bool spreadLoss(mlir::func::FuncOp step, const FreeOps &freeOps, llvm::ArrayRef<Segment> segments);

/// Whether two layers are equal but for names and locations.
bool isSameLayer(graph::LayerOp a, graph::LayerOp b);

} // namespace galvatron::layers

#endif // GALVATRON_TRANSFORMS_FORM_FORMLAYERS_H
