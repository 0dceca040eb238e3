// Verification of the ops of mathematics: shapes against shapes, encodings ignored.
#include "dialects/Graph/Graph.h"
#include "dialects/Graph/GraphInputs.h"

#include "llvm/ADT/SmallSet.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/InterleavedRange.h"

using namespace mlir;
using namespace galvatron::graph;

std::string galvatron::graph::getInputName(ModuleOp module, unsigned argument) {
  if (auto inputs = module->getAttrOfType<ArrayAttr>(kInputsAttr); inputs && argument < inputs.size())
    if (auto name = cast<DictionaryAttr>(inputs[argument]).getAs<StringAttr>(kInputNameKey))
      return name.str();
  return argument < std::size(kInputNames) ? std::string(kInputNames[argument]) : "input " + std::to_string(argument);
}

SmallVector<int64_t> galvatron::graph::getDataShape(ModuleOp module, ArrayRef<int64_t> shape) {
  SmallVector<int64_t> data(shape);
  auto padded = module->getAttrOfType<IntegerAttr>(kPaddedSeqAttr), own = module->getAttrOfType<IntegerAttr>(kSeqAttr);
  if (padded && own && data.size() == 2 && data[1] == padded.getInt())
    data[1] = own.getInt();
  return data;
}

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

static ArrayRef<int64_t> shapeOf(Value value) { return cast<RankedTensorType>(value.getType()).getShape(); }

/// "2x3x4", or "[]" for a scalar.
static std::string toString(ArrayRef<int64_t> shape) {
  if (shape.empty())
    return "[]";
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::interleave(shape, stream, "x");
  return text;
}

static LogicalResult expectShape(Operation *op, StringRef what, Value value, ArrayRef<int64_t> expected) {
  if (shapeOf(value) == expected)
    return success();
  return op->emitOpError("expects ") << what << " of shape " << toString(expected) << ", but got "
                                     << toString(shapeOf(value));
}

static LogicalResult expectRank(Operation *op, StringRef what, Value value, int64_t rank) {
  if (int64_t(shapeOf(value).size()) == rank)
    return success();
  return op->emitOpError("expects ") << what << " of " << rank << " dimensions, but got " << shapeOf(value).size();
}

static LogicalResult expectAtLeastOneDimension(Operation *op, StringRef what, Value value) {
  if (!shapeOf(value).empty())
    return success();
  return op->emitOpError("expects ") << what << " to have a last dimension, but got a scalar";
}

static LogicalResult expectDimension(Operation *op, int64_t dim, int64_t rank) {
  if (dim >= 0 && dim < rank)
    return success();
  return op->emitOpError("expects a dimension below ") << rank << ", but got " << dim;
}

/// Increasing dimensions of a tensor of `rank`.
static LogicalResult expectIncreasing(Operation *op, ArrayRef<int64_t> dims, int64_t rank) {
  int64_t previous = -1;
  for (int64_t dim : dims) {
    if (failed(expectDimension(op, dim, rank)))
      return failure();
    if (dim <= previous)
      return op->emitOpError("expects increasing dimensions, but got ") << dim << " after " << previous;
    previous = dim;
  }
  return success();
}

/// The element type of `like`, or f32 where that is narrower and a sum may be.
static LogicalResult expectElementType(Operation *op, StringRef what, Value value, Value like, bool mayWiden = false) {
  Type actual = getElementTypeOrSelf(value), expected = getElementTypeOrSelf(like);
  if (actual == expected || (mayWiden && actual == getElementTypeOrSelf(getWidened(like.getType()))))
    return success();
  return op->emitOpError("expects ") << what << " of " << expected << " elements, but got " << actual;
}

