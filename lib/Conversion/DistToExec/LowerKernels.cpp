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
#include "dialects/Graph/Precision.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron;

static int64_t numElements(Value value) { return cast<ShapedType>(value.getType()).getNumElements(); }
/// Type, rows and columns of a tensor whose last dimension is the row, and what else a function on rows is told.
static Constants rowConstants(BodyLowering &lowering, Value value, ArrayRef<exec::CallConstant> more = {}) {
  int64_t columns = shapeOf(value).back();
  Constants constants = {
      {"type", lowering.kernelType(value)}, {"rows", numElements(value) / columns}, {"columns", columns}};
  llvm::append_range(constants, more);
  return constants;
}

//===--------------------------------------------------------------------===//
// Attention, rope
//===--------------------------------------------------------------------===//

namespace {
/// What forward and backward attention read or write alike; bias and workspace may be null.
struct AttentionBuffers {
  Value q, k, v;
  Value y = {}, bias = {}, workspace = {};
  SmallVector<int64_t> biasDims = {}; // of [B,N,Sq,Sk], those of the bias; -1: of extent one
};
} // namespace

/// Scratch that the device wants for this call, or null. `gradients`: of q, k and v; none of forward.
static Value createAttentionWorkspace(BodyLowering &lowering, Operation *op, const AttentionBuffers &of,
                                      ArrayRef<Value> gradients = {}) {
  ArrayRef<int64_t> q = shapeOf(of.q), k = shapeOf(of.k);
  AttentionExtents extents = {q[0],
                              q[1],
                              k[1],
                              q[2],
                              k[2],
                              q[3],
                              shapeOf(of.v).back(),
                              graph::isHalf(getElementTypeOrSelf(of.q.getType())),
                              lowering.findDocuments(op) != nullptr};
  bool isBackward = !gradients.empty();
  if (isBackward) {
    auto positionStride = [](Value buffer) { return stridesOf(buffer)[2]; };
    extents.queryStride = positionStride(gradients[0]);
    extents.keyStride = positionStride(gradients[1]);
    extents.valueStride = positionStride(gradients[2]);
  }
  int64_t bytes = lowering.getDevice().attentionWorkspaceBytes(extents, isBackward);
  if (bytes == 0)
    return {};
  return lowering.createScratch(MemRefType::get({bytes}, lowering.getBuilder().getI8Type()), op->getLoc());
}

/// The strides of all dimensions but the last, whose stride is 1.
static SmallVector<int64_t> outerStrides(Value buffer) {
  return llvm::to_vector(ArrayRef(stridesOf(buffer)).drop_back());
}

/// Of [B,N,Sq,Sk], 0 where the bias is broadcast.
static SmallVector<int64_t> biasStrides(const AttentionBuffers &of) {
  SmallVector<int64_t> strides(4, 0);
  if (of.bias)
    for (auto [dim, extent, stride] : llvm::zip_equal(of.biasDims, shapeOf(of.bias), stridesOf(of.bias)))
      if (extent != 1)
        strides[dim] = stride;
  return strides;
}

/// Positions of [B,N,Sq,Sk]: q's placement, and of the keys theirs in a ring, else all.
static SmallVector<int64_t> attentionPositions(Operation *op, Value q, Value k) {
  SmallVector<int64_t> map = positionMap(op, shapeOf(q), {0, 1, 2});
  auto keys = op->getAttrOfType<dist::PlacementAttr>(dist::kKeyPositionAttrName);
  auto turn = op->getAttrOfType<DenseI64ArrayAttr>(dist::kKeyTurnAttrName);
  llvm::append_range(map, positionMap(keys, turn ? turn.asArrayRef() : ArrayRef<int64_t>(), shapeOf(k), int64_t(2)));
  return map;
}

