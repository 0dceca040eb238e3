// When a stage begins to receive. On a GPU what waits for a value holds multiprocessors, so a receive starts no earlier
// than in the last layer of the item before, and only if the value is there by then:
//
//   stage 0   … │ F2 │ send ─┐           │ B1 …
//   stage 1   … │ B1: … │ receive │ last │ F2 …
//
// By what is there is judged with unit times, backward twice forward. If it were waited for at once, no circle could
// arise: what an item then waits for ends before the item or with it, and with it only in an earlier stage.
#include "TimetableBuilder.h"

#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/STLExtras.h"

#include <set>
#include <tuple>

using namespace mlir;
using namespace galvatron;

static FailureOr<std::vector<StageItem>> readOrder(dist::StageOp stage) {
  std::vector<StageItem> order;
  if (!stage.getOrder())
    return order;
  for (StringRef word : stage.getOrder()->getAsValueRange<StringAttr>()) {
    int64_t microBatch;
    if (word.size() < 2 || (word[0] != 'F' && word[0] != 'B') || word.drop_front().getAsInteger(10, microBatch))
      return stage.emitOpError("expects an order of F<k> and B<k>, but got ") << word;
    order.push_back({word[0] == 'F', microBatch});
  }
  return order;
}

namespace {

/// All stages with unit times.
class UnitTimes {
public:
  LogicalResult run(ModuleOp module);
  /// End of a stage's item, and of what it waits for from other stages; -1 where the orders do not allow it.
  int64_t endOf(int64_t stage, size_t item) const { return stages.at(stage).ends[item]; }
  int64_t sentBy(int64_t stage, const StageItem &item) const;

private:
  struct Stage {
    std::vector<StageItem> order;
    std::vector<int64_t> ends; // by item; as many as are known
    std::set<int64_t> from, to;
  };
  bool advance(Stage &stage);

  std::map<int64_t, Stage> stages;
  std::map<std::tuple<int64_t, bool, int64_t>, int64_t> ends; // stage, forward, micro-batch
};

} // namespace

int64_t UnitTimes::sentBy(int64_t stage, const StageItem &item) const {
  const Stage &own = stages.at(stage);
  int64_t latest = 0;
  for (int64_t other : item.isForward ? own.from : own.to) {
    auto end = ends.find({other, item.isForward, item.microBatch});
    if (end == ends.end())
      return -1;
    latest = std::max(latest, end->second);
  }
  return latest;
}

bool UnitTimes::advance(Stage &stage) {
  bool moved = false;
  int64_t index = llvm::find_if(stages, [&](auto &entry) { return &entry.second == &stage; })->first;
  while (stage.ends.size() < stage.order.size()) {
    const StageItem &item = stage.order[stage.ends.size()];
    int64_t sent = sentBy(index, item), free = stage.ends.empty() ? 0 : stage.ends.back();
    if (sent < 0)
      break;
    stage.ends.push_back(std::max(sent, free) + (item.isForward ? 1 : 2));
    ends[{index, item.isForward, item.microBatch}] = stage.ends.back();
    moved = true;
  }
  return moved;
}

LogicalResult UnitTimes::run(ModuleOp module) {
  for (auto op : module.getOps<dist::StageOp>()) {
    Stage &stage = stages[op.getIndex()];
    FailureOr<std::vector<StageItem>> order = readOrder(op);
    if (failed(order))
      return failure();
    stage.order = std::move(*order);
    for (auto receive : op.getBody().front().getOps<dist::ReceiveOp>())
      stage.from.insert(receive.getStage());
    for (auto send : op.getBody().front().getOps<dist::SendOp>())
      if (send.hasGradient())
        stage.to.insert(send.getStage());
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (auto &[index, stage] : stages)
      moved |= advance(stage);
  }
  for (auto &[index, stage] : stages)
    stage.ends.resize(stage.order.size(), -1);
  return success();
}

LogicalResult TimetableBuilder::collectEarly() {
  FailureOr<std::vector<StageItem>> read = readOrder(stage);
  UnitTimes times;
  if (failed(read) || failed(times.run(module)))
    return failure();
  order = std::move(*read);
  isEarly.assign(order.size(), false);
  for (size_t item = 1; item < order.size(); ++item) {
    int64_t sent = times.sentBy(table.stage, order[item]), before = times.endOf(table.stage, item - 1);
    isEarly[item] = sent >= 0 && (order[item].isForward ? sent <= before : sent < before);
  }
  // Values are received in the order they are sent, so one that an item needs behind its last call forbids it.
  Block &block = stage.getBody().front();
  for (auto call : block.getOps<graph::CallOp>()) {
    lastForward = call;
    if (!lastBackwardCall && calls[call].backward)
      lastBackwardCall = call;
  }
  for (Operation &op : block) {
    if (isa<dist::ReceiveOp>(op) && lastForward && lastForward->isBeforeInBlock(&op))
      lastForward = nullptr;
    if (isa<dist::SendOp>(op) && lastBackwardCall && op.isBeforeInBlock(lastBackwardCall))
      lastBackwardCall = nullptr;
  }
  return success();
}

void TimetableBuilder::receiveEarly(size_t next) {
  if (next >= order.size() || !isEarly[next])
    return;
  for (Operation &op : stage.getBody().front()) {
    if (auto receive = dyn_cast<dist::ReceiveOp>(op); receive && order[next].isForward)
      receiveActivation(receive, order[next].microBatch, /*isEarly=*/true);
  }
  for (Operation &op : llvm::reverse(stage.getBody().front())) {
    auto send = dyn_cast<dist::SendOp>(op);
    if (send && !order[next].isForward && send.hasGradient())
      receiveGradient(send, order[next].microBatch, /*isEarly=*/true);
  }
}

void TimetableBuilder::receive(std::string name, int slot, int64_t fromStage, int64_t tag, int64_t bytes,
                               int64_t microBatch, bool isEarly) {
  if (auto started = received.find(slot); started != received.end()) {
    addWait(started->second);
    received.erase(started);
    return;
  }
  TimetableEntry &entry = addEntry("gvrt_receive", name, microBatch);
  use(entry, {slot, 0});
  int64_t handle = isEarly ? numHandles++ : kAtOnce;
  entry.attributes = {fromStage, tag, bytes, handle};
  if (isEarly)
    received[slot] = {handle, {slot, 0}, std::move(name)};
}

void TimetableBuilder::receiveActivation(dist::ReceiveOp op, int64_t microBatch, bool isEarly) {
  receive(label("receive from stage", std::to_string(op.getStage()), microBatch), valueSlot(op.getResult(), microBatch),
          op.getStage(), op.getTag(), bytesOf(localType(op.getResult())), microBatch, isEarly);
}

int TimetableBuilder::receiveGradient(dist::SendOp send, int64_t microBatch, bool isEarly) {
  auto [slot, isNew] = gradientsIn.insert({{send.getOperation(), microBatch}, -1});
  int64_t bytes = bytesOf(localType(send.getX()));
  if (isNew)
    slot->second = addSlot("gradient micro-batch " + std::to_string(microBatch), bytes);
  receive(label("receive gradient from stage", std::to_string(send.getStage()), microBatch), slot->second,
          send.getStage(), send.getTag() + kGradientTag, bytes, microBatch, isEarly);
  return slot->second;
}
