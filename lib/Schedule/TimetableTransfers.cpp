// Sends and receives of a timetable. On a GPU what waits for a value holds multiprocessors, so a receive starts no
// earlier than in the last layer of the instruction before, and only if the value is there by then:
//
//   stage 0   … │ F2 │ send ─┐           │ B1 …
//   stage 1   … │ B1: … │ receive │ last │ F2 …
//
// Where a stage has several parts, both directions between two stages carry values of several of them, and the next
// that is sent need not be the next that is read: it is received all the same, and lies there until it is read.
//
// What is there is judged with unit times, backward twice forward. They only say where a receive stands: that no wait
// is circular is proved on the whole timetables (VerifyTimetableProgress.cpp).
#include "TimetableBuilder.h"
#include "galvatron/Schedule/UnitTimes.h"

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

//===--------------------------------------------------------------------===//
// Sends and waits
//===--------------------------------------------------------------------===//

std::string TimetableBuilder::peerOf(Operation *op, int64_t stage) {
  std::string peer = std::to_string(stage);
  return parts.size() == 1 ? peer : peer + " in chunk " + std::to_string(plan::getChunk(op));
}

void TimetableBuilder::send(Operation *op, BufferReference buffer, const Channel &channel, int64_t microBatch) {
  StringRef what = channel.lane == Lane::Activation ? "send activation" : "send gradient";
  std::string name = label((what + " to stage").str(), peerOf(op, channel.stage), microBatch);
  int64_t handle = pending.numHandles++;
  addEntry(Send{buffer, channel, handle}, name, microBatch);
  pending.sends[{channel.lane, channel.value, microBatch}] = {handle, buffer, name};
}

void TimetableBuilder::waitForSend(Lane lane, int64_t value, int64_t microBatch) {
  auto found = pending.sends.find({lane, value, microBatch});
  if (found == pending.sends.end())
    return;
  addWait(found->second);
  pending.sends.erase(found);
}

void TimetableBuilder::addWait(const UnderWay &started) {
  addEntry(Wait{started.buffer, started.handle}, "end of " + started.name);
}

//===--------------------------------------------------------------------===//
// Receives
//===--------------------------------------------------------------------===//

void TimetableBuilder::collectEarly() {
  UnitTimes times(module);
  early.instructions.assign(order.size(), false);
  for (size_t index = 1; index < order.size(); ++index) {
    if (order[index].computation == dist::Computation::Weight) // receives nothing
      continue;
    std::optional<int64_t> sent = times.sentBy(table.stage, order[index]);
    std::optional<int64_t> before = times.endOf(table.stage, index - 1);
    // Of values that are sent as the instruction before ends only activations of earlier stages count: if gradients, or
    // activations that come back to earlier stages, did, too, neighbours or a ring of stages could wait for one
    // another.
    bool isFromEarlier =
        order[index].computation == dist::Computation::Forward && llvm::all_of(partOf(index), [&](Operation *op) {
          auto receive = dyn_cast<dist::ReceiveOp>(op);
          return !receive || int64_t(receive.getStage()) < table.stage;
        });
    early.instructions[index] = sent && before && (isFromEarlier ? *sent <= *before : *sent < *before);
  }
  // Values are received in the order they are sent, so one that an instruction needs after its last call forbids it.
  for (const Part &part : parts) {
    Operation *&beforeForward = early.beforeForward.emplace_back();
    Operation *&beforeBackward = early.beforeBackward.emplace_back();
    Operation *&beforeWeights = early.beforeWeights.emplace_back();
    for (Operation *op : part)
      if (auto call = dyn_cast<graph::CallOp>(op)) {
        beforeForward = call;
        if (!beforeBackward && contents.calls[call].backward)
          beforeBackward = call;
        if (!beforeWeights && contents.calls[call].weights)
          beforeWeights = call;
      }
    for (Operation *op : part) {
      if (isa<dist::ReceiveOp>(op) && beforeForward && beforeForward->isBeforeInBlock(op))
        beforeForward = nullptr;
      if (isa<dist::SendOp>(op) && beforeBackward && op->isBeforeInBlock(beforeBackward))
        beforeBackward = nullptr;
    }
  }
}

