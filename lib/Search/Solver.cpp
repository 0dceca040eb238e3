//===- Solver.cpp - Problem in, best plan out -----------------------------===//
//
// Order of work: price every candidate (pipeline degree, micro-batches) and
// bound it from below; look for any plan at all among uniform ones, so that an
// interrupted search has an answer; then open candidates by rising bound until
// the bound reaches the best plan. Opening is exact: labels of a stage from
// StageTrie, stages joined by labels in (sum, slowest, tail).
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Solver.h"

#include "PlanPrice.h"
#include "StageTrie.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <map>
#include <memory>
#include <tuple>

namespace galvatron::search {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Sums of the same numbers in another order differ by less.
constexpr double kRounding = 1e-12;

/// Stages joined so far.
struct Join {
  double sum = 0, slowest = 0, tail = 0;
  int layout = -1;
  std::int64_t boundary = 0;
  int parent = -1;   ///< join of the stage before
  int parentEnd = 0; ///< units done there
  const TrieNode *node = nullptr;
  int label = -1;
};

class Candidate {
public:
  Candidate(Setting made, Schedule schedule) : setting(std::move(made)), schedule(schedule) {
    setting.dropDominated();
    bound = lowerBound();
  }

  Setting setting;
  Schedule schedule;
  double bound = 0;
  std::int64_t labels = 0;

  /// A plan whose layers are all alike, or infinity.
  double trySimple(double best);
  /// The best plan below `best`, or infinity. Needing more than `labelBudget`
  /// labels, it looks only for plans better by growing shares; `gap` is raised
  /// to the share that was needed.
  double open(double best, std::int64_t labelBudget, double &gap, const std::function<bool()> &stopped);

  std::vector<const Option *> chosen;
  std::vector<int> stageOf;

private:
  double lowerBound();
  double attempt(double best, std::int64_t labelBudget, const std::function<bool()> &stopped);
  void dropHopeless(double best);
  void repair(std::vector<const Option *> &trial, const std::vector<int> &stages, const Option *smaller);
  bool tryPlan(const std::vector<const Option *> &trial, const std::vector<int> &stages, double &best);
  void extendJoin(int stage, int done, int index);
  double boundOf(const Join &join, int stage, int done) const;
  void addJoin(int stage, int done, Join join);
  StageTrie &trieOf(int stage, int incoming, std::int64_t boundary);
  std::int64_t memoryBudget() const {
    return setting.problem->cluster.memoryBytesPerDevice - setting.problem->cluster.device.reservedBytes;
  }
  int units() const { return int(setting.typeOf.size()); }

  std::vector<double> leastTimeOfType;
  std::vector<double> leastAfter; ///< Σ least times of units from here on
  StageLimits limits;
  std::vector<RestBound> rest;
  std::vector<std::vector<Option>> live; ///< options that may be in a better plan
  std::int64_t made = 0;                 ///< labels of this attempt
  std::map<std::tuple<int, int, std::int64_t>, std::unique_ptr<StageTrie>> tries;
  std::vector<std::vector<std::vector<Join>>> joins; ///< [stages done][units done]
};

double Candidate::lowerBound() {
  double leastMax = 0, tails = 0;
  for (const std::vector<Option> &list : setting.options) {
    double least = kInfinity;
    for (const Option &option : list)
      least = std::min(least, option.time());
    leastTimeOfType.push_back(least);
  }
  leastAfter.assign(units() + 1, 0);
  // All stages together hold every unit with at least one micro-batch.
  RestBound relaxed;
  double m = setting.microBatches;
  for (int unit = units() - 1; unit >= 0; --unit) {
    int type = setting.typeOf[unit];
    leastAfter[unit] = leastAfter[unit + 1] + leastTimeOfType[type];
    leastMax = std::max(leastMax, leastTimeOfType[type]);
    std::vector<std::pair<double, double>> points;
    double tail = kInfinity;
    for (const Option &option : setting.options[type]) {
      points.emplace_back(double(option.state + option.saved), option.time());
      tail = std::min(tail, option.tail);
    }
    tails += tail;
    relaxed = RestBound::add(relaxed, std::move(points));
  }
  double least = relaxed.at(double(memoryBudget()) * setting.stages);
  if (least == kInfinity)
    return kInfinity;
  double pace = std::max(least / setting.stages, leastMax);
  return least + (m - 1) * pace + tails / setting.stages;
}

bool Candidate::tryPlan(const std::vector<const Option *> &trial, const std::vector<int> &stages, double &best) {
  PlanPrice price = pricePlan(setting, schedule, trial, stages);
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice || !(price.seconds < best))
    return false;
  best = price.seconds;
  chosen = trial;
  stageOf = stages;
  return true;
}

