// The calls of @step → one `dist.stage` per pipeline stage. A value that crosses stages is relayed from part to part,
// so that every transfer is between the stages of neighbouring parts. A stage that has several parts keeps what an
// earlier one computed or received for its later ones, without a message:
//
//   stage 0   part 0 ─┐           ┌─ part 2 ─┐
//   stage 1           └─ part 1 ──┘          └─ part 3
#include "galvatron/Transforms/Passes.h"

#include "PipelineShape.h"

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
    shape = shapeOf(pipeline);
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
  FailureOr<int64_t> readPart(graph::CallOp call);
  void createStages();
  void moveCall(graph::CallOp call);
  void placeLosses();
  Value valueIn(int64_t part, Value value);
  Value inputIn(int64_t stage, BlockArgument argument, Type type);
  Value totalIn(int64_t stage, graph::TotalOp total);
  bool hasGradient(Value value);
  OpBuilder builderOf(int64_t stage) { return OpBuilder::atBlockEnd(&stages[stage].getBody().front()); }

  plan::PipelineAttr pipeline;
  search::PipelineShape shape;
  func::FuncOp step;
  SmallVector<dist::StageOp> stages;
  /// Of calls and of their results, the part of the model.
  DenseMap<Operation *, int64_t> partOf;
  /// A value of @step in each stage that has it.
  DenseMap<std::pair<Value, int64_t>, Value> local;
  /// Inputs of the step in each stage, by the placement in which they are read.
  DenseMap<std::pair<std::pair<Value, Type>, int64_t>, Value> inputs;
  int64_t numTags = 0;
};

} // namespace

FailureOr<int64_t> PartitionStagesPass::readPart(graph::CallOp call) {
  auto stage = call->getAttrOfType<IntegerAttr>(plan::kStageAttrName);
  if (!stage || stage.getInt() < 0 || stage.getInt() >= shape.stages)
    return call.emitOpError("expects an attribute plan.stage below ") << shape.stages, failure();
  int64_t chunk = plan::getChunk(call);
  if (chunk < 0 || chunk >= shape.virtualStages)
    return call.emitOpError("expects an attribute plan.chunk below the ")
               << shape.virtualStages << " parts of a stage, but got " << chunk,
           failure();
  return shape.partOf(stage.getInt(), chunk);
}

LogicalResult PartitionStagesPass::readStages() {
  auto inputs = getOperation()->getAttrOfType<ArrayAttr>(graph::kInputsAttr);
  if (size_t known = inputs ? inputs.size() : std::size(graph::kInputNames); step.getNumArguments() > known)
    return step.emitOpError("expects at most ") << known << " inputs, but got " << step.getNumArguments();
  int64_t last = 0;
  for (auto call : step.getBody().front().getOps<graph::CallOp>()) {
    FailureOr<int64_t> part = readPart(call);
    if (failed(part))
      return failure();
    if (*part < last && shape.virtualStages == 1)
      return call.emitOpError("expects stages that do not fall along the model, but got stage ")
             << *part << " after stage " << last;
    if (*part < last)
      return call.emitOpError("expects parts that do not fall along the model, but got part ")
             << *part << " (stage " << shape.stageOf(*part) << ", chunk " << shape.chunkOf(*part) << ") after part "
             << last;
    last = partOf[call] = *part;
  }
  auto result = cast<func::ReturnOp>(step.getBody().front().getTerminator());
  if (result.getNumOperands() == 0 || !llvm::all_of(result.getOperands(), [&](Value term) {
        return term.getDefiningOp() && partOf.contains(term.getDefiningOp());
      }))
    return step.emitOpError("expects to return terms of the loss that its calls compute");
  if (last != shape.parts() - 1)
    return step.emitOpError("expects layers in every ")
           << (shape.virtualStages == 1 ? "stage" : "part") << ", but the last of " << shape.parts()
           << (shape.virtualStages == 1 ? " stages" : " parts") << " has none";
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
    input = dist::InputOp::create(builder, argument.getLoc(), type, graph::getInputName(getOperation(), argument.getArgNumber()));
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

/// The value as a part reads it; received from the part before if its stage does not have it yet.
Value PartitionStagesPass::valueIn(int64_t part, Value value) {
  int64_t stage = shape.stageOf(part);
  if (auto argument = dyn_cast<BlockArgument>(value))
    return inputIn(stage, argument, value.getType());
  if (Value known = local.lookup({value, stage}))
    return known;
  Value result;
  if (auto total = value.getDefiningOp<graph::TotalOp>()) {
    result = totalIn(stage, total);
  } else {
    // The parts on the way are the last so far of their stages: ops of a stage stand in the order of its parts.
    Value before = valueIn(part - 1, value);
    int64_t tag = numTags++, sending = shape.stageOf(part - 1);
    OpBuilder sender = builderOf(sending), receiver = builderOf(stage);
    bool frozen = graph::isFloatTensor(value.getType()) && !hasGradient(value);
    auto send = dist::SendOp::create(sender, value.getLoc(), before, static_cast<uint64_t>(stage),
                                     static_cast<uint64_t>(tag), frozen);
    auto receive = dist::ReceiveOp::create(receiver, value.getLoc(), value.getType(), static_cast<uint64_t>(sending),
                                           static_cast<uint64_t>(tag), frozen);
    plan::setChunk(send, shape.chunkOf(part - 1));
    plan::setChunk(receive, shape.chunkOf(part));
    result = receive;
    ++numTransfers;
  }
  local[{value, stage}] = result;
  return result;
}

void PartitionStagesPass::moveCall(graph::CallOp call) {
  int64_t part = partOf[call], stage = shape.stageOf(part);
  IRMapping mapping;
  for (Value input : call.getInputs())
    mapping.map(input, valueIn(part, input));
  OpBuilder builder = builderOf(stage);
  Operation *moved = builder.clone(*call, mapping);
  for (auto [from, to] : llvm::zip(call->getResults(), moved->getResults()))
    local[{from, stage}] = to;
}

void PartitionStagesPass::placeLosses() {
  for (Value loss : step.getBody().front().getTerminator()->getOperands()) {
    int64_t part = partOf[loss.getDefiningOp()], stage = shape.stageOf(part);
    OpBuilder builder = builderOf(stage);
    auto op = dist::LossOp::create(builder, loss.getLoc(), local[{loss, stage}]);
    plan::setChunk(op, shape.chunkOf(part));
  }
}
