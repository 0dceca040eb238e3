//===- RankedPlans.cpp - All plans below a limit --------------------------===//
//
// Depth first, unit by unit, under the bounds of the exact search: what stages
// done and the one at hand make of the timetable, with the least time of the
// units left in the memory left.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Solver/RankedPlans.h"

#include "Candidate.h"
#include "LeastMemory.h"
#include "RestBound.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace galvatron::search {

namespace {
/// Sums of the same numbers in another order differ by less.
constexpr double kRounding = 1e-12;

/// Units placed so far: stages done, then the one at hand.
struct Prefix {
  double sum = 0;   ///< of stages done and their transfers
  double pace = 0;  ///< max of (m - 1) T_j - w_j f_j
  double floor = 0; ///< max of Σ_{i<j} (T_i + transfers) + m T_j
  double tail = 0;
  int stage = 0;
  double forward = 0, backward = 0, stageTail = 0;
  std::int64_t memory = 0, scratch = 0;
  double time() const { return forward + backward; }
};

/// The plans of one candidate.
class Filling {
public:
  Filling(const Candidate &candidate, const RankOptions &options, std::int64_t &work, std::vector<Plan> &plans)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()), options(options), work(work),
        plans(plans) {}

  /// False: gave up.
  bool run();

private:
  double micro() const { return setting.microBatches; }
  int stages() const { return setting.stages; }
  int warmUp(int stage) const {
    bool counts = candidate.shape().schedule != Schedule::GPipe;
    return counts ? std::min(stages() - 1 - stage, setting.microBatches - 1) : 0;
  }
  void makeRest();
  bool isWithinLimit(const Prefix &prefix, int done) const;
  Prefix closeStage(Prefix prefix) const;
  bool place(int unit, const Prefix &before);
  bool placeOn(int unit, const Prefix &before, bool isFirst);
  bool complete();

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  const RankOptions &options;
  std::int64_t &work;
  std::vector<Plan> &plans;
  std::vector<RestBound> rest; ///< time of the units from each on, against memory
  double forwardShare = 0;
  Choice choice;
};

void Filling::makeRest() {
  int units = setting.units(), kept = candidate.leastInFlight();
  rest.assign(units + 1, {});
  for (int unit = units - 1; unit >= 0; --unit) {
    std::vector<std::pair<double, double>> points;
    for (const OptionLists &lists : candidate.options())
      for (const Option &option : lists[setting.typeOf[unit]]) {
        points.emplace_back(double(option.state + option.saved * kept), option.time());
        if (option.time() > 0)
          forwardShare = std::max(forwardShare, option.forward / option.time());
      }
    rest[unit] = RestBound::add(rest[unit + 1], std::move(points));
  }
}

bool Filling::isWithinLimit(const Prefix &p, int done) const {
  std::int64_t room = setting.memoryBudget() - p.memory - p.scratch;
  if (room < 0)
    return false;
  double roomAfter = 0;
  for (int stage = p.stage + 1; stage < stages(); ++stage)
    roomAfter += double(setting.memoryBudget() - setting.extraBytes(stage));
  int left = stages() - p.stage; // the one at hand included
  double after = rest[done].at(double(room) + roomAfter);
  double total = p.sum + p.time() + after, share = (p.time() + after) / left;
  double pace = std::max({p.pace, (micro() - 1) * p.time() - warmUp(p.stage) * p.forward,
                          (micro() - 1 - warmUp(p.stage) * forwardShare) * share});
  double seconds = std::max({total + pace, p.floor, p.sum + micro() * std::max(p.time(), share)});
  return seconds + std::max(p.tail, p.stageTail) < options.limitSeconds * (1 - kRounding);
}

Prefix Filling::closeStage(Prefix p) const {
  const Option &last = *choice.options.back();
  p.floor = std::max(p.floor, p.sum + micro() * p.time());
  p.pace = std::max(p.pace, (micro() - 1) * p.time() - warmUp(p.stage) * p.forward);
  p.sum += p.time() + 2 * setting.handOver(p.stage, last.layout, last.boundary);
  p.tail = std::max(p.tail, p.stageTail);
  Prefix next{p.sum, p.pace, p.floor, p.tail, p.stage + 1};
  next.memory = setting.extraBytes(next.stage);
  return next;
}

bool Filling::complete() {
  PlanPrice price = pricePlan(setting, timetable, choice, options.limitSeconds);
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice ||
      !(price.seconds < options.limitSeconds * (1 - kRounding)))
    return true;
  plans.push_back(assemblePlan(setting, timetable, choice, price));
  return plans.size() <= options.mostPlans;
}

/// `isFirst`: of the stage.
bool Filling::placeOn(int unit, const Prefix &before, bool isFirst) {
  int type = setting.typeOf[unit], stageClass = setting.classOf[before.stage];
  int inFlight = timetable.inFlight(before.stage)[0][0];
  const Option *last = unit ? choice.options.back() : nullptr;
  bool isOrdered = !isFirst && setting.typeOf[unit - 1] == type;
  for (const Option &option : candidate.options()[stageClass][type]) {
    if (isOrdered && std::pair{option.saved, &option} < std::pair{last->saved, last})
      continue;
    if (++work > options.mostWork)
      return false;
    double moved = last ? setting.redistribution(stageClass, last->layout, option.layout, last->boundary) : 0;
    Prefix next = before;
    next.forward += option.forward + moved / 2;
    next.backward += option.backward + moved / 2;
    next.stageTail += option.tail;
    next.memory += option.state + option.saved * inFlight;
    next.scratch = std::max(next.scratch, option.scratch);
    if (!isWithinLimit(next, unit + 1))
      continue;
    choice.options.push_back(&option);
    choice.partOf.push_back(next.stage);
    bool goesOn = place(unit + 1, next);
    choice.options.pop_back();
    choice.partOf.pop_back();
    if (!goesOn)
      return false;
  }
  return true;
}

