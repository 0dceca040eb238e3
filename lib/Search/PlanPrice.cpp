//===- PlanPrice.cpp - The objective of one complete plan -----------------===//

#include "PlanPrice.h"

#include "galvatron/Search/Solver.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <numeric>

namespace galvatron::search {

double pipelineSeconds(const std::vector<double> &stageSeconds, const std::vector<double> &tailSeconds,
                       int microBatches) {
  double sum = 0, slowest = 0, tail = 0;
  for (double seconds : stageSeconds) {
    sum += seconds;
    slowest = std::max(slowest, seconds);
  }
  for (double seconds : tailSeconds)
    tail = std::max(tail, seconds);
  return sum + (microBatches - 1) * slowest + tail;
}

std::int64_t PlanPrice::peak() const {
  std::int64_t most = 0;
  for (const StageMemory &stage : memory)
    most = std::max(most, stage.total());
  return most;
}

PlanPrice pricePlan(const Setting &setting, Schedule schedule, const std::vector<const Option *> &chosen,
                    const std::vector<int> &stageOf) {
  PlanPrice price;
  price.stageSeconds.assign(setting.stages, 0);
  price.tailSeconds.assign(setting.stages, 0);
  price.memory.resize(setting.stages);
  price.handOver.assign(setting.stages, 0);
  price.times.resize(setting.stages);
  for (std::size_t unit = 0; unit < chosen.size(); ++unit) {
    const Option &option = *chosen[unit];
    const Option *before = unit ? chosen[unit - 1] : nullptr;
    int stage = stageOf[unit];
    double moved = 0;
    if (before)
      moved = setting.redistribution(before->layout, option.layout, before->boundary);
    if (before && stageOf[unit - 1] != stage) {
      double handed = setting.handOver(before->layout, before->boundary);
      price.handOver[stage - 1] = handed;
      price.stageSeconds[stage - 1] += handed;
      price.times[stage - 1].transfer = handed / 2;
    }
    price.redistribution.push_back(moved);
    price.stageSeconds[stage] += option.time() + moved;
    price.tailSeconds[stage] += option.tail;
    price.times[stage].forward += option.forward + moved / 2;
    price.times[stage].backward += option.backward + moved / 2;
    price.times[stage].tail += option.tail;
    StageMemory &memory = price.memory[stage];
    memory.stateBytes += option.state;
    memory.activationBytes += option.saved * inFlight(schedule, setting.stages, stage, setting.microBatches);
    memory.scratchBytes = std::max(memory.scratchBytes, option.scratch);
    memory.reservedBytes = setting.problem->cluster.device.reservedBytes;
  }
  price.seconds = pipelineSeconds(price.stageSeconds, price.tailSeconds, setting.microBatches);
  return price;
}

Plan assemblePlan(const Setting &setting, Schedule schedule, const std::vector<const Option *> &chosen,
                  const std::vector<int> &stageOf, const PlanPrice &price) {
  const Problem &problem = *setting.problem;
  Plan plan;
  plan.ranks = problem.ranks();
  plan.pipeline = setting.stages;
  plan.schedule = schedule;
  plan.globalBatch = problem.globalBatch;
  plan.microBatches = setting.microBatches;
  for (std::size_t unit = 0; unit < chosen.size(); ++unit)
    plan.units.push_back({problem.units[unit].path, problem.units[unit].layerType, problem.units[unit].role,
                          chosen[unit]->strategy, chosen[unit]->dp, stageOf[unit]});
  plan.predictedStepSeconds = price.seconds;
  plan.stageMemory = price.memory;
  for (const StageMemory &memory : price.memory)
    plan.peakBytesPerRank.insert(plan.peakBytesPerRank.end(), setting.stageRanks, memory.total());
  return plan;
}

namespace {
std::string milliseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  return text;
}

/// What would become of the plan if one unit took another option.
UnitReason::Alternative tryInstead(const Setting &setting, Schedule schedule, std::vector<const Option *> chosen,
                                   const std::vector<int> &stageOf, const PlanPrice &price, std::size_t unit,
                                   const Option &option) {
  chosen[unit] = &option;
  PlanPrice other = pricePlan(setting, schedule, chosen, stageOf);
  int stage = stageOf[unit];
  UnitReason::Alternative result{option.strategy, option.dp, other.seconds - price.seconds,
                                 other.memory[stage].total() - price.memory[stage].total(), ""};
  std::int64_t over = other.memory[stage].total() - setting.problem->cluster.memoryBytesPerDevice;
  if (over > 0)
    result.lostBy = "does not fit by " + formatBytes(double(over));
  else
    result.lostBy = milliseconds(result.extraSeconds) + " a step";
  return result;
}

std::vector<UnitReason::Alternative> alternativesOf(const Setting &setting, Schedule schedule,
                                                    const std::vector<const Option *> &chosen,
                                                    const std::vector<int> &stageOf, const PlanPrice &price,
                                                    std::size_t unit) {
  std::vector<UnitReason::Alternative> fits, tooBig;
  std::int64_t budget = setting.problem->cluster.memoryBytesPerDevice;
  for (const Option &option : setting.options[setting.typeOf[unit]]) {
    if (option.strategy == chosen[unit]->strategy && option.dp == chosen[unit]->dp)
      continue;
    auto other = tryInstead(setting, schedule, chosen, stageOf, price, unit, option);
    bool fitting = price.memory[stageOf[unit]].total() + other.extraBytes <= budget;
    (fitting ? fits : tooBig).push_back(std::move(other));
  }
  auto faster = [](const auto &a, const auto &b) { return a.extraSeconds < b.extraSeconds; };
  std::sort(fits.begin(), fits.end(), faster);
  std::sort(tooBig.begin(), tooBig.end(), faster);
  // The best that lost on time, and the best that memory forbids.
  if (fits.size() > 3)
    fits.resize(3);
  if (!tooBig.empty() && tooBig.front().extraSeconds < 0)
    fits.insert(fits.begin(), tooBig.front());
  return fits;
}
} // namespace

