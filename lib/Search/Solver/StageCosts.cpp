//===- StageCosts.cpp - What layers cost on a stage ------------------------===//

#include "StageCosts.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace galvatron::search {

Layout layoutOf(const Strategy &strategy, int dp) {
  // Stretches are cut like those of ulysses.
  int context = plan::isContiguous(valuesOf(strategy, dp)) ? 1 : strategy.cp;
  int sequence = strategy.sequenceCut() / context;
  // Far tensor groups move the batch to neighbours; without a batch to cut, or
  // with nothing but it, the order of ranks makes no difference.
  return {dp, context, sequence, strategy.strided && dp * strategy.cp > 1};
}

namespace {
std::vector<int> divisors(std::int64_t n, std::int64_t most) {
  std::vector<int> list;
  for (std::int64_t d = 1; d <= std::min(n, most); ++d)
    if (n % d == 0)
      list.push_back(int(d));
  return list;
}

} // namespace

GroupShapes groupsOf(const Strategy &strategy, int dp, const plan::Mesh &mesh) {
  using plan::DimensionId;
  plan::MeshAxes axes = plan::dealMeshAxes(mesh, valuesOf(strategy, dp));
  auto along = [&](std::initializer_list<DimensionId> dimensions) {
    std::vector<int> all;
    for (DimensionId id : dimensions)
      all.insert(all.end(), axes.of[int(id)].begin(), axes.of[int(id)].end());
    return plan::getGroup(mesh, std::move(all));
  };
  GroupShapes groups;
  groups[int(Group::Tensor)] = along({DimensionId::Tp});
  groups[int(Group::Ulysses)] = along({DimensionId::Ulysses});
  groups[int(Group::Context)] = along({DimensionId::Cp});
  groups[int(Group::Expert)] = along({DimensionId::Ep});
  groups[int(Group::Data)] = along({DimensionId::Dp, DimensionId::Ep});
  groups[int(Group::Shard)] = along({DimensionId::Dp, DimensionId::Ep, DimensionId::Cp, DimensionId::Ulysses});
  groups[int(Group::ExpertShard)] = along({DimensionId::Dp, DimensionId::Cp, DimensionId::Ulysses});
  return groups;
}

std::vector<plan::Mesh> offeredMeshes(const Problem &problem, std::int64_t stageRanks) {
  plan::Mesh mesh = plan::getPrimeFactors(stageRanks);
  bool isOne = mesh.empty() || mesh.front() == mesh.back();
  if (isOne || (!problem.communication && stageRanks <= problem.cluster.devicesPerNode))
    return {{}};
  std::vector<plan::Mesh> meshes;
  do
    meshes.push_back(mesh);
  while (std::next_permutation(mesh.begin(), mesh.end()));
  return meshes;
}

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
              for (auto [recompute, keep] : {std::pair(false, false), {true, false}, {false, true}, {true, true}}) {
                Strategy s{.tp = tp,
                           .sequenceParallel = sp,
                           .ulysses = ulysses,
                           .cp = cp,
                           .ep = ep,
                           .zero = level,
                           .recompute = recompute,
                           .keepGathered = keep};
                bool shards = s.shardRanks(dp) > 1;
                if (!(space.zeroLevels >> level & 1) && shards)
                  continue;
                if ((!shards && level) || (sp && (tp == 1 || !space.sequenceParallel)) ||
                    (!sp && tp > 1 && !space.plainTensor) || (recompute && !space.recompute))
                  continue;
                // Exchanges of Ulysses alone gather nothing, but keys that have too few heads.
                if (keep && (!space.keepGathered || !(sp || cp > 1)))
                  continue;
                list.emplace_back(s, dp);
              }
      }
  return list;
}

int Setting::layoutIndex(const Layout &layout) {
  auto at = std::find(layouts.begin(), layouts.end(), layout);
  if (at == layouts.end())
    at = layouts.insert(layouts.end(), layout);
  return int(at - layouts.begin());
}

const GroupShapes &Setting::groupsOf(const Strategy &s, int dp) {
  auto [at, isNew] = groups.try_emplace(degreesOf(s, dp));
  if (isNew)
    at->second = search::groupsOf(s, dp, mesh.empty() ? plan::getPrimeFactors(stageRanks) : mesh);
  return at->second;
}

