// Layouts of buffers: a tensor is a memref whose strides are static, so that reshapes, transposes and slices are views
// wherever strides can express them. Internal to lib/Conversion/DistToExec.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_LAYOUTS_H
#define GALVATRON_CONVERSION_DISTTOEXEC_LAYOUTS_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

#include <optional>

namespace galvatron {

using Strides = llvm::SmallVector<int64_t, 6>;

/// Strides, in elements, of a row-major tensor.
Strides rowMajorStrides(llvm::ArrayRef<int64_t> shape);
Strides stridesOf(mlir::Value memref);
llvm::ArrayRef<int64_t> shapeOf(mlir::Value value);
/// Whether the elements lie one after another in row-major order (dimensions of extent 1 aside).
bool isRowMajor(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> strides);
/// Strides of `to` on the elements of `from`, in row-major order of both, or none where no strides do.
std::optional<Strides> reshapedStrides(llvm::ArrayRef<int64_t> from, llvm::ArrayRef<int64_t> strides,
                                       llvm::ArrayRef<int64_t> to);
/// Elements from the first to the last, gaps between them included.
int64_t spanOf(llvm::ArrayRef<int64_t> shape, llvm::ArrayRef<int64_t> strides);
/// Bytes of one element as it lies in memory.
int64_t elementBytes(mlir::Type type);
/// Code of an element type in a runtime function's attributes (runtime/api/ElementType.h).
int64_t elementTypeCode(mlir::Type type);
/// The memref of such a tensor.
mlir::MemRefType memrefType(mlir::ShapedType tensor, llvm::ArrayRef<int64_t> strides);

/// Makes the buffers of one function.
struct BufferBuilder {
  mlir::OpBuilder &builder;
  mlir::Value scratch; ///< The function's last argument.

  /// A buffer of its own in the scratch; `planScratch` says where.
  mlir::Value createScratch(mlir::MemRefType type, mlir::Location loc);
  /// `shape` with `strides` from the element `elementOffset` of `base` on.
  mlir::Value view(mlir::Location loc, mlir::Value base, int64_t elementOffset, llvm::ArrayRef<int64_t> shape,
                   llvm::ArrayRef<int64_t> strides);
};

} // namespace galvatron

#endif // GALVATRON_CONVERSION_DISTTOEXEC_LAYOUTS_H
