// Checks, folds and text of the dist dialect's ops. Shapes are checked on what one device holds, so
// that the same rules serve global types with encodings and local types without.
#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"

#include "dialects/FunctionSyntax.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace galvatron::dist;

#define GET_OP_CLASSES
#include "dialects/Dist/DistOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Redistribution
//===----------------------------------------------------------------------===//

LogicalResult RedistributeOp::verify() {
  auto from = getX().getType(), to = getResult().getType();
  if (withPlacement(from, {}) != withPlacement(to, {}))
    return emitOpError("expects operand and result of one global type, but got ")
           << withPlacement(from, {}) << " and " << withPlacement(to, {});
  if (!getPlacement(from) || !getPlacement(to))
    return emitOpError("expects operand and result with placements, but got ") << from << " and " << to;
  return success();
}

OpFoldResult RedistributeOp::fold(FoldAdaptor) { return getX().getType() == getResult().getType() ? getX() : Value(); }

LogicalResult MultiplierOp::verify() {
  PlacementAttr from = getPlacement(getX().getType()), to = getPlacement(getResult().getType());
  if (!from || !to || from.isPartial() || from != to.withPartials({}))
    return emitOpError("expects a result that differs from the operand by being partial, but got ")
           << getX().getType() << " and " << getResult().getType();
  return success();
}

LogicalResult ShareOp::verify() {
  PlacementAttr from = getPlacement(getX().getType()), to = getPlacement(getResult().getType());
  if (!from || !to || from.withPartials({}) != to.withPartials({}) ||
      !llvm::all_of(from.getPartials(), [&](Partial partial) { return llvm::is_contained(to.getPartials(), partial); }))
    return emitOpError("expects a result that differs from the operand by being partial on more mesh axes, but got ")
           << getX().getType() << " and " << getResult().getType();
  if (int64_t(getParts()) < 1)
    return emitOpError("expects at least one part, but got ") << int64_t(getParts());
  return success();
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

/// Checks the dimension that a collective cuts or joins, and how far: `cut` is the larger extent,
/// divided into [outer][group][inner].
static LogicalResult verifyDim(Operation *op, StringRef name, int64_t dim, int64_t rank) {
  if (dim >= 0 && dim < rank)
    return success();
  return op->emitOpError("expects ") << name << " from 0 to " << rank - 1 << ", but got " << dim;
}

/// `larger` along `dim` is `smaller` times the size of a group, and `outer` divides `smaller`.
static LogicalResult verifyCut(Operation *op, Type largerType, Type smallerType, int64_t dim, int64_t outer,
                               bool mirrored) {
  RankedTensorType larger = getLocalType(largerType), smaller = getLocalType(smallerType);
  if (failed(verifyDim(op, "dimension", dim, larger.getRank())))
    return failure();
  for (int64_t i = 0; i < larger.getRank(); ++i) {
    bool fits =
        i == dim ? larger.getDimSize(i) % smaller.getDimSize(i) == 0 : larger.getDimSize(i) == smaller.getDimSize(i);
    if (!fits)
      return op->emitOpError("expects local shapes that differ by the group's size in dimension ")
             << dim << " only, but got " << larger << " and " << smaller;
  }
  if (outer < 1 || smaller.getDimSize(dim) % outer != 0)
    return op->emitOpError("expects outer extent to divide local dimension of size ")
           << smaller.getDimSize(dim) << ", but got " << outer;
  if (mirrored && outer % 2 != 0)
    return op->emitOpError("expects an even outer extent where pieces are mirrored, but got ") << outer;
  return success();
}

/// Value number `index`, of a collective of several.
static LogicalResult verifyCollective(Operation *op, ArrayRef<int64_t> axes, unsigned index = 0) {
  auto from = getLocalType(op->getOperand(index).getType()), to = getLocalType(op->getResult(index).getType());
  if (from.getElementType() != to.getElementType() || from.getRank() != to.getRank())
    return op->emitOpError("expects operand and result of one element type and rank, but got ")
           << from << " and " << to;
  if (axes.empty())
    return op->emitOpError("expects at least one mesh axis, but got none");
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i] < 0 || (i && axes[i] <= axes[i - 1]))
      return op->emitOpError("expects mesh axes ascending, but got [") << axes << "]";
  return success();
}

/// A collective that leaves the local shape as it is.
static LogicalResult verifySameShape(Operation *op, ArrayRef<int64_t> axes) {
  if (failed(verifyCollective(op, axes)))
    return failure();
  auto from = getLocalType(op->getOperand(0).getType()), to = getLocalType(op->getResult(0).getType());
  if (from != to)
    return op->emitOpError("expects operand and result of one local shape, but got ") << from << " and " << to;
  return success();
}

LogicalResult AllReduceOp::verify() { return verifySameShape(*this, getAxes()); }