const plan::GroupShape &Setting::groupAlong(const std::vector<int> &axes, const Option &option) {
  auto [at, isNew] = groupsAlongAxes.try_emplace({degreesOf(option.strategy, option.dp), axes});
  if (!isNew)
    return at->second;
  plan::Mesh ascending = plan::getPrimeFactors(stageRanks), here = mesh.empty() ? ascending : mesh;
  plan::StrategyValues values = valuesOf(option.strategy, option.dp), near = values;
  near.strided = 0;
  return at->second = plan::getGroup(here, plan::translateAxes(axes, ascending, near, here, values));
}

/// Seconds that a body takes with its collectives: those that may overlap run
/// during compute where the device does that, but never at the same time as each other (one
/// communication stream).
double Setting::collectives(const std::vector<Collective> &list, const GroupShapes &groups, const Option &option,
                            double compute, int stageClass) {
  double exposed = 0, hidden = 0;
  for (const Collective &collective : list) {
    double seconds = collective.count * communication(stageClass)
                                            .seconds(collective.kind, double(collective.bytes),
                                                     collective.axes.empty() ? groups[int(collective.group)]
                                                                             : groupAlong(collective.axes, option));
    bool overlaps = collective.overlappable && problem->cluster.device.overlapsCommunication;
    (overlaps ? hidden : exposed) += seconds;
  }
  double slower = problem->cluster.device.overlapSlowdown - 1;
  return std::max(compute, hidden) + slower * std::min(compute, hidden) + exposed;
}

/// Seconds of what is exchanged once a step that no compute hides: the first micro-batch's forward may hide gathers of
/// parameters, the last one's backward sums of gradients.
double Setting::stepSeconds(const LayerCost &cost, const GroupShapes &groups, const Option &option, int stageClass) {
  std::vector<Collective> gathers, sums;
  for (const Collective &collective : cost.stepCollectives)
    (collective.kind == CollectiveKind::AllGather ? gathers : sums).push_back(collective);
  double before = collectives(gathers, groups, option, 0, stageClass);
  double after = collectives(sums, groups, option, 0, stageClass);
  if (!problem->cluster.device.overlapsCommunication)
    return before + after;
  return std::max(0.0, before - cost.forwardSeconds) +
         std::max(0.0, after - cost.backwardSeconds - cost.recomputeSeconds);
}

/// Of a layer's collectives. A stage has the groups of all of its layers.
Communicators Setting::communicatorsOf(const LayerCost &cost, const GroupShapes &groups, const Option &option) {
  Communicators communicators;
  const OverheadBytes &overhead = problem->cluster.device.overhead;
  if (!overhead.group && !overhead.peer)
    return communicators;
  for (const auto *list : {&cost.forwardCollectives, &cost.backwardCollectives, &cost.stepCollectives})
    for (const Collective &collective : *list) {
      const plan::GroupShape &shape =
          collective.axes.empty() ? groups[int(collective.group)] : groupAlong(collective.axes, option);
      auto at = std::find(groupIndex.begin(), groupIndex.end(), shape);
      if (shape.size() == 1 || (at == groupIndex.end() && groupIndex.size() == 64))
        continue;
      std::uint64_t bit = 1ull << (at - groupIndex.begin());
      if (at == groupIndex.end())
        groupIndex.push_back(shape);
      communicators.joined |= bit;
      if (collective.kind == CollectiveKind::AllToAll)
        communicators.exchanging |= bit;
      if (collective.kind == CollectiveKind::SendReceive)
        communicators.passing |= bit;
    }
  return communicators;
}

std::int64_t Setting::bytesOf(const Communicators &communicators) const {
  RankCommunicators all;
  for (std::size_t index = 0; index < groupIndex.size() && communicators.joined >> index; ++index) {
    std::int64_t others = groupIndex[index].size() - 1;
    if (!(communicators.joined >> index & 1))
      continue;
    all.groups.push_back(others + 1);
    if (communicators.exchanging >> index & 1)
      all.peers += others;
    else if (communicators.passing >> index & 1)
      all.peers += std::min<std::int64_t>(others, 2);
  }
  return problem->cluster.device.overhead.ofGroups(all);
}