void explainPlan(Plan &plan, const Setting &setting, const std::vector<const Option *> &chosen,
                 const std::vector<int> &stageOf, const PlanPrice &price) {
  using Alternatives = std::vector<UnitReason::Alternative>;
  // Equal units in equal surroundings have equal alternatives.
  std::map<std::array<const void *, 4>, Alternatives> known;
  plan.reasons.units.clear();
  for (std::size_t unit = 0; unit < chosen.size(); ++unit) {
    const Option &option = *chosen[unit];
    int stage = stageOf[unit];
    UnitReason reason;
    reason.forwardSeconds = option.computeForward;
    reason.backwardSeconds = option.computeBackward;
    reason.recomputeSeconds = option.recompute;
    reason.communicationSeconds = option.communication;
    reason.redistributionSeconds = price.redistribution[unit];
    reason.stepSeconds = option.tail;
    reason.stateBytes = option.state;
    reason.activationBytes = option.saved * inFlight(plan.schedule, setting.stages, stage, setting.microBatches);
    reason.scratchBytes = option.scratch;
    auto neighbour = [&](std::size_t other) -> const void * {
      bool there = other < chosen.size();
      return there ? reinterpret_cast<const char *>(chosen[other]) + (stageOf[other] != stage) : nullptr;
    };
    std::array<const void *, 4> key = {chosen[unit], neighbour(unit - 1), neighbour(unit + 1), &price.memory[stage]};
    auto [at, isNew] = known.try_emplace(key);
    if (isNew)
      at->second = alternativesOf(setting, plan.schedule, chosen, stageOf, price, unit);
    reason.alternatives = at->second;
    plan.reasons.units.push_back(std::move(reason));
  }
  std::int64_t budget = setting.problem->cluster.memoryBytesPerDevice;
  auto slowest = std::max_element(price.stageSeconds.begin(), price.stageSeconds.end());
  std::size_t stage = slowest - price.stageSeconds.begin();
  TimetableResult timetable = runTimetable(plan.schedule, price.times, plan.microBatches);
  char text[256];
  std::snprintf(text, sizeof text,
                "slowest stage %zu takes %.3f ms of %.3f ms a step for each of %d micro-batches; "
                "the timetable idles %.1f %%",
                stage, *slowest * 1e3, price.seconds * 1e3, plan.microBatches, timetable.bubble() * 100);
  plan.reasons.notes.push_back(text);
  for (std::size_t each = 0; each < price.memory.size(); ++each) {
    const StageMemory &memory = price.memory[each];
    std::string line = "stage " + std::to_string(each) + " uses " + formatBytes(double(memory.total())) + " of " +
                       formatBytes(double(budget)) + " (" + formatBytes(double(memory.stateBytes)) + " states, " +
                       formatBytes(double(memory.activationBytes)) + " activations, " +
                       formatBytes(double(memory.scratchBytes)) + " scratch)";
    plan.reasons.notes.push_back(line);
  }
}

} // namespace galvatron::search
