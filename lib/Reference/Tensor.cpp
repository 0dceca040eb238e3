#include "galvatron/Reference/Tensor.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/bit.h"

#include <cmath>

using namespace galvatron::reference;

int64_t galvatron::reference::numElements(llvm::ArrayRef<int64_t> shape) {
  int64_t n = 1;
  for (int64_t extent : shape)
    n *= extent;
  return n;
}

Shape galvatron::reference::stridesOf(llvm::ArrayRef<int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int64_t dim = int64_t(shape.size()) - 2; dim >= 0; --dim)
    strides[dim] = strides[dim + 1] * shape[dim + 1];
  return strides;
}

void galvatron::reference::addTo(Tensor &sum, const Tensor &term) {
  for (auto [a, b] : llvm::zip_equal(sum.data, term.data))
    a += b;
}

/// To bf16, ties to even: by way of the nearest float, but for one that itself came to lie on a tie.
static double roundToBf16(double value) {
  float nearest = static_cast<float>(value);
  uint32_t bits = llvm::bit_cast<uint32_t>(nearest);
  if (!std::isfinite(nearest))
    return nearest;
  if ((bits & 0xffff) == 0x8000 && std::abs(value) != std::abs(double(nearest)))
    bits += std::abs(value) > std::abs(double(nearest)) ? 1 : -1;
  bits += 0x7fff + (bits >> 16 & 1);
  return llvm::bit_cast<float>(bits & 0xffff0000);
}

/// To f16, ties to even, subnormals and infinity included: to a whole number of its units in the last place.
static double roundToF16(double value) {
  if (!std::isfinite(value) || value == 0)
    return value;
  constexpr int kDigits = 11, kLowest = -24; // of a significand; exponent of the least subnormal
  constexpr double kLargest = 65504;
  double unit = std::ldexp(1.0, std::max(std::ilogb(value) + 1 - kDigits, kLowest));
  double rounded = std::nearbyint(value / unit) * unit;
  return std::abs(rounded) > kLargest ? std::copysign(HUGE_VAL, value) : rounded;
}

void galvatron::reference::roundTo(mlir::Type elementType, Tensor &tensor) {
  auto type = llvm::dyn_cast<mlir::FloatType>(elementType);
  if (!type || type.isF64())
    return;
  for (double &value : tensor.data) {
    if (type.isF32()) {
      value = static_cast<float>(value);
      continue;
    }
    if (type.isBF16()) {
      value = roundToBf16(value);
      continue;
    }
    if (type.isF16()) {
      value = roundToF16(value);
      continue;
    }
    llvm::APFloat rounded(value);
    bool losesInfo;
    rounded.convert(type.getFloatSemantics(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
    rounded.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
    value = rounded.convertToDouble();
  }
}

void galvatron::reference::forEachIndex(
    llvm::ArrayRef<int64_t> shape, llvm::function_ref<void(llvm::ArrayRef<int64_t> index, int64_t position)> body) {
  Shape index(shape.size(), 0);
  int64_t total = numElements(shape);
  for (int64_t position = 0; position < total; ++position) {
    body(index, position);
    for (int64_t dim = int64_t(shape.size()) - 1; dim >= 0 && ++index[dim] == shape[dim]; --dim)
      index[dim] = 0;
  }
}