static LogicalResult expectProbability(Operation *op, double p) {
  if (p >= 0 && p < 1)
    return success();
  return op->emitOpError("expects a dropout probability in [0, 1), but got ") << p;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

std::array<StringRef, 3> EinsumOp::getSubscripts() {
  auto [operands, result] = getEquation().split("->");
  auto [lhs, rhs] = operands.split(",");
  return {lhs, rhs, result};
}

LogicalResult EinsumOp::verify() {
  auto [operands, result] = getEquation().split("->");
  auto [lhs, rhs] = operands.split(",");
  if (!getEquation().contains("->") || !operands.contains(","))
    return emitOpError("expects an equation such as \"bsi,oi->bso\", but got \"") << getEquation() << "\"";
  llvm::SmallDenseMap<char, int64_t> extents;
  auto bind = [&](StringRef what, StringRef subscripts, Value value, bool isResult) -> LogicalResult {
    if (failed(expectRank(*this, what, value, subscripts.size())))
      return failure();
    llvm::SmallSet<char, 8> seen;
    for (auto [subscript, extent] : llvm::zip(subscripts, shapeOf(value))) {
      if (!llvm::isAlpha(subscript))
        return emitOpError("expects subscripts in the equation, but got '") << subscript << "'";
      if (!seen.insert(subscript).second)
        return emitOpError("expects each subscript once in ") << what << ", but got '" << subscript << "' twice";
      auto [it, isNew] = extents.try_emplace(subscript, extent);
      if (isResult && isNew)
        return emitOpError("expects subscript '") << subscript << "' of the result to occur in an operand";
      if (it->second != extent)
        return emitOpError("expects extent ")
               << it->second << " for subscript '" << subscript << "' in " << what << ", but got " << extent;
    }
    return success();
  };
  if (failed(bind("lhs", lhs, getLhs(), false)) || failed(bind("rhs", rhs, getRhs(), false)))
    return failure();
  if (failed(bind("result", result, getResult(), true)) || failed(expectElementType(*this, "rhs", getRhs(), getLhs())))
    return failure();
  return expectElementType(*this, "result", getResult(), getLhs(), /*mayWiden=*/true);
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

/// What attention and its backward have in common.
template <typename Op> static LogicalResult verifyAttention(Op op, Value y) {
  if (failed(expectRank(op, "q", op.getQ(), 4)) || failed(expectRank(op, "k", op.getK(), 4)) ||
      failed(expectRank(op, "v", op.getV(), 4)))
    return failure();
  ArrayRef<int64_t> q = shapeOf(op.getQ()), k = shapeOf(op.getK()), v = shapeOf(op.getV());
  if (failed(expectShape(op, "k", op.getK(), {q[0], k[1], k[2], q[3]})) ||
      failed(expectShape(op, "v", op.getV(), {q[0], k[1], k[2], v[3]})))
    return failure();
  if (k[1] == 0 || q[1] % k[1] != 0)
    return op.emitOpError("expects ") << q[1] << " query heads to be divisible by the " << k[1] << " key/value heads";
  if (failed(expectShape(op, "result", y, {q[0], q[1], q[2], v[3]})) ||
      failed(expectShape(op, "lse", op.getLse(), {q[0], q[1], q[2]})) ||
      failed(expectElementType(op, "k", op.getK(), op.getQ())) ||
      failed(expectElementType(op, "v", op.getV(), op.getQ())) ||
      failed(expectElementType(op, "result", y, op.getQ())) ||
      failed(expectElementType(op, "lse", op.getLse(), op.getQ(), /*mayWiden=*/true)))
    return failure();
  if (int64_t window = op.getWindow(); window < 0)
    return op.emitOpError("expects a window of at least 0, but got ") << window;
  if (failed(expectProbability(op, op.getDropout().convertToDouble())))
    return failure();
  if (!op.getBias())
    return success();
  SmallVector<int64_t> scores = {q[0], q[1], q[2], k[2]};
  ArrayRef<int64_t> bias = shapeOf(op.getBias());
  bool fits = bias.size() <= 4;
  for (size_t i = 0; fits && i < bias.size(); ++i)
    fits = bias[bias.size() - 1 - i] == 1 || bias[bias.size() - 1 - i] == scores[3 - i];
  if (!fits)
    return op.emitOpError("expects bias to broadcast to ") << toString(scores) << ", but got " << toString(bias);
  return success();
}

LogicalResult AttentionOp::verify() { return verifyAttention(*this, getResult()); }

LogicalResult AttentionBackwardOp::verify() {
  if (failed(verifyAttention(*this, getY())) || failed(expectShape(*this, "dy", getDy(), shapeOf(getY()))) ||
      failed(expectShape(*this, "dq", getDq(), shapeOf(getQ()))) ||
      failed(expectShape(*this, "dk", getDk(), shapeOf(getK()))))
    return failure();
  return expectShape(*this, "dv", getDv(), shapeOf(getV()));
}

/// As many as its kernels take.
static constexpr int64_t kMostRopeDimensions = 4;

LogicalResult RopeOp::verify() {
  int64_t rank = shapeOf(getX()).size(), rotated = 2 * getInverseFrequencies().size();
  if (rank < 2 || rank > kMostRopeDimensions)
    return emitOpError("expects x of 2 to ") << kMostRopeDimensions << " dimensions, but got " << rank;
  if (failed(expectDimension(*this, getSeqDim(), rank - 1)))
    return failure();
  if (rotated > shapeOf(getX()).back())
    return emitOpError("expects at most ") << shapeOf(getX()).back() << " rotated elements, but got " << rotated;
  if (!getPositions())
    return success();
  if (failed(expectDimension(*this, getRowDim(), rank - 1)))
    return failure();
  if (getRowDim() == getSeqDim())
    return emitOpError("expects rows along another dimension than positions, but both are ") << getSeqDim();
  std::array<int64_t, 2> expected = {shapeOf(getX())[getRowDim()], shapeOf(getX())[getSeqDim()]};
  if (shapeOf(getPositions()) != ArrayRef<int64_t>(expected) ||
      !getPositions().getType().getElementType().isInteger(64))
    return emitOpError("expects positions of type ")
           << RankedTensorType::get(expected, IntegerType::get(getContext(), 64)) << ", but got "
           << getPositions().getType();
  return success();
}

//===----------------------------------------------------------------------===//
// Norms, dropout, sums
//===----------------------------------------------------------------------===//

LogicalResult NormOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "x", getX())))
    return failure();
  ArrayRef<int64_t> x = shapeOf(getX());
  if ((getWeight() && failed(expectShape(*this, "weight", getWeight(), {x.back()}))) ||
      (getBias() && failed(expectShape(*this, "bias", getBias(), {x.back()}))) ||
      failed(expectShape(*this, "result", getResult(), x)) ||
      failed(expectElementType(*this, "result", getResult(), getX())) ||
      failed(expectShape(*this, "mean", getMean(), x.drop_back())))
    return failure();
  return expectShape(*this, "rstd", getRstd(), x.drop_back());
}