template <typename AttentionOp>
static Constants attentionConstants(BodyLowering &lowering, AttentionOp op, const AttentionBuffers &of) {
  ArrayRef<int64_t> q = shapeOf(of.q), k = shapeOf(of.k);
  Constants constants = {
      {"type", lowering.kernelType(of.q)},
      {"workspace_bytes", of.workspace ? cast<MemRefType>(of.workspace.getType()).getNumElements() : 0},
      {"B", q[0]},
      {"N", q[1]},
      {"K", k[1]},
      {"Sq", q[2]},
      {"Sk", k[2]},
      {"D", q[3]},
      {"Dv", shapeOf(of.v)[3]},
      {"scale", op.getScale().convertToDouble()},
      {"causal", op.getCausal()},
      {"window", op.getWindow()},
      {"softcap", op.getSoftcap().convertToDouble()},
      {"dropout", op.getDropout().convertToDouble()},
      {"id", op.getId()},
      {"q_strides", outerStrides(of.q)},
      {"k_strides", outerStrides(of.k)},
      {"v_strides", outerStrides(of.v)},
      {"y_strides", outerStrides(of.y)},
      {"bias_strides", biasStrides(of)},
      {"positions", attentionPositions(op, of.q, of.k)}};
  if (lowering.findDocuments(op))
    constants.push_back({"given", op.getGivenDocuments()});
  return constants;
}

/// The dimensions of a buffer, that with the longest steps first.
static SmallVector<int64_t> orderOf(Value buffer) {
  Strides strides = stridesOf(buffer);
  SmallVector<int64_t> order = llvm::to_vector(llvm::seq<int64_t>(strides.size()));
  llvm::stable_sort(order, [&](int64_t a, int64_t b) { return strides[a] > strides[b]; });
  return order;
}

/// The buffers of documents, where the kernel reads them, and the bias, where there is one, after those in `buffers`;
/// `present` says which of the function's are there.
template <typename AttentionOp>
static void addMaskBuffers(BodyLowering &lowering, AttentionOp op, AttentionBuffers &of,
                           SmallVectorImpl<Value> &buffers, SmallVectorImpl<int64_t> &present) {
  present.assign(buffers.size(), 1);
  Value bias = op.getBias();
  if (const DocumentMask *documents = lowering.findDocuments(op)) {
    bias = documents->bias;
    of.biasDims = documents->biasDims;
    for (Value side : {documents->queries, documents->keys})
      buffers.push_back(lowering.rowMajorBufferOf(side));
    present.append(2, 1);
  } else if (bias) {
    int64_t rank = shapeOf(bias).size();
    of.biasDims = llvm::to_vector(llvm::seq<int64_t>(4 - rank, 4));
  }
  present.push_back(bias != nullptr);
  if (bias)
    buffers.push_back(of.bias = lowering.bufferOf(bias));
}

static LogicalResult lowerAttention(BodyLowering &lowering, graph::AttentionOp op) {
  AttentionBuffers of = {lowering.bufferWithUnitStride(op.getQ()), lowering.bufferWithUnitStride(op.getK()),
                         lowering.bufferWithUnitStride(op.getV())};
  SmallVector<Value> buffers = {of.q, of.k, of.v};
  SmallVector<int64_t> present;
  addMaskBuffers(lowering, op, of, buffers, present);
  unsigned firstOutput = buffers.size();
  of.y = lowering.createResult(op.getResult(), lowering.preferredOrder(op.getResult()));
  Value lse = lowering.createResult(op.getLse());
  of.workspace = createAttentionWorkspace(lowering, op, of);
  llvm::append_values(buffers, of.y, lse);
  if (of.workspace)
    buffers.push_back(of.workspace);
  llvm::append_values(present, 1, 1, of.workspace != nullptr);
  lowering.callKernel(op.getLoc(), lowering.findDocuments(op) ? "document_attention" : "attention", buffers,
                      firstOutput, attentionConstants(lowering, op, of), present);
  return success();
}

