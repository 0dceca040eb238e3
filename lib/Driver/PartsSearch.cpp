// Rounds of search by estimate and lowering, over the schedules with several parts a stage or a split backward alone.
#include "PartsSearch.h"

#include "galvatron/Search/Check/CheckPlan.h"

#include "llvm/ADT/STLExtras.h"

using namespace galvatron;

/// Rounds over all shapes, and over the shape of the last plan; the share of a step that is worth another.
static constexpr int kMostRounds = 4, kMostNarrowed = 4;
static constexpr double kLeastGain = 1e-4;

/// With more layers parts of unlike length gain little, and are many.
static constexpr size_t kManyLayers = 64;

static bool isSearchedLast(search::Schedule schedule) {
  return schedule == search::Schedule::Interleaved || search::splitsBackward(schedule);
}

search::Problem galvatron::withPlainSchedules(const search::Problem &problem) {
  search::Problem rest = problem;
  llvm::erase_if(rest.space.schedules, isSearchedLast);
  if (rest.space.schedules.empty())
    rest.space.schedules = problem.space.schedules;
  return rest;
}

namespace {
class PartsSearch {
public:
  PartsSearch(const search::Problem &problem, const search::SolveOptions &options, LoweredPlans &lowered, double limit)
      : asked(problem), options(options), lowered(lowered), memory(problem.cluster.memoryBytesPerDevice), limit(limit) {
    llvm::erase_if(asked.space.schedules, [](search::Schedule schedule) { return !isSearchedLast(schedule); });
    asked.space.minPipeline = 2;
    if (asked.layers.size() > kManyLayers)
      asked.space.maxVirtualStages = 1; // numbers of parts that divide the layers alone
    this->options.explain = false;
  }

  search::Result<std::optional<search::Plan>> run() {
    if (asked.space.schedules.empty() || !asked.space.pipeline)
      return std::optional<search::Plan>();
    for (int round = 0; round < kMostRounds && !isDone; ++round)
      if (std::optional<search::Error> error = lowerNext())
        return *error;
    if (last && !isOver())
      narrowTo(*last);
    isDone = !last;
    for (int round = 0; round < kMostNarrowed && !isDone; ++round)
      if (std::optional<search::Error> error = lowerNext())
        return *error;
    return std::move(found);
  }

private:
  bool isOver() const { return getMostBytes(*last) > memory; }

  /// What the stages of `plan` took beyond their estimates counts for all plans of its shape.
  void narrowTo(const search::Plan &plan) {
    asked.cluster.device.overheadBytes -= extraOverhead;
    extraOverhead = 0;
    asked.space.schedules = {plan.schedule};
    asked.space.stages = plan.pipeline;
    asked.space.virtualStages = plan.virtualStages;
    asked.space.microBatches = plan.microBatches;
    asked.extraBytesOfStage.clear();
    for (auto [stage, estimate] : llvm::enumerate(plan.stageMemory))
      asked.extraBytesOfStage.push_back(getBytes(plan, int(stage)).total() - estimate.total());
  }

  /// Searches by estimate a plan that is faster than any that fits, and lowers it.
  std::optional<search::Error> lowerNext() {
    options.limitSeconds = limit * (1 - kLeastGain);
    search::Result<search::Solution> solution = search::solve(asked, options);
    if (!solution)
      return solution.error();
    isDone = !solution->plan;
    if (isDone)
      return std::nullopt;
    search::Plan plan = std::move(*solution->plan);
    if (std::optional<search::Error> error = search::checkPlan(asked, plan).error())
      return error;
    int64_t missing = 0;
    for (auto [stage, estimate] : llvm::enumerate(plan.stageMemory))
      estimate.overheadBytes -= extraOverhead + (asked.extraBytesOfStage.empty() ? 0 : asked.extraBytesOfStage[stage]);
    isDone = !lowered.lower(plan); // a phase after the search refuses it
    if (isDone)
      return std::nullopt;
    last = plan;
    for (auto [stage, estimate] : llvm::enumerate(plan.stageMemory))
      missing =
          std::max(missing, getBytes(plan, int(stage)).total() - std::min(estimate.total() + extraOverhead, memory));
    if (!isOver()) {
      limit = plan.predictedStepSeconds;
      found = std::move(plan);
    }
    if (!asked.extraBytesOfStage.empty())
      narrowTo(*last);
    else if (isOver())
      leaveFree(std::max<int64_t>(missing, 1));
    else
      isDone = true;
    return std::nullopt;
  }

  void leaveFree(int64_t bytes) {
    asked.cluster.device.overheadBytes += bytes;
    extraOverhead += bytes;
  }

  search::Problem asked;
  search::SolveOptions options;
  LoweredPlans &lowered;
  int64_t memory, extraOverhead = 0; ///< bytes; left free beside what devices have in use
  double limit;                      ///< seconds of the fastest plan that fits
  bool isDone = false;
  std::optional<search::Plan> last, found;
};
} // namespace

search::Result<std::optional<search::Plan>> galvatron::findFasterParts(const search::Problem &problem,
                                                                       const search::SolveOptions &options,
                                                                       LoweredPlans &lowered,
                                                                       const search::Plan &best) {
  return PartsSearch(problem, options, lowered, best.predictedStepSeconds).run();
}
