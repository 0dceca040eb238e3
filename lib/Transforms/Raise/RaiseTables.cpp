// Reads single elements of data-independent tensors: what is known of a mask or a position table
// without building it.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

static int64_t linearize(ArrayRef<int64_t> index, ArrayRef<int64_t> shape) {
  int64_t linear = 0;
  for (auto [i, extent] : llvm::zip_equal(index, shape))
    linear = linear * extent + i;
  return linear;
}

static SmallVector<int64_t> delinearize(int64_t linear, ArrayRef<int64_t> shape) {
  SmallVector<int64_t> index(shape.size());
  for (size_t i = shape.size(); i-- > 0; linear /= shape[i])
    index[i] = linear % shape[i];
  return index;
}

/// Calls `visit` for every index of `shape`.
template <typename Visit> static void forEachIndex(ArrayRef<int64_t> shape, Visit visit) {
  int64_t total = llvm::product_of(shape);
  for (int64_t linear = 0; linear < total; ++linear)
    visit(delinearize(linear, shape));
}

bool raise::TableReader::isTable(Value value) {
  auto [known, isNew] = tables.try_emplace(value, false);
  if (!isNew)
    return known->second;
  Operation *op = value.getDefiningOp();
  bool answer = false;
  if (!op)
    return false;
  Attribute constant;
  if (matchPattern(op, m_Constant(&constant))) {
    answer = isa<DenseElementsAttr>(constant);
  } else if (isa<IotaOp, ReshapeOp, TransposeOp, SliceOp, PadOp, ConcatOp, BroadcastOp, ReduceOp, ShiftOp, EinsumOp>(
                 op)) {
    answer = true;
  } else if (isElementwise(op) && !isa<DropoutOp>(op)) {
    SmallVector<double> ones(op->getNumOperands(), 1.0);
    answer = evaluateElement(op, ones).has_value();
  }
  answer = answer && llvm::all_of(op->getOperands(), [&](Value operand) { return isTable(operand); });
  return tables[value] = answer;
}

double raise::TableReader::read(Value value, ArrayRef<int64_t> index) {
  Operation *op = value.getDefiningOp();
  if (isa<IotaOp, arith::ConstantOp>(op))
    return compute(op, value, index);
  std::pair<Value, int64_t> key{value, linearize(index, shapeOf(value))};
  if (auto it = elements.find(key); it != elements.end())
    return it->second;
  double element = compute(op, value, index);
  if (elements.size() > (1u << 22)) // About 128 MiB.
    elements.clear();
  return elements[key] = element;
}

double raise::TableReader::compute(Operation *op, Value value, ArrayRef<int64_t> index) {
  ArrayRef<int64_t> shape = shapeOf(value);
  SmallVector<int64_t> source(index);
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    auto elements = cast<DenseElementsAttr>(constant.getValue());
    int64_t linear = elements.isSplat() ? 0 : linearize(index, shape);
    if (isa<FloatType>(elements.getElementType()))
      return (*(elements.value_begin<APFloat>() + linear)).convertToDouble();
    APInt integer = *(elements.value_begin<APInt>() + linear);
    return integer.getBitWidth() == 1 ? double(integer.getZExtValue()) : double(integer.getSExtValue());
  }
  if (auto iota = dyn_cast<IotaOp>(op))
    return index[iota.getDim()];
  if (auto reshape = dyn_cast<ReshapeOp>(op))
    return read(reshape.getX(), delinearize(linearize(index, shape), shapeOf(reshape.getX())));
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
      source[dim] = index[i];
    return read(transpose.getX(), source);
  }
  if (auto slice = dyn_cast<SliceOp>(op)) {
    for (auto [i, offset] : llvm::zip_equal(source, slice.getOffsets()))
      i += offset;
    return read(slice.getX(), source);
  }
  if (auto pad = dyn_cast<PadOp>(op)) {
    for (auto [i, offset, extent] : llvm::zip_equal(source, pad.getOffsets(), shapeOf(pad.getX()))) {
      i -= offset;
      if (i < 0 || i >= extent)
        return 0;
    }
    return read(pad.getX(), source);
  }
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    for (Value input : concat.getInputs()) {
      int64_t extent = shapeOf(input)[concat.getDim()];
      if (source[concat.getDim()] < extent)
        return read(input, source);
      source[concat.getDim()] -= extent;
    }
    llvm_unreachable("pieces cover a concat");
  }
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    source.clear();
    for (int64_t dim : broadcast.getDims())
      source.push_back(index[dim]);
    return read(broadcast.getX(), source);
  }
  if (auto shift = dyn_cast<ShiftOp>(op)) {
    int64_t &i = source[shift.getDim()];
    i += shift.getOffset();
    return i < 0 || i >= shape[shift.getDim()] ? shift.getFill() : read(shift.getX(), source);
  }
  if (auto reduce = dyn_cast<ReduceOp>(op)) {
    ArrayRef<int64_t> full = shapeOf(reduce.getX());
    SmallVector<int64_t> extents;
    source.assign(full.size(), 0);
    for (auto [dim, kept] = std::pair<size_t, size_t>(0, 0); dim < full.size(); ++dim)
      if (llvm::is_contained(reduce.getDims(), int64_t(dim)))
        extents.push_back(full[dim]);
      else
        source[dim] = index[kept++];
    bool isSum = reduce.getKind() == ReduceKind::Sum;
    double total = isSum ? 0 : -std::numeric_limits<double>::infinity();
    forEachIndex(extents, [&](ArrayRef<int64_t> inner) {
      for (auto [dim, i] : llvm::zip_equal(reduce.getDims(), inner))
        source[dim] = i;
      double element = read(reduce.getX(), source);
      total = isSum ? total + element : std::max(total, element);
    });
    return total;
  }
  if (auto einsum = dyn_cast<EinsumOp>(op)) {
    Equation equation = Equation::parse(einsum.getEquation());
    llvm::DenseMap<char, int64_t> at;
    for (auto [subscript, i] : llvm::zip_equal(equation.result, index))
      at[subscript] = i;
    std::string contracted;
    SmallVector<int64_t> extents;
    for (auto [subscript, extent] :
         llvm::zip_equal(equation.lhs + equation.rhs,
                         llvm::concat<const int64_t>(shapeOf(einsum.getLhs()), shapeOf(einsum.getRhs()))))
      if (!at.contains(subscript) && contracted.find(subscript) == std::string::npos)
        contracted += subscript, extents.push_back(extent);
    double total = 0;
    forEachIndex(extents, [&](ArrayRef<int64_t> inner) {
      for (auto [subscript, i] : llvm::zip_equal(contracted, inner))
        at[subscript] = i;
      auto factor = [&](Value operand, const std::string &subscripts) {
        return read(operand, llvm::map_to_vector(subscripts, [&](char subscript) { return at[subscript]; }));
      };
      total += factor(einsum.getLhs(), equation.lhs) * factor(einsum.getRhs(), equation.rhs);
    });
    return total;
  }
  SmallVector<double> operands;
  for (Value operand : op->getOperands())
    operands.push_back(read(operand, index));
  // NaN (0 / 0) only ever makes a recognition fail.
  return evaluateElement(op, operands).value_or(std::numeric_limits<double>::quiet_NaN());
}