static LogicalResult verifySources(Operation *op, ArrayRef<int64_t> sources) {
  SmallVector<int64_t> sorted(sources);
  llvm::sort(sorted);
  if (sorted.empty() || sorted != llvm::to_vector(llvm::seq<int64_t>(sorted.size())))
    return op->emitOpError("expects sources that name each position of the group once, but got [") << sources << "]";
  return success();
}

LogicalResult PermuteOp::verify() {
  if (failed(verifySameShape(*this, getAxes())))
    return failure();
  return verifySources(*this, getSources());
}

LogicalResult AllGatherOp::verify() {
  if (failed(verifyCollective(*this, getAxes())))
    return failure();
  return verifyCut(*this, getResult().getType(), getX().getType(), getDim(), getOuter(), getMirrored());
}

LogicalResult ReduceScatterOp::verify() {
  if (failed(verifyCollective(*this, getAxes())))
    return failure();
  return verifyCut(*this, getX().getType(), getResult().getType(), getDim(), getOuter(), getMirrored());
}

LogicalResult ShardOp::verify() {
  if (failed(verifyCollective(*this, getAxes())) || (getSources() && failed(verifySources(*this, *getSources()))))
    return failure();
  return verifyCut(*this, getX().getType(), getResult().getType(), getDim(), getOuter(), getMirrored());
}

static LogicalResult verifyAllToAll(Operation *op, ArrayRef<int64_t> axes, unsigned index, const AllToAllCut &cut) {
  if (failed(verifyCollective(op, axes, index)))
    return failure();
  RankedTensorType from = getLocalType(op->getOperand(index).getType());
  RankedTensorType to = getLocalType(op->getResult(index).getType());
  if (failed(verifyDim(op, "split dimension", cut.splitDim, from.getRank())) ||
      failed(verifyDim(op, "concat dimension", cut.concatDim, from.getRank())))
    return failure();
  if (from.getNumElements() != to.getNumElements())
    return op->emitOpError("expects operand and result of equal local size, but got ") << from << " and " << to;
  if (cut.splitDim == cut.concatDim)
    return success();
  int64_t before = from.getDimSize(cut.splitDim), after = to.getDimSize(cut.splitDim);
  if (before % after || after % cut.splitOuter || from.getDimSize(cut.concatDim) % cut.concatOuter)
    return op->emitOpError("expects dimension ")
           << cut.splitDim << " to be cut evenly and outer extents to divide, but got " << from << " and " << to;
  return success();
}

LogicalResult AllToAllOp::verify() { return verifyAllToAll(*this, getAxes(), 0, getCut()); }

LogicalResult CoalescedAllToAllOp::verify() {
  size_t count = getXs().size();
  if (count < 2 || getResults().size() != count)
    return emitOpError("expects two operands or more and as many results, but got ")
           << count << " and " << getResults().size();
  for (ArrayRef<int64_t> list : {getSplitDims(), getSplitOuters(), getConcatDims(), getConcatOuters()})
    if (list.size() != count)
      return emitOpError("expects a dimension and an outer extent for each of ")
             << count << " operands, but got " << list.size();
  for (auto [index, type] : llvm::enumerate(getXs().getTypes())) {
    if (getElementTypeOrSelf(type) != getElementTypeOrSelf(getXs().front()))
      return emitOpError("expects operands of one element type, but got ")
             << getXs().front().getType() << " and " << type;
    AllToAllCut cut = getCut(index);
    if (failed(verifyAllToAll(*this, getAxes(), index, cut)))
      return failure();
    if (cut.splitDim == cut.concatDim)
      return emitOpError("expects to split and to join along two dimensions, but got ") << cut.splitDim << " for both";
    if (getGroupSize(index) != getGroupSize(0))
      return emitOpError("expects values cut in pieces for one group, but got ")
             << getGroupSize(0) << " and " << getGroupSize(index) << " pieces";
  }
  return success();
}

int64_t CoalescedAllToAllOp::getGroupSize(unsigned index) {
  int64_t dim = getCut(index).splitDim;
  return getLocalType(getXs()[index].getType()).getDimSize(dim) /
         getLocalType(getResults()[index].getType()).getDimSize(dim);
}

void CoalescedAllToAllOp::build(OpBuilder &builder, OperationState &state, ArrayRef<AllToAllOp> exchanges) {
  SmallVector<Value> operands;
  SmallVector<Type> results;
  SmallVector<int64_t> splitDims, splitOuters, concatDims, concatOuters;
  for (AllToAllOp exchange : exchanges) {
    operands.push_back(exchange.getX());
    results.push_back(exchange.getResult().getType());
    AllToAllCut cut = exchange.getCut();
    splitDims.push_back(cut.splitDim);
    splitOuters.push_back(cut.splitOuter);
    concatDims.push_back(cut.concatDim);
    concatOuters.push_back(cut.concatOuter);
  }
  AllToAllOp first = exchanges.front();
  build(builder, state, results, operands, first.getAxes(), splitDims, splitOuters, concatDims, concatOuters);
}