static LogicalResult lowerAttentionBackward(BodyLowering &lowering, graph::AttentionBackwardOp op) {
  Value dy = lowering.bufferWithUnitStride(op.getDy());
  AttentionBuffers of = {lowering.bufferWithUnitStride(op.getQ()), lowering.bufferWithUnitStride(op.getK()),
                         lowering.bufferWithUnitStride(op.getV()), lowering.bufferWithUnitStride(op.getY())};
  Value lse = lowering.rowMajorBufferOf(op.getLse());
  SmallVector<Value> buffers = {dy, of.q, of.k, of.v, of.y, lse};
  SmallVector<int64_t> present;
  addMaskBuffers(lowering, op, of, buffers, present);
  unsigned firstOutput = buffers.size();
  SmallVector<Value> gradients;
  std::array<Value, 3> inputs = {of.q, of.k, of.v};
  for (auto [result, x] : llvm::zip_equal(op.getResults(), inputs)) {
    SmallVector<int64_t> order = lowering.preferredOrder(result);
    // Kernels for documents want positions with their heads together, as they have them in forward.
    if (order.empty() && lowering.findDocuments(op))
      order = orderOf(x);
    gradients.push_back(lowering.createResult(result, order));
  }
  of.workspace = createAttentionWorkspace(lowering, op, of, gradients);
  Constants constants = attentionConstants(lowering, op, of);
  constants.append({{"dy_strides", outerStrides(dy)},
                    {"dq_strides", outerStrides(gradients[0])},
                    {"dk_strides", outerStrides(gradients[1])},
                    {"dv_strides", outerStrides(gradients[2])}});
  llvm::append_range(buffers, gradients);
  if (of.workspace)
    buffers.push_back(of.workspace);
  llvm::append_values(present, 1, 1, 1, of.workspace != nullptr);
  lowering.callKernel(op.getLoc(), lowering.findDocuments(op) ? "document_attention_backward" : "attention_backward",
                      buffers, firstOutput, constants, present);
  return success();
}

static LogicalResult lowerRope(BodyLowering &lowering, graph::RopeOp op) {
  ArrayRef<int64_t> shape = shapeOf(op.getX());
  Value x = lowering.bufferWithUnitStride(op.getX());
  SmallVector<int64_t> order = orderOf(x);
  if (SmallVector<int64_t> preferred = lowering.preferredOrder(op.getResult()); !preferred.empty())
    order = preferred;
  Value y = lowering.createResult(
      op.getResult(), order.back() + 1 == static_cast<int64_t>(shape.size()) ? order : SmallVector<int64_t>());
  int64_t missing = 4 - shape.size(), seqDim = op.getSeqDim();
  SmallVector<Value> buffers = {x, y};
  if (Value positions = op.getPositions())
    buffers.insert(buffers.begin() + 1, lowering.rowMajorBufferOf(positions));
  auto padded = [&](ArrayRef<int64_t> values, int64_t filler) {
    SmallVector<int64_t> all(missing, filler);
    llvm::append_range(all, values);
    return all;
  };
  lowering.callKernel(op.getLoc(), "rope", buffers, buffers.size() - 1,
                      {{"type", lowering.kernelType(x)},
                       {"extents", padded(shape, 1)},
                       {"x_strides", padded(outerStrides(x), 0)},
                       {"y_strides", padded(outerStrides(y), 0)},
                       {"seq_dim", seqDim + missing},
                       {"row_dim", op.getRowDim() + missing},
                       {"style", op.getStyle()},
                       {"inverse", op.getInverse()},
                       {"scaling", op.getScaling().convertToDouble()},
                       {"num_frequencies", op.getInverseFrequencies().size()},
                       {"frequencies", op.getInverseFrequencies()},
                       {"positions", positionMap(op, shape, seqDim)}},
                      {1, int64_t(op.getPositions() != nullptr), 1});
  return success();
}

//===--------------------------------------------------------------------===//
// Norms, softmax, loss, embedding
//===--------------------------------------------------------------------===//

