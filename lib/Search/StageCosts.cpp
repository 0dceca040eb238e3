//===- StageCosts.cpp - What units cost on a stage ------------------------===//

#include "StageCosts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace galvatron::search {

Layout layoutOf(const Strategy &strategy, int dp) { return {dp, strategy.cp, strategy.sequenceCut() / strategy.cp}; }

int inFlight(Schedule schedule, int stages, int stage, int microBatches) {
  return schedule == Schedule::GPipe ? microBatches : std::min(stages - stage, microBatches);
}

namespace {
std::vector<int> divisors(std::int64_t n, std::int64_t most) {
  std::vector<int> list;
  for (std::int64_t d = 1; d <= std::min(n, most); ++d)
    if (n % d == 0)
      list.push_back(int(d));
  return list;
}

int strideOf(Group group, const Option &option) {
  const Strategy &s = option.strategy;
  switch (group) {
  case Group::Ulysses:
    return 1;
  case Group::Tensor:
    return s.ulysses;
  case Group::Context:
    return s.tp * s.ulysses;
  case Group::Expert:
  case Group::Data:
    return s.tp * s.ulysses * s.cp;
  case Group::Shard:
    // dp x cp x ulysses around tp: the ulysses part is adjacent without tp.
    return s.tp;
  }
  return 1;
}

int sizeOf(Group group, const Option &option) {
  const Strategy &s = option.strategy;
  switch (group) {
  case Group::Ulysses:
    return s.ulysses;
  case Group::Tensor:
    return s.tp;
  case Group::Context:
    return s.cp;
  case Group::Expert:
    return s.ep;
  case Group::Data:
    return option.dp;
  case Group::Shard:
    return s.shardRanks(option.dp);
  }
  return 1;
}
} // namespace

std::vector<std::pair<Strategy, int>> offeredStrategies(const SearchSpace &space, std::int64_t stageRanks,
                                                        std::int64_t samples) {
  std::vector<std::pair<Strategy, int>> list;
  for (int tp : divisors(stageRanks, space.tensor ? space.maxTensor : 1))
    for (int ulysses : divisors(stageRanks / tp, space.ulysses ? space.maxUlysses : 1))
      for (int cp : divisors(stageRanks / tp / ulysses, space.context ? space.maxContext : 1)) {
        int dp = int(stageRanks / tp / ulysses / cp);
        if (samples % dp || (dp > 1 && !space.data))
          continue;
        for (int ep : divisors(dp, space.expert ? space.maxExpert : 1))
          for (int level = 0; level <= 3; ++level)
            for (bool sp : {false, true})
              for (bool recompute : {false, true}) {
                Strategy s{tp, ulysses, cp, ep, sp, level, recompute};
                bool shards = s.shardRanks(dp) > 1;
                if (!(space.zeroLevels >> level & 1) && shards)
                  continue;
                if ((!shards && level) || (sp && (tp == 1 || !space.sequenceParallel)) ||
                    (!sp && tp > 1 && !space.plainTensor) || (recompute && !space.recompute))
                  continue;
                list.emplace_back(s, dp);
              }
      }
  return list;
}

const CommunicationModel &Setting::communication() const {
  return problem->communication ? *problem->communication : *links;
}

int Setting::layoutIndex(const Layout &layout) {
  auto at = std::find(layouts.begin(), layouts.end(), layout);
  if (at == layouts.end())
    at = layouts.insert(layouts.end(), layout);
  return int(at - layouts.begin());
}

/// Seconds that a body takes with its collectives: those that may overlap hide
/// behind compute where the device does that, and behind each other never (one
/// communication stream).
double Setting::collectives(const std::vector<Collective> &list, const Option &option, double compute) const {
  double exposed = 0, hidden = 0;
  for (const Collective &collective : list) {
    int size = sizeOf(collective.group, option), stride = strideOf(collective.group, option);
    double seconds =
        collective.count * communication().seconds(collective.kind, double(collective.bytes), size, stride);
    bool overlaps = collective.overlappable && problem->cluster.device.overlapsCommunication;
    (overlaps ? hidden : exposed) += seconds;
  }
  double slower = problem->cluster.device.overlapSlowdown - 1;
  return std::max(compute, hidden) + slower * std::min(compute, hidden) + exposed;
}

