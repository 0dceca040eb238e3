// Plans whose estimate is somewhat over the budget may fit, and be faster than the best by estimate. All that are
// faster are listed and lowered, likely ones first, until none is left that is faster than what fits.
//
//   within 1.3 x budget by estimate:   0.40 s  0.41 s  0.41 s  0.44 s │ 0.46 s, the best by estimate
//   lowered:                           over    over            fits   │
//                                                      └─ not lowered: a stage of it was, and is over
//
// What a stage takes depends on its units, their strategies, the schedule and the units next to it: stages that several
// plans have in common are known once.
#include "MainJob.h"
#include "PlanSummary.h"

#include "galvatron/Costs/ModelUnits.h"
#include "galvatron/Costs/ProgramCosts.h"
#include "galvatron/Search/Solver/RankedPlans.h"
#include "galvatron/Transforms/SearchPlan.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace galvatron;

/// How far estimates are tried over the budget, in hundredths of it. The list for the last one may be long: then the
/// one before it counts.
static constexpr int kOverHundredths[] = {1, 2, 5, 10, 20, 30};
/// Plans of the lists that are lowered at most: bounds how long the driver takes.
static constexpr int kMostLowered = 48;
/// Searches of a shape where plans are too many for a list, and the share of a step that is worth another.
static constexpr int kMostNarrowed = 4;
static constexpr double kLeastGain = 1e-4;
/// Share of a stage's units that are as on a lowered one for its bytes to be as good as known, and by what share they
/// may be wrong beside twice the largest error so far. Plans that are further over the budget are left.
static constexpr double kAlikeWhenSure = 0.85, kLeastError = 0.01;

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
  if (recallBytes()) {
    noteStages();
    return success();
  }
  int64_t estimate = getEstimate(chosen);
  OwningOpRef<ModuleOp> copy = module->clone();
  {
    ScopedDiagnosticHandler silence(context, [](Diagnostic &) {});
    llvm::SaveAndRestore trial(isTrial, true);
    if (failed(lowerPlanned(*copy, Phase::Lower)) || failed(measure(*copy))) {
      tried.push_back({describePlan(chosen), chosen.predictedStepSeconds, estimate, 0, ""});
      return failure();
    }
  }
  for (int stage = 0; stage < chosen.pipeline; ++stage) {
    int64_t rank = stage * chosen.ranksPerStage();
    bytesOfStages[describeStage(chosen, stage)] = {chosen.peakBytesPerRank[rank], chosen.reservedBytesPerRank[rank]};
  }
  tried.push_back({describePlan(chosen), chosen.predictedStepSeconds, estimate, mostBytes(), ""});
  noteStages();
  return success();
}

/// Keeps what `chosen` says of others that are lowered for the budget at hand.
void MainJob::noteStages() {
  for (int stage = 0; stage < chosen.pipeline; ++stage)
    bytesAtHand[describeStage(chosen, stage)] = bytesOfRank(stage * chosen.ranksPerStage());
  std::vector<int64_t> &extra = extraBytesOfShapes[{chosen.pipeline, chosen.microBatches}];
  extra.clear();
  for (auto [stage, estimate] : llvm::enumerate(chosen.stageMemory))
    extra.push_back(bytesOfRank(stage * chosen.ranksPerStage()) - estimate.total());
}

bool MainJob::isKnownTooLarge(const search::Plan &plan, int64_t memory) const {
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    auto known = bytesAtHand.find(describeStage(plan, stage));
    if (known != bytesAtHand.end() && known->second > memory)
      return true;
  }
  return false;
}

namespace {

/// Listed plans with what their stages should take, from stages like them that were lowered.
class Guesses {
public:
  explicit Guesses(std::vector<search::Plan> listed) : plans(std::move(listed)), stages(plans.size()) {
    for (auto [plan, guess] : llvm::zip(plans, stages))
      guess.resize(plan.pipeline);
  }

  /// Learns from `lowered`, which has exact bytes and its estimates.
  void learn(const search::Plan &lowered);
  /// Drops the next plan to lower and returns it: the fastest that should fit, else the one that is least over; nothing
  /// when no plan below `limit` seconds is left.
  std::optional<search::Plan> take(double limit, int64_t memory, llvm::function_ref<bool(const search::Plan &)> isOver);

private:
  struct Stage {
    int alike = -1;   ///< units as on the lowered stage; -1: none of this shape was lowered
    double ratio = 1; ///< of bytes to the estimate there
  };
  /// Of the rank that should need the most.
  double guessBytes(size_t index) const {
    double most = 0;
    for (auto [guess, memory] : llvm::zip(stages[index], plans[index].stageMemory))
      most = std::max(most, guess.ratio * double(memory.total()));
    return most;
  }
  /// Whether all stages are nearly as others that were lowered.
  bool isSure(size_t index) const {
    return llvm::all_of(llvm::zip(stages[index], plans[index].unitsPerStage()),
                        [](auto each) { return std::get<0>(each).alike >= kAlikeWhenSure * std::get<1>(each); });
  }

