// See ResultPlaces.h.
#include "ResultPlaces.h"

#include "BodyLowering.h"
#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "galvatron/Kernels/ElementwiseOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;

ResultPlaces::ResultPlaces(dist::BodyOp body, exec::FunctionOp function, BufferBuilder buffers, unsigned numAccumulated,
                           unsigned numSaved)
    : body(body), function(function), buffers(buffers), results(body.getBody().front().getTerminator()->getOperands()),
      numAccumulated(numAccumulated), numSaved(numSaved), inPlace(results.size(), false) {
  buffers.builder.setInsertionPointToEnd(&function.getBody().front());
  placeAdjacentGradients();
  placeResults();
  placeConcatenations();
}

const ResultPlaces::Destination *ResultPlaces::findDestination(Value value) const {
  auto found = destinations.find(value);
  return found == destinations.end() ? nullptr : &found->second;
}

ArrayRef<unsigned> ResultPlaces::getParameters(Value value) const {
  auto found = parameters.find(value);
  return found == parameters.end() ? ArrayRef<unsigned>() : ArrayRef(found->second);
}

Value ResultPlaces::getResultBuffer(unsigned index) { return function.getArgument(body.getNumArguments() + index); }

std::optional<unsigned> ResultPlaces::getParameter(unsigned index) const {
  unsigned first = results.size() - numAccumulated;
  return index < first ? std::nullopt : std::optional(index - first);
}

Value ResultPlaces::flatResult(Value value, unsigned index) {
  int64_t count = cast<ShapedType>(value.getType()).getNumElements();
  return buffers.view(value.getLoc(), getResultBuffer(index), 0, {count}, {1});
}

/// The value whose buffer holds all of `value`, elements in the same places up to order: through
/// reshapes and transposes, but not slices.
static Value rootOf(Value value, bool throughTransposes) {
  while (Operation *op = value.getDefiningOp()) {
    if (isa<graph::ReshapeOp>(op) || (throughTransposes && isa<graph::TransposeOp>(op)))
      value = op->getOperand(0);
    else
      break;
  }
  return value;
}

/// Whether the producer can add to what the buffer holds.
static bool canAccumulate(Operation *op) {
  return isa<graph::EinsumOp, graph::NormWeightBackwardOp, graph::EmbeddingBackwardOp>(op) ||
         (isa<graph::ReduceOp>(op) && cast<graph::ReduceOp>(op).getKind() == graph::ReduceKind::Sum) ||
         isComputedInLoops(op);
}

/// Gradients of parameters that lie together are the rows of one product, which adds to all of them.
void ResultPlaces::placeAdjacentGradients() {
  for (unsigned i = results.size() - numAccumulated; i < results.size(); ++i) {
    auto slice = results[i].getDefiningOp<graph::SliceOp>();
    if (!slice || !slice.getX().getDefiningOp() || !slice.getX().getDefiningOp()->hasAttr(dist::kAdjacentAttrName))
      continue;
    Value whole = slice.getX();
    if (!destinations.contains(whole)) // The first piece stands where the whole begins.
      destinations[whole] = {flatResult(whole, i), /*hasFreeOrder=*/false};
    parameters[whole].push_back(*getParameter(i));
    inPlace[i] = true;
  }
}

void ResultPlaces::placeResults() {
  for (unsigned i = 0; i < results.size(); ++i) {
    if (inPlace[i])
      continue;
    bool isSaved = i < results.size() - numAccumulated && i >= results.size() - numAccumulated - numSaved;
    Value root = rootOf(results[i], /*throughTransposes=*/isSaved);
    Operation *producer = root.getDefiningOp();
    if (!producer || destinations.contains(root) ||
        isa<graph::SliceOp, graph::TransposeOp, arith::ConstantOp>(producer))
      continue;
    std::optional<unsigned> parameter = getParameter(i);
    if (parameter && (!canAccumulate(producer) || !root.hasOneUse() || !results[i].hasOneUse()))
      continue;
    if (isComputedInLoops(producer) && isInlined(root))
      continue;
    destinations[root] = {flatResult(root, i), isSaved};
    if (parameter)
      parameters[root].push_back(*parameter);
    inPlace[i] = true;
  }
}

/// The buffer of a reshape's or transpose's operand, given that of its result; null where no strides say it.
static Value unviewed(BufferBuilder &buffers, Operation *op, Value buffer) {
  Strides strides = stridesOf(buffer);
  ArrayRef<int64_t> shape = shapeOf(op->getOperand(0));
  if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
    Strides inner(strides.size());
    for (auto [dim, from] : llvm::enumerate(transpose.getPermutation()))
      inner[from] = strides[dim];
    return buffers.view(op->getLoc(), buffer, 0, shape, inner);
  }
  std::optional<Strides> inner = reshapedStrides(shapeOf(buffer), strides, shape);
  return inner ? buffers.view(op->getLoc(), buffer, 0, shape, *inner) : Value();
}

/// Lets what computes an operand of a concatenation write it there, if its kernel takes strides.
void ResultPlaces::placePiece(graph::ConcatOp op, unsigned input, Value piece) {
  Value value = op.getInputs()[input];
  while (isa_and_nonnull<graph::ReshapeOp, graph::TransposeOp>(value.getDefiningOp())) {
    piece = unviewed(buffers, value.getDefiningOp(), piece);
    value = value.getDefiningOp()->getOperand(0);
    if (!piece)
      return;
  }
  Operation *producer = value.getDefiningOp();
  if (!producer || destinations.contains(value) || pieces.contains(value))
    return;
  bool takesStrides =
      isa<graph::EinsumOp, graph::RopeOp, graph::AttentionBackwardOp, dist::CoalescedAllToAllOp>(producer) ||
      (isComputedInLoops(producer) && !isInlined(value) && !isa<arith::ConstantOp>(producer));
  bool needsUnitStride = isa<graph::RopeOp, graph::AttentionBackwardOp>(producer);
  if (!takesStrides || (needsUnitStride && stridesOf(piece).back() != 1))
    return;
  pieces[value] = piece;
  piecesInPlace.insert({op, input});
}

void ResultPlaces::placeConcatenations() {
  for (auto op : body.getBody().front().getOps<graph::ConcatOp>()) {
    if (op->hasAttr(dist::kAdjacentAttrName) || destinations.contains(op.getResult()))
      continue;
    auto type = cast<RankedTensorType>(op.getType());
    Value whole = buffers.createScratch(MemRefType::get(type.getShape(), type.getElementType()), op.getLoc());
    concatenations[op] = whole;
    int64_t offset = 0, unit = stridesOf(whole)[op.getDim()];
    for (auto [input, value] : llvm::enumerate(op.getInputs())) {
      placePiece(op, input, buffers.view(op.getLoc(), whole, offset, shapeOf(value), stridesOf(whole)));
      offset += unit * shapeOf(value)[op.getDim()];
    }
  }
}
