//===- CheckPlan.cpp - An independent judge of plans ----------------------===//
//
// Written against the room Model alone: no header of the solver's is included
// here, and nothing is added up the way the solver does.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Check/CheckPlan.h"

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/Timetable.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace galvatron::search {

namespace {
/// A layer under its strategy, as the source prices it.
struct Priced {
  LayerCost cost;
  double forward = 0, backward = 0, tail = 0;
};

/// Seconds from the first forward until every stage has done its entries; `times` by part. An entry starts when the one
/// before it on its stage has ended and its value has arrived; each of a stage's two links carries one value at a time.
class LongestPath {
public:
  LongestPath(const PipelineShape &shape, const std::vector<PartTimes> &times)
      : shape(shape), times(times), walks(shape.stages) {
    for (int stage = 0; stage < shape.stages; ++stage)
      walks[stage].entries = stageTimetable(shape, stage);
    std::size_t values = std::size_t(shape.parts()) * shape.microBatches;
    forwards.assign(values, kUnknown);
    backwards.assign(values, kUnknown);
    std::fill_n(forwards.begin(), shape.microBatches, 0);                     // the data
    std::fill_n(backwards.end() - shape.microBatches, shape.microBatches, 0); // the loss
  }

  double seconds() {
    double last = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (int stage = 0; stage < shape.stages; ++stage)
        for (Walk &walk = walks[stage]; walk.next < walk.entries.size() && step(stage, walk); ++walk.next)
          moved = true;
    }
    for (const Walk &walk : walks)
      last = std::max(last, walk.next == walk.entries.size() ? walk.now : std::numeric_limits<double>::infinity());
    return last;
  }

private:
  static constexpr double kUnknown = -1;
  struct Walk {
    std::vector<Instruction> entries;
    std::size_t next = 0;
    double now = 0, sentDown = 0, sentUp = 0;
  };

  /// False: the entry's value is still on its way.
  bool step(int stage, Walk &walk) {
    const Instruction &entry = walk.entries[walk.next];
    bool goesBack = shape.schedule == Schedule::ZeroBubbleV && entry.chunk == 1;
    int part = goesBack ? 2 * shape.stages - 1 - stage : entry.chunk * shape.stages + stage;
    std::size_t value = std::size_t(part) * shape.microBatches + entry.microBatch;
    bool splits = splitsBackward(shape.schedule);
    double &linkToNext = goesBack ? walk.sentUp : walk.sentDown,
           &linkToPrevious = goesBack ? walk.sentDown : walk.sentUp;
    auto isTurn = [&](int first) { return shape.schedule == Schedule::ZeroBubbleV && first == shape.stages - 1; };
    switch (entry.phase) {
    case Computation::Forward:
      if (forwards[value] == kUnknown)
        return false;
      walk.now = std::max(walk.now, forwards[value]) + times[part].forward;
      if (isTurn(part))
        forwards[value + shape.microBatches] = walk.now;
      else if (part + 1 < shape.parts())
        linkToNext = forwards[value + shape.microBatches] = std::max(linkToNext, walk.now) + times[part].transfer;
      return true;
    case Computation::Backward:
      if (backwards[value] == kUnknown)
        return false;
      walk.now = std::max(walk.now, backwards[value]) + times[part].backward - (splits ? times[part].weight : 0);
      if (isTurn(part - 1))
        backwards[value - shape.microBatches] = walk.now;
      else if (part > 0)
        linkToPrevious = backwards[value - shape.microBatches] =
            std::max(linkToPrevious, walk.now) + times[part - 1].transfer;
      return true;
    case Computation::Weight:
      walk.now += times[part].weight;
      return true;
    }
    return true;
  }

  const PipelineShape &shape;
  const std::vector<PartTimes> &times;
  std::vector<Walk> walks;
  /// By part and micro-batch: when what its forward or backward waits for has arrived.
  std::vector<double> forwards, backwards;
};

class Judge {
public:
  /// `isGiven`: not the search's to answer for.
  Judge(const Problem &problem, const Plan &plan, bool isGiven) : problem(problem), plan(plan), isGiven(isGiven) {}

  CheckReport run() {
    if (structure() && price()) {
      memory();
      time();
    }
    return std::move(report);
  }

private:
  void complain(std::string text) { report.complaints.push_back(std::move(text)); }

  bool structure();
  bool price();
  void memory();
  void time();
  double wait(const std::vector<Collective> &list, const PlannedLayer &layer, double compute) const;
  plan::GroupShape group(const Collective &collective, const PlannedLayer &layer) const;
  std::int64_t libraries(const LayerCost &cost, const PlannedLayer &layer) const;
  double relayout(const PlannedLayer &from, const PlannedLayer &to, double bytes) const;

  const Problem &problem;
  const Plan &plan;
  bool isGiven;
  /// The links as a stage sees them.
  const CommunicationModel &network(int stage) const {
    return problem.communication ? *problem.communication : *links[stage];
  }
  std::vector<std::unique_ptr<LinkModel>> links;
  plan::Mesh mesh;        ///< of a stage's ranks
  std::vector<int> parts; ///< by layer
  std::vector<Priced> priced;
  CheckReport report;
};

bool Judge::structure() {
  Result<bool> valid = validatePlan(plan);
  if (!valid) {
    complain(valid.error().message);
    return false;
  }
  parts = plan.partOfLayers();
  mesh = plan.rankMesh();
  std::int64_t ranks = plan.ranks / plan.pipeline;
  for (std::int64_t stage = 0; stage < plan.pipeline; ++stage) {
    // A stage that shares its node's links with others sees the cluster's.
    bool shares = problem.cluster.devicesPerNode % ranks == 0;
    Link inter = shares ? problem.cluster.inter : problem.cluster.interOfRanks(stage * ranks, ranks);
    links.push_back(std::make_unique<LinkModel>(problem.cluster, inter));
  }
  for (const TiedParameter &tie : problem.ties) {
    if (isGiven || tie.secondLayer >= int(plan.layers.size()))
      continue;
    const PlannedLayer &first = plan.layers[tie.firstLayer], &second = plan.layers[tie.secondLayer];
    auto demand = [&](bool isSame, const char *what) {
      if (!isSame)
        complain("layers '" + first.path + "' and '" + second.path + "' share a parameter but have different " + what);
    };
    demand(first.strategy.tp == second.strategy.tp, "tp");
    demand(first.strategy.zero == second.strategy.zero, "levels of ZeRO");
    demand(first.strategy.strided == second.strategy.strided, "orders of ranks");
    auto isReducedOften = [](const Strategy &s) {
      return s.reduceEveryMicroBatch ? s.reduceEveryMicroBatch == 2 : s.zero >= 2;
    };
    demand(isReducedOften(first.strategy) == isReducedOften(second.strategy), "times to reduce its gradient");
  }
  if (plan.ranks != problem.cluster.nodes * problem.cluster.devicesPerNode)
    complain("plan is for " + std::to_string(plan.ranks) + " ranks, the cluster has " +
             std::to_string(problem.cluster.nodes * problem.cluster.devicesPerNode));
  if (plan.globalBatch != problem.globalBatch)
    complain("plan is for another global batch");
  if (plan.layers.size() != problem.layers.size())
    complain("plan has " + std::to_string(plan.layers.size()) + " layers, the model " +
             std::to_string(problem.layers.size()));
  else
    for (std::size_t i = 0; i < plan.layers.size(); ++i)
      if (plan.layers[i].path != problem.layers[i].path)
        complain("layer " + std::to_string(i) + " is '" + problem.layers[i].path + "' in the model and '" +
                 plan.layers[i].path + "' in the plan");
  const SearchSpace &space = problem.space;
  for (const PlannedLayer &layer : plan.layers) {
    const Strategy &s = layer.strategy;
    bool end = layer.role != LayerRole::Block;
    if ((end && s.tp > 1 && !space.tensorInEnds) || (end && s.ulysses > 1 && !space.ulyssesInEnds) ||
        (s.tp > 1 && !space.tensor) || s.tp > space.maxTensor || (s.ulysses > 1 && !space.ulysses) ||
        s.ulysses > space.maxUlysses || (s.cp > 1 && !space.context) || s.cp > space.maxContext ||
        (s.ep > 1 && !space.expert) || (s.recompute && !space.recompute) || (s.strided && !space.strided) ||
        (s.keepGathered && !space.keepGathered) || (!layer.recomputeValues.empty() && !space.recomputeValues) ||
        (s.sequenceParallel && !space.sequenceParallel) || (layer.dp > 1 && !space.data) ||
        (layer.dp * s.cp * s.ulysses > 1 && !(space.zeroLevels & (1u << s.zero))))
      complain("layer '" + layer.path + "' takes " + describe(s, layer.dp) + ", which the space does not offer");
  }
  return report.complaints.empty();
}

/// What an axis of the mesh is to a strategy: the place of its dimension, and how many axes of that size the dimension
/// has before.
using AxisUse = std::tuple<std::size_t, std::int64_t, int>;

/// An axis belongs to the first dimension, slowest first, whose degree still wants it. The order (dp, ep, cp, ulysses,
/// tp; strided: tp first) is said here anew, since the judge shares no arithmetic with what it judges.
std::vector<AxisUse> useAxes(const plan::Mesh &mesh, const PlannedLayer &layer, bool strided) {
  const Strategy &s = layer.strategy;
  std::int64_t degrees[] = {layer.dp / s.ep, s.ep, s.cp, s.ulysses, s.tp};
  std::map<std::pair<std::size_t, std::int64_t>, int> before;
  std::vector<AxisUse> uses;
  for (std::int64_t axis : mesh)
    for (std::size_t place = 0; place < 5; ++place) {
      std::size_t dimension = strided ? (place + 4) % 5 : place;
      if (degrees[dimension] % axis)
        continue;
      degrees[dimension] /= axis;
      uses.emplace_back(dimension, axis, before[{dimension, axis}]++);
      break;
    }
  return uses;
}

/// By the places in `useAxes`.
std::vector<std::size_t> dimensionsOf(Group group) {
  switch (group) {
  case Group::Tensor:
    return {4};
  case Group::Ulysses:
    return {3};
  case Group::Context:
    return {2};
  case Group::Expert:
    return {1};
  case Group::Data:
    return {0, 1};
  case Group::Shard:
    return {0, 1, 2, 3};
  case Group::ExpertShard:
    return {0, 2, 3};
  }
  return {};
}

/// The ranks of a stage at which all axes stand at 0 but those of the group.
plan::GroupShape Judge::group(const Collective &collective, const PlannedLayer &layer) const {
  std::vector<AxisUse> uses = useAxes(mesh, layer, layer.strategy.strided);
  std::vector<AxisUse> near = useAxes(plan::getPrimeFactors(plan.ranksPerStage()), layer, false);
  std::set<AxisUse> joined;
  for (int axis : collective.axes)
    joined.insert(near.at(axis));
  if (collective.axes.empty())
    for (const AxisUse &use : uses)
      for (std::size_t dimension : dimensionsOf(collective.group))
        if (std::get<0>(use) == dimension)
          joined.insert(use);
  std::vector<std::int64_t> members = {0};
  std::int64_t apart = plan.ranksPerStage();
  for (std::size_t axis = 0; axis < uses.size(); ++axis) {
    apart /= mesh[axis];
    if (!joined.count(uses[axis]))
      continue;
    std::vector<std::int64_t> before = std::exchange(members, {});
    for (std::int64_t member : before)
      for (std::int64_t k = 0; k < mesh[axis]; ++k)
        members.push_back(member + k * apart);
  }
  // Runs of equal distance, each a loop over those before.
  plan::GroupShape shape;
  for (std::size_t inner = 1; inner < members.size();) {
    std::int64_t stride = members[inner];
    std::size_t count = 1;
    while (count * inner < members.size() && members[count * inner] == std::int64_t(count) * stride)
      ++count;
    shape.loops.push_back({std::int64_t(count), stride});
    inner *= count;
  }
  return shape;
}

double Judge::wait(const std::vector<Collective> &list, const PlannedLayer &layer, double compute) const {
  double alone = 0, overlapped = 0;
  for (const Collective &c : list) {
    for (int i = 0; i < c.count; ++i) {
      double one = network(layer.stage).seconds(c.kind, double(c.bytes), group(c, layer));
      if (c.overlappable && problem.cluster.device.overlapsCommunication)
        overlapped += one;
      else
        alone += one;
    }
  }
  double together = std::min(overlapped, compute) * (problem.cluster.device.overlapSlowdown - 1);
  return alone + (overlapped > compute ? overlapped : compute) + together;
}

/// Bytes that libraries keep for the groups of a layer's collectives.
std::int64_t Judge::libraries(const LayerCost &cost, const PlannedLayer &layer) const {
  const OverheadBytes &each = problem.cluster.device.overhead;
  if (!each.group && !each.peer)
    return 0;
  std::map<plan::GroupShape, std::int64_t> mostPeers;
  std::vector<Collective> all = cost.forwardCollectives;
  all.insert(all.end(), cost.backwardCollectives.begin(), cost.backwardCollectives.end());
  all.insert(all.end(), cost.stepCollectives.begin(), cost.stepCollectives.end());
  for (const Collective &c : all) {
    plan::GroupShape ranks = group(c, layer);
    std::int64_t peers = c.kind == CollectiveKind::AllToAll ? ranks.size() - 1 : 0;
    if (c.kind == CollectiveKind::SendReceive)
      peers = ranks.size() > 2 ? 2 : 1;
    if (ranks.size() > 1)
      mostPeers[ranks] = std::max(mostPeers[ranks], peers);
  }
  std::int64_t bytes = 0;
  for (const auto &[ranks, peers] : mostPeers)
    bytes += each.group + peers * each.peer;
  return bytes;
}

double Judge::relayout(const PlannedLayer &from, const PlannedLayer &to, double bytes) const {
  // Positions of cp come from both ends of the sequence unless the plan says that they do not.
  auto mirrored = [](const PlannedLayer &u) { return u.strategy.cpZigzag == 1 ? 1 : u.strategy.cp; };
  auto sequence = [&](const PlannedLayer &u) {
    return (u.strategy.sequenceParallel ? u.strategy.tp : 1) * u.strategy.ulysses * (u.strategy.cp / mirrored(u));
  };
  int b0 = from.dp, c0 = mirrored(from), s0 = sequence(from);
  int b1 = to.dp, c1 = mirrored(to), s1 = sequence(to);
  bool far0 = from.strategy.strided && b0 * from.strategy.cp > 1, far1 = to.strategy.strided && b1 * to.strategy.cp > 1;
  if (b0 == b1 && c0 == c1 && s0 == s1 && far0 == far1)
    return 0;
  double p0 = double(b0) * c0 * s0, p1 = double(b1) * c1 * s1;
  double few = std::min(p0, p1), many = std::max(p0, p1);
  int group = int((many + few - 1) / few);
  double seconds = group > 1 ? network(to.stage).seconds(CollectiveKind::AllGather, bytes / few, {group, 1}) : 0;
  bool nested = c0 == c1 && far0 == far1 && ((b1 % b0 == 0 && s1 % s0 == 0) || (b0 % b1 == 0 && s0 % s1 == 0));
  if (!nested) {
    int reach = std::max({std::lcm(b0, b1) / std::gcd(b0, b1), std::lcm(s0, s1) / std::gcd(s0, s1), c0, c1, 2});
    reach = int(std::min<std::int64_t>(reach, plan.ranks / plan.pipeline));
    if (far0 != far1)
      reach = int(plan.ranks / plan.pipeline);
    seconds += 2 * network(to.stage).seconds(CollectiveKind::AllToAll, bytes / many, {reach, 1});
  }
  return seconds;
}

bool Judge::price() {
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlannedLayer &layer = plan.layers[i];
    CostQuery query{&problem.layers[i], layer.strategy, layer.dp, plan.globalBatch / plan.microBatches,
                    plan.microBatches};
    query.strategy.values = 0;
    std::vector<std::string> names = problem.costs->recomputableValues(problem.layers[i]);
    for (std::size_t k = 0; k < names.size(); ++k)
      for (const std::string &name : layer.recomputeValues)
        if (name == names[k])
          query.strategy.values |= 1u << k;
    Result<LayerCost> cost = problem.costs->cost(query);
    if (!cost) {
      complain("layer '" + layer.path + "': " + cost.error().message);
      return false;
    }
    Priced p{*cost};
    p.cost.scratchBytes += libraries(*cost, layer);
    double backward = cost->backwardSeconds + cost->recomputeSeconds;
    p.forward = wait(cost->forwardCollectives, layer, cost->forwardSeconds);
    p.backward = wait(cost->backwardCollectives, layer, backward);
    // Parameters come before the first forward, sums of gradients after the last backward.
    std::vector<Collective> step = cost->stepCollectives;
    auto middle = std::partition(step.begin(), step.end(),
                                 [](const Collective &c) { return c.kind == CollectiveKind::AllGather; });
    double parameters = wait({step.begin(), middle}, layer, 0), sums = wait({middle, step.end()}, layer, 0);
    if (problem.cluster.device.overlapsCommunication) {
      parameters = parameters > cost->forwardSeconds ? parameters - cost->forwardSeconds : 0;
      sums = sums > backward ? sums - backward : 0;
    }
    p.tail = parameters + sums + cost->updateSeconds;
    // The model's ends come together where it goes down and up again.
    bool isSecond = false, isApart = plan.pipeline > 1 && plan.schedule != Schedule::ZeroBubbleV;
    for (const TiedParameter &tie : problem.ties)
      if (tie.firstLayer == int(i) || tie.secondLayer == int(i))
        isApart |= plan.layers[tie.firstLayer].stage != plan.layers[tie.secondLayer].stage;
    for (const TiedParameter &tie : problem.ties) {
      isSecond |= tie.secondLayer == int(i);
      bool here = tie.firstLayer == int(i) || tie.secondLayer == int(i);
      if (here && isApart)
        p.tail += network(layer.stage)
                      .seconds(CollectiveKind::AllReduce, double(tie.bytes) / layer.strategy.tp,
                               {2, plan.ranks / plan.pipeline * (plan.pipeline - 1)});
    }
    if (isSecond && !isApart)
      p.cost.stateBytes -= cost->tiedStateBytes;
    priced.push_back(std::move(p));
  }
  return true;
}

