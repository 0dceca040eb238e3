// Guesses of what listed plans take.
#include "ListedPlans.h"

#include "PlanBytes.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>
#include <limits>

using namespace galvatron;

/// Share of a stage's layers that are as on a lowered one for its bytes to be as good as known, and by what share they
/// may be wrong beside twice the largest error so far. Plans that are further over the budget are left.
static constexpr double kAlikeWhenSure = 0.85, kLeastError = 0.01;

ListedPlans::ListedPlans(std::vector<search::Plan> listed) : plans(std::move(listed)), stages(plans.size()) {
  for (auto [plan, guess] : llvm::zip(plans, stages))
    guess.resize(plan.pipeline);
}

double ListedPlans::guessBytes(size_t index) const {
  double most = 0;
  for (auto [guess, memory] : llvm::zip(stages[index], plans[index].stageMemory))
    most = std::max(most, guess.ratio * double(memory.total()));
  return most;
}

bool ListedPlans::isSure(size_t index) const {
  return llvm::all_of(llvm::zip(stages[index], plans[index].layersPerStage()),
                      [](auto each) { return std::get<0>(each).alike >= kAlikeWhenSure * std::get<1>(each); });
}

void ListedPlans::learn(const search::Plan &lowered) {
  if (picked)
    bias = (bias + double(getMostBytes(lowered)) / picked) / 2;
  picked = 0;
  if (guessed)
    error = std::max(error, std::abs(double(getMostBytes(lowered)) / guessed - 1));
  for (auto [plan, guess] : llvm::zip(plans, stages)) {
    if (!(plan.shape() == lowered.shape()))
      continue;
    std::vector<int> alike(plan.pipeline, 0);
    for (auto [layer, other] : llvm::zip(plan.layers, lowered.layers))
      alike[layer.stage] += layer.stage == other.stage && layer.strategy == other.strategy;
    for (int stage = 0; stage < plan.pipeline; ++stage)
      if (alike[stage] > guess[stage].alike)
        guess[stage] = {alike[stage],
                        double(getBytes(lowered, stage).total()) / double(lowered.stageMemory[stage].total())};
  }
}

std::optional<search::Plan> ListedPlans::take(double limit, int64_t memory,
                                              llvm::function_ref<bool(const search::Plan &)> isOver) {
  size_t best = plans.size();
  double least = std::numeric_limits<double>::infinity();
  for (size_t index = 0; index < plans.size() && plans[index].predictedStepSeconds < limit; ++index) {
    // All that should fit are alike: the first is the fastest.
    bool isKnownWell = isSure(index);
    double bytes = std::max(guessBytes(index) * (isKnownWell ? 1 : bias), double(memory));
    bool isHopeless = bytes > double(memory) * (1 + kLeastError + 2 * error) && isKnownWell;
    if (bytes >= least || isHopeless || isOver(plans[index]))
      continue;
    best = index;
    least = bytes;
  }
  if (best == plans.size())
    return std::nullopt;
  guessed = isSure(best) ? guessBytes(best) : 0;
  picked = isSure(best) ? 0 : guessBytes(best);
  search::Plan plan = std::move(plans[best]);
  plans.erase(plans.begin() + best);
  stages.erase(stages.begin() + best);
  return plan;
}
