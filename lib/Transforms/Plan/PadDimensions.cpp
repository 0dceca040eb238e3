// Pads the axes that a plan's degrees do not divide, where it asks for that. On the graph, before anything is placed:
// placements, evaluator and lowering then know nothing of it, but for the shapes of parameters in files.
// PadDimensionsValues.cpp has what ops make of padding, PadDimensionsLayer.cpp rewrites a layer.
#include "galvatron/Transforms/Passes.h"

#include "PadDimensions.h"
#include "dialects/Graph/GraphInputs.h"
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
/// Calls of one layer type.
using Calls = SmallVector<graph::CallOp>;

/// Pads the layers of one step.
class StepPadder {
public:
  StepPadder(ModuleOp module, func::FuncOp step) : module(module), step(step), axes(module), symbols(module) {}

  LogicalResult run();

  unsigned numLayers = 0, numMasks = 0;

private:
  bool reads(graph::LayerOp layer, const PaddedExtents &extents) const;
  llvm::BitVector findData(graph::LayerOp layer, ArrayRef<graph::CallOp> calls) const;
  FailureOr<graph::LayerOp> pad(graph::LayerOp layer, const PaddedExtents &extents, const llvm::BitVector &data);
  LogicalResult padCalls(graph::LayerOp layer, const PaddedExtents &extents, ArrayRef<graph::CallOp> calls);
  LogicalResult padTotals();
  LogicalResult checkPositions();
  void padStep();

  ModuleOp module;
  func::FuncOp step;
  Axes axes;
  SymbolTable symbols;
  PaddedExtents positions;
  llvm::SetVector<graph::LayerOp> replaced;
};
} // namespace

/// Whether some value of the layer has one of the axes.
bool StepPadder::reads(graph::LayerOp layer, const PaddedExtents &extents) const {
  SmallVector<SmallVector<AxisId>> groups = axes.getGroups(layer, AxisRole::Seq);
  return llvm::any_of(groups, [&](ArrayRef<AxisId> group) {
    return llvm::any_of(group, [&](AxisId axis) { return extents.contains(axis); });
  });
}

/// Which inputs of the layer are always the step's own.
llvm::BitVector StepPadder::findData(graph::LayerOp layer, ArrayRef<graph::CallOp> calls) const {
  llvm::BitVector data(layer.getNumInputs(), true);
  for (graph::CallOp call : calls)
    for (auto [index, input] : llvm::enumerate(call.getInputs()))
      if (!isa<BlockArgument>(input))
        data.reset(index);
  return data;
}

FailureOr<graph::LayerOp> StepPadder::pad(graph::LayerOp layer, const PaddedExtents &extents,
                                          const llvm::BitVector &data) {
  FailureOr<graph::LayerOp> padded = padLayer(layer, axes, extents, data, numMasks);
  if (failed(padded))
    return failure();
  padded->setSymName((layer.getSymName() + ".padded").str());
  symbols.insert(*padded, Block::iterator(layer->getNextNode()));
  ++numLayers;
  return padded;
}

LogicalResult StepPadder::padCalls(graph::LayerOp layer, const PaddedExtents &extents, ArrayRef<graph::CallOp> calls) {
  tagRecomputableValues(layer); // masks are none of the names that plans know
  FailureOr<graph::LayerOp> padded = pad(layer, extents, findData(layer, calls));
  if (failed(padded))
    return failure();
  (*padded)->setAttr(kLayerTypeAttrName, layer.getSymNameAttr());
  for (graph::CallOp call : calls) {
    call.setCallee(padded->getSymName());
    for (auto [output, type] : llvm::zip_equal(call.getOutputs(), padded->getResultTypes()))
      output.setType(type);
  }
  return success();
}

/// What counts labels reads as many as there are.
LogicalResult StepPadder::padTotals() {
  llvm::MapVector<graph::LayerOp, SmallVector<graph::TotalOp>> totals;
  for (auto total : step.getOps<graph::TotalOp>())
    totals[symbols.lookup<graph::LayerOp>(total.getCallee())].push_back(total);
  for (auto &[layer, readers] : totals) {
    if (!reads(layer, positions))
      continue;
    FailureOr<graph::LayerOp> padded = pad(layer, positions, llvm::BitVector(layer.getNumInputs(), true));
    if (failed(padded))
      return failure();
    for (graph::TotalOp total : readers)
      total.setCallee(padded->getSymName());
    replaced.insert(layer);
  }
  return success();
}

/// Inputs are of `graph.seq` positions, to which the runtime adds what pads them.
LogicalResult StepPadder::checkPositions() {
  if (positions.empty())
    return success();
  auto [axis, padded] = *positions.begin();
  int64_t extent = axes.getAxis(axis).extent;
  auto seq = module->getAttrOfType<IntegerAttr>(graph::kSeqAttr);
  if (!seq || seq.getInt() != extent)
    return module.emitError("expects the module attribute graph.seq to be the ")
           << extent << " positions that are padded to " << padded;
  return success();
}

/// The step's inputs; its results are losses.
void StepPadder::padStep() {
  Block &block = step.getBody().front();
  for (BlockArgument argument : block.getArguments())
    if (!positions.empty() && hasAxis(axes, argument, positions.begin()->first))
      argument.setType(getPaddedType(axes, positions, argument));
  Builder builder(module.getContext());
  step.setFunctionType(builder.getFunctionType(SmallVector<Type>(block.getArgumentTypes()),
                                               SmallVector<Type>(block.getTerminator()->getOperandTypes())));
  if (!positions.empty())
    module->setAttr(graph::kPaddedSeqAttr, builder.getI64IntegerAttr(positions.begin()->second));
}

LogicalResult StepPadder::run() {
  Calls calls(step.getOps<graph::CallOp>());
  SmallVector<PaddedExtents> extents = getPaddedExtents(module, axes, calls);
  positions = getPaddedPositions(module, axes, calls);
  if (failed(checkPositions()))
    return failure();
  // Calls of one layer that are padded alike share one.
  llvm::MapVector<graph::LayerOp, std::map<PaddedExtents, Calls>> versions;
  for (auto [call, padded] : llvm::zip_equal(calls, extents)) {
    auto layer = symbols.lookup<graph::LayerOp>(call.getCallee());
    if (reads(layer, positions))
      padded.insert(positions.begin(), positions.end());
    versions[layer][padded].push_back(call);
  }
  for (auto &[layer, ofLayer] : versions) {
    for (auto &[padded, readers] : ofLayer)
      if (!padded.empty() && failed(padCalls(layer, padded, readers)))
        return failure();
    if (!ofLayer.contains({}))
      replaced.insert(layer);
  }
  if (failed(padTotals()))
    return failure();
  padStep();
  for (graph::LayerOp layer : replaced)
    symbols.erase(layer);
  // What is left that a degree does not divide is nothing that is padded.
  llvm::erase_if(calls, [](graph::CallOp call) { return !getStrategy(call) || !getStrategy(call).getPad(); });
  return checkStrategies(module, calls);
}

namespace {
struct PadDimensionsPass : galvatron::impl::PadDimensionsPassBase<PadDimensionsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    func::FuncOp step = graph::getStep(module);
    if (!step || !module->hasAttr(plan::kPipelineAttrName))
      return signalPassFailure();
    if (llvm::none_of(step.getOps<graph::CallOp>(),
                      [](graph::CallOp call) { return getStrategy(call) && getStrategy(call).getPad(); }))
      return;
    StepPadder padder(module, step);
    if (failed(padder.run()))
      return signalPassFailure();
    numLayers += padder.numLayers;
    numMasks += padder.numMasks;
  }
};
} // namespace