void Judge::memory() {
  // Walk each stage's timetable, layer by layer, with everything that is alive.
  for (int stage = 0; stage < plan.pipeline; ++stage) {
    std::vector<std::vector<std::size_t>> mine(plan.virtualStages);
    std::int64_t alive = problem.cluster.device.overheadBytes;
    if (int(problem.extraBytesOfStage.size()) == plan.pipeline)
      alive += problem.extraBytesOfStage[stage];
    for (std::size_t i = 0; i < plan.layers.size(); ++i)
      if (plan.layers[i].stage == stage) {
        mine[parts[i] / plan.pipeline].push_back(i);
        alive += priced[i].cost.stateBytes;
      }
    std::int64_t peak = alive;
    for (Instruction entry : stageTimetable(plan.shape(), stage)) {
      const std::vector<std::size_t> &layers = mine[entry.chunk];
      bool forward = entry.phase == Computation::Forward;
      for (std::size_t k = 0; k < layers.size(); ++k) {
        std::size_t layer = forward ? layers[k] : layers[layers.size() - 1 - k];
        const LayerCost &cost = priced[layer].cost;
        bool splits = splitsBackward(plan.schedule) && plan.layers[layer].isBackwardSplit() && cost.weightSeconds > 0;
        if (forward)
          alive += cost.savedBytes;
        peak = std::max(peak, alive + cost.scratchBytes);
        if (entry.phase == Computation::Backward)
          alive += (splits ? cost.weightSavedBytes : 0) - cost.savedBytes;
        if (entry.phase == Computation::Weight && splits)
          alive -= cost.weightSavedBytes;
      }
    }
    report.peakBytesPerStage.push_back(peak);
    if (peak > problem.cluster.memoryBytesPerDevice)
      complain("stage " + std::to_string(stage) + " needs " + std::to_string(peak) + " bytes, the budget is " +
               std::to_string(problem.cluster.memoryBytesPerDevice));
    std::size_t rank = std::size_t(stage) * (plan.ranks / plan.pipeline);
    if (rank >= plan.peakBytesPerRank.size() || rank >= plan.overheadBytesPerRank.size())
      continue;
    std::int64_t claimed = plan.peakBytesPerRank[rank] + plan.overheadBytesPerRank[rank];
    if (claimed < peak)
      complain("stage " + std::to_string(stage) + " needs " + std::to_string(peak) + " bytes, the plan claims " +
               std::to_string(claimed));
  }
}

