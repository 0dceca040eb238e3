//===- HullPlans.cpp - Plans on the hull of time against memory -----------===//
//
// A good plan before the exact search, which then prunes with it. Borders are given; a stage takes the plan that is
// fastest when a byte costs a price: the fastest of all for free, the smallest for a fortune. Between a plan that does
// not fit and one that does the price is raised or lowered, until nothing lies between them on the lower hull of time
// against memory; then single layers take what is left.
//
// Scratch memory is a maximum, not a sum: it is limited to some of the sizes that
// occur, one after another.
//
//===----------------------------------------------------------------------===//

#include "Candidate.h"
#include "LeastMemory.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

namespace galvatron::search {

namespace {
/// Limits of scratch that are tried, spread over the sizes that occur.
constexpr int kScratchLimits = 12;
/// Steps along the hull; it is reached long before.
constexpr int kHullSteps = 40;

/// How a stage's layers run.
struct StagePlan {
  std::vector<const Option *> options;
  double seconds = kInfinity; ///< of a step: all micro-batches and the tails
  std::int64_t memory = 0, scratch = 0;
  std::int64_t peak() const { return memory + scratch; }
};

class HullPlans {
public:
  HullPlans(const Candidate &candidate, double best, std::int64_t &work)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()), work(work) {
    found.seconds = best;
  }

