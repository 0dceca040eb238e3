// `galvatron-opt --evaluate`: trains a program with the reference evaluator, as its stage binaries would
// with the options of the same names, at any phase from import to shard. (The driver differentiates one that is not
// yet.)
#ifndef GALVATRON_REFERENCE_EVALUATE_H
#define GALVATRON_REFERENCE_EVALUATE_H

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace galvatron::reference {

struct EvaluateOptions {
  /// Safetensors to start from; empty: values drawn from `seed` by the program's distributions.
  std::string weights;
  /// Token ids one after another, little endian, of `dataType` u8, u16, u32, i32 or i64; empty: random tokens.
  std::string data, dataType = "u8";
  /// The token that ends a document, where rows hold several; negative: each row is one.
  int64_t eod = -1;
  int64_t steps = 1;
  uint64_t seed = 0;
  bool sgd = false; ///< else AdamW
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  /// On matrices only: decoupled for AdamW, added to the gradient for SGD.
  double weightDecay = 0;
  /// Largest gradient norm; 0: off.
  double clipGrad = 0;
  /// Folder for each step's gradients before clipping, `step_000001.safetensors`; empty: none.
  std::string dumpGradients;
};

/// Prints `step,loss,grad_norm`, 9 digits; the norm is before clipping, and 0 if the layers are not
/// differentiated (then nothing is updated). Failure comes with a diagnostic.
mlir::LogicalResult runEvaluate(mlir::ModuleOp module, const EvaluateOptions &options, llvm::raw_ostream &out);

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_EVALUATE_H
