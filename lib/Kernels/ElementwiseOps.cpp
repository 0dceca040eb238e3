// What is generated as loops, what maps elements to elements, what is a view.
#include "galvatron/Kernels/ElementwiseOps.h"

#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;

bool galvatron::isComputedInLoops(Operation *op) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    return isa<SplatElementsAttr>(constant.getValue());
  if (isa<graph::BroadcastOp>(op))
    return true;
  // Upstream ops of several results have no scalars that could be stored one by one.
  return op->hasTrait<OpTrait::Elementwise>() &&
         (op->getNumResults() == 1 || isa<graph::GraphDialect>(op->getDialect()));
}

bool galvatron::mapsElements(Operation *op) {
  graph::OpAxes axes = graph::getOpAxes(op);
  auto hasAllLoops = [&](const graph::DimensionLoops &dims) {
    size_t count = 0;
    for (const auto &loops : dims)
      count += loops.size();
    return count == axes.loops.size();
  };
  return llvm::all_of(axes.loops, [](const graph::Loop &loop) { return loop.kind == graph::LoopKind::Free; }) &&
         llvm::all_of(axes.operands, hasAllLoops) && llvm::all_of(axes.results, hasAllLoops);
}

bool galvatron::isView(Operation *op) {
  return isa<graph::ReshapeOp, graph::TransposeOp, graph::BroadcastOp, graph::SliceOp>(op);
}
