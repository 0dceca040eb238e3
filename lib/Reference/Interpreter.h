// Runs straight-line code on all devices of a machine.
#ifndef GALVATRON_REFERENCE_INTERPRETER_H
#define GALVATRON_REFERENCE_INTERPRETER_H

#include "Machine.h"

#include "mlir/IR/Block.h"
#include "llvm/ADT/DenseMap.h"

namespace galvatron::reference {

/// The values of one execution of a body.
using Frame = llvm::DenseMap<mlir::Value, DeviceTensors>;

class Interpreter {
public:
  Interpreter(Machine machine, uint64_t seed, uint64_t step, bool exact);

  const Machine machine;
  /// Where execution is: which micro-batch, and the hash of the running layer's path.
  int64_t microBatch = 0;
  uint64_t layer = 0;

  /// Runs all ops of a block but its terminator and backward regions; its arguments are in the frame.
  mlir::LogicalResult runBlock(mlir::Block &block, Frame &frame) const;
  mlir::LogicalResult runOp(mlir::Operation *op, Frame &frame) const;
  /// Rounds values of a type narrower than f32 that no op has rounded.
  void roundNarrow(mlir::Type type, DeviceTensors &value) const;

private:
  mlir::LogicalResult runOnDevice(mlir::Operation *op, const OpFunction &function, int64_t device, Frame &frame,
                                  llvm::ArrayRef<DeviceTensors *> results) const;

  OpTable table;
  uint64_t seed, step;
  bool exact;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_INTERPRETER_H
