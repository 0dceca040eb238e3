// `galvatron-opt --evaluate`: trains a program with the reference evaluator, as its stage binaries would
// with the options of the same names, at any phase. (The driver differentiates one that is not
// yet, and makes the timetables of one after phase stage.)
#ifndef GALVATRON_REFERENCE_EVALUATE_H
#define GALVATRON_REFERENCE_EVALUATE_H

#include "galvatron/Reference/Optimizer.h"
#include "galvatron/Schedule/Timetable.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace galvatron::reference {

struct EvaluateOptions {
  /// Safetensors to start from; empty: values drawn from `seed` by the program's distributions.
  std::string weights;
  /// Token ids one after another, little endian, of `dataType` u8, u16, u32, i32 or i64; empty: random tokens.
  std::string data, dataType = "u8";
  int64_t steps = 1;
  uint64_t seed = 0;
  Optimizer optimizer;
  /// Folder for each step's gradients before clipping, `step_000001.safetensors`; empty: none.
  std::string dumpGradients;
};

/// Prints `step,loss,grad_norm`, 9 digits; the norm is before clipping, and 0 if the layers are not
/// differentiated (then nothing is updated). Failure comes with a diagnostic.
mlir::LogicalResult runEvaluate(mlir::ModuleOp module, const EvaluateOptions &options, llvm::raw_ostream &out);

/// The same by the timetables of all ranks (TimetableRun.h), whose functions were made of `bodies`.
mlir::LogicalResult runTimetables(mlir::ModuleOp bodies, llvm::ArrayRef<Timetable> timetables,
                                  const EvaluateOptions &options, llvm::raw_ostream &out);

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_EVALUATE_H
