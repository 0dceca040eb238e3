// What the ops mean that move, repeat and combine elements.
#include "OpTable.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

static void reduce(graph::ReduceOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Tensor &y = call.results[0];
  bool isMax = op.getKind() == graph::ReduceKind::Max;
  if (isMax)
    std::fill(y.data.begin(), y.data.end(), -INFINITY);
  Shape strides = stridesOf(y.shape);
  forEachIndex(x.shape, [&](ArrayRef<int64_t> index, int64_t i) {
    int64_t offset = 0, kept = 0;
    for (auto [dim, at] : llvm::enumerate(index))
      if (!llvm::is_contained(op.getDims(), dim))
        offset += at * strides[kept++];
    y[offset] = isMax ? std::max(y[offset], x[i]) : y[offset] + x[i];
  });
}

static void broadcast(graph::BroadcastOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Shape strides = stridesOf(x.shape);
  forEachIndex(call.results[0].shape, [&](ArrayRef<int64_t> index, int64_t i) {
    int64_t offset = 0;
    for (auto [from, to] : llvm::enumerate(op.getDims()))
      offset += index[to] * strides[from];
    call.results[0][i] = x[offset];
  });
}

static void reshape(graph::ReshapeOp op, OpCall &call) { call.results[0].data = call.operand(0).data; }

static void transpose(graph::TransposeOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Shape strides = stridesOf(x.shape);
  forEachIndex(call.results[0].shape, [&](ArrayRef<int64_t> index, int64_t i) {
    int64_t offset = 0;
    for (auto [to, from] : llvm::enumerate(op.getPermutation()))
      offset += index[to] * strides[from];
    call.results[0][i] = x[offset];
  });
}

/// Calls `body` with the positions of each element of `piece` there and in `whole`.
static void forEachOfPiece(const Tensor &piece, const Tensor &whole, ArrayRef<int64_t> offsets,
                           function_ref<void(int64_t inPiece, int64_t inWhole)> body) {
  Shape strides = stridesOf(whole.shape);
  forEachIndex(piece.shape, [&](ArrayRef<int64_t> index, int64_t i) {
    int64_t position = 0;
    for (auto [dim, at] : llvm::enumerate(index))
      position += (at + offsets[dim]) * strides[dim];
    body(i, position);
  });
}

/// Offsets are in the global tensor where types are global; a cut dimension is selected from in units
/// that are all cut alike, so they shrink as it does.
static Shape localOffsets(ArrayRef<int64_t> offsets, Value whole, const Tensor &local) {
  Shape scaled(offsets);
  ArrayRef<int64_t> shape = cast<RankedTensorType>(whole.getType()).getShape();
  for (auto [offset, extent, localExtent] : llvm::zip(scaled, shape, local.shape))
    offset = offset * localExtent / extent;
  return scaled;
}

static void slice(graph::SliceOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Tensor &y = call.results[0];
  forEachOfPiece(y, x, localOffsets(op.getOffsets(), op.getX(), x),
                 [&](int64_t inPiece, int64_t inWhole) { y[inPiece] = x[inWhole]; });
}

static void pad(graph::PadOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Tensor &y = call.results[0];
  forEachOfPiece(x, y, localOffsets(op.getOffsets(), op.getResult(), y),
                 [&](int64_t inPiece, int64_t inWhole) { y[inWhole] = x[inPiece]; });
}

static void concat(graph::ConcatOp op, OpCall &call) {
  Shape offsets(call.results[0].rank(), 0);
  for (const Tensor *input : call.operands) {
    forEachOfPiece(*input, call.results[0], offsets,
                   [&](int64_t inPiece, int64_t inWhole) { call.results[0][inWhole] = (*input)[inPiece]; });
    offsets[op.getDim()] += input->shape[op.getDim()];
  }
}

static void iota(graph::IotaOp op, OpCall &call) {
  forEachIndex(call.results[0].shape, [&](ArrayRef<int64_t> index, int64_t i) {
    call.results[0][i] = call.position.globalIndex(op.getDim(), index[op.getDim()]);
  });
}

void galvatron::reference::addGraphShapeOps(OpTable &table) {
  define(table, reduce);
  define(table, broadcast);
  define(table, reshape);
  define(table, transpose);
  define(table, slice);
  define(table, pad);
  define(table, concat);
  define(table, iota);
}