  std::vector<search::Plan> plans; ///< by rising time
  std::vector<std::vector<Stage>> stages;
  double guessed = 0; ///< bytes of the plan taken last; 0: nothing like it was known
  double error = 0;   ///< largest of all guesses, as a share
};

} // namespace

void Guesses::learn(const search::Plan &lowered) {
  int64_t bytes = 0;
  for (auto [peak, reserve] : llvm::zip(lowered.peakBytesPerRank, lowered.reservedBytesPerRank))
    bytes = std::max(bytes, peak + reserve);
  if (guessed)
    error = std::max(error, std::abs(double(bytes) / guessed - 1));
  for (auto [plan, guess] : llvm::zip(plans, stages)) {
    if (!(plan.shape() == lowered.shape()))
      continue;
    std::vector<int> alike(plan.pipeline, 0);
    for (auto [unit, other] : llvm::zip(plan.units, lowered.units))
      alike[unit.stage] += unit.stage == other.stage && unit.strategy == other.strategy;
    for (int stage = 0; stage < plan.pipeline; ++stage) {
      int64_t rank = stage * plan.ranksPerStage();
      if (alike[stage] > guess[stage].alike)
        guess[stage] = {alike[stage], double(lowered.peakBytesPerRank[rank] + lowered.reservedBytesPerRank[rank]) /
                                          double(lowered.stageMemory[stage].total())};
    }
  }
}

std::optional<search::Plan> Guesses::take(double limit, int64_t memory,
                                          llvm::function_ref<bool(const search::Plan &)> isOver) {
  size_t best = plans.size();
  double least = std::numeric_limits<double>::infinity();
  for (size_t index = 0; index < plans.size() && plans[index].predictedStepSeconds < limit; ++index) {
    // All that should fit are alike: the first is the fastest.
    double bytes = std::max(guessBytes(index), double(memory));
    bool isHopeless = bytes > double(memory) * (1 + kLeastError + 2 * error) && isSure(index);
    if (bytes >= least || isHopeless || isOver(plans[index]))
      continue;
    best = index;
    least = bytes;
  }
  if (best == plans.size())
    return std::nullopt;
  guessed = isSure(best) ? guessBytes(best) : 0;
  search::Plan plan = std::move(plans[best]);
  plans.erase(plans.begin() + best);
  stages.erase(stages.begin() + best);
  return plan;
}

/// The search's question, with costs from the program as it is.
struct MainJob::Question {
  ModelUnits model;
  ProgramCosts costs;
  search::Problem problem;

  Question(ModuleOp module, ModelUnits units, const search::Cluster &cluster, int64_t microBatches)
      : model(std::move(units)), costs(module, cluster, model.globalBatch),
        problem{.cluster = cluster,
                .globalBatch = model.globalBatch,
                .units = model.units,
                .ties = model.ties,
                .space = getSearchSpace(module, microBatches),
                .costs = &costs} {}
};

FailureOr<std::unique_ptr<MainJob::Question>> MainJob::ask() {
  FailureOr<ModelUnits> model = collectUnits(*module);
  search::Result<search::Cluster> cluster = readCluster(options.cluster);
  if (failed(model) || !cluster)
    return failure();
  return std::make_unique<Question>(*module, std::move(*model), *cluster, options.microBatches.value_or(0));
}

/// Looks for a plan that fits `memory` and is faster than the trial's, if that fits.
LogicalResult MainJob::improve(Trial &trial, int64_t memory) {
  FailureOr<std::unique_ptr<Question>> question = ask();
  if (failed(question))
    return failure();
  const search::Problem &problem = (*question)->problem;
  int left = kMostLowered;
  if (!trial.fits(memory)) {
    search::Result<std::vector<search::Plan>> plans = search::listSmallestPlans(problem);
    if (!plans)
      return fail(plans.error().message);
    if (failed(lowerListed(std::move(*plans), memory, trial, left)))
      return failure();
  }
  search::RankOptions rank;
  // What any plan reserves is no estimate.
  int64_t estimated = std::max<int64_t>(memory - problem.cluster.device.reservedBytes, 0);
  for (int over : kOverHundredths)
    rank.budgets.push_back(memory + estimated / 100 * over);
  int64_t wholeFor = 0;
  while (left > 0) {
    bool isFirst = !trial.fits(memory);
    if (!isFirst)
      rank.limitSeconds = trial.plan->predictedStepSeconds;
    search::Result<search::RankedPlans> ranked = search::rankPlans(problem, rank);
    if (!ranked)
      return fail(ranked.error().message);
    wholeFor = ranked->budget;
    if (failed(lowerListed(std::move(ranked->plans), memory, trial, left)))
      return failure();
    // Below a faster plan the list may be whole further up.
    bool isFaster = trial.fits(memory) && (isFirst || trial.plan->predictedStepSeconds < rank.limitSeconds);
    if (wholeFor == rank.budgets.back() || !isFaster)
      break;
  }
  return wholeFor || !trial.fits(memory) ? success() : narrow(trial, problem, memory);
}

