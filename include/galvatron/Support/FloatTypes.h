// Conversions between floating-point types, whichever is wider.
#ifndef GALVATRON_SUPPORT_FLOATTYPES_H
#define GALVATRON_SUPPORT_FLOATTYPES_H

#include "dialects/Graph/GraphDialect.h"
#include "dialects/Graph/Precision.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"

namespace galvatron {

/// `value` with elements of another floating-point type; between bf16 and f16 by way of f32.
inline mlir::Value convertFloat(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value value, mlir::Type element) {
  mlir::Type type = graph::withElementType(value.getType(), element),
             from = mlir::getElementTypeOrSelf(value.getType());
  if (graph::isHalf(from) && graph::isHalf(element) && from != element)
    value = mlir::arith::ExtFOp::create(builder, loc, graph::withElementType(type, builder.getF32Type()), value);
  if (element.getIntOrFloatBitWidth() < mlir::getElementTypeOrSelf(value.getType()).getIntOrFloatBitWidth())
    return mlir::arith::TruncFOp::create(builder, loc, type, value);
  return mlir::arith::ExtFOp::create(builder, loc, type, value);
}

} // namespace galvatron

#endif // GALVATRON_SUPPORT_FLOATTYPES_H
