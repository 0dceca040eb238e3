// Ops with a runtime function: operands to buffers with the strides that the function takes, shapes
// and attributes to the constants that Functions.def lists.
#include "BodyLowering.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron;

static int64_t numElements(Value value) { return cast<ShapedType>(value.getType()).getNumElements(); }
/// Rows and columns of a tensor whose last dimension is the row.
static std::pair<int64_t, int64_t> rowsOf(Value value) {
  int64_t columns = shapeOf(value).back();
  return {numElements(value) / columns, columns};
}

//===--------------------------------------------------------------------===//
// Attention, rope
//===--------------------------------------------------------------------===//

/// Scratch that the device wants for this call, or null.
static Value createAttentionWorkspace(BodyLowering &lowering, Operation *op, Value q, Value k, Value v,
                                      bool isBackward) {
  ArrayRef<int64_t> qShape = shapeOf(q), kShape = shapeOf(k);
  AttentionExtents extents = {qShape[0], qShape[1], kShape[1],         qShape[2],
                              kShape[2], qShape[3], shapeOf(v).back(), getElementTypeOrSelf(q.getType()).isBF16()};
  int64_t bytes = lowering.getDevice().attentionWorkspaceBytes(extents, isBackward);
  if (bytes == 0)
    return {};
  return lowering.createScratch(MemRefType::get({bytes}, lowering.getBuilder().getI8Type()), op->getLoc());
}

/// What forward and backward attention say alike: shapes, attributes, strides of q, k, v, y and bias.
template <typename AttentionOp>
static SmallVector<int64_t> attentionConstants(BodyLowering &lowering, AttentionOp op, Value q, Value k, Value v,
                                               Value y, Value bias, Value workspace) {
  ArrayRef<int64_t> qShape = shapeOf(q), kShape = shapeOf(k), vShape = shapeOf(v);
  SmallVector<int64_t> constants = {lowering.kernelType(q),
                                    workspace ? cast<MemRefType>(workspace.getType()).getNumElements() : 0,
                                    qShape[0],
                                    qShape[1],
                                    kShape[1],
                                    qShape[2],
                                    kShape[2],
                                    qShape[3],
                                    vShape[3],
                                    bitsOf(op.getScale().convertToDouble()),
                                    op.getCausal(),
                                    static_cast<int64_t>(op.getWindow()),
                                    bitsOf(op.getSoftcap().convertToDouble()),
                                    bitsOf(op.getDropout().convertToDouble()),
                                    static_cast<int64_t>(op.getId())};
  for (Value buffer : {q, k, v, y})
    llvm::append_range(constants, ArrayRef(stridesOf(buffer)).take_front(3));
  SmallVector<int64_t, 4> biasStrides(4, 0);
  if (bias) {
    int64_t missing = 4 - shapeOf(bias).size();
    for (auto [dim, stride] : llvm::enumerate(stridesOf(bias)))
      biasStrides[dim + missing] = shapeOf(bias)[dim] == 1 ? 0 : stride;
  }
  llvm::append_range(constants, biasStrides);
  return constants;
}

/// Positions of [B,N,Sq,Sk]: q's placement, keys whole.
static void appendAttentionPositions(SmallVectorImpl<int64_t> &constants, Operation *op, Value q, Value k) {
  appendPositionMap(constants, op, shapeOf(q), {0, 1, 2});
  llvm::append_values(constants, int64_t(1), shapeOf(k)[2], int64_t(-1));
}

static LogicalResult lowerAttention(BodyLowering &lowering, graph::AttentionOp op) {
  Value q = lowering.bufferWithUnitStride(op.getQ()), k = lowering.bufferWithUnitStride(op.getK());
  Value v = lowering.bufferWithUnitStride(op.getV()), bias = op.getBias() ? lowering.bufferOf(op.getBias()) : Value();
  Value y = lowering.createResult(op.getResult(), lowering.preferredOrder(op.getResult()));
  Value lse = lowering.createResult(op.getLse());
  Value workspace = createAttentionWorkspace(lowering, op, q, k, v, /*isBackward=*/false);
  SmallVector<int64_t> constants = attentionConstants(lowering, op, q, k, v, y, bias, workspace);
  appendAttentionPositions(constants, op, q, k);
  SmallVector<Value> buffers = {q, k, v};
  if (bias)
    buffers.push_back(bias);
  llvm::append_values(buffers, y, lse);
  if (workspace)
    buffers.push_back(workspace);
  lowering.callKernel(op.getLoc(), "attention", buffers, /*firstOutput=*/bias ? 4 : 3, constants,
                      {1, 1, 1, bias != nullptr, 1, 1, workspace != nullptr});
  return success();
}