/// Moves units of stages that do not fit to `smaller`, front to back, and at
/// last the ends to their smallest.
void Candidate::repair(std::vector<const Option *> &trial, const std::vector<int> &stages, const Option *smaller) {
  std::vector<std::int64_t> need(setting.stages, 0), scratch(setting.stages, 0);
  auto size = [&](const Option &option, int stage) {
    return option.state + option.saved * inFlight(schedule, setting.stages, stage, setting.microBatches);
  };
  for (int unit = 0; unit < units(); ++unit) {
    need[stages[unit]] += size(*trial[unit], stages[unit]);
    scratch[stages[unit]] = std::max(scratch[stages[unit]], trial[unit]->scratch);
  }
  for (bool ends : {false, true})
    for (int unit = 0; unit < units(); ++unit) {
      int stage = stages[unit], type = setting.typeOf[unit];
      bool layer = setting.problem->units[unit].role == UnitRole::Layer;
      if (need[stage] + scratch[stage] <= memoryBudget() || layer == ends)
        continue;
      const Option *other = smaller;
      if (ends || type != setting.typeOf[units() / 2]) {
        other = nullptr;
        for (const Option &option : setting.options[type])
          if (!other || size(option, stage) < size(*other, stage))
            other = &option;
      }
      if (!other || size(*other, stage) >= size(*trial[unit], stage))
        continue;
      need[stage] += size(*other, stage) - size(*trial[unit], stage);
      scratch[stage] = std::max(scratch[stage], other->scratch);
      trial[unit] = other;
    }
}

double Candidate::trySimple(double best) {
  // Layers are all alike; where a stage does not fit, some of its layers move
  // to the option that buys memory for the least time. Stages are cut where
  // time is even.
  double before = best;
  std::vector<const Option *> trial(units());
  std::vector<int> stages(units());
  const std::vector<Option> &kinds = setting.options[setting.typeOf[units() / 2]];
  for (const Option &kind : kinds) {
    double sum = 0;
    for (int unit = 0; unit < units(); ++unit) {
      const Option *match = nullptr;
      auto distance = [&](const Option &option) {
        return std::tuple{&option != &kind, option.layout != kind.layout,
                          option.strategy.recompute != kind.strategy.recompute, option.time()};
      };
      for (const Option &option : setting.options[setting.typeOf[unit]])
        if (!match || distance(option) < distance(*match))
          match = &option;
      trial[unit] = match;
      sum += match->time();
    }
    if (sum + (setting.microBatches - 1) * sum / setting.stages >= best)
      continue;
    double done = 0;
    int stage = 0, inStage = 0;
    for (int unit = 0; unit < units(); ++unit) {
      double middle = done + trial[unit]->time() / 2;
      // Units left must suffice for the stages left.
      bool must = units() - unit == setting.stages - 1 - stage;
      bool may = inStage > 0 && stage + 1 < setting.stages;
      if (may && (must || middle > sum * (stage + 1) / setting.stages)) {
        ++stage;
        inStage = 0;
      }
      stages[unit] = stage;
      ++inStage;
      done += trial[unit]->time();
    }
    if (stage + 1 != setting.stages || tryPlan(trial, stages, best))
      continue;
    const Option *cheapest[2] = {nullptr, nullptr};
    double price[2] = {kInfinity, kInfinity};
    for (const Option &other : kinds) {
      double saves = double(kind.state + kind.saved - other.state - other.saved);
      if (saves <= 0)
        continue;
      double each = (other.time() - kind.time()) / saves;
      for (int any : {0, 1})
        if ((any || other.layout == kind.layout) && each < price[any]) {
          price[any] = each;
          cheapest[any] = &other;
        }
    }
    for (const Option *smaller : cheapest) {
      std::vector<const Option *> repaired = trial;
      repair(repaired, stages, smaller);
      tryPlan(repaired, stages, best);
    }
  }
  return best < before ? best : kInfinity;
}