LogicalResult NormBackwardOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "x", getX())))
    return failure();
  ArrayRef<int64_t> x = shapeOf(getX());
  if ((getWeight() && failed(expectShape(*this, "weight", getWeight(), {x.back()}))) ||
      failed(expectShape(*this, "dy", getDy(), x)) || failed(expectShape(*this, "dx", getDx(), x)) ||
      failed(expectShape(*this, "mean", getMean(), x.drop_back())))
    return failure();
  return expectShape(*this, "rstd", getRstd(), x.drop_back());
}

LogicalResult NormWeightBackwardOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "x", getX())))
    return failure();
  ArrayRef<int64_t> x = shapeOf(getX());
  if (failed(expectShape(*this, "dy", getDy(), x)) || failed(expectShape(*this, "mean", getMean(), x.drop_back())) ||
      failed(expectShape(*this, "rstd", getRstd(), x.drop_back())))
    return failure();
  return expectShape(*this, "dw", getDw(), {x.back()});
}

LogicalResult DropoutOp::verify() { return expectProbability(*this, getP().convertToDouble()); }

//===----------------------------------------------------------------------===//
// Embedding and loss
//===----------------------------------------------------------------------===//

/// [ids..., columns]
static SmallVector<int64_t> append(ArrayRef<int64_t> shape, int64_t last) {
  SmallVector<int64_t> result(shape);
  result.push_back(last);
  return result;
}

LogicalResult EmbeddingOp::verify() {
  if (failed(expectRank(*this, "table", getTable(), 2)))
    return failure();
  return expectShape(*this, "result", getResult(), append(shapeOf(getIds()), shapeOf(getTable())[1]));
}