bool Filling::place(int unit, const Prefix &before) {
  int left = setting.units() - unit;
  if (left == 0)
    return complete();
  int stagesAfter = stages() - 1 - before.stage;
  if (left > stagesAfter && !placeOn(unit, before, unit == 0))
    return false;
  return !unit || !stagesAfter || placeOn(unit, closeStage(before), true);
}

bool Filling::run() {
  makeRest();
  Prefix none;
  none.memory = setting.extraBytes(0);
  return place(0, none);
}

std::optional<Error> check(const Problem &problem) {
  if (problem.units.empty() || !problem.costs || problem.globalBatch < 1)
    return Error{"expects a problem with units, a cost source and a batch"};
  if (problem.space.uniform || !problem.space.unevenStages)
    return Error{"expects a space of uneven stages and a strategy for every unit"};
  return std::nullopt;
}

std::int64_t mostBytes(const Plan &plan) {
  std::int64_t most = 0;
  for (const StageMemory &memory : plan.stageMemory)
    most = std::max(most, memory.total());
  return most;
}

class Ranking {
public:
  Ranking(const Problem &problem, const RankOptions &options) : problem(problem), options(options) {}

  RankedPlans run();
  std::vector<Plan> listSmallest();

private:
  void makeSettings();
  std::vector<Candidate> makeCandidates() const;
  bool list(std::vector<Plan> &plans) const;

  Problem problem; ///< of changing budget; settings point at it
  RankOptions options;
  std::vector<std::shared_ptr<const Setting>> settings;
};

void Ranking::makeSettings() {
  const SearchSpace &space = problem.space;
  std::int64_t most = std::min({problem.ranks(), std::int64_t(problem.units.size()), std::int64_t(space.maxPipeline)});
  for (std::int64_t stages = 1; stages <= (space.pipeline ? most : 1); ++stages)
    for (std::int64_t count = 1; count <= problem.globalBatch; ++count) {
      bool isOffered =
          (!space.stages || stages == space.stages) && (!space.microBatches || count == space.microBatches);
      if (problem.ranks() % stages || problem.globalBatch % count || !isOffered)
        continue;
      if (Result<Setting> setting = Setting::make(problem, int(stages), int(count)))
        settings.push_back(std::make_shared<const Setting>(std::move(*setting)));
    }
}

std::vector<Candidate> Ranking::makeCandidates() const {
  std::vector<Candidate> candidates;
  for (const auto &setting : settings) {
    std::set<int> degrees; // of tied units, which share one tp
    for (std::size_t type = 0; type < setting->tied.size(); ++type)
      if (setting->tied[type])
        for (const Option &option : setting->options[0][type])
          degrees.insert(option.strategy.tp);
    if (degrees.empty())
      degrees.insert(0);
    bool hasFlush = std::count(problem.space.schedules.begin(), problem.space.schedules.end(), Schedule::OneFOneB);
    for (Schedule schedule : problem.space.schedules) {
      // One stage or one micro-batch: both are the same program.
      bool isSame = setting->stages == 1 || setting->microBatches == 1;
      if (schedule != Schedule::OneFOneB && (schedule != Schedule::GPipe || (isSame && hasFlush)))
        continue;
      for (int tp : degrees)
        candidates.emplace_back(setting, PipelineShape{schedule, setting->stages, 1, setting->microBatches}, tp);
    }
  }
  return candidates;
}

bool Ranking::list(std::vector<Plan> &plans) const {
  std::int64_t work = 0;
  for (const Candidate &candidate : makeCandidates())
    if (candidate.bound() < options.limitSeconds && !Filling(candidate, options, work, plans).run())
      return false;
  std::sort(plans.begin(), plans.end(), [](const Plan &a, const Plan &b) {
    return std::tuple{a.predictedStepSeconds, mostBytes(a)} < std::tuple{b.predictedStepSeconds, mostBytes(b)};
  });
  return true;
}

std::vector<Plan> Ranking::listSmallest() {
  makeSettings();
  std::vector<Plan> plans;
  for (const Candidate &candidate : makeCandidates()) {
    LeastMemory least = findLeastMemory(candidate);
    if (!least.option)
      continue;
    Timetable timetable(candidate.shape());
    PlanPrice price = pricePlan(candidate.setting(), timetable, least.choice);
    plans.push_back(assemblePlan(candidate.setting(), timetable, least.choice, price));
  }
  std::sort(plans.begin(), plans.end(), [](const Plan &a, const Plan &b) {
    return std::tuple{mostBytes(a), a.predictedStepSeconds} < std::tuple{mostBytes(b), b.predictedStepSeconds};
  });
  return plans;
}

RankedPlans Ranking::run() {
  makeSettings();
  RankedPlans result;
  for (std::int64_t budget : options.budgets) {
    problem.cluster.memoryBytesPerDevice = budget;
    std::vector<Plan> plans;
    if (!list(plans))
      break;
    result = {std::move(plans), budget};
  }
  return result;
}
} // namespace

Result<RankedPlans> rankPlans(const Problem &problem, const RankOptions &options) {
  if (std::optional<Error> error = check(problem))
    return *error;
  return Ranking(problem, options).run();
}

Result<std::vector<Plan>> listSmallestPlans(const Problem &problem) {
  if (std::optional<Error> error = check(problem))
    return *error;
  return Ranking(problem, {}).listSmallest();
}

} // namespace galvatron::search