StageTrie &Candidate::trieOf(int stage, int incoming, std::int64_t boundary) {
  int kept = inFlight(schedule, setting.stages, stage, setting.microBatches);
  std::unique_ptr<StageTrie> &trie = tries[{kept, incoming, boundary}];
  if (!trie)
    trie = std::make_unique<StageTrie>(setting, leastTimeOfType, kept, incoming, boundary);
  return *trie;
}

double Candidate::boundOf(const Join &join, int stage, int done) const {
  int stagesLeft = setting.stages - 1 - stage;
  double after = leastAfter[done];
  double pace = std::max(join.slowest, stagesLeft ? after / stagesLeft : 0);
  return join.sum + after + (setting.microBatches - 1) * pace + join.tail;
}

void Candidate::addJoin(int stage, int done, Join join) {
  if (!(boundOf(join, stage, done) < limits.best))
    return;
  if (stage + 1 == setting.stages)
    limits.best = boundOf(join, stage, done); // complete: exact
  std::vector<Join> &list = joins[stage + 1][done];
  auto beats = [](const Join &a, const Join &b) {
    return a.layout == b.layout && a.boundary == b.boundary && a.sum <= b.sum && a.slowest <= b.slowest &&
           a.tail <= b.tail;
  };
  for (const Join &other : list)
    if (beats(other, join))
      return;
  // Beaten ones stay where they are: later joins point at list positions.
  list.push_back(join);
}

void Candidate::extendJoin(int stage, int done, int index) {
  const Join from = joins[stage][done][index];
  if (stage && !(boundOf(from, stage - 1, done) < limits.best))
    return;
  StageTrie &trie = trieOf(stage, from.layout, from.boundary);
  const TrieNode *node = trie.root();
  bool last = stage + 1 == setting.stages;
  int most = units() - (setting.stages - 1 - stage);
  int even = (units() + setting.stages - 1) / setting.stages;
  if (!setting.problem->space.unevenStages)
    most = std::min(most, done + even);
  for (int end = done + 1; end <= most; ++end) {
    node = trie.extend(node, setting.typeOf[end - 1], limits, end);
    if (node->labels.empty())
      break;
    bool whole = setting.problem->space.unevenStages || end == most;
    if ((last && end != units()) || !whole)
      continue;
    for (int label : node->ends) {
      const Label &ending = node->labels[label];
      const Option &option = setting.options[node->type][ending.option];
      double time = ending.time;
      if (!last)
        time += setting.handOver(option.layout, option.boundary);
      addJoin(stage, end,
              {from.sum + time, std::max(from.slowest, time), std::max(from.tail, ending.tail),
               last ? -1 : option.layout, last ? 0 : option.boundary, index, done, node, label});
    }
  }
}

/// Drops options that no plan below `best` can contain: forcing one on a unit
/// and relaxing everything else is already too slow.
void Candidate::dropHopeless(double best) {
  double m = setting.microBatches, memory = double(memoryBudget()) * setting.stages;
  std::vector<RestBound> others; // by type: all units but one of it
  for (std::size_t type = 0; type < setting.options.size(); ++type) {
    RestBound rest;
    bool skipped = false;
    for (int unit = 0; unit < units(); ++unit) {
      if (!skipped && setting.typeOf[unit] == int(type)) {
        skipped = true;
        continue;
      }
      std::vector<std::pair<double, double>> points;
      for (const Option &option : setting.options[setting.typeOf[unit]])
        points.emplace_back(double(option.state + option.saved), option.time());
      rest = RestBound::add(rest, std::move(points));
    }
    others.push_back(std::move(rest));
  }
  for (std::size_t type = 0; type < setting.options.size(); ++type) {
    std::vector<Option> kept;
    for (const Option &option : setting.options[type]) {
      double sum = option.time() + others[type].at(memory - double(option.state + option.saved));
      double pace = std::max(sum / setting.stages, option.time());
      if (sum < kInfinity && sum + (m - 1) * pace + option.tail < best)
        kept.push_back(option);
    }
    live.push_back(std::move(kept));
  }
}

