// The evaluator's tensors: a shape and doubles, whatever the element type.
//
// After each op the values are rounded to the element type (`roundTo`), so a program computes what its
// types say with exact arithmetic inside each op; integers and i1 (0 or 1) are whole doubles, exact up
// to 2^53. `exact` evaluation skips the rounding: finite differences need it.
#ifndef GALVATRON_REFERENCE_TENSOR_H
#define GALVATRON_REFERENCE_TENSOR_H

#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <vector>

namespace galvatron::reference {

using Shape = llvm::SmallVector<int64_t, 4>;

int64_t numElements(llvm::ArrayRef<int64_t> shape);

/// Elements between neighbours along each dimension, row-major.
Shape stridesOf(llvm::ArrayRef<int64_t> shape);

struct Tensor {
  Shape shape;
  std::vector<double> data;

  Tensor() = default;
  explicit Tensor(llvm::ArrayRef<int64_t> shape, double value = 0) : shape(shape), data(numElements(shape), value) {}

  int64_t size() const { return data.size(); }
  int64_t rank() const { return shape.size(); }
  double &operator[](int64_t i) { return data[i]; }
  double operator[](int64_t i) const { return data[i]; }
};

/// Adds elementwise; shapes are equal.
void addTo(Tensor &sum, const Tensor &term);

/// Rounds every element to the nearest value of the type.
void roundTo(mlir::Type elementType, Tensor &tensor);

/// Calls `body` with each index of the shape, in row-major order; `number` is that of the
/// calls before.
void forEachIndex(llvm::ArrayRef<int64_t> shape,
                  llvm::function_ref<void(llvm::ArrayRef<int64_t> index, int64_t number)> body);

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_TENSOR_H