static LogicalResult lowerAttentionBackward(BodyLowering &lowering, graph::AttentionBackwardOp op) {
  Value dy = lowering.bufferWithUnitStride(op.getDy());
  Value q = lowering.bufferWithUnitStride(op.getQ()), k = lowering.bufferWithUnitStride(op.getK());
  Value v = lowering.bufferWithUnitStride(op.getV()), y = lowering.bufferWithUnitStride(op.getY());
  Value lse = lowering.rowMajorBufferOf(op.getLse());
  Value bias = op.getBias() ? lowering.bufferOf(op.getBias()) : Value();
  SmallVector<Value> gradients;
  for (Value result : op.getResults())
    gradients.push_back(lowering.createResult(result, lowering.preferredOrder(result)));
  Value workspace = createAttentionWorkspace(lowering, op, q, k, v, /*isBackward=*/true);
  SmallVector<int64_t> constants = attentionConstants(lowering, op, q, k, v, y, bias, workspace);
  llvm::append_range(constants, ArrayRef(stridesOf(dy)).take_front(3));
  for (Value gradient : gradients)
    llvm::append_range(constants, ArrayRef(stridesOf(gradient)).take_front(3));
  appendAttentionPositions(constants, op, q, k);
  SmallVector<Value> buffers = {dy, q, k, v, y, lse};
  if (bias)
    buffers.push_back(bias);
  llvm::append_range(buffers, gradients);
  if (workspace)
    buffers.push_back(workspace);
  lowering.callKernel(op.getLoc(), "attention_backward", buffers, /*firstOutput=*/bias ? 7 : 6, constants,
                      {1, 1, 1, 1, 1, 1, bias != nullptr, 1, 1, 1, workspace != nullptr});
  return success();
}

static LogicalResult lowerRope(BodyLowering &lowering, graph::RopeOp op) {
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  Value x = lowering.bufferWithUnitStride(op.getX());
  SmallVector<int64_t> order = llvm::to_vector(llvm::seq<int64_t>(shape.size()));
  Strides xStrides = stridesOf(x);
  llvm::stable_sort(order, [&](int64_t a, int64_t b) { return xStrides[a] > xStrides[b]; });
  if (SmallVector<int64_t> preferred = lowering.preferredOrder(op.getResult()); !preferred.empty())
    order = preferred;
  Value y = lowering.createResult(
      op.getResult(), order.back() + 1 == static_cast<int64_t>(shape.size()) ? order : SmallVector<int64_t>());
  int64_t missing = 4 - shape.size();
  SmallVector<int64_t> constants = {lowering.kernelType(x)};
  constants.append(missing, 1);
  llvm::append_range(constants, shape);
  for (Value buffer : {x, y}) {
    constants.append(missing, 0);
    llvm::append_range(constants, ArrayRef(stridesOf(buffer)).drop_back());
  }
  ArrayRef<double> frequencies = op.getInverseFrequencies();
  llvm::append_values(constants, static_cast<int64_t>(op.getSeqDim()) + missing, static_cast<int64_t>(op.getStyle()),
                      static_cast<int64_t>(op.getInverse()), bitsOf(op.getScaling().convertToDouble()),
                      static_cast<int64_t>(frequencies.size()));
  for (double frequency : frequencies)
    constants.push_back(bitsOf(frequency));
  appendPositionMap(constants, op, shape, {static_cast<int64_t>(op.getSeqDim())});
  lowering.callKernel(op.getLoc(), "rope", {x, y}, 1, constants);
  return success();
}

//===--------------------------------------------------------------------===//
// Norms, softmax, loss, embedding
//===--------------------------------------------------------------------===//