LogicalResult EmbeddingBackwardOp::verify() {
  if (failed(expectRank(*this, "dtable", getDtable(), 2)))
    return failure();
  return expectShape(*this, "dy", getDy(), append(shapeOf(getIds()), shapeOf(getDtable())[1]));
}

LogicalResult ShiftOp::verify() { return expectDimension(*this, getDim(), shapeOf(getX()).size()); }

LogicalResult CrossEntropyOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "logits", getLogits())) ||
      failed(expectShape(*this, "labels", getLabels(), shapeOf(getLogits()).drop_back())))
    return failure();
  if (!isMean()) {
    if (getCount())
      return emitOpError("expects no count where each label has its own loss, but got one");
    return expectShape(*this, "loss", getLoss(), shapeOf(getLabels()));
  }
  if (failed(expectRank(*this, "loss", getLoss(), 0)) ||
      (getCount() && failed(expectRank(*this, "count", getCount(), 0))))
    return failure();
  if (getNumValidLabels() == 0)
    return emitOpError("expects at least one label that counts, but got none");
  return success();
}

bool CrossEntropyOp::isMean() { return shapeOf(getLoss()).empty() || shapeOf(getLabels()).empty(); }

/// After what only renames positions.
static Value withoutViews(Value value) {
  while (isa_and_nonnull<ReshapeOp, TransposeOp>(value.getDefiningOp()))
    value = value.getDefiningOp()->getOperand(0);
  return value;
}

int64_t CrossEntropyOp::getNumValidLabels() {
  Value labels = withoutViews(getLabels());
  int64_t count = cast<RankedTensorType>(labels.getType()).getNumElements();
  auto shift = labels.getDefiningOp<ShiftOp>();
  if (!shift || static_cast<int64_t>(shift.getFill()) != static_cast<int64_t>(getIgnoreIndex()))
    return count;
  int64_t extent = shapeOf(labels)[shift.getDim()], offset = std::abs(int64_t(shift.getOffset()));
  return extent == 0 ? 0 : count / extent * std::max<int64_t>(extent - offset, 0);
}

bool CrossEntropyOp::hasStaticCount() {
  auto module = (*this)->getParentOfType<ModuleOp>();
  if (int64_t(getIgnoreIndex()) >= 0 ||
      (module && llvm::any_of(ArrayRef{kPackedAttr, kIgnoredLabelAttr, kInputsAttr, kCountsLabelsAttr},
                              [&](StringRef name) { return module->hasAttr(name); })))
    return false;
  Value labels = withoutViews(getLabels());
  if (auto shift = labels.getDefiningOp<ShiftOp>();
      shift && int64_t(shift.getFill()) == static_cast<int64_t>(getIgnoreIndex()))
    labels = shift.getX();
  // Pieces of the tokens, as they are.
  while (isa_and_nonnull<ReshapeOp, TransposeOp, SliceOp>(labels.getDefiningOp()))
    labels = labels.getDefiningOp()->getOperand(0);
  return isa<BlockArgument>(labels);
}

LogicalResult LogSumExpOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "x", getX())))
    return failure();
  return expectShape(*this, "result", getResult(), shapeOf(getX()).drop_back());
}

LogicalResult SumExpOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "x", getX())) ||
      failed(expectShape(*this, "max", getMax(), shapeOf(getX()).drop_back())))
    return failure();
  return expectShape(*this, "result", getResult(), shapeOf(getX()).drop_back());
}

LogicalResult TargetLogitOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "logits", getLogits())) ||
      failed(expectShape(*this, "labels", getLabels(), shapeOf(getLogits()).drop_back())))
    return failure();
  return expectShape(*this, "result", getResult(), shapeOf(getLogits()).drop_back());
}