void TimetableBuilder::receiveEarly(size_t next) {
  if (next >= order.size() || !early.instructions[next])
    return;
  auto [computation, chunk, microBatch] = order[next];
  if (computation == dist::Computation::Forward) {
    for (Operation *op : partOf(next))
      if (auto receive = dyn_cast<dist::ReceiveOp>(op))
        receiveActivation(receive, microBatch, /*isEarly=*/true);
    return;
  }
  for (Operation *op : llvm::reverse(partOf(next)))
    if (auto send = dyn_cast<dist::SendOp>(op); send && send.hasGradient())
      receiveGradient(send, microBatch, /*isEarly=*/true);
}

void TimetableBuilder::collectArrivals() {
  for (auto other : module.getOps<dist::StageOp>()) {
    if (!other.getOrder() || int64_t(other.getIndex()) == table.stage)
      continue;
    Arrivals &from = arrivals[other.getIndex()];
    for (const dist::Instruction &instruction : other.getOrder()->getInstructions()) {
      SmallVector<Arrivals::Value> sent;
      for (Operation &op : other.getBody().front()) {
        if (plan::getChunk(&op) != instruction.chunk)
          continue;
        bool isForward = instruction.computation == dist::Computation::Forward;
        if (auto send = dyn_cast<dist::SendOp>(op); send && isForward && int64_t(send.getStage()) == table.stage)
          sent.push_back({Lane::Activation, send.getTag(), instruction.microBatch});
        bool isBackward = instruction.computation == dist::Computation::Backward && !table.isEvaluation;
        if (auto receive = dyn_cast<dist::ReceiveOp>(op);
            receive && isBackward && receive.hasGradient() && int64_t(receive.getStage()) == table.stage)
          sent.insert(sent.begin(), {Lane::Gradient, receive.getTag(), instruction.microBatch}); // in reverse
      }
      llvm::append_range(from.order, sent);
    }
  }
}

void TimetableBuilder::receive(std::string name, Receive receive, int64_t microBatch, bool isEarly) {
  int buffer = receive.buffer.buffer;
  if (auto started = pending.receives.find(buffer); started != pending.receives.end()) {
    addWait(started->second);
    pending.receives.erase(started);
    return;
  }
  const Channel &channel = receive.channel;
  Arrivals &from = arrivals[channel.stage];
  Arrivals::Value own = {channel.lane, channel.value, microBatch};
  if (std::find(from.order.begin() + from.next, from.order.end(), own) == from.order.end())
    return; // with what was sent after it
  while (from.order[from.next] != own) {
    size_t number = from.next;
    auto [lane, tag, before] = from.order[number];
    for (Operation &op : stage.getBody().front()) {
      auto activation = dyn_cast<dist::ReceiveOp>(op);
      auto gradient = dyn_cast<dist::SendOp>(op);
      if (activation && lane == Lane::Activation && activation.getTag() == uint64_t(tag))
        receiveActivation(activation, before, isEarly);
      else if (gradient && lane == Lane::Gradient && gradient.getTag() == uint64_t(tag))
        receiveGradient(gradient, before, isEarly);
    }
    from.next = std::max(from.next, number + 1); // what nobody here reads is for the proof to find
  }
  ++from.next;
  if (isEarly) {
    receive.handle = pending.numHandles++;
    pending.receives[buffer] = {*receive.handle, receive.buffer, name};
  }
  addEntry(receive, std::move(name), microBatch);
}

void TimetableBuilder::receiveActivation(dist::ReceiveOp op, int64_t microBatch, bool isEarly) {
  int64_t stage = op.getStage(), value = op.getTag(), bytes = bytesOf(localType(op.getResult()));
  receive(label("receive from stage", peerOf(op, stage), microBatch),
          {{valueBuffer(op.getResult(), microBatch), 0}, {stage, Lane::Activation, value, bytes}, std::nullopt},
          microBatch, isEarly);
}

int TimetableBuilder::receiveGradient(dist::SendOp send, int64_t microBatch, bool isEarly) {
  int64_t stage = send.getStage(), value = send.getTag(), bytes = bytesOf(localType(send.getX()));
  auto [known, isNew] = places.receivedGradients.insert({{send.getOperation(), microBatch}, -1});
  if (isNew)
    known->second =
        addBuffer("gradient from stage " + std::to_string(stage) + " micro-batch " + std::to_string(microBatch), bytes);
  receive(label("receive gradient from stage", peerOf(send, stage), microBatch),
          {{known->second, 0}, {stage, Lane::Gradient, value, bytes}, std::nullopt}, microBatch, isEarly);
  return known->second;
}