/// Where faster plans are too many to list: searches each shape that was lowered again, with what the stages of its
/// last plan took beyond their estimates, or less. Within a shape estimates are wrong by about the same.
LogicalResult MainJob::narrow(Trial &trial, search::Problem problem, int64_t memory) {
  search::SolveOptions quickly;
  quickly.explain = false;
  problem.cluster.memoryBytesPerDevice = memory;
  for (auto [shape, extraBytes] : std::map(extraBytesOfShapes)) {
    std::tie(problem.space.stages, problem.space.microBatches) = shape;
    problem.extraBytesOfStage = extraBytes;
    for (int round = 0; round < kMostNarrowed; ++round) {
      search::Result<search::Solution> solution = search::solve(problem, quickly);
      if (!solution || !solution->plan ||
          solution->plan->predictedStepSeconds >= trial.plan->predictedStepSeconds * (1 - kLeastGain))
        break;
      for (auto [stage, extra] : llvm::zip(solution->plan->stageMemory, problem.extraBytesOfStage))
        stage.reservedBytes -= extra;
      if (failed(lowerPlan(std::move(*solution->plan))))
        break;
      if (mostBytes() <= memory) {
        trial.plan = chosen;
        trial.bytes = mostBytes();
      }
      problem.extraBytesOfStage = extraBytesOfShapes[shape];
    }
  }
  return success();
}

/// Puts a plan on the program, as `chosen`, and lowers it.
LogicalResult MainJob::lowerPlan(search::Plan plan) {
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model))
    return failure();
  chosen = std::move(plan);
  annotatePlan(*model, chosen);
  return lowerChosen();
}

/// Lowers up to `left` of the plans, and makes the fastest that fits the trial's.
LogicalResult MainJob::lowerListed(std::vector<search::Plan> plans, int64_t memory, Trial &trial, int &left) {
  Guesses guesses(std::move(plans));
  guesses.learn(*trial.plan);
  auto isOver = [&](const search::Plan &plan) { return isKnownTooLarge(plan, memory); };
  for (; left > 0; --left) {
    double limit = trial.fits(memory) ? trial.plan->predictedStepSeconds : std::numeric_limits<double>::infinity();
    std::optional<search::Plan> next = guesses.take(limit, memory, isOver);
    if (!next)
      break;
    // The search's space may hold a plan that a later phase refuses.
    if (failed(lowerPlan(std::move(*next))))
      continue;
    guesses.learn(chosen);
    if (mostBytes() > memory)
      continue;
    trial.plan = chosen;
    trial.bytes = mostBytes();
  }
  return success();
}

/// Gives a plan of a list the search's reasons.
LogicalResult MainJob::explain(search::Plan &plan) {
  if (!plan.reasons.units.empty())
    return success();
  FailureOr<std::unique_ptr<Question>> question = ask();
  if (failed(question))
    return failure();
  search::Result<search::Plan> priced = search::evaluatePlan((*question)->problem, plan);
  if (!priced)
    return fail(priced.error().message);
  plan.reasons = std::move(priced->reasons);
  return success();
}

/// Puts `chosen` on the program, with what was lowered among its reasons.
LogicalResult MainJob::takeChosen() {
  FailureOr<ModelUnits> model = collectUnits(*module);
  if (failed(model) || failed(explain(chosen)))
    return failure();
  annotatePlan(*model, chosen);
  std::string text = describePlan(chosen);
  for (search::LoweredPlan &other : tried) {
    if (!other.bytes)
      other.lostBy = "cannot be lowered";
    else if (other.bytes > budget)
      other.lostBy = "takes " + search::formatBytes(double(other.bytes - budget)) + " too much";
    else if (other.plan != text)
      llvm::raw_string_ostream(other.lostBy)
          << llvm::format("%.3g ms a step", (other.seconds - chosen.predictedStepSeconds) * 1e3);
  }
  llvm::sort(tried, [](const auto &a, const auto &b) {
    return std::tie(a.seconds, a.bytes, a.plan) < std::tie(b.seconds, b.bytes, b.plan);
  });
  chosen.reasons.lowered = std::move(tried);
  return success();
}