Result<Option> Setting::price(int unit, const Strategy &strategy, int dp) {
  CostQuery query{&problem->units[unit], strategy, dp, microBatchSamples, microBatches};
  Result<UnitCost> cost = problem->costs->cost(query);
  if (!cost)
    return cost.error();
  Option option;
  option.strategy = strategy;
  option.dp = dp;
  option.layout = layoutIndex(layoutOf(strategy, dp));
  option.computeForward = cost->forwardSeconds;
  option.computeBackward = cost->backwardSeconds;
  option.recompute = cost->recomputeSeconds;
  double backward = cost->backwardSeconds + cost->recomputeSeconds;
  option.forward = collectives(cost->forwardCollectives, option, cost->forwardSeconds);
  option.backward = collectives(cost->backwardCollectives, option, backward);
  option.communication = std::max(0.0, option.forward + option.backward - cost->forwardSeconds - backward);
  // The last micro-batch's backward may hide what comes once a step.
  option.tail = collectives(cost->stepCollectives, option, 0);
  if (problem->cluster.device.overlapsCommunication)
    option.tail = std::max(0.0, option.tail - backward);
  option.tail += cost->updateSeconds;
  option.state = cost->stateBytes;
  option.saved = cost->savedBytes;
  option.scratch = cost->scratchBytes;
  option.boundary = cost->boundaryBytes;
  for (const TiedParameter &tie : problem->ties) {
    if (tie.firstUnit != unit && tie.secondUnit != unit)
      continue;
    // The ends of the model: on two stages as soon as there are two.
    if (stages > 1)
      option.tail += communication().seconds(CollectiveKind::AllReduce, double(tie.bytes) / strategy.tp, 2,
                                             int(stageRanks * (stages - 1)));
    else if (tie.secondUnit == unit)
      option.state -= cost->tiedStateBytes;
  }
  return option;
}

/// One micro-batch's boundary value changes hands, forward and backward. Finer
/// cuts in the same direction are slices one way and gathers the other; cuts
/// that move between batch and sequence are exchanges both ways.
double Setting::redistributionOf(const Layout &from, const Layout &to, double bytes) const {
  if (from == to)
    return 0;
  int a = from.parts(), b = to.parts();
  auto finer = [](int x, int y) { return y % x == 0; };
  bool refines = finer(from.batch, to.batch) && from.context == to.context && finer(from.sequence, to.sequence);
  bool coarsens = finer(to.batch, from.batch) && from.context == to.context && finer(to.sequence, from.sequence);
  int least = std::min(a, b), most = std::max(a, b);
  int ratio = std::max(1, (most + least - 1) / least);
  double gather = ratio > 1 ? communication().seconds(CollectiveKind::AllGather, bytes / least, ratio, 1) : 0;
  if (refines || coarsens)
    return gather;
  int group = int(std::min<std::int64_t>(
      stageRanks, std::max({std::lcm(from.batch, to.batch) / std::gcd(from.batch, to.batch),
                            std::lcm(from.sequence, to.sequence) / std::gcd(from.sequence, to.sequence),
                            std::max(from.context, to.context), 2})));
  return gather + 2 * communication().seconds(CollectiveKind::AllToAll, bytes / most, group, 1);
}

const std::vector<double> &Setting::redistributionTable(std::int64_t boundary) const {
  std::vector<double> &table = tables[boundary];
  if (table.empty())
    for (const Layout &from : layouts)
      for (const Layout &to : layouts)
        table.push_back(redistributionOf(from, to, double(boundary)));
  return table;
}

double Setting::redistribution(int from, int to, std::int64_t boundary) const {
  if (from == to || from < 0)
    return 0;
  if (fixedLayouts)
    return redistributionTable(boundary)[from * layouts.size() + to];
  return redistributionOf(layouts[from], layouts[to], double(boundary));
}

double Setting::handOver(int layout, std::int64_t boundary) const {
  return 2 * communication().sendSeconds(double(boundary) / layouts[layout].parts(), int(stageRanks));
}

Setting Setting::bare(const Problem &problem, int stages, int microBatches) {
  Setting setting;
  setting.problem = &problem;
  setting.stages = stages;
  setting.microBatches = microBatches;
  setting.stageRanks = problem.ranks() / stages;
  setting.microBatchSamples = problem.globalBatch / microBatches;
  if (!problem.communication)
    setting.links = std::make_shared<LinkModel>(problem.cluster);
  // Units of one layer type are equal, tied ones apart.
  std::map<std::pair<std::string, int>, int> types;
  for (int unit = 0; unit < int(problem.units.size()); ++unit) {
    int tied = -1;
    for (const TiedParameter &tie : problem.ties)
      if (tie.firstUnit == unit || tie.secondUnit == unit)
        tied = unit;
    auto [at, isNew] = types.emplace(std::pair{problem.units[unit].layerType, tied}, int(types.size()));
    if (isNew)
      setting.exampleOf.push_back(unit);
    setting.typeOf.push_back(at->second);
  }
  setting.options.resize(types.size());
  return setting;
}

