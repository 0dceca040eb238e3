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
using namespace galvatron::raise;

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

bool TableReader::isTable(Value value) {
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

double TableReader::read(Value value, ArrayRef<int64_t> index) {
  Operation *op = value.getDefiningOp();
  if (isa<IotaOp, arith::ConstantOp>(op))
    return compute(op, index);
  std::pair<Value, int64_t> key{value, linearize(index, shapeOf(value))};
  if (auto it = elements.find(key); it != elements.end())
    return it->second;
  double element = compute(op, index);
  if (elements.size() > (1u << 22)) // About 128 MiB.
    elements.clear();
  return elements[key] = element;
}

static double readConstant(arith::ConstantOp op, ArrayRef<int64_t> index) {
  auto elements = cast<DenseElementsAttr>(op.getValue());
  int64_t linear = elements.isSplat() ? 0 : linearize(index, shapeOf(op.getResult()));
  if (isa<FloatType>(elements.getElementType()))
    return (*(elements.value_begin<APFloat>() + linear)).convertToDouble();
  APInt integer = *(elements.value_begin<APInt>() + linear);
  return integer.getBitWidth() == 1 ? double(integer.getZExtValue()) : double(integer.getSExtValue());
}

namespace {
/// Which element of which operand moved; a null value: none, but `fill`.
struct Source {
  Value value;
  SmallVector<int64_t> index;
  double fill = 0;
};
} // namespace

static Source findPadded(PadOp pad, ArrayRef<int64_t> index) {
  SmallVector<int64_t> source(index);
  for (auto [i, offset, extent] : llvm::zip_equal(source, pad.getOffsets(), shapeOf(pad.getX()))) {
    i -= offset;
    if (i < 0 || i >= extent)
      return {};
  }
  return {pad.getX(), source};
}

static Source findPiece(ConcatOp concat, ArrayRef<int64_t> index) {
  SmallVector<int64_t> source(index);
  for (Value input : concat.getInputs()) {
    int64_t extent = shapeOf(input)[concat.getDim()];
    if (source[concat.getDim()] < extent)
      return {input, source};
    source[concat.getDim()] -= extent;
  }
  llvm_unreachable("pieces cover a concat");
}

/// Of the element at `index` of what `op` moves; none: it computes.
static std::optional<Source> findSource(Operation *op, ArrayRef<int64_t> index) {
  SmallVector<int64_t> source(index);
  if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    int64_t linear = linearize(index, shapeOf(reshape.getResult()));
    return Source{reshape.getX(), delinearize(linear, shapeOf(reshape.getX()))};
  }
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
      source[dim] = index[i];
    return Source{transpose.getX(), source};
  }
  if (auto slice = dyn_cast<SliceOp>(op)) {
    for (auto [i, offset] : llvm::zip_equal(source, slice.getOffsets()))
      i += offset;
    return Source{slice.getX(), source};
  }
  if (auto pad = dyn_cast<PadOp>(op))
    return findPadded(pad, index);
  if (auto concat = dyn_cast<ConcatOp>(op))
    return findPiece(concat, index);
  if (auto broadcast = dyn_cast<BroadcastOp>(op))
    return Source{broadcast.getX(), llvm::map_to_vector(broadcast.getDims(), [&](int64_t dim) { return index[dim]; })};
  if (auto shift = dyn_cast<ShiftOp>(op)) {
    int64_t &i = source[shift.getDim()];
    i += shift.getOffset();
    if (i < 0 || i >= shapeOf(shift.getResult())[shift.getDim()])
      return Source{{}, {}, double(int64_t(shift.getFill()))};
    return Source{shift.getX(), source};
  }
  return std::nullopt;
}

static double readReduced(ReduceOp reduce, ArrayRef<int64_t> index, TableReader &reader) {
  ArrayRef<int64_t> full = shapeOf(reduce.getX());
  SmallVector<int64_t> extents, source(full.size(), 0);
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
    double element = reader.read(reduce.getX(), source);
    total = isSum ? total + element : std::max(total, element);
  });
  return total;
}

static double readProduct(EinsumOp einsum, ArrayRef<int64_t> index, TableReader &reader) {
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
      return reader.read(operand, llvm::map_to_vector(subscripts, [&](char subscript) { return at[subscript]; }));
    };
    total += factor(einsum.getLhs(), equation.lhs) * factor(einsum.getRhs(), equation.rhs);
  });
  return total;
}

double TableReader::compute(Operation *op, ArrayRef<int64_t> index) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return readConstant(constant, index);
  if (auto iota = dyn_cast<IotaOp>(op))
    return index[iota.getDim()];
  if (std::optional<Source> source = findSource(op, index))
    return source->value ? read(source->value, source->index) : source->fill;
  if (auto reduce = dyn_cast<ReduceOp>(op))
    return readReduced(reduce, index, *this);
  if (auto einsum = dyn_cast<EinsumOp>(op))
    return readProduct(einsum, index, *this);
  SmallVector<double> operands;
  for (Value operand : op->getOperands())
    operands.push_back(read(operand, index));
  // NaN (0 / 0) only ever makes a recognition fail.
  return evaluateElement(op, operands).value_or(std::numeric_limits<double>::quiet_NaN());
}