double Candidate::open(double best, std::int64_t labelBudget, double &gap, const std::function<bool()> &stopped) {
  dropHopeless(best);
  for (const std::vector<Option> &list : live)
    if (list.empty())
      return kInfinity;
  // Plans point into both lists, so both stay; alternatives are explained from
  // the full one.
  std::swap(setting.options, live);
  double before = best;
  for (double share = gap;; share = share == 0 ? 1e-5 : share * 4) {
    made = 0;
    best = std::min(best, attempt(best * (1 - share), labelBudget, stopped));
    labels += made;
    if (made <= labelBudget || stopped()) {
      gap = std::max(gap, share);
      break;
    }
  }
  std::swap(setting.options, live);
  tries.clear();
  joins.clear();
  return best < before ? best : kInfinity;
}

double Candidate::attempt(double best, std::int64_t labelBudget, const std::function<bool()> &stopped) {
  double m = setting.microBatches;
  limits = {best, leastAfter[0], setting.microBatches, memoryBudget(), labelBudget, &made, nullptr};
  tries.clear();
  if (setting.stages == 1) {
    int kept = inFlight(schedule, 1, 0, setting.microBatches);
    rest.assign(units() + 1, {});
    for (int unit = units() - 1; unit >= 0; --unit) {
      std::vector<std::pair<double, double>> points;
      for (const Option &option : setting.options[setting.typeOf[unit]])
        points.emplace_back(double(option.state + option.saved * kept), m * option.time() + option.tail);
      rest[unit] = RestBound::add(rest[unit + 1], std::move(points));
    }
    limits.rest = &rest;
  }
  joins.assign(setting.stages + 1, std::vector<std::vector<Join>>(units() + 1));
  joins[0][0].emplace_back();
  for (int stage = 0; stage < setting.stages; ++stage)
    for (int done = stage; done < units(); ++done)
      for (int index = 0; index < int(joins[stage][done].size()); ++index) {
        if (limits.exhausted() || stopped())
          break;
        extendJoin(stage, done, index);
      }
  // The best complete join was added last among the improving ones.
  const std::vector<Join> &complete = joins[setting.stages][units()];
  const Join *join = nullptr;
  auto seconds = [&](const Join &j) { return j.sum + (m - 1) * j.slowest + j.tail; };
  for (const Join &other : complete)
    if (!join || seconds(other) < seconds(*join))
      join = &other;
  if (!join)
    return kInfinity;
  double found = seconds(*join);
  chosen.assign(units(), nullptr);
  stageOf.assign(units(), 0);
  int end = units();
  for (int stage = setting.stages - 1; stage >= 0; --stage) {
    const TrieNode *node = join->node;
    int label = join->label;
    for (int unit = end - 1; unit >= join->parentEnd; --unit) {
      chosen[unit] = &setting.options[node->type][node->labels[label].option];
      stageOf[unit] = stage;
      label = node->labels[label].parent;
      node = node->before;
    }
    end = join->parentEnd;
    join = &joins[stage][join->parentEnd][join->parent];
  }
  return found;
}

//===----------------------------------------------------------------------===//
// The smallest budget
//===----------------------------------------------------------------------===//

/// The least memory with which some plan of a setting exists.
struct LeastMemory {
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();
  int stage = 0, unit = 0;
  const Option *option = nullptr;
};

class LeastMemorySearch {
public:
  LeastMemorySearch(const Setting &setting, Schedule schedule) : setting(setting), schedule(schedule) {
    for (const std::vector<Option> &list : setting.options)
      for (const Option &option : list)
        caps.push_back(option.scratch);
    std::sort(caps.begin(), caps.end());
    caps.erase(std::unique(caps.begin(), caps.end()), caps.end());
    // With very many sizes, the largest of each group stands for it.
    while (caps.size() > 64)
      for (std::size_t i = 0; i + 1 < caps.size(); ++i)
        caps.erase(caps.begin() + i);
  }

