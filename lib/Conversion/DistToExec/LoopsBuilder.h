// The scalar code of one `exec.loops` under construction.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_LOOPSBUILDER_H
#define GALVATRON_CONVERSION_DISTTOEXEC_LOOPSBUILDER_H

#include "BodyLowering.h"

#include "dialects/Graph/GraphElementwise.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

namespace galvatron {

/// The scalar code of one kernel under construction.
class LoopsBuilder {
public:
  LoopsBuilder(BodyLowering &lowering, mlir::Location loc, llvm::ArrayRef<int64_t> extents)
      : lowering(lowering), loc(loc), extents(extents), builder(lowering.getBuilder().getContext()) {
    builder.setInsertionPointToEnd(&block);
  }

  /// The scalar of `value` at the loop index; `loops[d]` is the loop that indexes its dimension d.
  mlir::FailureOr<mlir::Value> scalarOf(mlir::Value value, llvm::ArrayRef<int64_t> loops, bool root = false);
  mlir::FailureOr<llvm::SmallVector<mlir::Value>> scalarsOf(mlir::Operation *op, llvm::ArrayRef<int64_t> loops);
  /// Before values of 16 bits are rounded.
  mlir::FailureOr<llvm::SmallVector<mlir::Value>> wideScalarsOf(mlir::Operation *op, llvm::ArrayRef<int64_t> loops);
  llvm::SmallVector<mlir::Value> computeScalars(mlir::Operation *op, llvm::ArrayRef<mlir::Value> operands);
  /// The scalar already in an output, for gradients that accumulate.
  mlir::Value readOutput(mlir::Value buffer) {
    return readBuffer(buffer, llvm::to_vector(llvm::seq<int64_t>(extents.size())));
  }
  /// The last `numColumnSums` results are summed over rows.
  mlir::LogicalResult finish(llvm::ArrayRef<mlir::Value> results, llvm::ArrayRef<mlir::Value> outputs,
                             size_t numColumnSums = 0);

  mlir::OpBuilder &getBuilder() { return builder; }

private:
  mlir::Value readBuffer(mlir::Value buffer, llvm::ArrayRef<int64_t> loops);
  mlir::Value widen(mlir::Value stored);
  mlir::Value constant(mlir::Type type, double value) {
    return mlir::arith::ConstantOp::create(builder, loc, mlir::FloatAttr::get(type, value));
  }
  mlir::Value activation(graph::ActivationKind kind, mlir::Value x);
  mlir::Value activationDerivative(graph::ActivationKind kind, mlir::Value x);
  mlir::Value sigmoid(mlir::Value x);
  mlir::Value gaussian(mlir::Value x, bool cumulative);
  mlir::Value geluTanhInner(mlir::Value x);

  BodyLowering &lowering;
  mlir::Location loc;
  llvm::ArrayRef<int64_t> extents;
  mlir::OpBuilder builder;
  mlir::Block block;
  llvm::SmallVector<mlir::Value> inputs, widened; // buffers, and what is computed with of each
  llvm::SmallVector<int64_t> strides;
  llvm::DenseMap<std::pair<mlir::Value, mlir::Attribute>, mlir::Value> seen;
};

} // namespace galvatron

#endif // GALVATRON_CONVERSION_DISTTOEXEC_LOOPSBUILDER_H