Result<Option> Setting::price(int layer, const Strategy &strategy, int dp, int stageClass, std::optional<bool> split) {
  CostQuery query{&problem->layers[layer], strategy, dp, microBatchSamples, microBatches};
  Result<LayerCost> cost = problem->costs->cost(query);
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
  const GroupShapes &groups = groupsOf(strategy, dp);
  option.forward = collectives(cost->forwardCollectives, groups, option, cost->forwardSeconds, stageClass);
  option.backward = collectives(cost->backwardCollectives, groups, option, backward, stageClass);
  option.communication = std::max(0.0, option.forward + option.backward - cost->forwardSeconds - backward);
  option.tail = stepSeconds(*cost, groups, option, stageClass) + cost->updateSeconds;
  option.state = cost->stateBytes;
  option.saved = cost->savedBytes;
  if (cost->weightSeconds > 0) {
    bool keepsMore = cost->weightSavedBytes > cost->savedBytes;
    option.splits = split.value_or(!keepsMore);
    option.keepsForWeights = *option.splits && keepsMore;
    option.weight = *option.splits ? std::min(cost->weightSeconds, cost->backwardSeconds) : 0;
    if (option.keepsForWeights)
      option.saved = cost->weightSavedBytes;
  }
  option.communicators = communicatorsOf(*cost, groups, option);
  option.scratch = cost->scratchBytes + bytesOf(option.communicators);
  option.boundary = cost->boundaryBytes;
  option.certain = cost->certainBytes;
  bool isSecond = false; // of some tie; what is tied of its states is one figure, however many parameters
  for (const TiedParameter &tie : problem->ties) {
    isSecond |= tie.secondLayer == layer;
    // The ends of the model: on two stages as soon as there are two.
    if (stages > 1 && (tie.firstLayer == layer || tie.secondLayer == layer))
      option.tiedTail +=
          communication(stageClass)
              .seconds(CollectiveKind::AllReduce, double(tie.bytes) / strategy.tp, {2, stageRanks * (stages - 1)});
  }
  option.tail += option.tiedTail;
  option.tiedState = isSecond && stages > 1 ? cost->tiedStateBytes : 0;
  if (isSecond && stages == 1) {
    option.state -= cost->tiedStateBytes;
    option.certain -= std::min(option.certain, cost->tiedStateBytes);
  }
  return option;
}

/// One micro-batch's boundary value changes hands, forward and backward. Finer
/// cuts in the same direction are slices one way and gathers the other; cuts
/// that move between batch and sequence, or to other ranks, are exchanges both
/// ways.
double Setting::redistributionOf(int stageClass, const Layout &from, const Layout &to, double bytes) const {
  if (from == to)
    return 0;
  const CommunicationModel &network = communication(stageClass);
  int a = from.parts(), b = to.parts();
  auto finer = [](int x, int y) { return y % x == 0; };
  bool sameOrder = from.context == to.context && from.strided == to.strided;
  bool refines = finer(from.batch, to.batch) && finer(from.sequence, to.sequence);
  bool coarsens = finer(to.batch, from.batch) && finer(to.sequence, from.sequence);
  int least = std::min(a, b), most = std::max(a, b);
  int ratio = std::max(1, (most + least - 1) / least);
  double gather = ratio > 1 ? network.seconds(CollectiveKind::AllGather, bytes / least, {ratio, 1}) : 0;
  if (sameOrder && (refines || coarsens))
    return gather;
  int group = int(std::min<std::int64_t>(
      stageRanks, std::max({std::lcm(from.batch, to.batch) / std::gcd(from.batch, to.batch),
                            std::lcm(from.sequence, to.sequence) / std::gcd(from.sequence, to.sequence),
                            std::max(from.context, to.context), 2})));
  if (from.strided != to.strided)
    group = int(stageRanks);
  return gather + 2 * network.seconds(CollectiveKind::AllToAll, bytes / most, {group, 1});
}

const std::vector<double> &Setting::redistributionTable(int stageClass, std::int64_t boundary) const {
  return (*tables)[stageClass].at(boundary);
}

double Setting::redistribution(int stageClass, int from, int to, std::int64_t boundary) const {
  if (from == to || from < 0)
    return 0;
  if (tables)
    return redistributionTable(stageClass, boundary)[from * layouts.size() + to];
  return redistributionOf(stageClass, layouts[from], layouts[to], double(boundary));
}

