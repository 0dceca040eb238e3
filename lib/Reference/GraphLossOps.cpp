// What the ops mean that read indices: embeddings, shifted labels, cross-entropy and its statistics.
#include "OpTable.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

/// Local index of each global one along a dimension that may be cut.
static llvm::DenseMap<int64_t, int64_t> localIndices(const OpCall &call, unsigned dim, int64_t extent) {
  llvm::DenseMap<int64_t, int64_t> locals;
  for (int64_t local = 0; local < extent; ++local)
    locals[call.position.globalIndex(dim, local)] = local;
  return locals;
}

/// An index that no device has is an error of the data.
static LogicalResult expectInside(const OpCall &call, StringRef what, double index, unsigned dim, int64_t localExtent) {
  int64_t extent = call.position.globalExtent(dim, localExtent);
  if (index >= 0 && index < extent)
    return success();
  return call.op->emitOpError("expects each ") << what << " to be in [0, " << extent << "), but got " << int64_t(index);
}

static LogicalResult embedding(OpCall &call) {
  const Tensor &table = call.operand(0), &ids = call.operand(1);
  int64_t columns = table.shape[1];
  auto locals = localIndices(call, 0, table.shape[0]);
  for (int64_t i = 0; i < ids.size(); ++i) {
    if (failed(expectInside(call, "index", ids[i], 0, table.shape[0])))
      return failure();
    auto row = locals.find(ids[i]);
    for (int64_t h = 0; row != locals.end() && h < columns; ++h)
      call.results[0][i * columns + h] = table[row->second * columns + h];
  }
  return success();
}

static LogicalResult embeddingBackward(OpCall &call) {
  const Tensor &dy = call.operand(0), &ids = call.operand(1);
  Tensor &dtable = call.results[0];
  int64_t columns = dtable.shape[1];
  auto locals = localIndices(call, 0, dtable.shape[0]);
  for (int64_t i = 0; i < ids.size(); ++i) {
    if (failed(expectInside(call, "index", ids[i], 0, dtable.shape[0])))
      return failure();
    auto row = locals.find(ids[i]);
    for (int64_t h = 0; row != locals.end() && h < columns; ++h)
      dtable[row->second * columns + h] += dy[i * columns + h];
  }
  return success();
}

static void shift(graph::ShiftOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  int64_t dim = op.getDim(), offset = op.getOffset(), extent = x.shape[dim];
  int64_t stride = stridesOf(x.shape)[dim];
  forEachIndex(x.shape, [&](ArrayRef<int64_t> index, int64_t i) {
    int64_t from = index[dim] + offset;
    bool exists = from >= 0 && from < extent;
    call.results[0][i] = exists ? x[i + offset * stride] : double(int64_t(op.getFill()));
  });
}

/// The labels that count select a column each; `body` gets the row, and the column or -1 if it is not
/// on this device.
template <typename Op>
static LogicalResult forEachLabel(Op op, OpCall &call, const Tensor &logits, const Tensor &labels,
                                  function_ref<void(int64_t row, int64_t column)> body) {
  unsigned last = logits.rank() - 1;
  auto locals = localIndices(call, last, logits.shape[last]);
  for (int64_t row = 0; row < labels.size(); ++row) {
    if (labels[row] == int64_t(op.getIgnoreIndex()))
      continue;
    if (failed(expectInside(call, "label", labels[row], last, logits.shape[last])))
      return failure();
    auto column = locals.find(labels[row]);
    body(row, column == locals.end() ? -1 : column->second);
  }
  return success();
}

static LogicalResult crossEntropy(OpCall &call) {
  auto op = cast<graph::CrossEntropyOp>(call.op);
  const Tensor &logits = call.operand(0), &labels = call.operand(1);
  int64_t columns = logits.shape.back();
  double total = 0;
  bool isMean = op.isMean();
  auto addRow = [&](int64_t row, int64_t label) {
    const double *values = &logits.data[row * columns];
    double max = *std::max_element(values, values + columns), sum = 0;
    for (int64_t v = 0; v < columns; ++v)
      sum += std::exp(values[v] - max);
    double loss = max + std::log(sum) - values[label];
    total += loss;
    if (!isMean)
      call.results[0][row] = loss;
  };
  if (failed(forEachLabel(op, call, logits, labels, addRow)))
    return failure();
  if (!isMean)
    return success();
  double count = op.getCount() ? call.operand(2)[0] : double(op.getNumValidLabels());
  call.results[0][0] = count > 0 ? total / count : 0;
  return success();
}

static void logSumExp(graph::LogSumExpOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  int64_t columns = x.shape.back();
  for (int64_t row = 0; row < x.size() / columns; ++row) {
    const double *values = &x.data[row * columns];
    double max = *std::max_element(values, values + columns), sum = 0;
    for (int64_t v = 0; v < columns; ++v)
      sum += std::exp(values[v] - max);
    call.results[0][row] = max + std::log(sum);
  }
}

static void sumExp(graph::SumExpOp op, OpCall &call) {
  const Tensor &x = call.operand(0), &max = call.operand(1);
  int64_t columns = x.shape.back();
  for (int64_t i = 0; i < x.size(); ++i)
    call.results[0][i / columns] += std::exp(x[i] - max[i / columns]);
}

static LogicalResult targetLogit(OpCall &call) {
  auto op = cast<graph::TargetLogitOp>(call.op);
  const Tensor &logits = call.operand(0);
  return forEachLabel(op, call, logits, call.operand(1), [&](int64_t row, int64_t column) {
    if (column >= 0)
      call.results[0][row] = logits[row * logits.shape.back() + column];
  });
}

static LogicalResult crossEntropyBackward(OpCall &call) {
  auto op = cast<graph::CrossEntropyBackwardOp>(call.op);
  const Tensor &dy = call.operand(0), &logits = call.operand(1), &sum = call.operand(2), &max = call.operand(3);
  int64_t columns = logits.shape.back();
  return forEachLabel(op, call, logits, call.operand(4), [&](int64_t row, int64_t label) {
    for (int64_t v = 0; v < columns; ++v) {
      double p = std::exp(logits[row * columns + v] - max[row]) / sum[row];
      call.results[0][row * columns + v] = dy[row] * (p - (v == label));
    }
  });
}

void galvatron::reference::addGraphLossOps(OpTable &table) {
  table[graph::EmbeddingOp::getOperationName()] = embedding;
  table[graph::EmbeddingBackwardOp::getOperationName()] = embeddingBackward;
  define(table, shift);
  table[graph::CrossEntropyOp::getOperationName()] = crossEntropy;
  define(table, logSumExp);
  define(table, sumExp);
  table[graph::TargetLogitOp::getOperationName()] = targetLogit;
  table[graph::CrossEntropyBackwardOp::getOperationName()] = crossEntropyBackward;
}