  LeastMemory run() {
    int units = int(setting.typeOf.size()), stages = setting.stages;
    const std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
    std::vector<std::vector<std::int64_t>> least(stages + 1, std::vector<std::int64_t>(units + 1, kNone));
    auto from = std::vector<std::vector<int>>(stages + 1, std::vector<int>(units + 1, 0));
    least[0][0] = 0;
    for (int stage = 0; stage < stages; ++stage)
      for (int begin = stage; begin < units; ++begin) {
        if (least[stage][begin] == kNone)
          continue;
        start(stage);
        for (int end = begin + 1; end <= units - (stages - 1 - stage); ++end) {
          std::int64_t need = std::max(least[stage][begin], addUnit(end - 1));
          if (need < least[stage + 1][end]) {
            least[stage + 1][end] = need;
            from[stage + 1][end] = begin;
          }
        }
      }
    LeastMemory result;
    result.bytes = least[stages][units];
    if (result.bytes == kNone)
      return result;
    // The stage that needs that much, and its largest unit.
    for (int stage = stages - 1, end = units; stage >= 0; --stage) {
      int begin = from[stage + 1][end];
      start(stage);
      std::int64_t need = 0;
      for (int unit = begin; unit < end; ++unit)
        need = addUnit(unit);
      if (need == result.bytes) {
        result.stage = stage;
        std::int64_t largest = -1;
        for (int unit = begin; unit < end; ++unit) {
          const Option *option = smallest(setting.typeOf[unit], kNone - 1);
          if (size(*option) > largest) {
            largest = size(*option);
            result.unit = unit;
            result.option = option;
          }
        }
        break;
      }
      end = begin;
    }
    return result;
  }

private:
  void start(int stage) {
    kept = inFlight(schedule, setting.stages, stage, setting.microBatches);
    sums.assign(caps.size(), 0);
  }
  std::int64_t size(const Option &option) const { return option.state + option.saved * kept; }
  const Option *smallest(int type, std::int64_t cap) const {
    const Option *best = nullptr;
    for (const Option &option : setting.options[type])
      if (option.scratch <= cap && (!best || size(option) < size(*best)))
        best = &option;
    return best;
  }
  /// The stage's need after one more unit.
  std::int64_t addUnit(int unit) {
    const std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
    std::int64_t need = kNone;
    for (std::size_t i = 0; i < caps.size(); ++i) {
      if (sums[i] == kNone)
        continue;
      const Option *option = smallest(setting.typeOf[unit], caps[i]);
      sums[i] = option ? sums[i] + size(*option) : kNone;
      if (option)
        need = std::min(need, sums[i] + caps[i]);
    }
    return need;
  }

  const Setting &setting;
  Schedule schedule;
  std::vector<std::int64_t> caps, sums;
  int kept = 1;
};

//===----------------------------------------------------------------------===//
// All candidates
//===----------------------------------------------------------------------===//

class Search {
public:
  Search(const Problem &problem, const SolveOptions &options)
      : problem(problem), options(options), begin(std::chrono::steady_clock::now()) {}

  Result<Solution> run();

private:
  std::optional<Error> makeCandidates();
  void simplePlans();
  void exactPlans();
  void accept(Candidate &candidate, double seconds);
  void explainInfeasible();
  void report(bool force);
  bool stopped() {
    if (!solution.interrupted && ((options.stop && options.stop->load()) ||
                                  (options.timeLimitSeconds > 0 && seconds() > options.timeLimitSeconds)))
      solution.interrupted = true;
    return solution.interrupted;
  }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

  const Problem &problem;
  const SolveOptions &options;
  std::chrono::steady_clock::time_point begin;
  double lastReport = 0;
  std::vector<std::unique_ptr<Candidate>> candidates;
  Candidate *winner = nullptr;
  double best = kInfinity;
  Solution solution;
  std::string refusal;
};

