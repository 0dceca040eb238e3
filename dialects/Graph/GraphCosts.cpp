// Floating-point operations of every op, from its shapes. A multiply-add counts two; a transcendental
// function counts as the few operations of its polynomial, `kTranscendental`.
#include "dialects/Graph/Graph.h"

using namespace mlir;
using namespace galvatron::graph;

static constexpr int64_t kTranscendental = 8;

static int64_t elements(Value value) { return cast<RankedTensorType>(value.getType()).getNumElements(); }

static int64_t extent(Value value, int64_t dim) { return cast<RankedTensorType>(value.getType()).getShape()[dim]; }

int64_t galvatron::graph::bytesOfOperandsAndResults(Operation *op) {
  int64_t bits = 0;
  auto add = [&](Value value) {
    auto tensor = dyn_cast<RankedTensorType>(value.getType());
    if (tensor && tensor.getElementType().isIntOrFloat())
      bits += tensor.getNumElements() * std::max(8u, tensor.getElementTypeBitWidth());
  };
  for (Value operand : op->getOperands())
    add(operand);
  for (Value result : op->getResults())
    add(result);
  return bits / 8;
}

int64_t EinsumOp::getFlops() {
  OpAxes axes = getAxes();
  int64_t flops = 2;
  for (const Loop &loop : axes.loops)
    flops *= loop.extent;
  return flops;
}

/// Pairs of query and key that the mask lets through, over batch and heads.
template <typename Op> static int64_t attentionPairs(Op op) {
  int64_t queries = extent(op.getQ(), 2), keys = extent(op.getK(), 2), pairs = queries * keys;
  if (op.getCausal()) {
    int64_t last = std::min(queries, keys); // of the last `last` queries, each sees one key more
    pairs = queries * keys - last * (last - 1) / 2;
  }
  if (op.getWindow() > 0)
    pairs = std::min<int64_t>(pairs, queries * int64_t(op.getWindow()));
  return extent(op.getQ(), 0) * extent(op.getQ(), 1) * pairs;
}

int64_t galvatron::graph::getAttentionPairs(Operation *op) {
  if (auto forward = dyn_cast<AttentionOp>(op))
    return attentionPairs(forward);
  auto backward = dyn_cast<AttentionBackwardOp>(op);
  return backward ? attentionPairs(backward) : 0;
}

/// q kᵀ and P v.
int64_t AttentionOp::getFlops() {
  return attentionPairs(*this) * (2 * (extent(getQ(), 3) + extent(getV(), 3)) + kTranscendental);
}

/// q kᵀ again, dy vᵀ, Pᵀ dy, dS k, dSᵀ q.
int64_t AttentionBackwardOp::getFlops() {
  return attentionPairs(*this) * (2 * (3 * extent(getQ(), 3) + 2 * extent(getV(), 3)) + kTranscendental);
}

int64_t RopeOp::getFlops() { return 3 * elements(getX()); }
int64_t NormOp::getFlops() { return 8 * elements(getX()); }
int64_t NormBackwardOp::getFlops() { return 12 * elements(getX()); }
int64_t NormWeightBackwardOp::getFlops() { return 4 * elements(getX()); }
int64_t SoftmaxOp::getFlops() { return (3 + kTranscendental) * elements(getX()); }
int64_t SoftmaxBackwardOp::getFlops() { return 4 * elements(getDy()); }
int64_t ActivationOp::getFlops() { return kTranscendental * elements(getX()); }
int64_t ActivationBackwardOp::getFlops() { return 2 * kTranscendental * elements(getX()); }
int64_t GatedActivationOp::getFlops() { return (1 + kTranscendental) * elements(getUp()); }
int64_t GatedActivationBackwardOp::getFlops() { return 2 * (1 + kTranscendental) * elements(getUp()); }
/// Ten rounds of the generator serve four elements.
int64_t DropoutOp::getFlops() { return 25 * elements(getX()); }
int64_t SumOp::getFlops() { return (getNumOperands() - 1) * elements(getResult()); }
int64_t DetachOp::getFlops() { return 0; }
int64_t EmbeddingOp::getFlops() { return 0; }
int64_t EmbeddingBackwardOp::getFlops() { return elements(getDy()); }
int64_t ShiftOp::getFlops() { return 0; }
int64_t CrossEntropyOp::getFlops() { return (3 + kTranscendental) * elements(getLogits()); }
int64_t SumExpOp::getFlops() { return (2 + kTranscendental) * elements(getX()); }
int64_t TargetLogitOp::getFlops() { return 0; }
int64_t LogSumExpOp::getFlops() { return (2 + kTranscendental) * elements(getX()); }
int64_t CrossEntropyBackwardOp::getFlops() { return (3 + kTranscendental) * elements(getLogits()); }
int64_t ReduceOp::getFlops() { return elements(getX()); }
int64_t BroadcastOp::getFlops() { return 0; }
int64_t ReshapeOp::getFlops() { return 0; }
int64_t TransposeOp::getFlops() { return 0; }
int64_t SliceOp::getFlops() { return 0; }
int64_t PadOp::getFlops() { return 0; }
int64_t ConcatOp::getFlops() { return 0; }
int64_t IotaOp::getFlops() { return 0; }