//===----------------------------------------------------------------------===//
// Bodies and layers
//===----------------------------------------------------------------------===//

ParseResult BodyOp::parse(OpAsmParser &parser, OperationState &result) { return parseFunction<BodyOp>(parser, result); }

void BodyOp::print(OpAsmPrinter &printer) { printFunction(printer, *this); }

LogicalResult ReturnOp::verify() {
  auto body = cast<BodyOp>((*this)->getParentOp());
  if (getOperandTypes() != TypeRange(body.getResultTypes()))
    return emitOpError("expects the body's result types (")
           << TypeRange(body.getResultTypes()) << "), but got (" << getOperandTypes() << ")";
  return success();
}

SmallVector<unsigned> LayerOp::getTrained() {
  SmallVector<unsigned> trained;
  for (unsigned parameter = 0; parameter < getHomes().size(); ++parameter)
    if (getGradient(parameter))
      trained.push_back(parameter);
  return trained;
}

SmallVector<unsigned> LayerOp::getTrainedBy(bool inWeights) {
  SmallVector<unsigned> trained = getTrained();
  llvm::erase_if(trained, [&](unsigned parameter) { return isPutOff(parameter) != inWeights; });
  return trained;
}

/// A body with so many arguments and results.
static LogicalResult verifyBody(LayerOp layer, StringRef what, FlatSymbolRefAttr name, size_t arguments, size_t results,
                                SymbolTableCollection &symbols) {
  auto body = symbols.lookupNearestSymbolFrom<BodyOp>(layer, name);
  if (!body)
    return layer.emitOpError("expects ") << what << " body " << name << ", but got no such body";
  if (body.getNumArguments() != arguments || body.getNumResults() != results)
    return layer.emitOpError("expects ") << what << " body with " << arguments << " arguments and " << results
                                         << " results, but got " << body.getNumArguments() << " and "
                                         << body.getNumResults();
  return success();
}

LogicalResult LayerOp::verifySymbolUses(SymbolTableCollection &symbols) {
  for (auto [what, gradients, values] : {std::tuple("inputs", getInputGradients(), getInputs()),
                                         {"outputs", getOutputGradients(), getOutputs()},
                                         {"parameters", getGradients(), getHomes()}}) {
    if (gradients.size() != (getBackwardAttr() ? values.size() : 0))
      return emitOpError("expects a gradient or unit for each of ")
             << values.size() << " " << what << " if there is a backward, none without, but got " << gradients.size();
    for (Attribute gradient : gradients)
      if (!isa<PlacementAttr, UnitAttr>(gradient))
        return emitOpError("expects gradients of ") << what << " to be placements or unit, but got " << gradient;
  }
  if (!getWeightsAttr() ? getPutOff() || getNumKept() : !getBackwardAttr() || !getPutOff())
    return emitOpError("expects weights, put_off and a backward together, but got ")
           << getOperation()->getAttrDictionary();
  // After `convert-dist-to-exec` the bodies are functions on buffers, which check themselves.
  Operation *function = symbols.lookupNearestSymbolFrom(*this, getForwardAttr());
  if (function && !isa<BodyOp>(function) && isa<FunctionOpInterface>(function))
    return success();
  size_t arguments = getInputs().size() + getHomes().size();
  if (failed(verifyBody(*this, "forward", getForwardAttr(), arguments, getOutputs().size() + getNumSaved(), symbols)))
    return failure();
  if (!getBackwardAttr())
    return success();
  auto numIn = [](ArrayAttr gradients) { return size_t(llvm::count_if(gradients, llvm::IsaPred<PlacementAttr>)); };
  arguments += numIn(getOutputGradients()) + getNumSaved();
  size_t results = numIn(getInputGradients()) + getNumKept() + getTrainedBy(/*inWeights=*/false).size();
  if (failed(verifyBody(*this, "backward", getBackwardAttr(), arguments, results, symbols)))
    return failure();
  return getWeightsAttr() ? verifyBody(*this, "weights", getWeightsAttr(), arguments + getNumKept(),
                                       getTrainedBy(/*inWeights=*/true).size(), symbols)
                          : success();
}

//===----------------------------------------------------------------------===//
// Between stages
//===----------------------------------------------------------------------===//

bool SendOp::hasGradient() { return !getFrozen() && galvatron::graph::isFloatTensor(getX().getType()); }

bool ReceiveOp::hasGradient() { return !getFrozen() && galvatron::graph::isFloatTensor(getResult().getType()); }