  Found run(const std::function<bool()> &stopped);

private:
  std::vector<std::vector<int>> borders() const;
  /// Seconds of a step, infinite when a stage does not fit; `slowest`: a stage.
  double tryBorders(const std::vector<int> &partOf, int *slowest);
  void climb(std::vector<int> partOf);
  bool planStage(int stage, int begin, int end);
  std::vector<std::int64_t> scratchLimits(int begin, int end) const;
  StagePlan cheapest(int begin, int end, std::int64_t scratch, double perSecond, double perByte) const;
  void measure(StagePlan &plan) const;
  void fill(StagePlan &plan, int begin) const;
  double moved(const Option *from, const Option *to) const {
    return from && to ? setting.redistribution(stageClass, from->layout, to->layout, from->boundary) : 0;
  }
  std::int64_t bytes(const Option &option) const { return option.state + option.saved * kept; }

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  // Of the stage at hand.
  int stageClass = 0, kept = 1;
  std::int64_t extra = 0;           ///< bytes that it takes whatever its layers
  const Option *incoming = nullptr; ///< what the stage before ends with
  Choice choice;
  Found found;
  bool anyFits = false;
  std::int64_t &work; ///< changes of layout looked at
};

/// Ways to cut the layers near to equally, by the part of each.
std::vector<std::vector<int>> HullPlans::borders() const {
  int layers = setting.layers(), stages = setting.stages;
  std::vector<std::vector<int>> ways;
  auto cut = [&](auto sizeOf) {
    std::vector<int> partOf;
    for (int stage = 0; stage < stages; ++stage) {
      int left = layers - int(partOf.size()) - (stages - 1 - stage);
      partOf.insert(partOf.end(), stage + 1 == stages ? left : std::min(left, sizeOf(stage)), stage);
    }
    if (std::find(ways.begin(), ways.end(), partOf) == ways.end())
      ways.push_back(partOf);
  };
  int even = (layers + stages - 1) / stages;
  cut([&](int) { return even; });
  if (stages == 1 || !setting.problem->space.unevenStages)
    return ways;
  int longer = layers % stages; // stages of one layer more
  cut([&](int stage) { return layers / stages + (stage < longer); });
  cut([&](int stage) { return layers / stages + (stage >= stages - longer); });
  return ways;
}

/// The sizes between the largest scratch that some layer cannot do without and the
/// largest of all.
std::vector<std::int64_t> HullPlans::scratchLimits(int begin, int end) const {
  const OptionLists &lists = candidate.options()[stageClass];
  std::int64_t needed = 0;
  std::vector<std::int64_t> sizes;
  std::vector<bool> seen(lists.size(), false);
  for (int layer = begin; layer < end; ++layer) {
    int type = setting.typeOf[layer];
    if (seen[type])
      continue;
    seen[type] = true;
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (const Option &option : lists[type]) {
      least = std::min(least, option.scratch);
      sizes.push_back(option.scratch);
    }
    needed = std::max(needed, least);
  }
  std::erase_if(sizes, [&](std::int64_t size) { return size < needed; });
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  int count = int(sizes.size()), most = std::min(count, kScratchLimits);
  std::vector<std::int64_t> limits;
  for (int i = 0; i < most; ++i)
    limits.push_back(sizes[most == 1 ? count - 1 : std::size_t(i) * std::size_t(count - 1) / std::size_t(most - 1)]);
  return limits;
}

void HullPlans::measure(StagePlan &plan) const {
  plan.seconds = 0;
  plan.memory = extra;
  plan.scratch = 0;
  const Option *before = incoming;
  for (const Option *option : plan.options) {
    plan.seconds += setting.microBatches * (option->time() + moved(before, option)) + option->tail;
    plan.memory += bytes(*option);
    plan.scratch = std::max(plan.scratch, option->scratch);
    before = option;
  }
}

/// The least of perSecond · seconds + perByte · bytes: dynamic programming over
/// (layer, layout). Without options when some layer has none.
StagePlan HullPlans::cheapest(int begin, int end, std::int64_t scratch, double perSecond, double perByte) const {
  const OptionLists &lists = candidate.options()[stageClass];
  struct State {
    double cost = kInfinity;
    const Option *option = nullptr;
    int before = -1; ///< layout of the layer before
  };
  std::map<int, std::vector<State>> cheapestOf; // by type: the best option of each layout
  for (int layer = begin; layer < end; ++layer) {
    auto [at, isNew] = cheapestOf.try_emplace(setting.typeOf[layer], setting.layouts.size());
    if (!isNew)
      continue;
    for (const Option &option : lists[setting.typeOf[layer]]) {
      double cost = perSecond * (setting.microBatches * option.time() + option.tail) + perByte * double(bytes(option));
      if (option.scratch <= scratch && cost < at->second[option.layout].cost)
        at->second[option.layout] = {cost, &option, -1};
    }
  }
  std::vector<std::vector<State>> states(end - begin);
  work += std::int64_t(end - begin) * std::int64_t(setting.layouts.size() * setting.layouts.size());
  for (int layer = begin; layer < end; ++layer) {
    std::vector<State> &here = states[layer - begin];
    here = cheapestOf[setting.typeOf[layer]];
    for (State &state : here) {
      if (!state.option)
        continue;
      double least = kInfinity;
      if (layer == begin)
        least = perSecond * setting.microBatches * moved(incoming, state.option);
      else
        for (int layout = 0; layout < int(setting.layouts.size()); ++layout) {
          const State &before = states[layer - begin - 1][layout];
          double cost = before.option
                            ? before.cost + perSecond * setting.microBatches * moved(before.option, state.option)
                            : kInfinity;
          if (cost < least) {
            least = cost;
            state.before = layout;
          }
        }
      state.cost += least;
    }
  }
  StagePlan plan;
  auto last = std::min_element(states.back().begin(), states.back().end(),
                               [](const State &a, const State &b) { return a.cost < b.cost; });
  if (last->cost == kInfinity)
    return plan;
  plan.options.resize(end - begin);
  const State *state = &*last;
  for (int layer = end - 1; layer >= begin; --layer) {
    plan.options[layer - begin] = state->option;
    if (layer > begin)
      state = &states[layer - begin - 1][state->before];
  }
  measure(plan);
  return plan;
}

/// Single layers take the memory that is left, the largest gain first.
void HullPlans::fill(StagePlan &plan, int begin) const {
  const OptionLists &lists = candidate.options()[stageClass];
  int count = int(plan.options.size());
  for (int round = 0; round < 2 * count && work <= kHullWork; ++round) {
    double most = -1e-15;
    int where = -1;
    const Option *what = nullptr;
    std::tuple<int, const Option *, const Option *, const Option *> last = {-1, nullptr, nullptr, nullptr};
    for (int i = 0; i < count; ++i) {
      const Option *before = i ? plan.options[i - 1] : incoming, *now = plan.options[i];
      const Option *after = i + 1 < count ? plan.options[i + 1] : nullptr;
      // In the midst of layers that run alike one gains what the other does.
      if (std::exchange(last, std::tuple(setting.typeOf[begin + i], before, now, after)) == last)
        continue;
      double around = moved(before, now) + moved(now, after);
      work += std::int64_t(lists[setting.typeOf[begin + i]].size());
      for (const Option &option : lists[setting.typeOf[begin + i]]) {
        std::int64_t scratch = std::max(plan.scratch, option.scratch);
        if (plan.memory + bytes(option) - bytes(*now) + scratch > setting.memoryBudget())
          continue;
        double gain = setting.microBatches *
                          (option.time() - now->time() + moved(before, &option) + moved(&option, after) - around) +
                      option.tail - now->tail;
        if (gain < most) {
          most = gain;
          where = i;
          what = &option;
        }
      }
    }
    if (where < 0)
      return;
    plan.options[where] = what;
    measure(plan);
  }
}

/// The fastest that fits among those on the hull. False: none does.
bool HullPlans::planStage(int stage, int begin, int end) {
  stageClass = setting.classOf[stage];
  kept = timetable.inFlight(stage)[0][0];
  extra = setting.extraBytes(stage);
  incoming = begin ? choice.options[begin - 1] : nullptr;
  StagePlan best;
  for (std::int64_t scratch : scratchLimits(begin, end)) {
    if (work > kHullWork)
      break;
    auto fits = [&](const StagePlan &plan) { return plan.peak() <= setting.memoryBudget(); };
    StagePlan fast = cheapest(begin, end, scratch, 1, 0), small = fast;
    if (fast.options.empty())
      continue;
    if (!fits(fast)) {
      small = cheapest(begin, end, scratch, 0, 1);
      if (!fits(small))
        continue;
      for (int step = 0; step < kHullSteps && small.memory < fast.memory && fast.seconds < small.seconds; ++step) {
        double price = (small.seconds - fast.seconds) / double(fast.memory - small.memory);
        StagePlan between = cheapest(begin, end, scratch, 1, price);
        auto cost = [&](const StagePlan &plan) { return plan.seconds + price * double(plan.memory); };
        if (cost(between) >= cost(fast) * (1 - 1e-12))
          break;
        (fits(between) ? small : fast) = between;
      }
      fill(small, begin);
    }
    if (small.seconds < best.seconds)
      best = std::move(small);
  }
  if (best.options.empty())
    return false;
  std::copy(best.options.begin(), best.options.end(), choice.options.begin() + begin);
  return true;
}

double HullPlans::tryBorders(const std::vector<int> &partOf, int *slowest) {
  choice.partOf = partOf;
  choice.options.assign(setting.layers(), nullptr);
  for (int begin = 0, end = 0; begin < setting.layers(); begin = end) {
    while (end < setting.layers() && partOf[end] == partOf[begin])
      ++end;
    if (!planStage(partOf[begin], begin, end))
      return kInfinity;
  }
  PlanPrice price = pricePlan(setting, timetable, choice);
  *slowest = int(std::max_element(price.stageSeconds.begin(), price.stageSeconds.end()) - price.stageSeconds.begin());
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice)
    return kInfinity;
  if (price.seconds < found.seconds)
    found = {price.seconds, choice.options, choice.partOf, candidate.sharedOptions()};
  return price.seconds;
}