double Setting::handOver(int stage, int layout, std::int64_t boundary) const {
  if (auto at = handOvers.find({handOverKind[stage], boundary}); at != handOvers.end())
    return at->second[layout];
  return handOverOf(stage, layouts[layout], double(boundary));
}

double Setting::handBack(int stage, int layout, std::int64_t boundary) const {
  return communication(classOf[stage])
      .sendSecondsFrom(stageRanks * stage, stageRanks, double(boundary) / layouts[layout].parts(), -int(stageRanks));
}

double Setting::handOverOf(int stage, const Layout &layout, double boundary) const {
  bool wraps = stage + 1 == stages; // interleaved: to the first stage's next part
  int distance = int(wraps ? -stageRanks * stage : stageRanks);
  return communication(classOf[stage])
      .sendSecondsFrom(stageRanks * stage, stageRanks, boundary / layout.parts(), distance);
}

/// Stages whose links are alike are one class. Only where stages span nodes of
/// different speed is there more than one.
void Setting::makeClasses() {
  classOf.assign(stages, 0);
  handOverExamples.clear();
  if (problem->communication) {
    links = {nullptr};
  } else {
    std::vector<Link> known;
    for (int stage = 0; stage < stages; ++stage) {
      bool inside = problem->cluster.devicesPerNode % stageRanks == 0;
      Link link = inside ? problem->cluster.inter : problem->cluster.interOfRanks(stage * stageRanks, stageRanks);
      auto same = [&](const Link &other) {
        return other.bytesPerSecond == link.bytesPerSecond && other.latencySeconds == link.latencySeconds;
      };
      auto at = std::find_if(known.begin(), known.end(), same);
      classOf[stage] = int(at - known.begin());
      if (at == known.end()) {
        known.push_back(link);
        links.push_back(std::make_shared<LinkModel>(problem->cluster, link));
      }
    }
  }
  // Links differ by size too: what takes as long at every power of two is alike.
  std::map<std::vector<double>, int> kinds;
  handOverKind.assign(stages, 0);
  for (int stage = 0; stage < stages && stages > 1; ++stage) {
    std::vector<double> probe;
    for (int power = 8; power < 36; ++power)
      probe.push_back(handOverOf(stage, Layout(), double(1ll << power)));
    auto [at, isNew] = kinds.emplace(std::move(probe), int(kinds.size()));
    handOverKind[stage] = at->second;
    if (isNew)
      handOverExamples.push_back(stage);
  }
}

Setting Setting::bare(const Problem &problem, int stages, int microBatches, plan::Mesh mesh) {
  Setting setting;
  setting.mesh = std::move(mesh);
  setting.problem = &problem;
  setting.stages = stages;
  setting.microBatches = microBatches;
  setting.stageRanks = problem.ranks() / stages;
  setting.microBatchSamples = problem.globalBatch / microBatches;
  setting.makeClasses();
  // Layers of one layer type are equal, tied ones apart.
  std::map<std::pair<std::string, int>, int> types;
  for (int layer = 0; layer < int(problem.layers.size()); ++layer) {
    int tied = -1;
    for (const TiedParameter &tie : problem.ties)
      if (tie.firstLayer == layer || tie.secondLayer == layer)
        tied = layer;
    auto [at, isNew] = types.emplace(std::pair{problem.layers[layer].layerType, tied}, int(types.size()));
    if (isNew) {
      setting.exampleOf.push_back(layer);
      setting.tied.push_back(tied >= 0);
    }
    setting.typeOf.push_back(at->second);
  }
  setting.options = std::make_shared<std::vector<OptionLists>>(setting.links.size(), OptionLists(types.size()));
  return setting;
}

namespace {
/// Whether `other` is no worse anywhere, and under no schedule, when it takes `extra` more seconds.
/// Forward and backward count apart: a timetable weighs them differently.
bool noWorse(const Option &other, const Option &option, double extra) {
  return other.keepsForWeights <= option.keepsForWeights && other.forward + extra <= option.forward &&
         other.backward + extra <= option.backward &&
         other.backward - other.weight + extra <= option.backward - option.weight && other.weight <= option.weight &&
         other.tail <= option.tail && other.state <= option.state && other.saved <= option.saved &&
         other.scratch <= option.scratch;
}
} // namespace

