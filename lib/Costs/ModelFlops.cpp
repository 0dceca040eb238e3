// Products of layers on global shapes, by call.
#include "galvatron/Costs/ModelFlops.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphStructure.h"

#include <algorithm>

using namespace mlir;
using namespace galvatron;

static int64_t getExtent(Value value, int64_t dim) { return cast<RankedTensorType>(value.getType()).getDimSize(dim); }

/// Query i sits at position i + keys - queries.
static double countPairs(graph::AttentionOp op) {
  int64_t queries = getExtent(op.getQ(), 2), keys = getExtent(op.getK(), 2), window = op.getWindow();
  double pairs = 0;
  for (int64_t position = keys - queries; position < keys; ++position) {
    int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
    pairs += double(std::max<int64_t>(0, (op.getCausal() ? position + 1 : keys) - first));
  }
  return double(getExtent(op.getQ(), 0)) * double(getExtent(op.getQ(), 1)) * pairs;
}

/// Of forward.
static ModelFlops countLayer(graph::LayerOp layer) {
  ModelFlops flops;
  auto add = [&](Value operand, double count) {
    flops.perStep += count;
    flops.areNarrow |= getElementTypeOrSelf(operand.getType()).getIntOrFloatBitWidth() == 16;
  };
  layer.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<graph::BackwardOp>(op))
      return WalkResult::skip();
    if (auto product = dyn_cast<graph::EinsumOp>(op))
      add(op->getOperand(0), double(product.getFlops()));
    if (auto attention = dyn_cast<graph::AttentionOp>(op)) // q kᵀ and P v
      add(op->getOperand(0),
          countPairs(attention) * 2 * double(getExtent(attention.getQ(), 3) + getExtent(attention.getV(), 3)));
    return WalkResult::advance();
  });
  return flops;
}

ModelFlops galvatron::countModelFlops(ModuleOp module) {
  ModelFlops sum;
  llvm::DenseMap<Operation *, ModelFlops> ofLayers;
  module.walk([&](graph::CallOp call) {
    auto layer = SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
    if (!layer)
      return;
    auto [at, isNew] = ofLayers.try_emplace(layer);
    if (isNew)
      at->second = countLayer(layer);
    sum.perStep += 3 * at->second.perStep;
    sum.areNarrow |= at->second.areNarrow;
  });
  return sum;
}
