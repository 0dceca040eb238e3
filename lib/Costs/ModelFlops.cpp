// Products of layers on global shapes, by call.
#include "galvatron/Costs/ModelFlops.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
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

/// Of forward, and of the gradients of each product's operands that learn or lead to what does.
static ModelFlops countLayer(graph::LayerOp layer) {
  ModelFlops flops;
  llvm::DenseSet<Value> learning;
  auto learns = [&](Value value) { return learning.contains(value); };
  auto add = [&](Value operand, double count) {
    flops.perStep += count;
    flops.areNarrow |= getElementTypeOrSelf(operand.getType()).getIntOrFloatBitWidth() == 16;
  };
  for (BlockArgument argument : layer.getBody().getArguments())
    if (layer.hasGradient(argument.getArgNumber()))
      learning.insert(argument);
  layer.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<graph::BackwardOp>(op))
      return WalkResult::skip();
    if (!isa<graph::DetachOp>(op) && llvm::any_of(op->getOperands(), learns))
      learning.insert(op->result_begin(), op->result_end());
    if (auto product = dyn_cast<graph::EinsumOp>(op))
      add(op->getOperand(0), double(product.getFlops()) * double(1 + llvm::count_if(op->getOperands(), learns)));
    if (auto attention = dyn_cast<graph::AttentionOp>(op)) {
      // Forward has q kᵀ and P v; backward dP = dO vᵀ where queries or keys learn, dq, dk, and dv.
      bool q = learns(attention.getQ()), k = learns(attention.getK()), v = learns(attention.getV());
      double ofHead = double(getExtent(attention.getQ(), 3)), ofValue = double(getExtent(attention.getV(), 3));
      add(op->getOperand(0),
          countPairs(attention) * 2 * (ofHead * double(1 + q + k) + ofValue * double(1 + (q || k) + v)));
    }
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
    sum.perStep += at->second.perStep;
    sum.areNarrow |= at->second.areNarrow;
  });
  return sum;
}
