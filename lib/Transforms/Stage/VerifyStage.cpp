// The contract after phase `stage`: every stage knows what it does with each micro-batch, what one sends another
// receives, and the orders let every stage come to its end.
#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Schedule/UnitTimes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <set>

namespace galvatron {
#define GEN_PASS_DEF_VERIFYSTAGEPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::Computation;
using dist::Instruction;

static std::string wordOf(const Instruction &instruction) {
  std::string word;
  llvm::raw_string_ostream(word) << instruction;
  return word;
}

/// Each instruction once, and after what it needs of its own stage: a backward after its forward, gradients of weights
/// after their backward.
static LogicalResult verifySequence(dist::StageOp stage, int64_t microBatches, std::set<Instruction> &done) {
  for (const Instruction &instruction : stage.getOrder()->getInstructions()) {
    if (instruction.microBatch >= microBatches)
      return stage.emitOpError("expects micro-batches below ") << microBatches << ", but got " << wordOf(instruction);
    Instruction before = instruction;
    before.computation = instruction.computation == Computation::Weight ? Computation::Backward : Computation::Forward;
    if (instruction.computation != Computation::Forward && !done.contains(before))
      return stage.emitOpError("expects ") << wordOf(before) << " before " << wordOf(instruction);
    if (!done.insert(instruction).second)
      return stage.emitOpError("expects each instruction once, but got ") << wordOf(instruction) << " twice";
  }
  return success();
}

/// Every micro-batch passes each part of the stage, forward, backward and, where some have a backward of their own for
/// weights, there too.
static LogicalResult verifyOrder(dist::StageOp stage, plan::PipelineAttr pipeline) {
  int64_t microBatches = pipeline.getMicroBatches(), chunks = pipeline.getVirtualStages();
  if (!stage.getOrder())
    return stage.emitOpError("expects an order; run galvatron-schedule-microbatches");
  std::set<Instruction> done;
  if (failed(verifySequence(stage, microBatches, done)))
    return failure();
  std::set<Computation> computations = {Computation::Forward, Computation::Backward};
  for (const Instruction &instruction : done) {
    computations.insert(instruction.computation);
    if (instruction.chunk >= chunks)
      return stage.emitOpError("expects parts below the ")
             << chunks << " of a stage, but got " << wordOf(instruction) << "; give plan.pipeline its virtual_stages";
  }
  for (Computation computation : computations)
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch)
        if (Instruction due = {computation, chunk, microBatch}; !done.contains(due))
          return stage.emitOpError("expects an order with ") << wordOf(due) << ", but got " << *stage.getOrder();
  return success();
}

namespace {

struct VerifyStagePass : galvatron::impl::VerifyStagePassBase<VerifyStagePass> {
  using Base::Base;

  void runOnOperation() override {
    if (failed(verifyStages()) || failed(verifyTransfers()) || failed(verifyWaits()))
      return signalPassFailure();
    markAllAnalysesPreserved();
  }

private:
  LogicalResult verifyStages();
  LogicalResult verifyTransfers();
  LogicalResult verifyWaits();
};

} // namespace

LogicalResult VerifyStagePass::verifyStages() {
  auto pipeline = getOperation()->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  if (!pipeline)
    return getOperation().emitOpError("expects the attribute ") << plan::kPipelineAttrName;
  for (auto function : getOperation().getOps<func::FuncOp>())
    return function.emitOpError("expects to be gone after partition-stages");
  int64_t index = 0;
  for (auto stage : getOperation().getOps<dist::StageOp>()) {
    if (int64_t(stage.getIndex()) != index)
      return stage.emitOpError("expects stages in order, number ") << index << " next, but got " << stage.getIndex();
    ++index;
    ++numStages;
    if (failed(verifyOrder(stage, pipeline)))
      return failure();
  }
  if (index != pipeline.getStages())
    return getOperation().emitOpError("expects ") << pipeline.getStages() << " stages, but got " << index;
  return success();
}

/// Sends and receives are pairs: of the same value, type and direction of its gradient.
LogicalResult VerifyStagePass::verifyTransfers() {
  using Key = std::tuple<int64_t, int64_t, int64_t>; // from, to, value
  std::map<Key, dist::SendOp> sends;
  for (auto stage : getOperation().getOps<dist::StageOp>())
    for (auto send : stage.getBody().front().getOps<dist::SendOp>())
      if (!sends.insert({Key(stage.getIndex(), send.getStage(), send.getTag()), send}).second)
        return send.emitOpError("expects a tag of its own, but got ") << send.getTag() << " twice";
  for (auto stage : getOperation().getOps<dist::StageOp>())
    for (auto receive : stage.getBody().front().getOps<dist::ReceiveOp>()) {
      auto found = sends.find(Key(receive.getStage(), stage.getIndex(), receive.getTag()));
      if (found == sends.end())
        return receive.emitOpError("expects stage ")
               << receive.getStage() << " to send value " << receive.getTag() << " here once";
      dist::SendOp send = found->second;
      if (send.getX().getType() != receive.getType() || send.getFrozen() != receive.getFrozen()) {
        InFlightDiagnostic error = receive.emitOpError("expects the value as it is sent");
        error.attachNote(send.getLoc()) << "is sent here as " << send.getX().getType()
                                        << (send.getFrozen() ? ", frozen" : "");
        return error;
      }
      sends.erase(found);
      ++numTransfers;
    }
  for (auto &[key, send] : sends)
    return send.emitOpError("expects stage ") << send.getStage() << " to receive value " << send.getTag();
  return success();
}

/// A forward waits for the stages that it receives from, a backward for those that it sends to.
LogicalResult VerifyStagePass::verifyWaits() {
  UnitTimes times(getOperation());
  SmallVector<std::pair<dist::StageOp, Instruction>> waiting;
  for (auto stage : getOperation().getOps<dist::StageOp>()) {
    ArrayRef<Instruction> order = stage.getOrder()->getInstructions();
    auto ends = [&](size_t index) { return times.endOf(stage.getIndex(), index).has_value(); };
    if (size_t next = *llvm::find_if_not(llvm::seq(order.size() + 1), ends); next < order.size())
      waiting.push_back({stage, order[next]});
  }
  if (waiting.empty())
    return success();
  InFlightDiagnostic error =
      getOperation().emitOpError("expects orders that let every stage end, but the stages wait for one another");
  for (auto &[stage, instruction] : waiting)
    error.attachNote(stage.getLoc()) << "stage " << stage.getIndex() << " waits before " << wordOf(instruction);
  return error;
}