LogicalResult CrossEntropyBackwardOp::verify() {
  if (failed(expectAtLeastOneDimension(*this, "logits", getLogits())))
    return failure();
  ArrayRef<int64_t> rows = shapeOf(getLogits()).drop_back();
  if (failed(expectShape(*this, "dy", getDy(), rows)) || failed(expectShape(*this, "sum_exp", getSumExp(), rows)) ||
      failed(expectShape(*this, "max", getMax(), rows)) || failed(expectShape(*this, "labels", getLabels(), rows)))
    return failure();
  return expectShape(*this, "dlogits", getDlogits(), shapeOf(getLogits()));
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

LogicalResult ReduceOp::verify() {
  ArrayRef<int64_t> x = shapeOf(getX());
  if (failed(expectIncreasing(*this, getDims(), x.size())))
    return failure();
  SmallVector<int64_t> expected;
  for (auto [dim, extent] : llvm::enumerate(x))
    if (!llvm::is_contained(getDims(), dim))
      expected.push_back(extent);
  if (failed(expectShape(*this, "result", getResult(), expected)))
    return failure();
  return expectElementType(*this, "result", getResult(), getX(), /*mayWiden=*/true);
}

LogicalResult BroadcastOp::verify() {
  ArrayRef<int64_t> x = shapeOf(getX()), result = shapeOf(getResult());
  if (getDims().size() != x.size())
    return emitOpError("expects a dimension of the result for each of x's ")
           << x.size() << ", but got " << getDims().size();
  if (failed(expectIncreasing(*this, getDims(), result.size())))
    return failure();
  for (auto [from, to] : llvm::enumerate(getDims()))
    if (x[from] != result[to])
      return emitOpError("expects dimension ")
             << to << " of the result to have x's extent " << x[from] << ", but got " << result[to];
  return success();
}

LogicalResult ReshapeOp::verify() {
  int64_t from = cast<RankedTensorType>(getX().getType()).getNumElements();
  int64_t to = cast<RankedTensorType>(getResult().getType()).getNumElements();
  if (from == to)
    return success();
  return emitOpError("expects a result of ") << from << " elements, but got " << to;
}

LogicalResult TransposeOp::verify() {
  ArrayRef<int64_t> x = shapeOf(getX());
  SmallVector<int64_t> sorted(getPermutation()), expected;
  llvm::sort(sorted);
  if (!llvm::equal(sorted, llvm::seq<int64_t>(0, x.size())))
    return emitOpError("expects a permutation of ")
           << x.size() << " dimensions, but got [" << llvm::interleaved(getPermutation()) << "]";
  for (int64_t dim : getPermutation())
    expected.push_back(x[dim]);
  return expectShape(*this, "result", getResult(), expected);
}

/// `piece` lies at `offsets` inside `whole`.
static LogicalResult verifyPiece(Operation *op, ArrayRef<int64_t> offsets, Value piece, Value whole) {
  if (failed(expectRank(op, "the piece", piece, shapeOf(whole).size())))
    return failure();
  if (offsets.size() != shapeOf(whole).size())
    return op->emitOpError("expects ") << shapeOf(whole).size() << " offsets, but got " << offsets.size();
  for (auto [dim, offset] : llvm::enumerate(offsets))
    if (offset < 0 || offset + shapeOf(piece)[dim] > shapeOf(whole)[dim])
      return op->emitOpError("expects the piece to lie inside dimension ")
             << dim << " of extent " << shapeOf(whole)[dim] << ", but got " << offset << " to "
             << offset + shapeOf(piece)[dim];
  return success();
}

LogicalResult SliceOp::verify() { return verifyPiece(*this, getOffsets(), getResult(), getX()); }
LogicalResult PadOp::verify() { return verifyPiece(*this, getOffsets(), getX(), getResult()); }

LogicalResult ConcatOp::verify() {
  int64_t rank = shapeOf(getResult()).size(), dim = getDim(), total = 0;
  if (failed(expectDimension(*this, dim, rank)))
    return failure();
  for (Value input : getInputs()) {
    if (failed(expectRank(*this, "each input", input, rank)))
      return failure();
    SmallVector<int64_t> expected(shapeOf(getResult()));
    expected[dim] = shapeOf(input)[dim];
    if (failed(expectShape(*this, "each input", input, expected)))
      return failure();
    total += expected[dim];
  }
  if (total != shapeOf(getResult())[dim])
    return emitOpError("expects dimension ")
           << dim << " of the result to have extent " << total << ", but got " << shapeOf(getResult())[dim];
  return success();
}

LogicalResult IotaOp::verify() { return expectDimension(*this, getDim(), shapeOf(getResult()).size()); }
