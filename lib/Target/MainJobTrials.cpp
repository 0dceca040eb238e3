// Plans whose estimate is somewhat over the budget may fit, and be faster than the best by estimate. All that are faster
// are listed, by rising time, and lowered in that order; the first that fits is the fastest of the list.
//
//   within 1.3 x budget by estimate:   0.40 s  0.41 s  0.41 s  0.44 s │ 0.46 s, the best by estimate
//   lowered:                           over    over            fits   │
//                                                      └─ not lowered: a stage of it was, and is over
//
// What a stage takes depends on its units, their strategies, the schedule and the units next to it: stages that several
// plans have in common are known once.
#include "MainJob.h"
#include "PlanSummary.h"

#include "galvatron/Analysis/ModelUnits.h"
#include "galvatron/Analysis/ProgramCosts.h"
#include "galvatron/Search/RankedPlans.h"

#include "mlir/IR/Diagnostics.h"

using namespace mlir;
using namespace galvatron;

/// How far estimates are tried over the budget, in hundredths of it. The list for the last one may be long: then the
/// one before it counts.
static constexpr int kOverHundredths[] = {1, 2, 5, 10, 20, 30};
/// Plans of a list that are lowered at most: bounds how long the driver takes.
static constexpr int kMostLowered = 48;

/// All that the bytes of a rank of `stage` depend on.
static std::string describeStage(const search::Plan &plan, int stage) {
  std::string text = std::to_string(stage) + " of " + std::to_string(plan.pipeline) + ", " +
                     std::to_string(plan.microBatches) + " " + std::string(search::scheduleName(plan.schedule));
  for (auto [index, unit] : llvm::enumerate(plan.units)) {
    bool isHere = unit.stage == stage;
    bool isNext = (index > 0 && plan.units[index - 1].stage == stage) ||
                  (index + 1 < plan.units.size() && plan.units[index + 1].stage == stage);
    if (isHere || isNext)
      text += "; " + std::to_string(index) + (isHere ? " " : " beside ") + search::describe(unit.strategy, unit.dp);
  }
  return text;
}

static int64_t getEstimate(const search::Plan &plan) {
  int64_t most = 0;
  for (const search::StageMemory &memory : plan.stageMemory)
    most = std::max(most, memory.total());
  return most;
}

/// Notes the bytes of `chosen` if all of its stages are known.
bool MainJob::recallBytes() {
  std::vector<int64_t> peak, reserve;
  for (int stage = 0; stage < chosen.pipeline; ++stage) {
    auto known = bytesOfStages.find(describeStage(chosen, stage));
    if (known == bytesOfStages.end())
      return false;
    peak.insert(peak.end(), chosen.ranksPerStage(), known->second.first);
    reserve.insert(reserve.end(), chosen.ranksPerStage(), known->second.second);
  }
  chosen.peakBytesPerRank = std::move(peak);
  chosen.reservedBytesPerRank = std::move(reserve);
  return true;
}

/// Lowers a copy of the program under `chosen`, which is on it, to know its bytes. Silently: what later phases remark
/// on is of interest for the plan that is kept.
LogicalResult MainJob::lowerChosen() {
  if (recallBytes())
    return success();
  int64_t estimate = getEstimate(chosen);
  OwningOpRef<ModuleOp> copy = module->clone();
  {
    ScopedDiagnosticHandler silence(context, [](Diagnostic &) {});
    if (failed(lowerPlanned(*copy, Phase::Lower)) || failed(measure(*copy)))
      return failure();
  }
  for (int stage = 0; stage < chosen.pipeline; ++stage) {
    int64_t rank = stage * chosen.ranksPerStage();
    bytesOfStages[describeStage(chosen, stage)] = {chosen.peakBytesPerRank[rank], chosen.reservedBytesPerRank[rank]};
  }
  tried.push_back({describePlan(chosen), chosen.predictedStepSeconds, estimate, mostBytes(), ""});
  return success();
}

bool MainJob::isKnownTooLarge(const search::Plan &plan, int64_t memory) const {
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    auto known = bytesOfStages.find(describeStage(plan, stage));
    if (known != bytesOfStages.end() && known->second.first + known->second.second > memory)
      return true;
  }
  return false;
}

/// Makes the first of `plans` that fits the trial's; `left` plans may be lowered.
LogicalResult MainJob::takeFirstFitting(llvm::ArrayRef<search::Plan> plans, int64_t memory, Trial &trial, int &left) {
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model))
    return failure();
  for (const search::Plan &plan : plans) {
    if (isKnownTooLarge(plan, memory))
      continue;
    if (left-- == 0)
      break;
    chosen = plan;
    annotatePlan(*model, plan);
    // The search's space may hold a plan that a later phase refuses.
    if (failed(lowerChosen()))
      continue;
    if (mostBytes() > memory)
      continue;
    trial = {chosen, mostBytes()};
    break;
  }
  return success();
}

/// Looks for a plan that fits `memory` and is faster than the trial's, if that fits.
LogicalResult MainJob::improve(Trial &trial, int64_t memory) {
  FailureOr<ModelUnits> model = collectUnits(*module);
  search::Result<search::Cluster> cluster = readCluster(options.cluster);
  if (failed(model) || !cluster)
    return failure();
  ProgramCosts costs(*module, *cluster, model->globalBatch);
  search::Problem problem{.cluster = *cluster,
                          .globalBatch = model->globalBatch,
                          .units = model->units,
                          .ties = model->ties,
                          .space = search::SearchSpace::supported(),
                          .costs = &costs};
  search::RankOptions rank;
  for (int over : kOverHundredths)
    rank.budgets.push_back(memory + memory / 100 * over);
  int left = kMostLowered;
  if (!trial.fits(memory)) {
    search::Result<search::RankedPlans> ranked = search::rankPlans(problem, rank);
    if (!ranked)
      return fail(ranked.error().message);
    llvm::stable_sort(ranked->plans, [](const search::Plan &a, const search::Plan &b) {
      return getEstimate(a) < getEstimate(b);
    });
    if (failed(takeFirstFitting(ranked->plans, memory, trial, left)))
      return failure();
    if (!trial.fits(memory))
      return success();
  }
  rank.limitSeconds = trial.plan->predictedStepSeconds;
  search::Result<search::RankedPlans> ranked = search::rankPlans(problem, rank);
  if (!ranked)
    return fail(ranked.error().message);
  return takeFirstFitting(ranked->plans, memory, trial, left);
}

/// Puts `chosen` on the program, with what was tried among its reasons.
LogicalResult MainJob::explainChosen() {
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model))
    return failure();
  annotatePlan(*model, chosen);
  return success();
}
