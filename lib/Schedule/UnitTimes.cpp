// Stages side by side, each as far as the others let it. See UnitTimes.h.
#include "galvatron/Schedule/UnitTimes.h"

using namespace mlir;
using namespace galvatron;

/// A send and its receive say which parts a value travels between.
void UnitTimes::collectParts(ModuleOp module) {
  std::map<std::tuple<int64_t, int64_t, uint64_t>, dist::SendOp> sends; // by stages, tag
  for (auto stage : module.getOps<dist::StageOp>())
    for (auto send : stage.getBody().front().getOps<dist::SendOp>())
      sends[{stage.getIndex(), send.getStage(), send.getTag()}] = send;
  for (auto stage : module.getOps<dist::StageOp>())
    for (auto receive : stage.getBody().front().getOps<dist::ReceiveOp>()) {
      auto sent = sends.find({receive.getStage(), stage.getIndex(), receive.getTag()});
      Part to = {stage.getIndex(), plan::getChunk(receive)}, from = {receive.getStage(), 0};
      if (sent != sends.end())
        from.second = plan::getChunk(sent->second);
      stages[to.first].forward[to.second].insert(from);
      if (sent != sends.end() && sent->second.hasGradient())
        stages[from.first].backward[from.second].insert(to);
    }
}

UnitTimes::UnitTimes(ModuleOp module) {
  for (auto op : module.getOps<dist::StageOp>()) {
    Stage &stage = stages[op.getIndex()];
    if (op.getOrder())
      stage.order = op.getOrder()->getInstructions();
    isSplit |= llvm::any_of(stage.order, [](const dist::Instruction &instruction) {
      return instruction.computation == dist::Computation::Weight;
    });
  }
  collectParts(module);
  for (bool moved = true; moved;) {
    moved = false;
    for (auto &[index, stage] : stages)
      moved |= advance(index, stage);
  }
}

std::optional<int64_t> UnitTimes::endOf(int64_t stage, size_t index) const {
  const std::vector<int64_t> &known = stages.at(stage).ends;
  return index < known.size() ? std::optional(known[index]) : std::nullopt;
}

std::optional<int64_t> UnitTimes::sentBy(int64_t stage, const dist::Instruction &instruction) const {
  const Stage &own = stages.at(stage);
  int64_t latest = 0;
  if (instruction.computation == dist::Computation::Weight)
    return latest;
  const auto &parts = instruction.computation == dist::Computation::Forward ? own.forward : own.backward;
  auto others = parts.find(instruction.chunk);
  if (others == parts.end())
    return latest;
  for (auto [other, chunk] : others->second) {
    auto end = ends.find({other, {instruction.computation, chunk, instruction.microBatch}});
    if (end == ends.end())
      return std::nullopt;
    latest = std::max(latest, end->second);
  }
  return latest;
}

/// Moves one stage as far as it gets; whether it moved.
bool UnitTimes::advance(int64_t index, Stage &stage) {
  bool moved = false;
  while (stage.ends.size() < stage.order.size()) {
    const dist::Instruction &instruction = stage.order[stage.ends.size()];
    std::optional<int64_t> sent = sentBy(index, instruction);
    if (!sent)
      break;
    int64_t free = stage.ends.empty() ? 0 : stage.ends.back();
    stage.ends.push_back(std::max(*sent, free) + durationOf(instruction));
    ends[{index, instruction}] = stage.ends.back();
    moved = true;
  }
  return moved;
}
