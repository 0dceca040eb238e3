//===- Timetable.cpp - What every stage does, in order --------------------===//

#include "galvatron/Search/Model/Timetable.h"

#include "ZeroBubbleV.h"

#include <algorithm>
#include <cassert>

namespace galvatron::search {

std::optional<std::string> whyImpossible(const PipelineShape &shape) {
  auto complaint = [&](const std::string &key, const std::string &expected, int got, const std::string &remedy) {
    return "key '" + key + "' expects " + expected + " under schedule " + std::string(scheduleName(shape.schedule)) +
           ", but got " + std::to_string(got) + "; " + remedy;
  };
  bool isVee = shape.schedule == Schedule::ZeroBubbleV;
  if (shape.schedule != Schedule::Interleaved && !isVee) {
    if (shape.virtualStages == 1)
      return std::nullopt;
    return complaint("virtual_stages", "1, the only part of a stage,", shape.virtualStages,
                     "remove it, or use schedule interleaved");
  }
  if (shape.stages < 2)
    return complaint("pipeline", "at least 2 stages", shape.stages, "use more stages, or schedule 1f1b");
  if (isVee && shape.virtualStages != 2)
    return complaint("virtual_stages", "2 parts a stage, one on the way down and one up,", shape.virtualStages,
                     "leave it out");
  if (isVee)
    return std::nullopt;
  if (shape.virtualStages < 2)
    return complaint("virtual_stages", "at least 2 parts a stage", shape.virtualStages,
                     "give it, or use schedule 1f1b");
  if (shape.microBatches % shape.stages)
    return complaint("micro_batches", "a multiple of the " + std::to_string(shape.stages) + " stages",
                     shape.microBatches, "change either, or use schedule 1f1b");
  return std::nullopt;
}

namespace {
/// The k-th forward or backward of a stage under interleaving: groups of p
/// micro-batches pass chunk after chunk.
Instruction interleavedEntry(const PipelineShape &shape, int k, Computation phase) {
  int round = shape.stages * shape.virtualStages, inRound = k % round;
  int chunk = inRound / shape.stages;
  if (phase == Computation::Backward)
    chunk = shape.virtualStages - 1 - chunk;
  return {phase, chunk, k / round * shape.stages + inRound % shape.stages};
}

std::vector<Instruction> interleaved(const PipelineShape &shape, int stage) {
  int total = shape.microBatches * shape.virtualStages;
  int warmUp = std::min((shape.stages - stage - 1) * 2 + (shape.virtualStages - 1) * shape.stages, total);
  std::vector<Instruction> entries;
  for (int k = 0; k < total; ++k) {
    entries.push_back(interleavedEntry(shape, k, Computation::Forward));
    if (k >= warmUp)
      entries.push_back(interleavedEntry(shape, k - warmUp, Computation::Backward));
  }
  for (int k = total - warmUp; k < total; ++k)
    entries.push_back(interleavedEntry(shape, k, Computation::Backward));
  return entries;
}
} // namespace

std::vector<Instruction> stageTimetable(const PipelineShape &shape, int stage) {
  if (shape.schedule == Schedule::Interleaved)
    return interleaved(shape, stage);
  if (shape.schedule == Schedule::ZeroBubbleV)
    return zeroBubbleV(shape, stage);
  int count = shape.microBatches;
  int warmUp = shape.schedule == Schedule::GPipe ? count : std::min(shape.stages - 1 - stage, count);
  std::vector<Instruction> entries;
  auto backward = [&](int m) {
    entries.push_back({Computation::Backward, 0, m});
    if (shape.schedule == Schedule::ZeroBubble && m >= stage)
      entries.push_back({Computation::Weight, 0, m - stage});
  };
  for (int m = 0; m < count; ++m) {
    entries.push_back({Computation::Forward, 0, m});
    if (m >= warmUp)
      backward(m - warmUp);
  }
  for (int m = count - warmUp; m < count; ++m)
    backward(m);
  if (shape.schedule == Schedule::ZeroBubble)
    for (int m = std::max(0, count - stage); m < count; ++m)
      entries.push_back({Computation::Weight, 0, m});
  return entries;
}

namespace {
/// Counts of live micro-batches by chunk, at the moments that matter.
std::vector<std::vector<int>> liveCounts(const PipelineShape &shape, const std::vector<Instruction> &entries) {
  Computation last = splitsBackward(shape.schedule) ? Computation::Weight : Computation::Backward;
  std::vector<int> now(shape.virtualStages, 0);
  std::vector<std::vector<int>> most;
  auto exceeds = [](const std::vector<int> &a, const std::vector<int> &b) {
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] < b[i])
        return false;
    return true;
  };
  for (const Instruction &entry : entries) {
    if (entry.phase == Computation::Forward) {
      ++now[entry.chunk];
      if (std::any_of(most.begin(), most.end(), [&](const auto &other) { return exceeds(other, now); }))
        continue;
      std::erase_if(most, [&](const auto &other) { return exceeds(now, other); });
      most.push_back(now);
    } else if (entry.phase == last) {
      --now[entry.chunk];
    }
  }
  return most;
}
} // namespace

