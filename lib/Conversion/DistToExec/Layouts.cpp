// See Layouts.h.
#include "Layouts.h"

#include "dialects/Exec/Exec.h"

#include "runtime/api/ElementType.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

Strides galvatron::rowMajorStrides(ArrayRef<int64_t> shape) {
  Strides strides(shape.size(), 1);
  for (int64_t dim = static_cast<int64_t>(shape.size()) - 2; dim >= 0; --dim)
    strides[dim] = strides[dim + 1] * shape[dim + 1];
  return strides;
}

Strides galvatron::stridesOf(Value memref) {
  SmallVector<int64_t> strides;
  int64_t offset;
  [[maybe_unused]] LogicalResult known = cast<MemRefType>(memref.getType()).getStridesAndOffset(strides, offset);
  assert(succeeded(known) && "layouts are static strides");
  return Strides(strides.begin(), strides.end());
}

ArrayRef<int64_t> galvatron::shapeOf(Value value) { return cast<ShapedType>(value.getType()).getShape(); }

bool galvatron::isRowMajor(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides) {
  int64_t expected = 1;
  for (auto [extent, stride] : llvm::reverse(llvm::zip_equal(shape, strides))) {
    if (extent != 1 && stride != expected)
      return false;
    expected *= extent;
  }
  return true;
}

std::optional<Strides> galvatron::reshapedStrides(ArrayRef<int64_t> from, ArrayRef<int64_t> strides,
                                                  ArrayRef<int64_t> to) {
  // Walk both shapes from the minor end; `from` dimensions that lie one after another merge.
  Strides result(to.size(), 0);
  int64_t i = from.size() - 1, j = to.size() - 1;
  while (i >= 0 || j >= 0) {
    while (i >= 0 && from[i] == 1)
      --i;
    // Any stride does for a dimension of extent 1; what lies inside it is as aligned as the rest, which libraries and
    // wide accesses ask of every stride.
    for (; j >= 0 && to[j] == 1; --j)
      result[j] = j + 1 < static_cast<int64_t>(to.size()) ? result[j + 1] * to[j + 1] : 1;
    if (i < 0 || j < 0)
      break;
    int64_t unit = strides[i], fromExtent = from[i], toExtent = 1;
    do {
      while (fromExtent % (toExtent * to[j]) != 0) {
        do
          --i;
        while (i >= 0 && from[i] == 1);
        if (i < 0 || strides[i] != unit * fromExtent)
          return std::nullopt;
        fromExtent *= from[i];
      }
      result[j] = unit * toExtent;
      toExtent *= to[j--];
    } while (toExtent != fromExtent && j >= 0);
    if (toExtent != fromExtent)
      return std::nullopt;
    --i;
  }
  return result;
}

int64_t galvatron::spanOf(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides) {
  int64_t span = 1;
  for (auto [extent, stride] : llvm::zip_equal(shape, strides))
    span += (extent - 1) * stride;
  return span;
}

int64_t galvatron::elementBytes(Type type) {
  return llvm::divideCeil(getElementTypeOrSelf(type).getIntOrFloatBitWidth(), 8);
}

int64_t galvatron::elementTypeCode(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isBF16() ? GVRT_BF16 : element.isF16() ? GVRT_F16 : isa<FloatType>(element) ? GVRT_F32 : GVRT_I64;
}

MemRefType galvatron::memrefType(ShapedType tensor, ArrayRef<int64_t> strides) {
  if (strides == ArrayRef<int64_t>(rowMajorStrides(tensor.getShape())))
    return MemRefType::get(tensor.getShape(), tensor.getElementType());
  return MemRefType::get(tensor.getShape(), tensor.getElementType(),
                         StridedLayoutAttr::get(tensor.getContext(), 0, strides));
}

Value BufferBuilder::createScratch(MemRefType type, Location loc) {
  return exec::BufferOp::create(builder, loc, type, scratch, 0);
}

Value BufferBuilder::view(Location loc, Value base, int64_t elementOffset, ArrayRef<int64_t> shape,
                          ArrayRef<int64_t> strides) {
  auto from = cast<MemRefType>(base.getType());
  MemRefType type = memrefType(RankedTensorType::get(shape, from.getElementType()), strides);
  if (type == from && elementOffset == 0)
    return base;
  return exec::BufferOp::create(builder, loc, type, base, elementOffset * elementBytes(from));
}
