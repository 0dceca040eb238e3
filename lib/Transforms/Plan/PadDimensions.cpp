// Pads the axes that a plan's degrees do not divide, where it asks for that. On the graph, before anything is placed:
// placements, evaluator and lowering then know nothing of it, but for the shapes of parameters in files.
// PadDimensionsValues.cpp has what ops make of padding, PadDimensionsLayer.cpp rewrites a layer.
#include "galvatron/Transforms/Passes.h"

#include "PadDimensions.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Placement/Recomputation.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace galvatron {
#define GEN_PASS_DEF_PADDIMENSIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

static plan::StrategyAttr getStrategy(graph::CallOp call) {
  return call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
}

namespace {
struct PadDimensionsPass : galvatron::impl::PadDimensionsPassBase<PadDimensionsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = graph::getStep(module);
    if (!step || !module->hasAttr(plan::kPipelineAttrName) || failed(pad(module, step)))
      return signalPassFailure();
  }

  LogicalResult pad(ModuleOp module, func::FuncOp step) {
    SmallVector<graph::CallOp> calls(step.getOps<graph::CallOp>());
    if (llvm::none_of(calls, [](graph::CallOp call) { return getStrategy(call) && getStrategy(call).getPad(); }))
      return success();
    Axes axes(module);
    SmallVector<PaddedExtents> extents = getPaddedExtents(module, axes, calls);
    SymbolTable symbols(module);
    // Calls of one layer that are padded alike share one.
    llvm::MapVector<graph::LayerOp, std::map<PaddedExtents, SmallVector<graph::CallOp>>> versions;
    for (auto [call, padded] : llvm::zip_equal(calls, extents))
      versions[symbols.lookup<graph::LayerOp>(call.getCallee())][padded].push_back(call);
    for (auto &[layer, ofLayer] : versions)
      for (auto &[padded, readers] : ofLayer)
        if (!padded.empty() && failed(padCalls(layer, axes, padded, readers, symbols)))
          return failure();
    for (auto &[layer, ofLayer] : versions)
      if (!ofLayer.contains({}))
        symbols.erase(layer);
    // What is left that a degree does not divide is nothing that is padded.
    llvm::erase_if(calls, [](graph::CallOp call) { return !getStrategy(call).getPad(); });
    return checkStrategies(module, calls);
  }

  LogicalResult padCalls(graph::LayerOp layer, const Axes &axes, const PaddedExtents &extents,
                         ArrayRef<graph::CallOp> calls, SymbolTable &symbols) {
    unsigned masks = 0;
    tagRecomputableValues(layer); // masks are none of the names that plans know
    FailureOr<graph::LayerOp> padded = padLayer(layer, axes, extents, masks);
    if (failed(padded))
      return failure();
    (*padded)->setAttr(kLayerTypeAttrName, layer.getSymNameAttr());
    padded->setSymName((layer.getSymName() + ".padded").str());
    symbols.insert(*padded, Block::iterator(layer->getNextNode()));
    for (graph::CallOp call : calls)
      call.setCallee(padded->getSymName());
    ++numLayers;
    numMasks += masks;
    return success();
  }
};
} // namespace