Timetable::Timetable(const PipelineShape &shape) : form(shape) {
  assert(!whyImpossible(shape));
  for (int stage = 0; stage < shape.stages; ++stage) {
    lists.push_back(stageTimetable(shape, stage));
    kept.push_back(liveCounts(shape, lists.back()));
  }
  // Which values are there; each sweep carries forwards down and backwards up.
  std::vector<std::vector<char>> done[2];
  for (auto &list : done)
    list.assign(shape.parts(), std::vector<char>(shape.microBatches, 0));
  std::vector<std::size_t> next(shape.stages, 0);
  for (bool moved = true; moved;) {
    moved = false;
    for (int sweep = 0; sweep < 2 * shape.stages; ++sweep) {
      int stage = sweep < shape.stages ? sweep : 2 * shape.stages - 1 - sweep;
      for (; next[stage] < lists[stage].size(); ++next[stage], moved = true) {
        const Instruction &entry = lists[stage][next[stage]];
        int part = shape.partOf(stage, entry.chunk), from = part;
        if (entry.phase != Computation::Weight)
          from += entry.phase == Computation::Backward ? 1 : -1;
        bool backward = entry.phase != Computation::Forward;
        if (from != part && from >= 0 && from < shape.parts() && !done[backward][from][entry.microBatch])
          break;
        if (entry.phase != Computation::Weight)
          done[backward][part][entry.microBatch] = 1;
        order.push_back({stage, part, entry.microBatch, entry.phase, linkOf(stage, part, entry.phase)});
      }
    }
  }
  assert(std::all_of(next.begin(), next.end(), [&](const std::size_t &at) {
    return at == lists[&at - next.data()].size(); // no cycle of waits
  }));
}

/// A stage has a link for what it sends each way: forwards and backwards, or where parts go down and up again to the
/// next stage and to the one before.
int Timetable::linkOf(int stage, int part, Computation phase) const {
  if (phase == Computation::Weight)
    return -1;
  bool backward = phase == Computation::Backward;
  if (int between = backward ? part - 1 : part; between < 0 || form.staysOnStage(between))
    return -1;
  bool isUp = form.schedule == Schedule::ZeroBubbleV && form.chunkOf(part) ? !backward : backward;
  return 2 * stage + isUp;
}

double Timetable::run(const std::vector<PartTimes> &times, double limit, TimetableResult *result) const {
  int parts = form.parts();
  bool split = splitsBackward(form.schedule);
  std::size_t m = std::size_t(form.microBatches);
  // When a value arrives at its consumer.
  std::vector<double> forwardAt((parts + 1) * m, 0), backwardAt((parts + 1) * m, 0);
  std::vector<double> clock(form.stages, 0), linkFree(2 * form.stages, 0);
  // When a result is at the next part: the link carries one at a time.
  auto arrival = [&](const Node &node, double now, double transfer) {
    return node.link < 0 ? now : linkFree[node.link] = std::max(linkFree[node.link], now) + transfer;
  };
  // What each stage takes at least: its work, and the waits so far.
  std::vector<double> least(form.stages, 0);
  for (int part = 0; part < parts; ++part)
    least[form.stageOf(part)] += form.microBatches * (times[part].forward + times[part].backward);
  limit *= 1 + 1e-12; // sums in another order
  for (const Node &node : order) {
    const PartTimes &part = times[node.part];
    double &now = clock[node.stage], begin = now, before = now;
    if (node.phase == Computation::Forward) {
      begin = std::max(now, forwardAt[node.part * m + node.microBatch]);
      now = begin + part.forward;
      if (node.part + 1 < parts)
        forwardAt[(node.part + 1) * m + node.microBatch] = arrival(node, now, part.transfer);
    } else if (node.phase == Computation::Backward) {
      begin = std::max(now, backwardAt[node.part * m + node.microBatch]);
      now = begin + part.backward - (split ? part.weight : 0);
      if (node.part > 0)
        backwardAt[(node.part - 1) * m + node.microBatch] = arrival(node, now, times[node.part - 1].transfer);
    } else {
      now = begin + part.weight;
    }
    if ((least[node.stage] += begin - before) > limit)
      return kForever;
    if (result) {
      result->start[node.stage].push_back(begin);
      result->busySeconds += now - begin;
    }
  }
  return *std::max_element(clock.begin(), clock.end());
}

TimetableResult Timetable::result(const std::vector<PartTimes> &times) const {
  TimetableResult made;
  made.start.resize(form.stages);
  made.seconds = run(times, kForever, &made);
  return made;
}

} // namespace galvatron::search