/// The slowest stage gives layers to its neighbours, as long as that helps.
void HullPlans::climb(std::vector<int> partOf) {
  int slowest = 0, layers = setting.layers();
  double now = tryBorders(partOf, &slowest);
  anyFits = anyFits || now < kInfinity;
  if (now == kInfinity || setting.stages == 1 || !setting.problem->space.unevenStages)
    return;
  for (bool moved = true; moved;) {
    moved = false;
    int from = slowest;
    for (int side : {-1, 1}) {
      int other = from + side;
      if (moved || other < 0 || other >= setting.stages || std::count(partOf.begin(), partOf.end(), from) < 2)
        continue;
      std::vector<int> next = partOf;
      int first = int(std::find(partOf.begin(), partOf.end(), from) - partOf.begin()), last = first;
      while (last + 1 < layers && partOf[last + 1] == from)
        ++last;
      next[side < 0 ? first : last] = other;
      int then = 0;
      double seconds = tryBorders(next, &then);
      if (seconds < now) {
        now = seconds;
        slowest = then;
        partOf = next;
        moved = true;
      }
    }
  }
}

Found HullPlans::run(const std::function<bool()> &stopped) {
  double before = found.seconds;
  for (const std::vector<int> &partOf : borders())
    if (!stopped())
      climb(partOf);
  // Where those do not fit: as the plan that needs the least memory does.
  if (!anyFits && setting.stages > 1 && setting.problem->space.unevenStages && work < kHullWork)
    if (LeastMemory least = findLeastMemory(candidate); least.option)
      climb(least.choice.partOf);
  if (found.seconds >= before)
    return {};
  return std::move(found);
}
} // namespace

Found Candidate::tryHull(double best, std::int64_t &work, const std::function<bool()> &stopped) const {
  return HullPlans(*this, best, work).run(stopped);
}

} // namespace galvatron::search
