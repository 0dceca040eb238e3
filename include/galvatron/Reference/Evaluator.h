// The reference evaluator: what a program means, in plain C++.
//
// It interprets `@step` at every phase up to `split-tensors`: calls of `graph.layer`s with their
// backward regions on global shapes, and calls of `dist.layer`s, whose bodies it runs for all devices
// and micro-batches in one process, collectives included. Slow and simple: the judge of every pass.
#ifndef GALVATRON_REFERENCE_EVALUATOR_H
#define GALVATRON_REFERENCE_EVALUATOR_H

#include "galvatron/Reference/Tensor.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <map>
#include <optional>
#include <string>

namespace galvatron::reference {

/// Tensors by full parameter name, global shapes.
using NamedTensors = std::map<std::string, Tensor>;

struct StepInputs {
  /// The arguments of `@step`, in order: input_ids, labels and, of packed rows, positions, documents.
  std::vector<Tensor> inputs;
  NamedTensors parameters;
  /// What random bits are drawn from (runtime/api/CounterRandom.h); steps count from 1.
  uint64_t seed = 0, step = 1;
  /// Keep doubles between ops instead of rounding to the element types.
  bool exact = false;
};

struct StepResult {
  double loss = 0;
  /// Whether sums over the batch that labels decide are all zero: there is nothing to learn from, and no update.
  bool isEmpty = false;
  /// Empty if the layers are not differentiated. A tied parameter has the sum over its uses.
  NamedTensors gradients;
};

/// Runs `@step` once, forward and, if its layers have one, backward. Failure comes with a diagnostic:
/// a missing input or parameter, or an op without meaning here.
mlir::FailureOr<StepResult> evaluateStep(mlir::ModuleOp module, const StepInputs &inputs);

/// Runs one function whose types may carry placements, on a mesh of devices: arguments and results are
/// global tensors, the pieces in between are checked to agree. Keeps doubles between ops.
mlir::FailureOr<std::vector<Tensor>> evaluateFunction(mlir::func::FuncOp function, llvm::ArrayRef<Tensor> inputs,
                                                      llvm::ArrayRef<int64_t> mesh);

/// What the gradient of the loss is here, where the binaries have their loss scale: 1, in fp16 2^10, as gradients would
/// else be below what f16 holds. Gradients of parameters are divided by it, which is exact.
double lossGradientOf(mlir::ModuleOp module);

/// Values of one parameter, drawn by its name from `init`, a distribution as in `graph.init`; null: zeros.
Tensor drawParameter(llvm::StringRef name, llvm::ArrayRef<int64_t> shape, mlir::Attribute init, uint64_t seed);

/// Shapes of all parameters that `@step` names, and their initial values drawn by counter from `seed`
/// where the program gives a distribution (`graph.init`); zeros elsewhere.
mlir::FailureOr<NamedTensors> initialParameters(mlir::ModuleOp module, uint64_t seed);

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_EVALUATOR_H