std::optional<Error> Search::makeCandidates() {
  const SearchSpace &space = problem.space;
  if (problem.units.empty())
    return Error{"the problem has no units to plan"};
  if (!problem.costs)
    return Error{"the problem has no cost source"};
  if (problem.globalBatch < 1)
    return Error{"expects a global batch of at least 1, but got " + std::to_string(problem.globalBatch)};
  if (space.schedules.empty())
    return Error{"the space offers no schedule; allow gpipe or 1f1b"};
  if (space.microBatches > 0 && problem.globalBatch % space.microBatches)
    return Error{"expects a number of micro-batches that divides the global batch of " +
                 std::to_string(problem.globalBatch) + ", but got " + std::to_string(space.microBatches)};
  if (space.stages > 0 && problem.ranks() % space.stages)
    return Error{"expects a number of stages that divides " + std::to_string(problem.ranks()) + " ranks, but got " +
                 std::to_string(space.stages)};
  // 1F1B never keeps more than GPipe and takes the same time here.
  Schedule schedule = space.schedules.front();
  for (Schedule offered : space.schedules)
    if (offered == Schedule::OneFOneB)
      schedule = offered;
  std::int64_t units = std::int64_t(problem.units.size());
  for (std::int64_t stages = 1; stages <= std::min({problem.ranks(), units, std::int64_t(space.maxPipeline)});
       ++stages) {
    if (problem.ranks() % stages || (stages > 1 && !space.pipeline) || (space.stages > 0 && stages != space.stages))
      continue;
    for (std::int64_t count = 1; count <= problem.globalBatch; ++count) {
      if (problem.globalBatch % count || (space.microBatches > 0 && count != space.microBatches))
        continue;
      if (stopped())
        return std::nullopt;
      Result<Setting> setting = Setting::make(problem, int(stages), int(count));
      if (!setting) {
        refusal = setting.error().message;
        continue;
      }
      candidates.push_back(std::make_unique<Candidate>(std::move(*setting), schedule));
      candidates.back()->setting.problem = &problem;
      report(false);
    }
  }
  return std::nullopt;
}

void Search::report(bool force) {
  if (!options.progress || (!force && seconds() - lastReport < 0.2))
    return;
  lastReport = seconds();
  Progress progress{seconds(), solution.candidatesOpened, std::int64_t(candidates.size()), winner ? best : 0, ""};
  if (winner)
    progress.best = "pipeline " + std::to_string(winner->setting.stages) + ", " +
                    std::to_string(winner->setting.microBatches) + " micro-batches";
  options.progress(progress);
}

void Search::accept(Candidate &candidate, double found) {
  best = found;
  winner = &candidate;
  report(true);
}

void Search::simplePlans() {
  for (auto &candidate : candidates) {
    if (stopped())
      return;
    if (candidate->bound >= best)
      continue;
    double found = candidate->trySimple(best);
    if (found < best)
      accept(*candidate, found);
  }
}

void Search::exactPlans() {
  for (auto &candidate : candidates) {
    double share = std::max(kRounding, solution.provenWithin);
    if (stopped() || candidate->bound >= best * (1 - share))
      return; // sorted: no later one is better
    ++solution.candidatesOpened;
    // A search that has grown long ends sooner, and says how exact it was.
    if (solution.labels > 15 * options.labelBudget)
      solution.provenWithin = std::max(solution.provenWithin, 1e-3);
    if (solution.labels > 30 * options.labelBudget)
      solution.provenWithin = std::max(solution.provenWithin, 1e-2);
    // A candidate keeps its plan only when it finds a better one.
    auto keptChoice = candidate->chosen;
    auto keptStages = candidate->stageOf;
    double found = candidate->open(best * (1 - kRounding), options.labelBudget, solution.provenWithin,
                                   [this] { return stopped(); });
    solution.labels += candidate->labels;
    if (found < best) {
      accept(*candidate, found);
    } else {
      candidate->chosen = keptChoice;
      candidate->stageOf = keptStages;
    }
    report(false);
  }
}

