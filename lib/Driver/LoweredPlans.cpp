// Lowers what is not known from stages of other plans, and keeps account of it.
#include "LoweredPlans.h"

#include "PlanSummary.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Format.h"

using namespace galvatron;

std::string galvatron::describeStage(const search::Plan &plan, int stage) {
  std::string text = std::to_string(stage) + " of " + std::to_string(plan.pipeline) + ", " +
                     std::to_string(plan.microBatches) + " " + std::string(search::scheduleName(plan.schedule));
  if (plan.virtualStages > 1)
    text += " of " + std::to_string(plan.virtualStages) + " parts";
  std::vector<int> parts = plan.partOfLayers();
  for (int64_t axis : plan.rankMesh())
    text += " " + std::to_string(axis);
  for (auto [index, layer] : llvm::enumerate(plan.layers)) {
    bool isHere = layer.stage == stage;
    bool isNext = (index > 0 && plan.layers[index - 1].stage == stage) ||
                  (index + 1 < plan.layers.size() && plan.layers[index + 1].stage == stage);
    if (!isHere && !isNext)
      continue;
    text += "; " + std::to_string(index) + (isHere ? " " : " beside ") + search::describe(layer.strategy, layer.dp);
    if (plan.virtualStages > 1)
      text += " in part " + std::to_string(parts[index]);
    for (const std::string &name : layer.recomputeValues)
      text += " " + name;
  }
  return text;
}

/// Notes the bytes of `plan` if all of its stages are known.
bool LoweredPlans::recall(search::Plan &plan) const {
  std::vector<RankBytes> ofStages;
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    auto known = bytesOfStages.find(describeStage(plan, stage));
    if (known == bytesOfStages.end())
      return false;
    ofStages.push_back(known->second);
  }
  setBytes(plan, ofStages);
  return true;
}

bool LoweredPlans::lower(search::Plan &plan) {
  if (recall(plan))
    return true;
  std::optional<std::vector<RankBytes>> ofStages = lowerPlan(plan);
  if (ofStages) {
    setBytes(plan, *ofStages);
    for (int stage = 0; stage < plan.pipeline; ++stage)
      bytesOfStages[describeStage(plan, stage)] = (*ofStages)[stage];
  }
  plans.push_back(
      {describePlan(plan), plan.predictedStepSeconds, getMostEstimated(plan), ofStages ? getMostBytes(plan) : 0, ""});
  return ofStages.has_value();
}

int64_t LoweredPlans::findBytesAbove(int64_t memory) const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const search::LoweredPlan &plan : plans)
    if (plan.bytes > memory)
      least = std::min(least, plan.bytes);
  return least;
}

bool LoweredPlans::isKnownTooLarge(const search::Plan &plan, int64_t memory) const {
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    auto known = bytesOfStages.find(describeStage(plan, stage));
    if (known != bytesOfStages.end() && known->second.total() > memory)
      return true;
  }
  return false;
}

std::vector<search::LoweredPlan> LoweredPlans::explain(const search::Plan &chosen, int64_t budget) const {
  std::vector<search::LoweredPlan> explained = plans;
  std::string text = describePlan(chosen);
  for (search::LoweredPlan &other : explained) {
    if (!other.bytes)
      other.lostBy = "cannot be lowered";
    else if (other.bytes > budget)
      other.lostBy = "takes " + search::formatBytes(double(other.bytes - budget)) + " too much";
    else if (other.seconds < chosen.predictedStepSeconds)
      other.lostBy = "slower by simulation";
    else if (other.plan != text)
      llvm::raw_string_ostream(other.lostBy)
          << llvm::format("%.3g ms a step", (other.seconds - chosen.predictedStepSeconds) * 1e3);
  }
  llvm::sort(explained, [](const auto &a, const auto &b) {
    return std::tie(a.seconds, a.bytes, a.plan) < std::tie(b.seconds, b.bytes, b.plan);
  });
  return explained;
}