static LogicalResult lowerNorm(BodyLowering &lowering, graph::NormOp op) {
  SmallVector<Value> buffers = {lowering.rowMajorBufferOf(op.getX())};
  for (Value optional : {op.getWeight(), op.getBias()})
    if (optional)
      buffers.push_back(lowering.rowMajorBufferOf(optional));
  unsigned numInputs = buffers.size();
  for (Value result : op.getResults())
    buffers.push_back(lowering.createResult(result));
  // Saved results may lie in any order; rows must not.
  lowering.callKernel(op.getLoc(), "norm", buffers, numInputs,
                      rowConstants(lowering, op.getX(),
                                   {{"kind", op.getKind()},
                                    {"epsilon", op.getEpsilon().convertToDouble()},
                                    {"offset", op.getOffset().convertToDouble()}}),
                      {1, op.getWeight() != nullptr, op.getBias() != nullptr, 1, 1, 1});
  return success();
}

static LogicalResult lowerNormBackward(BodyLowering &lowering, graph::NormBackwardOp op) {
  SmallVector<Value> buffers = {lowering.rowMajorBufferOf(op.getDy()), lowering.rowMajorBufferOf(op.getX())};
  if (op.getWeight())
    buffers.push_back(lowering.rowMajorBufferOf(op.getWeight()));
  llvm::append_values(buffers, lowering.rowMajorBufferOf(op.getMean()), lowering.rowMajorBufferOf(op.getRstd()),
                      lowering.createResult(op.getDx()));
  lowering.callKernel(
      op.getLoc(), "norm_backward", buffers, buffers.size() - 1,
      rowConstants(lowering, op.getX(), {{"kind", op.getKind()}, {"offset", op.getOffset().convertToDouble()}}),
      {1, 1, op.getWeight() != nullptr, 1, 1, 1});
  return success();
}

/// Functions on row-major operands: operands, then results.
static LogicalResult lowerDense(BodyLowering &lowering, Operation *op, StringRef function,
                                ArrayRef<exec::CallConstant> constants, DictionaryAttr entry = {}) {
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
  Strides kept = stridesOf(y), yStrides;
  unsigned next = 0;
  for (int64_t dim = 0, rank = shape.size(); dim < rank; ++dim)
    yStrides.push_back(llvm::is_contained(op.getDims(), dim) ? 0 : kept[next++]);
  lowering.callKernel(op.getLoc(), "reduce", {x, y}, 1,
                      {{"type", lowering.kernelType(x)},
                       {"y_type", lowering.kernelType(y)},
                       {"kind", op.getKind()},
                       {"accumulate", lowering.isAccumulated(op.getResult())},
                       {"rank", shape.size()},
                       {"extents", shape},
                       {"x_strides", stridesOf(x)},
                       {"y_strides", yStrides}},
                      {}, lowering.accumulateByEntry(op.getResult()));
  return success();
}

/// Of rows, whose type `rows` has: the gradient of the table is f32 whatever theirs.
static Constants embeddingConstants(BodyLowering &lowering, Operation *op, Value table, Value rows, Value ids) {
  return {{"type", lowering.kernelType(rows)},
          {"rows_of_table", shapeOf(table)[0]},
          {"columns", shapeOf(table)[1]},
          {"num_ids", numElements(ids)},
          {"positions", positionMap(op, shapeOf(table), int64_t(0))}};
}

static LogicalResult lowerEmbedding(BodyLowering &lowering, graph::EmbeddingOp op) {
  return lowerDense(lowering, op, "embedding",
                    embeddingConstants(lowering, op, op.getTable(), op.getTable(), op.getIds()));
}

static LogicalResult lowerEmbeddingBackward(BodyLowering &lowering, graph::EmbeddingBackwardOp op) {
  Value table = op.getDtable();
  Constants constants = embeddingConstants(lowering, op, table, op->getOperand(0), op.getIds());
  constants.push_back({"accumulate", lowering.isAccumulated(table)});
  return lowerDense(lowering, op, "embedding_backward", constants, lowering.accumulateByEntry(table));
}