void Judge::time() {
  std::vector<PartTimes> times(plan.shape().parts());
  std::vector<double> tails(plan.pipeline, 0);
  std::int64_t ranks = plan.ranks / plan.pipeline;
  for (std::size_t i = 0; i < plan.layers.size(); ++i) {
    const PlannedLayer &layer = plan.layers[i];
    PartTimes &part = times[parts[i]];
    part.forward += priced[i].forward;
    part.backward += priced[i].backward;
    if (layer.isBackwardSplit())
      part.weight += std::min(priced[i].cost.weightSeconds, priced[i].cost.backwardSeconds);
    tails[layer.stage] += priced[i].tail;
    if (i == 0)
      continue;
    const PlannedLayer &before = plan.layers[i - 1];
    double bytes = double(priced[i - 1].cost.boundaryBytes);
    double moved = relayout(before, layer, bytes);
    part.forward += moved / 2;
    part.backward += moved / 2;
    if (before.stage != layer.stage)
      times[parts[i - 1]].transfer =
          network(before.stage)
              .sendSecondsFrom(before.stage * ranks, ranks, bytes / (double(before.dp) * before.strategy.sequenceCut()),
                               int(ranks * (layer.stage - before.stage)));
  }
  // Clipping waits for all stages: tails are not overlapped with one another.
  double tail = *std::max_element(tails.begin(), tails.end());
  PipelineShape shape = plan.shape();
  report.timetableSeconds = LongestPath(shape, times).seconds() + tail;
  double claimed = plan.predictedStepSeconds;
  if (std::abs(claimed - report.timetableSeconds) > 1e-9 * report.timetableSeconds) {
    char text[200];
    std::snprintf(text, sizeof text, "the timetable takes %.9g s, the plan promises %.9g s", report.timetableSeconds,
                  claimed);
    complain(text);
  }
}
} // namespace

std::optional<Error> CheckReport::error() const {
  if (ok())
    return std::nullopt;
  std::string more =
      complaints.size() > 1 ? " (and " + std::to_string(complaints.size() - 1) + " more complaints)" : "";
  return Error{"the plan does not hold what it says: " + complaints.front() + more +
               "; this is an error of the search, please report it with the command"};
}

CheckReport checkPlan(const Problem &problem, const Plan &plan) {
  return Judge(problem, plan, /*isGiven=*/false).run();
}

CheckReport checkGivenPlan(Problem problem, const Plan &plan) {
  problem.space = {};
  problem.cluster.memoryBytesPerDevice = std::numeric_limits<std::int64_t>::max();
  return Judge(problem, plan, /*isGiven=*/true).run();
}

} // namespace galvatron::search
