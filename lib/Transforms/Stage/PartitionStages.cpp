// The calls of @step → one `dist.stage` per pipeline stage. A value that crosses stages is relayed from
// neighbour to neighbour, so that every transfer is between adjacent stages.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/SymbolTable.h"

namespace galvatron {
#define GEN_PASS_DEF_PARTITIONSTAGESPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct PartitionStagesPass : galvatron::impl::PartitionStagesPassBase<PartitionStagesPass> {
  using Base::Base;

  void runOnOperation() override {
    pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    step = graph::getStep(getOperation());
    if (!pipeline || !step) {
      getOperation().emitOpError(
          "expects a function @step and the attribute plan.pipeline; run the phases import to shard first");
      return signalPassFailure();
    }
    if (failed(readStages()))
      return signalPassFailure();
    createStages();
    for (Operation &op : step.getBody().front())
      if (auto call = dyn_cast<graph::CallOp>(op))
        moveCall(call);
    placeLosses();
    step.erase();
  }

private:
  LogicalResult readStages();
  void createStages();
  void moveCall(graph::CallOp call);
  void placeLosses();
  Value valueIn(int64_t stage, Value value);
  Value inputIn(int64_t stage, BlockArgument argument, Type type);
  Value totalIn(int64_t stage, graph::TotalOp total);
  bool hasGradient(Value value);
  OpBuilder builderOf(int64_t stage) { return OpBuilder::atBlockEnd(&stages[stage].getBody().front()); }

  plan::PipelineAttr pipeline;
  func::FuncOp step;
  SmallVector<dist::StageOp> stages;
  DenseMap<Value, int64_t> stageOf;
  /// A value of @step in each stage that has it.
  DenseMap<std::pair<Value, int64_t>, Value> local;
  /// Inputs of the step in each stage, by the placement in which they are read.
  DenseMap<std::pair<std::pair<Value, Type>, int64_t>, Value> inputs;
  int64_t numTags = 0;
};

} // namespace

LogicalResult PartitionStagesPass::readStages() {
  if (step.getNumArguments() > std::size(graph::kInputNames))
    return step.emitOpError("expects at most ")
           << std::size(graph::kInputNames) << " inputs, but got " << step.getNumArguments();
  int64_t last = 0;
  for (auto call : step.getBody().front().getOps<graph::CallOp>()) {
    auto stage = call->getAttrOfType<IntegerAttr>(plan::kStageAttrName);
    if (!stage || stage.getInt() < 0 || stage.getInt() >= pipeline.getStages())
      return call.emitOpError("expects an attribute plan.stage below ") << pipeline.getStages();
    if (stage.getInt() < last)
      return call.emitOpError("expects stages that do not fall along the model, but got stage ")
             << stage.getInt() << " after stage " << last;
    last = stage.getInt();
    for (Value output : call.getOutputs())
      stageOf[output] = last;
  }
  auto result = cast<func::ReturnOp>(step.getBody().front().getTerminator());
  if (result.getNumOperands() == 0 ||
      !llvm::all_of(result.getOperands(), [&](Value term) { return stageOf.contains(term); }))
    return step.emitOpError("expects to return terms of the loss that its calls compute");
  if (last != pipeline.getStages() - 1)
    return step.emitOpError("expects layers in every stage, but the last of ")
           << pipeline.getStages() << " stages has none";
  return success();
}

void PartitionStagesPass::createStages() {
  OpBuilder builder(step);
  // Random bits of a layer are keyed by its place in the whole model, those of halves by the whole layer's;
  // redistributions are no layers.
  SmallVector<Attribute> paths;
  for (auto call : step.getBody().front().getOps<graph::CallOp>()) {
    if (!call->hasAttr(plan::kStrategyAttrName))
      continue;
    call->setAttr(dist::kLayerIndexAttrName, builder.getI64IntegerAttr(paths.size()));
    paths.push_back(builder.getStringAttr(call.getBlockPath()));
  }
  getOperation()->setAttr(dist::kLayerPathsAttrName, builder.getArrayAttr(paths));
  for (int64_t index = 0; index < pipeline.getStages(); ++index) {
    auto stage = dist::StageOp::create(builder, step.getLoc(), ("stage" + Twine(index)).str(),
                                       static_cast<uint64_t>(index), dist::OrderAttr());
    stage.getBody().emplaceBlock();
    stages.push_back(stage);
    ++numStages;
  }
}