static LogicalResult lowerNorm(BodyLowering &lowering, graph::NormOp op) {
  auto [rows, columns] = rowsOf(op.getX());
  SmallVector<Value> buffers = {lowering.rowMajorBufferOf(op.getX())};
  for (Value optional : {op.getWeight(), op.getBias()})
    if (optional)
      buffers.push_back(lowering.rowMajorBufferOf(optional));
  unsigned numInputs = buffers.size();
  for (Value result : op.getResults())
    buffers.push_back(lowering.createResult(result));
  // Saved results may lie in any order; rows must not.
  lowering.callKernel(op.getLoc(), "norm", buffers, numInputs,
                      {lowering.kernelType(op.getX()), rows, columns, static_cast<int64_t>(op.getKind()),
                       bitsOf(op.getEpsilon().convertToDouble()), bitsOf(op.getOffset().convertToDouble())},
                      {1, op.getWeight() != nullptr, op.getBias() != nullptr, 1, 1, 1});
  return success();
}

static LogicalResult lowerNormBackward(BodyLowering &lowering, graph::NormBackwardOp op) {
  auto [rows, columns] = rowsOf(op.getX());
  SmallVector<Value> buffers = {lowering.rowMajorBufferOf(op.getDy()), lowering.rowMajorBufferOf(op.getX())};
  if (op.getWeight())
    buffers.push_back(lowering.rowMajorBufferOf(op.getWeight()));
  llvm::append_values(buffers, lowering.rowMajorBufferOf(op.getMean()), lowering.rowMajorBufferOf(op.getRstd()),
                      lowering.createResult(op.getDx()));
  lowering.callKernel(op.getLoc(), "norm_backward", buffers, buffers.size() - 1,
                      {lowering.kernelType(op.getX()), rows, columns, static_cast<int64_t>(op.getKind()),
                       bitsOf(op.getOffset().convertToDouble())},
                      {1, 1, op.getWeight() != nullptr, 1, 1, 1});
  return success();
}

/// Functions on row-major operands: operands, then results.
static LogicalResult lowerDense(BodyLowering &lowering, Operation *op, StringRef function, ArrayRef<int64_t> constants,
                                EntryConstant entry = {}) {
  SmallVector<Value> buffers;
  for (Value operand : op->getOperands())
    buffers.push_back(lowering.rowMajorBufferOf(operand));
  for (Value result : op->getResults())
    buffers.push_back(lowering.createResult(result));
  lowering.callKernel(op->getLoc(), function, buffers, op->getNumOperands(), constants, {}, entry);
  return success();
}

static LogicalResult lowerReduce(BodyLowering &lowering, graph::ReduceOp op) {
  Value x = lowering.bufferOf(op.getX()), y = lowering.createResult(op.getResult());
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  SmallVector<int64_t> constants = {lowering.kernelType(x), lowering.kernelType(y), static_cast<int64_t>(op.getKind()),
                                    lowering.isAccumulated(op.getResult()), static_cast<int64_t>(shape.size())};
  llvm::append_range(constants, shape);
  llvm::append_range(constants, stridesOf(x));
  Strides kept = stridesOf(y);
  unsigned next = 0;
  for (int64_t dim = 0, rank = shape.size(); dim < rank; ++dim)
    constants.push_back(llvm::is_contained(op.getDims(), dim) ? 0 : kept[next++]);
  lowering.callKernel(op.getLoc(), "reduce", {x, y}, 1, constants, {},
                      lowering.accumulateBy(op.getResult(), /*constant=*/3));
  return success();
}

/// The position map of the last dimension of operand `tensor` at the end of the constants.
static SmallVector<int64_t> withLastPosition(Operation *op, Value tensor, ArrayRef<int64_t> constants) {
  SmallVector<int64_t> all(constants);
  appendPositionMap(all, op, shapeOf(tensor), {static_cast<int64_t>(shapeOf(tensor).size()) - 1});
  return all;
}

static LogicalResult lowerEmbedding(BodyLowering &lowering, Operation *op, Value table, Value ids,
                                    std::optional<int64_t> accumulate) {
  // Rows are of one type; the gradient of the table is f32 whatever theirs.
  Value rows = accumulate ? op->getOperand(0) : table;
  SmallVector<int64_t> constants = {lowering.kernelType(rows), shapeOf(table)[0], shapeOf(table)[1], numElements(ids)};
  if (accumulate)
    constants.push_back(*accumulate);
  appendPositionMap(constants, op, shapeOf(table), {0});
  return lowerDense(lowering, op, accumulate ? "embedding_backward" : "embedding", constants,
                    lowering.accumulateBy(op->getResult(0), /*constant=*/4));
}