/// The ways of context parallelism that are worth a price for every level of ZeRO and all that is recomputed, which add
/// the same to each: those that no other of the same layout beats. `plain` recomputes nothing.
const std::vector<Setting::ContextWay> &Setting::contextWays(int layer, Strategy plain, int dp) {
  plain.zero = 0;
  auto [ways, isNew] = worthwhileWays.try_emplace({typeOf[layer], plain, dp});
  if (!isNew)
    return ways->second;
  auto beats = [](const Option &other, const Option &option) {
    return other.layout == option.layout && noWorse(other, option, 0);
  };
  std::vector<Option> kept;
  for (const Strategy &way : problem->costs->settle(problem->layers[layer], plain, microBatches)) {
    Result<Option> option = price(layer, way, dp);
    if (!option) {
      refusal = option.error().message;
      continue;
    }
    if (std::any_of(kept.begin(), kept.end(), [&](const Option &other) { return beats(other, *option); }))
      continue;
    std::erase_if(kept, [&](const Option &other) { return beats(*option, other); });
    kept.push_back(std::move(*option));
  }
  for (const Option &option : kept)
    ways->second.emplace_back(option.strategy.cpKind, option.strategy.cpZigzag);
  return ways->second;
}

/// Whether gradients of `way` are reduced at times of their own to some avail: what it takes is not worse than another
/// level of ZeRO in something and better in nothing. `way` recomputes nothing.
bool Setting::isTimeWorthwhile(int layer, const Strategy &way, int dp) {
  auto [known, isNew] = worthwhileTimes.try_emplace({typeOf[layer], way, dp});
  if (!isNew)
    return known->second;
  Result<Option> option = price(layer, way, dp);
  known->second = bool(option);
  Strategy other = way;
  other.reduceEveryMicroBatch = 0;
  for (other.zero = 1; option && other.zero <= way.zero; ++other.zero)
    if (problem->space.zeroLevels >> other.zero & 1)
      if (Result<Option> level = price(layer, other, dp); level && noWorse(*level, *option, 0))
        known->second = false;
  return known->second;
}

std::vector<Strategy> Setting::settle(int layer, const Strategy &strategy, int dp) {
  std::vector<Strategy> settled = problem->costs->settle(problem->layers[layer], strategy, microBatches);
  if (settled.size() == 1)
    return settled;
  auto plainFrom = [](Strategy way) {
    way.recompute = way.strided = false;
    return way;
  };
  if (strategy.cp > 1) {
    const std::vector<ContextWay> &ways = contextWays(layer, plainFrom(strategy), dp);
    std::erase_if(settled, [&](const Strategy &way) {
      return std::find(ways.begin(), ways.end(), ContextWay(way.cpKind, way.cpZigzag)) == ways.end();
    });
  }
  std::erase_if(settled, [&](const Strategy &way) {
    return way.reduceEveryMicroBatch && !isTimeWorthwhile(layer, plainFrom(way), dp);
  });
  return settled;
}

/// What stands for the strategy where values are chosen: their bytes and seconds are the same whatever ZeRO shares and
/// wherever ranks and their keys are, but for what gradients of a single micro-batch hide.
Strategy Setting::plainOf(Strategy strategy) const {
  strategy.strided = false;
  strategy.cpKind = strategy.cpZigzag = strategy.reduceEveryMicroBatch = 0;
  if (microBatches > 1)
    strategy.zero = 0;
  return strategy;
}

/// Sets of values worth recomputing: those on the lower convex hull of bytes kept against compute, from nothing to
/// everything. `none`: what recomputes none of the layer's `names` values. Between two of the hull, layers mix. The
/// sets are the same whatever links take, so that faster ones lose none.
std::vector<std::uint32_t> Setting::valueSets(int layer, std::size_t names, const Option &none) {
  struct Value {
    double seconds, bytes;
    std::uint32_t bit;
  };
  std::vector<Value> values;
  Strategy alone = none.strategy;
  for (std::size_t k = 0; k < names; ++k) {
    alone.values = 1u << k;
    Result<Option> option = price(layer, alone, none.dp);
    if (option && option->saved < none.saved)
      values.push_back({option->recompute, double(none.saved - option->saved), alone.values});
  }
  std::sort(values.begin(), values.end(), [](const Value &a, const Value &b) {
    return std::pair{a.seconds / a.bytes, a.bit} < std::pair{b.seconds / b.bytes, b.bit};
  });
  std::vector<std::uint32_t> sets;
  std::uint32_t set = 0;
  for (const Value &value : values)
    sets.push_back(set |= value.bit);
  return sets;
}

