// In what type a program computes, and what its 16-bit floats are for.
#ifndef GALVATRON_DIALECTS_GRAPH_PRECISION_H
#define GALVATRON_DIALECTS_GRAPH_PRECISION_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"

namespace galvatron::graph {

/// Module attribute: "bf16" or "fp16", the type of activations and of what products read; absent: fp32.
inline constexpr llvm::StringLiteral kPrecisionAttr = "graph.precision";

/// Of the module that the op is or lies in: "fp32", "bf16" or "fp16". In fp16 gradients are scaled.
inline llvm::StringRef getPrecision(mlir::Operation *op) {
  auto module = llvm::dyn_cast<mlir::ModuleOp>(op);
  if (!module)
    module = op->getParentOfType<mlir::ModuleOp>();
  auto precision = module ? module->getAttrOfType<mlir::StringAttr>(kPrecisionAttr) : mlir::StringAttr();
  return precision ? precision.getValue() : llvm::StringRef("fp32");
}

/// Whether elements are bf16 or f16: stored, sent and read by products, never computed with.
inline bool isHalf(mlir::Type elementType) { return elementType.isBF16() || elementType.isF16(); }

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_PRECISION_H