/// Functions on rows of logits, of which each device may hold a part.
static LogicalResult lowerLabelled(BodyLowering &lowering, Operation *op, StringRef function, Value logits,
                                   int64_t ignored) {
  ArrayRef<int64_t> shape = shapeOf(logits);
  return lowerDense(lowering, op, function,
                    rowConstants(lowering, logits,
                                 {{"ignore_index", ignored},
                                  {"positions", positionMap(op, shape, static_cast<int64_t>(shape.size()) - 1)}}));
}

/// Functions that read every global position of their result.
static LogicalResult lowerPositional(BodyLowering &lowering, Operation *op, StringRef function, Constants constants) {
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  constants.append({{"rank", shape.size()},
                    {"extents", shape},
                    {"positions", positionMap(op, shape, llvm::to_vector(llvm::seq<int64_t>(shape.size())))}});
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
      {{"outer", outer}, {"extent", shape[dim]}, {"inner", inner}, {"offset", op.getOffset()}, {"fill", op.getFill()}});
}

LogicalResult galvatron::lowerKernel(BodyLowering &lowering, Operation *op, bool &handled) {
  handled = true;
  auto rows = [&](Value value) { return rowConstants(lowering, value); };
  return TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](graph::EinsumOp einsum) { return lowerProduct(lowering, einsum); })
      .Case([&](graph::AttentionOp attention) { return lowerAttention(lowering, attention); })
      .Case([&](graph::AttentionBackwardOp attention) { return lowerAttentionBackward(lowering, attention); })
      .Case([&](graph::RopeOp rope) { return lowerRope(lowering, rope); })
      .Case([&](graph::NormOp norm) { return lowerNorm(lowering, norm); })
      .Case([&](graph::NormBackwardOp norm) { return lowerNormBackward(lowering, norm); })
      .Case([&](graph::NormWeightBackwardOp norm) {
        return lowerDense(lowering, op, "norm_weight_backward",
                          rowConstants(lowering, norm.getX(), {{"accumulate", lowering.isAccumulated(norm.getDw())}}),
                          lowering.accumulateByEntry(norm.getDw()));
      })
      .Case([&](graph::SoftmaxOp softmax) { return lowerDense(lowering, op, "softmax", rows(softmax.getX())); })
      .Case([&](graph::SoftmaxBackwardOp softmax) {
        return lowerDense(lowering, op, "softmax_backward", rows(softmax.getY()));
      })
      .Case([&](graph::ReduceOp reduce) { return lowerReduce(lowering, reduce); })
      .Case([&](graph::EmbeddingOp embedding) { return lowerEmbedding(lowering, embedding); })
      .Case([&](graph::EmbeddingBackwardOp embedding) { return lowerEmbeddingBackward(lowering, embedding); })
      .Case([&](graph::SumExpOp sumExp) { return lowerDense(lowering, op, "sum_exp", rows(sumExp.getX())); })
      .Case([&](graph::TargetLogitOp target) {
        return lowerLabelled(lowering, op, "target_logit", target.getLogits(), target.getIgnoreIndex());
      })
      .Case([&](graph::CrossEntropyBackwardOp loss) {
        return lowerLabelled(lowering, op, "cross_entropy_backward", loss.getLogits(), loss.getIgnoreIndex());
      })
      .Case([&](graph::IotaOp iota) {
        return lowerPositional(lowering, op, "iota",
                               {{"type", lowering.kernelType(iota.getResult())}, {"dim", iota.getDim()}});
      })
      .Case([&](graph::DropoutOp dropout) {
        return lowerPositional(lowering, op, "dropout",
                               {{"type", lowering.kernelType(dropout.getX())},
                                {"p", dropout.getP().convertToDouble()},
                                {"id", dropout.getId()}});
      })
      .Case([&](graph::ShiftOp shift) { return lowerShift(lowering, shift); })
      .Default([&](Operation *) {
        handled = false;
        return success();
      });
}