Result<Setting> Setting::make(const Problem &problem, int stages, int microBatches, plan::Mesh mesh) {
  Setting setting = bare(problem, stages, microBatches, std::move(mesh));
  const SearchSpace &space = problem.space;
  auto offered = offeredStrategies(space, setting.stageRanks, setting.microBatchSamples);
  // Within a node all ranks are equally far.
  if (space.strided && (problem.communication || setting.stageRanks > problem.cluster.devicesPerNode)) {
    auto all = offered;
    for (auto [strategy, dp] : offered)
      if (Strategy far = strategy; strategy.tp > 1 && dp * strategy.cp > 1) {
        far.strided = true;
        if (setting.groupsOf(far, dp) != setting.groupsOf(strategy, dp))
          all.emplace_back(far, dp);
      }
    offered = std::move(all);
  }
  int classes = int(setting.options->size());
  for (std::size_t type = 0; type < (*setting.options)[0].size(); ++type) {
    int layer = setting.exampleOf[type];
    bool isBlock = problem.layers[layer].role == LayerRole::Block;
    auto offerOnce = [&](const Strategy &strategy, int dp, std::optional<bool> split) -> std::optional<Option> {
      std::vector<Option> made;
      for (int each = 0; each < classes; ++each) {
        Result<Option> option = setting.price(layer, strategy, dp, each, split);
        if (!option) {
          setting.refusal = option.error().message;
          return std::nullopt;
        }
        made.push_back(std::move(*option));
      }
      for (int each = 0; each < classes; ++each)
        (*setting.options)[each][type].push_back(made[each]);
      return made[0];
    };
    auto offer = [&](const Strategy &strategy, int dp) {
      std::optional<Option> made = offerOnce(strategy, dp, {});
      if (made && made->splits == false && stages > 1)
        offerOnce(strategy, dp, true);
      return made;
    };
    std::size_t names = space.recomputeValues && space.recompute && isBlock
                            ? problem.costs->recomputableValues(problem.layers[layer]).size()
                            : 0;
    std::map<std::pair<Strategy, int>, std::vector<std::uint32_t>> known;
    auto offerAll = [&](const Strategy &strategy, int dp) {
      std::optional<Option> made = offer(strategy, dp);
      if (!made || strategy.recompute || !names)
        return;
      auto [sets, isNew] = known.try_emplace({setting.plainOf(strategy), dp});
      if (isNew)
        sets->second = setting.valueSets(layer, names, *made);
      for (std::uint32_t set : sets->second) {
        Strategy partly = strategy;
        partly.values = set;
        offer(partly, dp);
      }
    };
    for (const auto &[strategy, dp] : offered) {
      if (!isBlock && (strategy.recompute || strategy.ep > 1))
        continue; // nothing to recompute or no experts in the ends
      if (problem.offers && !problem.offers(problem.layers[layer], strategy, dp))
        continue;
      if (!isBlock && ((strategy.tp > 1 && !space.tensorInEnds) || (strategy.ulysses > 1 && !space.ulyssesInEnds)))
        continue;
      for (const Strategy &settled : setting.settle(layer, strategy, dp))
        offerAll(settled, dp);
    }
    if ((*setting.options)[0][type].empty())
      return Error{"no strategy is left for layer '" + problem.layers[layer].path + "' on " +
                   std::to_string(setting.stageRanks) + " ranks a stage" +
                   (setting.refusal.empty() ? "" : ": " + setting.refusal)};
  }
  setting.dropDominated();
  return setting;
}

void Setting::keepOnly(int type, const std::vector<int> &kept) {
  for (OptionLists &lists : *options) {
    std::vector<Option> chosen;
    for (int index : kept)
      chosen.push_back(std::move(lists[type][index]));
    lists[type] = std::move(chosen);
  }
}

