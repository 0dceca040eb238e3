//===- BordersBound.cpp - What a candidate takes at least -----------------===//

#include "BordersBound.h"

#include "KnapsackBound.h"

#include <algorithm>
#include <set>

namespace galvatron::search {

namespace {
/// Sizes of the largest scratch that are told apart.
constexpr std::size_t kScratchSizes = 16;
/// Times that `before` and `after` are renewed.
constexpr int kRounds = 2;
/// Halvings of what is open between bounds.
constexpr int kHalvings = 8;
/// Sums of the same numbers in another order differ by less.
constexpr double kRounding = 1e-12;
} // namespace

LayerRuns::LayerRuns(const std::vector<int> &typeOf)
    : count(int(typeOf.size())), kindOf(std::size_t(count) * (count + 1), 0) {
  std::map<std::vector<int>, int> known;
  int types = typeOf.empty() ? 0 : *std::max_element(typeOf.begin(), typeOf.end()) + 1;
  for (int begin = 0; begin < count; ++begin) {
    std::vector<int> run(types, 0);
    for (int end = begin + 1; end <= count; ++end) {
      ++run[typeOf[end - 1]];
      auto [at, isNew] = known.try_emplace(run, int(counts.size()));
      if (isNew)
        counts.push_back(run);
      kindOf[std::size_t(begin) * (count + 1) + end] = at->second;
    }
  }
}

struct BordersBound::Offer {
  Offer(const OptionLists &lists, int kept, double memory);

  struct Choice {
    double bytes; ///< states and what is kept
    const Option *option;
  };
  std::vector<std::vector<Choice>> byType;
  /// Of the largest scratch: the least and the most of a group of sizes.
  std::vector<std::pair<std::int64_t, std::int64_t>> scratch;
  double memory; ///< with scratch
};

BordersBound::Offer::Offer(const OptionLists &lists, int kept, double memory) : byType(lists.size()), memory(memory) {
  std::set<std::int64_t> seen;
  for (std::size_t type = 0; type < lists.size(); ++type) {
    for (const Option &option : lists[type]) {
      byType[type].push_back({double(option.state + option.saved * kept), &option});
      seen.insert(option.scratch);
    }
    std::sort(byType[type].begin(), byType[type].end(), [](const Choice &a, const Choice &b) {
      return std::pair(a.bytes, a.option) < std::pair(b.bytes, b.option);
    });
  }
  std::vector<std::int64_t> sizes(seen.begin(), seen.end());
  std::size_t groups = std::min(sizes.size(), kScratchSizes);
  for (std::size_t group = 0; group < groups; ++group)
    scratch.emplace_back(sizes[group * sizes.size() / groups], sizes[(group + 1) * sizes.size() / groups - 1]);
}

class BordersBound::Relaxed {
public:
  Relaxed(const Offer &offer, const Weights &weights, std::size_t kinds)
      : offer(offer), weights(weights), known(kinds, kUnknown) {}

  double seconds(int kind, const std::vector<int> &count) {
    if (known[kind] == kUnknown)
      known[kind] = solve(count);
    return known[kind];
  }

private:
  static constexpr double kUnknown = -1;
  struct Edge {
    int type;
    double bytes, seconds; ///< more bytes, fewer seconds
    double slope() const { return seconds / bytes; }
  };
  /// With the largest scratch out of one group.
  struct Capped {
    double room = 0;                              ///< bytes for states and what is kept
    bool isWhole = true;                          ///< every type has an option
    std::vector<std::pair<double, double>> least; ///< by type: bytes and seconds of the smallest
    std::vector<Edge> edges;                      ///< steepest first
  };
  void makeCapped();
  double solve(const std::vector<int> &count);