/// Data that a stage reads in one placement.
Value PartitionStagesPass::inputIn(int64_t stage, BlockArgument argument, Type type) {
  Value &input = inputs[{{argument, type}, stage}];
  if (!input) {
    OpBuilder builder = builderOf(stage);
    input = dist::InputOp::create(builder, argument.getLoc(), type, graph::kInputNames[argument.getArgNumber()]);
  }
  return input;
}

/// A total is found by each stage that reads it, from the data: nothing has to be sent before the first micro-batch.
Value PartitionStagesPass::totalIn(int64_t stage, graph::TotalOp total) {
  auto layer = SymbolTable::lookupNearestSymbolFrom<dist::LayerOp>(total, total.getCalleeAttr());
  SmallVector<Value> operands;
  for (auto [operand, placement] :
       llvm::zip_equal(total.getInputs(), layer.getInputs().getAsRange<dist::PlacementAttr>()))
    operands.push_back(inputIn(stage, cast<BlockArgument>(operand), dist::withPlacement(operand.getType(), placement)));
  OpBuilder builder = builderOf(stage);
  return graph::TotalOp::create(builder, total.getLoc(), total.getType(), total.getCallee(), operands);
}

/// Whether a layer's result has a gradient, which then goes back the way that the value came.
bool PartitionStagesPass::hasGradient(Value value) {
  auto result = cast<OpResult>(value);
  auto call = cast<graph::CallOp>(result.getOwner());
  auto layer = getOperation().lookupSymbol<dist::LayerOp>(call.getCallee());
  return !layer || layer.getOutputGradient(result.getResultNumber());
}

/// The value inside a stage; received from the stage before if it is not computed here.
Value PartitionStagesPass::valueIn(int64_t stage, Value value) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return inputIn(stage, argument, value.getType());
  if (Value known = local.lookup({value, stage}))
    return known;
  Value result;
  if (auto total = value.getDefiningOp<graph::TotalOp>()) {
    result = totalIn(stage, total);
  } else {
    Value before = valueIn(stage - 1, value);
    int64_t tag = numTags++;
    OpBuilder sender = builderOf(stage - 1), receiver = builderOf(stage);
    bool frozen = graph::isFloatTensor(value.getType()) && !hasGradient(value);
    dist::SendOp::create(sender, value.getLoc(), before, static_cast<uint64_t>(stage), static_cast<uint64_t>(tag),
                         frozen);
    result = dist::ReceiveOp::create(receiver, value.getLoc(), value.getType(), static_cast<uint64_t>(stage - 1),
                                     static_cast<uint64_t>(tag), frozen);
    ++numTransfers;
  }
  local[{value, stage}] = result;
  return result;
}

void PartitionStagesPass::moveCall(graph::CallOp call) {
  int64_t stage = call->getAttrOfType<IntegerAttr>(plan::kStageAttrName).getInt();
  IRMapping mapping;
  for (Value input : call.getInputs())
    mapping.map(input, valueIn(stage, input));
  OpBuilder builder = builderOf(stage);
  Operation *moved = builder.clone(*call, mapping);
  for (auto [from, to] : llvm::zip(call->getResults(), moved->getResults()))
    local[{from, stage}] = to;
}

void PartitionStagesPass::placeLosses() {
  for (Value loss : step.getBody().front().getTerminator()->getOperands()) {
    int64_t stage = stageOf[loss];
    OpBuilder builder = builderOf(stage);
    dist::LossOp::create(builder, loss.getLoc(), local[{loss, stage}]);
  }
}
