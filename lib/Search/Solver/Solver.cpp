//===- Solver.cpp - Problem in, best plan out -----------------------------===//
//
// Order of work: price every setting (pipeline degree, micro-batches) and bound
// its candidates (one a schedule) from below; look for regular plans, so that an
// interrupted search has an answer; bound the candidates left once more, by what
// knows of borders; then open candidates by rising bound until the bound reaches
// the best plan.
//
// Threads take candidates in waves. A wave starts from the best plan before it
// and is merged in order, and its size depends on the work of those before it
// alone, so the answer does not depend on how many threads there are.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Solver/Solver.h"

#include "BordersBound.h"
#include "Candidate.h"
#include "LeastMemory.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <numeric>
#include <thread>
#include <tuple>

namespace galvatron::search {

namespace {
/// Sums of the same numbers in another order differ by less.
constexpr double kRounding = 1e-12;
/// Candidates that start from the same best plan: at first, and at most.
constexpr std::size_t kWave = 4, kRegularWave = 16, kMostWave = 64;
/// Work of the plans on the hull, of all candidates.
constexpr std::int64_t kMostHullWork = 10 * kHullWork;
/// Label budgets that all candidates together may take.
constexpr double kMostBudgets = 5;

/// What the calling thread has spent so far.
double threadSeconds() {
  timespec spent{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return double(spent.tv_sec) + 1e-9 * double(spent.tv_nsec);
}

class Search {
public:
  Search(const Problem &problem, const SolveOptions &options)
      : problem(problem), options(options), begin(std::chrono::steady_clock::now()), spentBefore(threadSeconds()) {}

  Result<Solution> run();

private:
  std::optional<Error> check() const;
  void makeCandidates();
  void raiseBounds();
  void regularPlans(bool glance);
  void smallestPlans();
  void hullPlans();
  void anyPlan();
  void exactPlans();
  void smallPlans();
  void accept(const Candidate &candidate, Found found);
  void finishPlan();
  void explainInfeasible();
  void report(bool force);
  /// Calls `work` for 0 … count - 1 on the threads allowed.
  void inParallel(std::size_t count, const std::function<void(std::size_t)> &work);
  /// The next candidates of `order` from `at` on, at most `most`, whose bounds are below the best plan.
  std::vector<const Candidate *> nextWave(const std::vector<const Candidate *> &order, std::size_t &at,
                                          std::size_t most) const;
  std::vector<const Candidate *> searchedExactly() const;
  void sortCandidates();
  bool stopped() const {
    return (options.stop && options.stop->load()) ||
           (options.timeLimitSeconds > 0 && seconds() > options.timeLimitSeconds);
  }
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

  const Problem &problem;
  const SolveOptions &options;
  std::chrono::steady_clock::time_point begin;
  double spentBefore = 0, notAlone = 0; ///< of the calling thread: before, and while others may work
  double lastReport = 0;
  std::vector<std::unique_ptr<Candidate>> candidates;
  const Candidate *winner = nullptr;
  Found best;
  double floor = kInfinity; ///< of the candidates opened so far
  Solution solution;
  std::string refusal;
};

void Search::inParallel(std::size_t count, const std::function<void(std::size_t)> &work) {
  std::atomic<std::size_t> next = 0;
  std::vector<double> took(count, 0);
  auto loop = [&] {
    for (std::size_t i; (i = next++) < count;) {
      double before = threadSeconds();
      work(i);
      took[i] = threadSeconds() - before;
    }
  };
  double before = threadSeconds();
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < std::min<std::size_t>(count, std::size_t(std::max(1, options.threads))); ++i)
    others.emplace_back(loop);
  loop();
  for (std::thread &thread : others)
    thread.join();
  notAlone += threadSeconds() - before;
  solution.workSeconds += std::accumulate(took.begin(), took.end(), 0.0);
  if (count)
    solution.chainSeconds += *std::max_element(took.begin(), took.end());
}

std::optional<Error> Search::check() const {
  const SearchSpace &space = problem.space;
  if (problem.layers.empty())
    return Error{"the problem has no layers to plan"};
  if (!problem.costs)
    return Error{"the problem has no cost source"};
  if (problem.globalBatch < 1)
    return Error{"expects a global batch of at least 1, but got " + std::to_string(problem.globalBatch)};
  const Cluster &cluster = problem.cluster;
  if (cluster.nodes < 1 || cluster.devicesPerNode < 1)
    return Error{"expects a cluster of at least 1 x 1 devices, but got " + std::to_string(cluster.nodes) + " x " +
                 std::to_string(cluster.devicesPerNode)};
  if (!cluster.interOfNode.empty() && std::int64_t(cluster.interOfNode.size()) != cluster.nodes)
    return Error{"expects one link for each of " + std::to_string(cluster.nodes) + " nodes, but got " +
                 std::to_string(cluster.interOfNode.size())};
  if (space.schedules.empty())
    return Error{"the space offers no schedule; allow gpipe or 1f1b"};
  if (space.microBatches > kMostMicroBatches)
    return Error{"expects at most " + std::to_string(kMostMicroBatches) +
                 " micro-batches, which a timetable can list, but got " + std::to_string(space.microBatches)};
  if (space.microBatches > 0 && problem.globalBatch % space.microBatches)
    return Error{"expects a number of micro-batches that divides the global batch of " +
                 std::to_string(problem.globalBatch) + ", but got " + std::to_string(space.microBatches)};
  if (space.stages > 0 && problem.ranks() % space.stages)
    return Error{"expects a number of stages that divides " + std::to_string(problem.ranks()) + " ranks, but got " +
                 std::to_string(space.stages)};
  return std::nullopt;
}

void Search::makeCandidates() {
  std::vector<std::tuple<int, int, plan::Mesh>> offered = offeredSettings(problem);
  std::vector<std::vector<Candidate>> made(offered.size());
  std::vector<std::string> refusals(offered.size());
  std::atomic<bool> late = false;
  PricedSettings own, &settings = options.settings ? *options.settings : own;
  inParallel(offered.size(), [&](std::size_t i) {
    if (late || (late = stopped()))
      return;
    auto [stages, microBatches, mesh] = offered[i];
    Result<Setting> setting = priceSetting(settings, problem, stages, microBatches, mesh);
    if (setting)
      made[i] = candidatesOf(std::make_shared<const Setting>(std::move(*setting)));
    else
      refusals[i] = setting.error().message;
  });
  for (std::size_t i = 0; i < offered.size(); ++i) {
    if (!refusals[i].empty())
      refusal = refusals[i];
    for (Candidate &candidate : made[i])
      candidates.push_back(std::make_unique<Candidate>(std::move(candidate)));
  }
  sortCandidates();
  solution.candidates = std::int64_t(candidates.size());
}

void Search::sortCandidates() {
  std::sort(candidates.begin(), candidates.end(),
            [&](const auto &a, const auto &b) { return a->order() < b->order(); });
}

std::vector<const Candidate *> Search::searchedExactly() const {
  std::vector<const Candidate *> exact;
  for (const auto &candidate : candidates)
    if (candidate->hasExactSearch())
      exact.push_back(candidate.get());
  return exact;
}

std::vector<const Candidate *> Search::nextWave(const std::vector<const Candidate *> &order, std::size_t &at,
                                                std::size_t most) const {
  std::vector<const Candidate *> wave;
  for (; at < order.size() && wave.size() < most; ++at)
    if (order[at]->bound() < best.seconds * (1 - kRounding))
      wave.push_back(order[at]);
  return wave;
}

/// Once some plan is known: what knows about borders and the memory of each stage excludes most other candidates.
void Search::raiseBounds() {
  if (candidates.empty())
    return;
  LayerRuns runs(candidates.front()->setting().typeOf);
  double limit = best.seconds * (1 - kRounding);
  inParallel(candidates.size(), [&](std::size_t i) {
    Candidate &candidate = *candidates[i];
    if (candidate.hasExactSearch() && candidate.bound() < limit && !stopped())
      candidate.raiseBound(BordersBound::floor(candidate, runs, limit));
  });
  sortCandidates();
}

void Search::report(bool force) {
  if (!options.progress || (!force && seconds() - lastReport < 0.2))
    return;
  lastReport = seconds();
  Progress progress{seconds(), solution.candidatesOpened, std::int64_t(candidates.size()), winner ? best.seconds : 0,
                    ""};
  if (winner)
    progress.best = "pipeline " + std::to_string(winner->shape().stages) + " (" +
                    std::string(scheduleName(winner->shape().schedule)) + "), " +
                    std::to_string(winner->shape().microBatches) + " micro-batches";
  options.progress(progress);
}

void Search::accept(const Candidate &candidate, Found found) {
  if (!(found.seconds < best.seconds))
    return;
  best = std::move(found);
  winner = &candidate;
  report(true);
}

void Search::regularPlans(bool glance) {
  std::function<bool()> stop = [this] { return stopped(); };
  std::vector<const Candidate *> order;
  for (const auto &candidate : candidates)
    order.push_back(candidate.get());
  if (glance) {
    // The bound of interleaved and zero-bubble plans lacks the bubble; with it
    // the likely ones come first.
    std::vector<std::pair<double, const Candidate *>> likely;
    for (const Candidate *candidate : order) {
      const PipelineShape &s = candidate->shape();
      bool bounded = s.schedule == Schedule::GPipe || s.schedule == Schedule::OneFOneB;
      double bubble = bounded ? 0 : double(s.stages - 1) / s.virtualStages / s.microBatches;
      likely.emplace_back(candidate->bound() * (1 + bubble), candidate);
    }
    std::sort(likely.begin(), likely.end(), [](const auto &a, const auto &b) {
      return std::pair{a.first, a.second->order()} < std::pair{b.first, b.second->order()};
    });
    std::transform(likely.begin(), likely.end(), order.begin(), [](const auto &each) { return each.second; });
  }
  std::size_t most = kRegularWave;
  for (std::size_t at = 0; at < order.size() && !stopped(); most = std::min(2 * most, kMostWave)) {
    std::vector<const Candidate *> wave = nextWave(order, at, most);
    std::vector<Found> found(wave.size());
    double limit = best.seconds;
    inParallel(wave.size(), [&](std::size_t i) { found[i] = wave[i]->tryRegular(limit, glance, stop); });
    for (std::size_t i = 0; i < wave.size(); ++i)
      accept(*wave[i], std::move(found[i]));
    report(false);
  }
}

/// Where memory is so short that no regular plan fits: the plan that needs the
/// least, for a limit to the exact search.
void Search::smallestPlans() {
  for (const auto &candidate : candidates) {
    if (!candidate->hasExactSearch() || !(candidate->bound() < best.seconds) || stopped())
      continue;
    LeastMemory least = findLeastMemory(*candidate);
    if (least.bytes > candidate->setting().memoryBudget())
      continue;
    PlanPrice price = pricePlan(candidate->setting(), Timetable(candidate->shape()), least.choice);
    accept(*candidate, {price.seconds, least.choice.options, least.choice.partOf, {candidate->sharedOptions()}});
  }
}

/// Near to the best where memory is short: a limit that spares the exact search
/// most of its labels.
void Search::hullPlans() {
  std::function<bool()> stop = [this] { return stopped(); };
  std::vector<const Candidate *> order = searchedExactly();
  std::int64_t spent = 0;
  std::size_t most = kWave;
  for (std::size_t at = 0; at < order.size() && !stopped() && spent < kMostHullWork;) {
    std::vector<const Candidate *> wave = nextWave(order, at, most);
    std::vector<Found> found(wave.size());
    std::vector<std::int64_t> work(wave.size(), 0);
    double limit = best.seconds;
    inParallel(wave.size(), [&](std::size_t i) { found[i] = wave[i]->tryHull(limit, work[i], stop); });
    std::int64_t before = spent;
    for (std::size_t i = 0; i < wave.size(); ++i) {
      spent += work[i];
      accept(*wave[i], std::move(found[i]));
    }
    most = spent - before < kHullWork ? std::min(2 * most, kMostWave) : kWave;
    report(false);
  }
}

/// Interrupted before the first plan: a quick one out of what is priced so far.
void Search::anyPlan() {
  double begin = seconds();
  std::function<bool()> late = [&] { return seconds() - begin > 5; };
  for (std::size_t i = 0; i < candidates.size() && !winner && !late(); ++i)
    accept(*candidates[i], candidates[i]->tryRegular(kInfinity, true, late));
}

void Search::exactPlans() {
  std::function<bool()> stop = [this] { return stopped(); };
  std::vector<const Candidate *> order = searchedExactly();
  std::size_t most = kWave;
  for (std::size_t at = 0;;) {
    std::size_t first = at;
    std::vector<const Candidate *> wave = nextWave(order, at, most);
    if (wave.empty()) // sorted: no later one is better
      return;
    // A search that has grown long ends sooner, and says how exact it was.
    double budgets = double(solution.labels) / double(options.labelBudget);
    double reach = budgets < 2 ? 1 : budgets < 3 ? 0.5 : budgets < 4 ? 0.25 : 0.0625;
    if (stopped() || budgets > kMostBudgets) {
      floor = std::min(floor, order[first]->bound());
      return;
    }
    std::vector<Opened> opened(wave.size());
    double limit = best.seconds * (1 - kRounding);
    inParallel(wave.size(), [&](std::size_t i) { opened[i] = wave[i]->open(limit, reach, options.labelBudget, stop); });
    std::int64_t before = solution.labels;
    for (std::size_t i = 0; i < wave.size(); ++i) {
      ++solution.candidatesOpened;
      solution.labels += opened[i].labels;
      floor = std::min(floor, opened[i].floor);
      accept(*wave[i], std::move(opened[i].found));
    }
    most = solution.labels - before < options.labelBudget ? std::min(2 * most, kMostWave) : kWave;
    report(false);
  }
}

/// Stages of several parts have no exact search, but where layers are few every plan is looked at.
void Search::smallPlans() {
  std::function<bool()> stop = [this] { return stopped(); };
  std::vector<const Candidate *> order;
  for (const auto &candidate : candidates)
    if (!candidate->hasExactSearch() && candidate->isSmall() && problem.space.unevenStages)
      order.push_back(candidate.get());
  for (std::size_t at = 0; at < order.size() && !stopped();) {
    std::vector<const Candidate *> wave = nextWave(order, at, kWave);
    std::vector<Found> found(wave.size());
    std::vector<std::int64_t> work(wave.size(), 0);
    double limit = best.seconds * (1 - kRounding);
    inParallel(wave.size(), [&](std::size_t i) { found[i] = wave[i]->trySmall(limit, work[i], stop); });
    for (std::size_t i = 0; i < wave.size(); ++i)
      accept(*wave[i], std::move(found[i]));
    report(false);
  }
}

void Search::explainInfeasible() {
  Infeasible &out = solution.infeasible;
  LeastMemory least;
  const Candidate *where = nullptr;
  for (const auto &candidate : candidates) {
    if (!candidate->hasExactSearch())
      continue;
    LeastMemory other = findLeastMemory(*candidate);
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
  out.smallestBudgetBytes = least.bytes + problem.cluster.device.overheadBytes;
  out.stage = least.stage;
  out.layer = problem.layers[least.layer].path;
  out.strategy = describe(least.option->strategy, least.option->dp);
  out.message = "no strategy fits " + formatBytes(double(problem.cluster.memoryBytesPerDevice)) +
                " per device; the smallest plan needs " + formatBytes(double(out.smallestBudgetBytes)) + " (" +
                std::to_string(out.smallestBudgetBytes) + " bytes: stage " + std::to_string(out.stage) + " of " +
                std::to_string(where->shape().stages) + ", largest layer '" + out.layer + "' with " + out.strategy +
                ", " + std::to_string(where->shape().microBatches) +
                " micro-batches); raise the budget, use more ranks or a smaller batch, or widen "
                "the space";
}

void Search::finishPlan() {
  Timetable timetable(winner->shape());
  Choice choice{best.options, best.partOf};
  PlanPrice price = pricePlan(winner->setting(), timetable, choice);
  Plan plan = assemblePlan(winner->setting(), timetable, choice, price);
  if (options.explain)
    explainPlan(plan, winner->setting(), timetable, choice, price);
  solution.plan = std::move(plan);
  solution.provenWithin = std::max(0.0, 1 - floor / best.seconds);
  if (solution.provenWithin < 2 * kRounding)
    solution.provenWithin = 0;
}

Result<Solution> Search::run() {
  if (auto error = check())
    return *error;
  makeCandidates();
  best.seconds = options.limitSeconds;
  // A glance at all of them gives a limit that spares most of the second look.
  regularPlans(true);
  bool isRaised = winner && !problem.space.uniform;
  if (isRaised)
    raiseBounds();
  regularPlans(false);
  if (!problem.space.uniform) {
    if (!winner && problem.space.unevenStages)
      smallestPlans();
    if (!isRaised)
      raiseBounds();
    hullPlans();
    exactPlans();
    smallPlans();
  }
  solution.interrupted = stopped();
  if (solution.interrupted && !winner)
    anyPlan();
  if (solution.interrupted && !candidates.empty()) // nothing is below the least bound
    floor = std::min(floor, candidates.front()->bound());
  if (winner)
    finishPlan();
  else if (!solution.interrupted && options.limitSeconds == kInfinity)
    explainInfeasible();
  report(true);
  solution.searchSeconds = seconds();
  double alone = threadSeconds() - spentBefore - notAlone;
  solution.workSeconds += alone;
  solution.chainSeconds += alone;
  return std::move(solution);
}
} // namespace

Result<Solution> solve(const Problem &problem, const SolveOptions &options) { return Search(problem, options).run(); }

Result<Plan> evaluatePlan(const Problem &problem, const Plan &plan) {
  Result<GivenPlan> given = readGivenPlan(problem, plan, true);
  if (!given)
    return given.error();
  PlanPrice price = pricePlan(given->setting, given->timetable, given->choice);
  Plan result = assemblePlan(given->setting, given->timetable, given->choice, price);
  result.mesh = plan.mesh; // in its own words
  result.nccl = plan.nccl;
  explainPlan(result, given->setting, given->timetable, given->choice, price);
  return result;
}

} // namespace galvatron::search