/// Functions that read every global position of their result.
static LogicalResult lowerPositional(BodyLowering &lowering, Operation *op, StringRef function,
                                     ArrayRef<int64_t> leading) {
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  SmallVector<int64_t> constants(leading);
  constants.push_back(shape.size());
  llvm::append_range(constants, shape);
  appendPositionMap(constants, op, shape, llvm::to_vector(llvm::seq<int64_t>(shape.size())));
  return lowerDense(lowering, op, function, constants);
}

static LogicalResult lowerShift(BodyLowering &lowering, graph::ShiftOp op) {
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  int64_t outer = 1, inner = 1, dim = op.getDim();
  for (int64_t extent : shape.take_front(dim))
    outer *= extent;
  for (int64_t extent : shape.drop_front(dim + 1))
    inner *= extent;
  return lowerDense(
      lowering, op, "shift",
      {outer, shape[dim], inner, static_cast<int64_t>(op.getOffset()), static_cast<int64_t>(op.getFill())});
}

LogicalResult galvatron::lowerKernel(BodyLowering &lowering, Operation *op, bool &handled) {
  handled = true;
  auto rows = [&](Value value) {
    auto [numRows, columns] = rowsOf(value);
    return SmallVector<int64_t>{lowering.kernelType(value), numRows, columns};
  };
  auto labelled = [&](Value logits, int64_t ignored) {
    SmallVector<int64_t> constants = rows(logits);
    constants.push_back(ignored);
    return withLastPosition(op, logits, constants);
  };
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](graph::EinsumOp einsum) { return lowerProduct(lowering, einsum); })
      .Case([&](graph::AttentionOp attention) { return lowerAttention(lowering, attention); })
      .Case([&](graph::AttentionBackwardOp attention) { return lowerAttentionBackward(lowering, attention); })
      .Case([&](graph::RopeOp rope) { return lowerRope(lowering, rope); })
      .Case([&](graph::NormOp norm) { return lowerNorm(lowering, norm); })
      .Case([&](graph::NormBackwardOp norm) { return lowerNormBackward(lowering, norm); })
      .Case([&](graph::NormWeightBackwardOp norm) {
        SmallVector<int64_t> constants = rows(norm.getX());
        constants.push_back(lowering.isAccumulated(norm.getDw()));
        return lowerDense(lowering, op, "norm_weight_backward", constants,
                          lowering.accumulateBy(norm.getDw(), /*constant=*/3));
      })
      .Case([&](graph::SoftmaxOp softmax) { return lowerDense(lowering, op, "softmax", rows(softmax.getX())); })
      .Case([&](graph::SoftmaxBackwardOp softmax) {
        return lowerDense(lowering, op, "softmax_backward", rows(softmax.getY()));
      })
      .Case([&](graph::ReduceOp reduce) { return lowerReduce(lowering, reduce); })
      .Case([&](graph::EmbeddingOp embedding) {
        return lowerEmbedding(lowering, op, embedding.getTable(), embedding.getIds(), std::nullopt);
      })
      .Case([&](graph::EmbeddingBackwardOp embedding) {
        return lowerEmbedding(lowering, op, embedding.getDtable(), embedding.getIds(),
                              lowering.isAccumulated(embedding.getDtable()));
      })
      .Case([&](graph::SumExpOp sumExp) { return lowerDense(lowering, op, "sum_exp", rows(sumExp.getX())); })
      .Case([&](graph::TargetLogitOp target) {
        return lowerDense(lowering, op, "target_logit", labelled(target.getLogits(), target.getIgnoreIndex()));
      })
      .Case([&](graph::CrossEntropyBackwardOp loss) {
        return lowerDense(lowering, op, "cross_entropy_backward", labelled(loss.getLogits(), loss.getIgnoreIndex()));
      })
      .Case([&](graph::IotaOp iota) {
        return lowerPositional(lowering, op, "iota",
                               {lowering.kernelType(iota.getResult()), static_cast<int64_t>(iota.getDim())});
      })
      .Case([&](graph::DropoutOp dropout) {
        return lowerPositional(lowering, op, "dropout",
                               {lowering.kernelType(dropout.getX()), bitsOf(dropout.getP().convertToDouble()),
                                static_cast<int64_t>(dropout.getId())});
      })
      .Case([&](graph::ShiftOp shift) { return lowerShift(lowering, shift); })
      .Default([&](Operation *) {
        handled = false;
        return success();
      });
}