Result<Setting> Setting::make(const Problem &problem, int stages, int microBatches) {
  Setting setting = bare(problem, stages, microBatches);
  auto offered = offeredStrategies(problem.space, setting.stageRanks, setting.microBatchSamples);
  for (std::size_t type = 0; type < setting.options.size(); ++type) {
    bool layer = problem.units[setting.exampleOf[type]].role == UnitRole::Layer;
    for (const auto &[strategy, dp] : offered) {
      if (!layer && (strategy.recompute || strategy.ep > 1))
        continue; // nothing to recompute or no experts in the ends
      Result<Option> option = setting.price(setting.exampleOf[type], strategy, dp);
      if (option)
        setting.options[type].push_back(*option);
      else
        setting.refusal = option.error().message;
    }
    if (setting.options[type].empty())
      return Error{"no strategy is left for unit '" + problem.units[setting.exampleOf[type]].path + "' on " +
                   std::to_string(setting.stageRanks) + " ranks a stage" +
                   (setting.refusal.empty() ? "" : ": " + setting.refusal)};
  }
  return setting;
}

namespace {
bool noWorse(const Option &other, const Option &option, double extra) {
  return other.time() + extra <= option.time() && other.tail <= option.tail && other.state <= option.state &&
         other.saved <= option.saved && other.scratch <= option.scratch;
}
} // namespace

void Setting::dropWithinLayouts() {
  for (std::vector<Option> &list : options) {
    std::sort(list.begin(), list.end(), [](const Option &a, const Option &b) {
      return std::pair{a.time(), a.tail} < std::pair{b.time(), b.tail};
    });
    std::vector<Option> kept;
    for (const Option &option : list)
      if (std::none_of(kept.begin(), kept.end(),
                       [&](const Option &other) { return other.layout == option.layout && noWorse(other, option, 0); }))
        kept.push_back(option);
    list = std::move(kept);
  }
}

void Setting::dropAcrossLayouts() {
  // By how much layout `b` in the place of `a` can cost more towards any
  // neighbour, on either side, for any boundary value of the model.
  std::size_t count = layouts.size();
  std::vector<std::int64_t> boundaries;
  for (const std::vector<Option> &list : options)
    for (const Option &option : list)
      if (std::find(boundaries.begin(), boundaries.end(), option.boundary) == boundaries.end())
        boundaries.push_back(option.boundary);
  std::vector<double> before(count * count, 0), after(count * count, 0);
  for (std::int64_t boundary : boundaries) {
    const std::vector<double> &table = redistributionTable(boundary);
    for (std::size_t a = 0; a < count; ++a)
      for (std::size_t b = 0; b < count; ++b)
        for (std::size_t other = 0; other < count; ++other) {
          double in = table[other * count + b] - table[other * count + a];
          double out = table[b * count + other] - table[a * count + other];
          before[a * count + b] = std::max(before[a * count + b], in);
          after[a * count + b] = std::max(after[a * count + b], out);
        }
  }
  for (std::vector<Option> &list : options) {
    std::vector<Option> kept;
    for (const Option &option : list)
      if (std::none_of(kept.begin(), kept.end(), [&](const Option &other) {
            std::size_t at = option.layout * count + other.layout;
            double handing = handOver(other.layout, other.boundary) - handOver(option.layout, option.boundary);
            return other.boundary == option.boundary &&
                   noWorse(other, option, before[at] + after[at] + std::max(0.0, handing));
          }))
        kept.push_back(option);
    list = std::move(kept);
  }
}

void Setting::dropDominated() {
  dropWithinLayouts();
  // Layouts nobody uses any more go, so that tables stay small.
  std::vector<int> renumbered(layouts.size(), -1);
  std::vector<Layout> used;
  for (std::vector<Option> &list : options)
    for (Option &option : list) {
      int &number = renumbered[option.layout];
      if (number < 0) {
        number = int(used.size());
        used.push_back(layouts[option.layout]);
      }
      option.layout = number;
    }
  layouts = std::move(used);
  tables.clear();
  fixedLayouts = true;
  if (layouts.size() <= 256)
    dropAcrossLayouts();
}

} // namespace galvatron::search
