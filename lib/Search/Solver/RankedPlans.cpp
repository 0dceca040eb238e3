//===- RankedPlans.cpp - All plans below a limit --------------------------===//
//
// Depth first, layer by layer, under the bounds of the exact search: what stages
// done and the one at hand make of the timetable, with the least time of the
// layers left in the memory left.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Solver/RankedPlans.h"

#include "Candidate.h"
#include "KnapsackBound.h"
#include "LeastMemory.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

namespace galvatron::search {

namespace {
/// Sums of the same numbers in another order differ by less.
constexpr double kRounding = 1e-12;

/// Layers placed so far: stages done, then the one at hand.
struct Prefix {
  PipelineBound::Done done = {};
  int stage = 0;
  PipelineBound::Stage open = {};
  std::int64_t memory = 0, scratch = 0; ///< of the one at hand; scratch without what libraries keep
  Communicators communicators = {};
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
  int stages() const { return setting.stages; }
  void makeRest();
  std::int64_t ownScratch(const Option &option) const { return option.scratch - librariesOf(option.communicators); }
  std::int64_t librariesOf(const Communicators &communicators) const;
  void addLibraries(PlanPrice &price) const;
  bool isWithinLimit(const Prefix &prefix, int done) const;
  Prefix closeStage(const Prefix &prefix) const;
  bool place(int layer, const Prefix &before);
  bool placeOn(int layer, const Prefix &before, bool isFirst);
  bool complete();

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  const RankOptions &options;
  std::int64_t &work;
  std::vector<Plan> &plans;
  std::vector<KnapsackBound> rest; ///< time of the layers from each on, against memory
  mutable std::map<std::array<std::uint64_t, 3>, std::int64_t> libraries; ///< by communicators
  Choice choice;
};

void Filling::makeRest() {
  rest.assign(setting.layers() + 1, {});
  for (int layer = setting.layers() - 1; layer >= 0; --layer)
    rest[layer] = KnapsackBound::add(rest[layer + 1], candidate.hullOf(setting.typeOf[layer]));
}

/// Different layers of a stage may use different groups: unlike labels of the search, a list can afford to know which.
std::int64_t Filling::librariesOf(const Communicators &communicators) const {
  auto [at, isNew] =
      libraries.try_emplace(std::array{communicators.joined, communicators.exchanging, communicators.passing});
  if (isNew)
    at->second = setting.bytesOf(communicators);
  return at->second;
}

/// To the stages of the choice: what the search counts of libraries is that of one layer, the rest is overhead.
void Filling::addLibraries(PlanPrice &price) const {
  std::vector<Communicators> ofStages(stages());
  std::vector<std::int64_t> own(stages(), 0);
  for (std::size_t layer = 0; layer < choice.options.size(); ++layer) {
    int stage = choice.partOf[layer] % stages();
    ofStages[stage] |= choice.options[layer]->communicators;
    own[stage] = std::max(own[stage], ownScratch(*choice.options[layer]));
  }
  for (int stage = 0; stage < stages(); ++stage) {
    StageMemory &memory = price.memory[stage];
    memory.overheadBytes += own[stage] + librariesOf(ofStages[stage]) - memory.scratchBytes;
  }
}

bool Filling::isWithinLimit(const Prefix &p, int done) const {
  std::int64_t room = setting.memoryBudget() - p.memory - p.scratch - librariesOf(p.communicators);
  if (room < 0)
    return false;
  double roomAfter = 0;
  for (int stage = p.stage + 1; stage < stages(); ++stage)
    roomAfter += double(setting.memoryBudget() - setting.extraBytes(stage));
  double after = rest[done].at(double(room) + roomAfter);
  return candidate.pipeline().seconds(p.done, p.stage, p.open, after) < options.limitSeconds * (1 - kRounding);
}

Prefix Filling::closeStage(const Prefix &p) const {
  const Option &last = *choice.options.back();
  double transfer = setting.handOver(p.stage, last.layout, last.boundary);
  Prefix next{.done = candidate.pipeline().add(p.done, p.stage, p.open, transfer), .stage = p.stage + 1};
  next.memory = setting.extraBytes(next.stage);
  return next;
}

/// Several orders of ranks may cost the same; one of them lists the plan.
bool isListedBy(const Setting &setting, const Plan &plan) {
  return setting.mesh.empty() || plan.rankMesh() == setting.mesh;
}

bool Filling::complete() {
  PlanPrice price = pricePlan(setting, timetable, choice, options.limitSeconds);
  addLibraries(price);
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice ||
      !(price.seconds < options.limitSeconds * (1 - kRounding)))
    return true;
  Plan plan = assemblePlan(setting, timetable, choice, price);
  if (isListedBy(setting, plan))
    plans.push_back(std::move(plan));
  return plans.size() <= options.mostPlans;
}

/// `isFirst`: of the stage.
bool Filling::placeOn(int layer, const Prefix &before, bool isFirst) {
  int type = setting.typeOf[layer], stageClass = setting.classOf[before.stage];
  int inFlight = timetable.inFlight(before.stage)[0][0];
  const Option *last = layer ? choice.options.back() : nullptr;
  bool isOrdered = !isFirst && setting.typeOf[layer - 1] == type;
  for (const Option &option : candidate.options()[stageClass][type]) {
    if (isOrdered && std::pair{option.saved, &option} < std::pair{last->saved, last})
      continue;
    if (++work > options.mostWork)
      return false;
    double moved = last ? setting.redistribution(stageClass, last->layout, option.layout, last->boundary) : 0;
    Prefix next = before;
    next.open.forward += option.forward + moved / 2;
    next.open.backward += option.backward + moved / 2;
    next.open.tail += option.tail;
    next.memory += option.state + option.saved * inFlight;
    next.scratch = std::max(next.scratch, ownScratch(option));
    next.communicators |= option.communicators;
    if (!isWithinLimit(next, layer + 1))
      continue;
    choice.options.push_back(&option);
    choice.partOf.push_back(next.stage);
    bool goesOn = place(layer + 1, next);
    choice.options.pop_back();
    choice.partOf.pop_back();
    if (!goesOn)
      return false;
  }
  return true;
}

bool Filling::place(int layer, const Prefix &before) {
  int left = setting.layers() - layer;
  if (left == 0)
    return complete();
  int stagesAfter = stages() - 1 - before.stage;
  if (left > stagesAfter && !placeOn(layer, before, layer == 0))
    return false;
  return !layer || !stagesAfter || placeOn(layer, closeStage(before), true);
}

bool Filling::run() {
  makeRest();
  Prefix none;
  none.memory = setting.extraBytes(0);
  return place(0, none);
}

std::optional<Error> check(const Problem &problem) {
  if (problem.layers.empty() || !problem.costs || problem.globalBatch < 1)
    return Error{"expects a problem with layers, a cost source and a batch"};
  if (problem.space.uniform || !problem.space.unevenStages)
    return Error{"expects a space of uneven stages and a strategy for every layer"};
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
  std::vector<Plan> listUniform();

private:
  void makeSettings();
  std::vector<Candidate> makeCandidates() const;
  bool list(std::vector<Plan> &plans) const;
  std::optional<Strategy> settleAlike(int layer, Strategy strategy, int microBatches) const;
  std::optional<Plan> makeUniform(Setting &setting, const Strategy &strategy, int dp) const;

  Problem problem; ///< of changing budget; settings point at it
  RankOptions options;
  std::vector<std::shared_ptr<const Setting>> settings;
};

void Ranking::makeSettings() {
  PricedSettings own, &known = options.settings ? *options.settings : own;
  for (auto [stages, microBatches, mesh] : offeredSettings(problem))
    if (Result<Setting> setting = priceSetting(known, problem, stages, microBatches, mesh))
      settings.push_back(std::make_shared<const Setting>(std::move(*setting)));
}

std::vector<Candidate> Ranking::makeCandidates() const {
  const std::vector<Schedule> &schedules = problem.space.schedules;
  bool hasFlush = std::count(schedules.begin(), schedules.end(), Schedule::OneFOneB);
  std::vector<Candidate> candidates;
  for (const auto &setting : settings)
    for (Candidate &candidate : candidatesOf(setting)) {
      Schedule schedule = candidate.shape().schedule;
      // Of one micro-batch both are the same program.
      bool isSame = schedule == Schedule::GPipe && setting->microBatches == 1 && hasFlush;
      if (!isSame && (schedule == Schedule::GPipe || schedule == Schedule::OneFOneB))
        candidates.push_back(std::move(candidate));
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
    Plan plan = assemblePlan(candidate.setting(), timetable, least.choice, price);
    if (isListedBy(candidate.setting(), plan))
      plans.push_back(std::move(plan));
  }
  std::sort(plans.begin(), plans.end(), [](const Plan &a, const Plan &b) {
    return std::tuple{mostBytes(a), a.predictedStepSeconds} < std::tuple{mostBytes(b), b.predictedStepSeconds};
  });
  return plans;
}

/// What a layer takes of a strategy of all: the ends recompute nothing, and choices that mean nothing to it are left.
std::optional<Strategy> Ranking::settleAlike(int layer, Strategy strategy, int microBatches) const {
  strategy.recompute = strategy.recompute && problem.layers[layer].role == LayerRole::Block;
  Strategy open = strategy;
  open.cpKind = open.cpZigzag = open.reduceEveryMicroBatch = 0;
  for (const Strategy &way : problem.costs->settle(problem.layers[layer], open, microBatches))
    if ((way.cpKind == strategy.cpKind || !way.cpKind) && way.cpZigzag == strategy.cpZigzag &&
        way.reduceEveryMicroBatch == strategy.reduceEveryMicroBatch)
      return way;
  return std::nullopt;
}

std::optional<Plan> Ranking::makeUniform(Setting &setting, const Strategy &strategy, int dp) const {
  std::vector<Option> byType;
  for (int layer : setting.exampleOf) {
    std::optional<Strategy> own = settleAlike(layer, strategy, setting.microBatches);
    if (!own)
      return std::nullopt;
    Result<Option> option = setting.price(layer, *own, dp);
    if (!option)
      return std::nullopt;
    byType.push_back(std::move(*option));
  }
  Choice choice;
  for (int type : setting.typeOf)
    choice.options.push_back(&byType[type]);
  choice.partOf.assign(setting.typeOf.size(), 0);
  Timetable timetable({Schedule::OneFOneB, 1, 1, setting.microBatches});
  PlanPrice price = pricePlan(setting, timetable, choice);
  std::int64_t certain = 0;
  for (const Option *option : choice.options)
    certain += option->certain;
  if (certain > setting.memoryBudget() || !(price.seconds < options.limitSeconds))
    return std::nullopt;
  Plan plan = assemblePlan(setting, timetable, choice, price);
  return isListedBy(setting, plan) ? std::optional(std::move(plan)) : std::nullopt;
}

/// The first block, or the first layer of a model without one.
static int findBlock(const Problem &problem) {
  auto at = std::find_if(problem.layers.begin(), problem.layers.end(),
                         [](const Layer &layer) { return layer.role == LayerRole::Block; });
  return at == problem.layers.end() ? 0 : int(at - problem.layers.begin());
}

std::vector<Plan> Ranking::listUniform() {
  std::vector<Plan> plans;
  for (auto [stages, microBatches, mesh] : offeredSettings(problem)) {
    if (stages > 1)
      continue;
    Setting setting = Setting::bare(problem, stages, microBatches, mesh);
    int block = findBlock(problem);
    for (auto [offered, dp] : offeredStrategies(problem.space, setting.stageRanks, setting.microBatchSamples))
      for (const Strategy &strategy : offered.ep == 1 ? setting.settle(block, offered, dp) : std::vector<Strategy>())
        if (std::optional<Plan> plan = makeUniform(setting, strategy, dp))
          plans.push_back(std::move(*plan));
  }
  std::sort(plans.begin(), plans.end(), [](const Plan &a, const Plan &b) {
    return std::tuple{a.predictedStepSeconds, mostBytes(a)} < std::tuple{b.predictedStepSeconds, mostBytes(b)};
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

Result<std::vector<Plan>> listSmallestPlans(const Problem &problem, PricedSettings *settings) {
  if (std::optional<Error> error = check(problem))
    return *error;
  RankOptions options;
  options.settings = settings;
  return Ranking(problem, options).listSmallest();
}

Result<std::vector<Plan>> listUniformPlans(const Problem &problem, const RankOptions &options) {
  if (std::optional<Error> error = check(problem))
    return *error;
  return Ranking(problem, options).listUniform();
}

} // namespace galvatron::search