void Search::explainInfeasible() {
  Infeasible &out = solution.infeasible;
  LeastMemory least;
  const Candidate *where = nullptr;
  for (const auto &candidate : candidates) {
    LeastMemory other = LeastMemorySearch(candidate->setting, candidate->schedule).run();
    if (other.bytes < least.bytes) {
      least = other;
      where = candidate.get();
    }
  }
  if (!where) {
    out.message = "no strategy is left for " + std::to_string(problem.ranks()) + " ranks and a global batch of " +
                  std::to_string(problem.globalBatch) +
                  (refusal.empty() ? "; choose a batch that the ranks divide, or widen the space" : ": " + refusal);
    return;
  }
  out.smallestBudgetBytes = least.bytes + problem.cluster.device.reservedBytes;
  out.stage = least.stage;
  out.unit = problem.units[least.unit].path;
  out.strategy = describe(least.option->strategy, least.option->dp);
  out.message = "no strategy fits " + formatBytes(double(problem.cluster.memoryBytesPerDevice)) +
                " per device; the smallest plan needs " + formatBytes(double(out.smallestBudgetBytes)) + " (" +
                std::to_string(out.smallestBudgetBytes) + " bytes: stage " + std::to_string(out.stage) + " of " +
                std::to_string(where->setting.stages) + ", largest unit '" + out.unit + "' with " + out.strategy +
                ", " + std::to_string(where->setting.microBatches) +
                " micro-batches); raise the budget, use more ranks or a smaller batch, or widen "
                "the space";
}

Result<Solution> Search::run() {
  if (auto error = makeCandidates())
    return *error;
  std::sort(candidates.begin(), candidates.end(), [](const auto &a, const auto &b) { return a->bound < b->bound; });
  solution.candidates = std::int64_t(candidates.size());
  simplePlans();
  exactPlans();
  if (winner) {
    PlanPrice price = pricePlan(winner->setting, winner->schedule, winner->chosen, winner->stageOf);
    Plan plan = assemblePlan(winner->setting, winner->schedule, winner->chosen, winner->stageOf, price);
    if (options.explain)
      explainPlan(plan, winner->setting, winner->chosen, winner->stageOf, price);
    solution.plan = std::move(plan);
  } else if (!solution.interrupted) {
    explainInfeasible();
  }
  report(true);
  solution.searchSeconds = seconds();
  return std::move(solution);
}
} // namespace

Result<Solution> solve(const Problem &problem, const SolveOptions &options) { return Search(problem, options).run(); }

Result<Plan> evaluatePlan(const Problem &problem, const Plan &plan) {
  if (Result<bool> valid = validatePlan(plan); !valid)
    return valid.error();
  if (plan.units.size() != problem.units.size() || plan.ranks != problem.ranks() ||
      plan.globalBatch != problem.globalBatch)
    return Error{"expects a plan of " + std::to_string(problem.units.size()) + " units for " +
                 std::to_string(problem.ranks()) + " ranks and batch " + std::to_string(problem.globalBatch) +
                 ", but got one of " + std::to_string(plan.units.size()) + " units for " + std::to_string(plan.ranks) +
                 " ranks and batch " + std::to_string(plan.globalBatch)};
  // Alternatives come from the whole space; the plan itself may lie outside.
  Result<Setting> setting = Setting::make(problem, plan.pipeline, plan.microBatches);
  if (!setting)
    return setting.error();
  std::map<std::tuple<int, Strategy, int>, std::unique_ptr<Option>> priced;
  std::vector<const Option *> chosen;
  std::vector<int> stageOf;
  for (std::size_t unit = 0; unit < plan.units.size(); ++unit) {
    const PlannedUnit &planned = plan.units[unit];
    std::unique_ptr<Option> &option = priced[{setting->typeOf[unit], planned.strategy, planned.dp}];
    if (!option) {
      Result<Option> cost = setting->price(int(unit), planned.strategy, planned.dp);
      if (!cost)
        return Error{"unit '" + planned.path + "' cannot take " + describe(planned.strategy, planned.dp) + ": " +
                     cost.error().message};
      option = std::make_unique<Option>(std::move(*cost));
    }
    chosen.push_back(option.get());
    stageOf.push_back(planned.stage);
  }
  PlanPrice price = pricePlan(*setting, plan.schedule, chosen, stageOf);
  Plan result = assemblePlan(*setting, plan.schedule, chosen, stageOf, price);
  explainPlan(result, *setting, chosen, stageOf, price);
  return result;
}

} // namespace galvatron::search