void Setting::dropWithinLayouts() {
  for (std::size_t type = 0; type < (*options)[0].size(); ++type) {
    const std::vector<Option> &list = (*options)[0][type];
    std::vector<int> order(list.size()), kept;
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return std::tuple{list[a].time(), list[a].tail, list[a].state + list[a].saved, a} <
             std::tuple{list[b].time(), list[b].tail, list[b].state + list[b].saved, b};
    });
    // Only options of one layout, and where tied of what ties share, stand for each other.
    std::map<std::pair<int, TiedStrategy>, std::vector<int>> peers;
    for (int index : order) {
      std::vector<int> &alike =
          peers[{list[index].layout, tied[type] ? TiedStrategy::of(list[index].strategy) : TiedStrategy()}];
      auto beats = [&](int other) {
        return std::all_of(options->begin(), options->end(), [&](const OptionLists &lists) {
          return noWorse(lists[type][other], lists[type][index], 0);
        });
      };
      if (std::any_of(alike.begin(), alike.end(), beats))
        continue;
      alike.push_back(index);
      kept.push_back(index);
    }
    keepOnly(int(type), kept);
  }
}

void Setting::dropAcrossLayouts() {
  // By how much layout `b` in the place of `a` can cost more towards any
  // neighbour, on either side, for any boundary value of the model.
  std::size_t count = layouts.size();
  std::vector<double> more(count * count, 0);
  for (std::size_t each = 0; each < options->size(); ++each) {
    std::vector<double> before(count * count, 0), after(count * count, 0);
    for (const auto &[boundary, table] : (*tables)[each])
      for (std::size_t a = 0; a < count; ++a)
        for (std::size_t b = 0; b < count; ++b)
          for (std::size_t other = 0; other < count; ++other) {
            double in = table[other * count + b] - table[other * count + a];
            double out = table[b * count + other] - table[a * count + other];
            before[a * count + b] = std::max(before[a * count + b], in);
            after[a * count + b] = std::max(after[a * count + b], out);
          }
    for (std::size_t at = 0; at < more.size(); ++at)
      more[at] = std::max(more[at], before[at] + after[at]);
  }
  for (std::size_t type = 0; type < (*options)[0].size(); ++type) {
    std::vector<int> kept;
    for (int index = 0; index < int((*options)[0][type].size()); ++index) {
      const Option &option = (*options)[0][type][index];
      auto beats = [&](int at) {
        const Option &other = (*options)[0][type][at];
        if (!noWorse(other, option, 0) || other.boundary != option.boundary ||
            (tied[type] && TiedStrategy::of(other.strategy) != TiedStrategy::of(option.strategy)))
          return false;
        double extra = 0;
        if (other.layout != option.layout) {
          for (int stage : handOverExamples)
            if (handOver(stage, other.layout, other.boundary) > handOver(stage, option.layout, option.boundary))
              return false;
          extra = more[option.layout * count + other.layout] / 2; // each direction
        }
        for (const OptionLists &lists : *options)
          if (!noWorse(lists[type][at], lists[type][index], extra))
            return false;
        return true;
      };
      if (std::none_of(kept.begin(), kept.end(), beats))
        kept.push_back(index);
    }
    keepOnly(int(type), kept);
  }
}

void Setting::dropDominated() {
  dropWithinLayouts();
  // Layouts nobody uses any more go, so that tables stay small.
  std::vector<int> renumbered(layouts.size(), -1);
  std::vector<Layout> used;
  for (OptionLists &lists : *options)
    for (std::vector<Option> &list : lists)
      for (Option &option : list) {
        int &number = renumbered[option.layout];
        if (number < 0) {
          number = int(used.size());
          used.push_back(layouts[option.layout]);
        }
        option.layout = number;
      }
  layouts = std::move(used);
  auto made = std::make_shared<Tables>(options->size());
  for (std::size_t each = 0; each < options->size(); ++each)
    for (const std::vector<Option> &list : (*options)[each])
      for (const Option &option : list) {
        std::vector<double> &table = (*made)[each][option.boundary];
        if (table.empty())
          for (const Layout &from : layouts)
            for (const Layout &to : layouts)
              table.push_back(redistributionOf(int(each), from, to, double(option.boundary)));
      }
  tables = std::move(made);
  for (const auto &[boundary, table] : (*tables)[0])
    for (std::size_t kind = 0; kind < handOverExamples.size(); ++kind)
      for (const Layout &layout : layouts)
        handOvers[{int(kind), boundary}].push_back(handOverOf(handOverExamples[kind], layout, double(boundary)));
  if (layouts.size() <= 256)
    dropAcrossLayouts();
}

} // namespace galvatron::search