  const Offer &offer;
  Weights weights;
  std::vector<Capped> capped;
  std::vector<double> known; ///< by kind of run
};

void BordersBound::Relaxed::makeCapped() {
  for (auto [low, high] : offer.scratch) {
    Capped made;
    made.room = offer.memory - double(low);
    for (std::size_t type = 0; type < offer.byType.size(); ++type) {
      std::vector<std::pair<double, double>> points;
      for (auto [bytes, option] : offer.byType[type])
        if (option->scratch <= high)
          points.emplace_back(bytes, weights.forward * option->forward +
                                         weights.input * (option->backward - option->weight) +
                                         weights.weight * option->weight + weights.tail * option->tail);
      std::vector<std::pair<double, double>> hull = lowerHull(points);
      made.least.push_back(hull.empty() ? std::pair(kInfinity, kInfinity) : hull.front());
      for (std::size_t i = 1; i < hull.size(); ++i)
        made.edges.push_back({int(type), hull[i].first - hull[i - 1].first, hull[i - 1].second - hull[i].second});
    }
    std::sort(made.edges.begin(), made.edges.end(), [](const Edge &a, const Edge &b) { return a.slope() > b.slope(); });
    capped.push_back(std::move(made));
  }
}

double BordersBound::Relaxed::solve(const std::vector<int> &count) {
  if (capped.empty())
    makeCapped();
  double least = kInfinity;
  for (const Capped &each : capped) {
    double room = each.room, seconds = 0;
    for (std::size_t type = 0; type < count.size(); ++type)
      if (count[type]) {
        room -= count[type] * each.least[type].first;
        seconds += count[type] * each.least[type].second;
      }
    if (!(room >= 0)) // nor where a type has no option
      continue;
    for (const Edge &edge : each.edges) {
      if (!count[edge.type])
        continue;
      double bytes = count[edge.type] * edge.bytes, share = std::min(1.0, room / bytes);
      seconds -= share * count[edge.type] * edge.seconds;
      room -= share * bytes;
      if (share < 1)
        break;
    }
    least = std::min(least, std::max(0.0, seconds));
  }
  return least;
}

BordersBound::BordersBound(const Candidate &candidate, const LayerRuns &runs)
    : candidate(candidate), setting(candidate.setting()), runs(runs) {
  makeStages();
}

BordersBound::~BordersBound() = default;

void BordersBound::makeStages() {
  Schedule schedule = candidate.shape().schedule;
  double m = setting.microBatches;
  bool putsOff = schedule == Schedule::ZeroBubble;
  for (int number = 0; number < setting.stages; ++number) {
    double u = schedule == Schedule::GPipe ? 1 : std::min<double>(setting.stages - number, m);
    double v = putsOff ? std::min<double>(number + 1, m) : 0;
    Stage stage;
    stage.transfers = 2 * leastTransfer(number);
    stage.passed = relaxed(number, {1, 1, putsOff ? 0.0 : 1.0, 0});
    stage.turns.push_back({relaxed(number, {m - u + 1, m, m - v, 1}), true, true});
    if (u > 1)
      stage.turns.push_back({relaxed(number, {m, m, m - v, 1}), true, false});
    if (putsOff) {
      stage.turns.push_back({relaxed(number, {m - u + 1, m, m, 1}), false, true});
      stage.turns.push_back({relaxed(number, {m, m, m, 1}), false, false});
    }
    line.push_back(std::move(stage));
  }
}

/// One direction; what passes on leaves in some layer's layout.
double BordersBound::leastTransfer(int stage) const {
  if (stage + 1 == setting.stages)
    return 0;
  std::set<std::pair<int, std::int64_t>> boundaries;
  for (const std::vector<Option> &list : candidate.options()[setting.classOf[stage]])
    for (const Option &option : list)
      boundaries.emplace(option.layout, option.boundary);
  double least = kInfinity;
  for (auto [layout, boundary] : boundaries)
    least = std::min(least, setting.handOver(stage, layout, boundary));
  return least;
}

BordersBound::Relaxed *BordersBound::relaxed(int stage, const Weights &weights) {
  int kept = candidate.leastInFlight();
  if (candidate.shape().schedule == Schedule::OneFOneB)
    kept = std::min(setting.stages - stage, setting.microBatches);
  StageKind kind{setting.classOf[stage], kept, setting.extraBytes(stage)};
  std::unique_ptr<Offer> &offer = offers[kind];
  if (!offer)
    offer = std::make_unique<Offer>(candidate.options()[setting.classOf[stage]], kept,
                                    double(setting.memoryBudget() - setting.extraBytes(stage)));
  std::unique_ptr<Relaxed> &made = known[{kind, weights}];
  if (!made)
    made = std::make_unique<Relaxed>(*offer, weights, runs.kinds().size());
  return made.get();
}

/// The longest of the paths that turn at the stage.
double BordersBound::longest(int stage, int kind, double before, double after) {
  double most = 0;
  for (const Turn &turn : line[stage].turns)
    most = std::max(most, turn.own->seconds(kind, runs.kinds()[kind]) + (turn.before ? before : 0) +
                              (turn.after ? line[stage].transfers + after : 0));
  return most;
}

/// Renews `before`. False: no way is left.
bool BordersBound::goForwards(double limit) {
  int stages = setting.stages, layers = runs.layers();
  before.assign(stages + 1, std::vector<double>(layers + 1, kInfinity));
  before[0][0] = 0;
  for (int stage = 0; stage < stages; ++stage)
    for (int begin = stage; begin < layers; ++begin)
      for (int end = begin + 1; end <= layers - (stages - 1 - stage) && before[stage][begin] < kInfinity; ++end) {
        int kind = runs.kind(begin, end);
        if (longest(stage, kind, before[stage][begin], after[stage + 1][end]) * (1 - kRounding) >= limit) {
          if (longest(stage, kind, before[stage][begin], 0) * (1 - kRounding) >= limit)
            break; // more layers take no less
          continue;
        }
        double passed = line[stage].passed->seconds(kind, runs.kinds()[kind]) + line[stage].transfers;
        before[stage + 1][end] = std::min(before[stage + 1][end], before[stage][begin] + passed);
      }
  return before[stages][layers] < kInfinity;
}

/// Renews `after`. False: no way is left.
bool BordersBound::goBackwards(double limit) {
  int stages = setting.stages, layers = runs.layers();
  after.assign(stages + 1, std::vector<double>(layers + 1, kInfinity));
  after[stages][layers] = 0;
  for (int stage = stages - 1; stage >= 0; --stage)
    for (int end = layers - (stages - 1 - stage); end > stage; --end)
      for (int begin = end - 1; begin >= stage && after[stage + 1][end] < kInfinity; --begin) {
        int kind = runs.kind(begin, end);
        if (longest(stage, kind, before[stage][begin], after[stage + 1][end]) * (1 - kRounding) >= limit) {
          if (longest(stage, kind, 0, after[stage + 1][end]) * (1 - kRounding) >= limit)
            break;
          continue;
        }
        double passed = line[stage].passed->seconds(kind, runs.kinds()[kind]) + line[stage].transfers;
        after[stage][begin] = std::min(after[stage][begin], after[stage + 1][end] + passed);
      }
  return after[0][0] < kInfinity;
}

bool BordersBound::excludes(double limit) {
  after.assign(setting.stages + 1, std::vector<double>(runs.layers() + 1, 0));
  for (int round = 0; round < kRounds; ++round)
    if (!goForwards(limit) || !goBackwards(limit))
      return true;
  return false;
}

double BordersBound::floor(double most) {
  double low = candidate.bound(), high = most;
  if (low >= most || excludes(most))
    return std::max(low, most);
  if (most == kInfinity)
    return low;
  for (int step = 0; step < kHalvings; ++step) {
    double middle = (low + high) / 2;
    (excludes(middle) ? low : high) = middle;
  }
  return low;
}

} // namespace galvatron::search
