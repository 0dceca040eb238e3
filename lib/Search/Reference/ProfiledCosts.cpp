//===- ProfiledCosts.cpp - Native costs from measured profiles ------------===//

#include "galvatron/Search/Reference/ProfiledCosts.h"

#include "galvatron/Search/Model/TransformerModel.h"
#include "lib/Search/Model/TransformerRules.h"

#include <algorithm>

namespace galvatron::search {

namespace {
constexpr double kMB = 1024.0 * 1024.0;
} // namespace

Result<bool> ProfiledCosts::measured(const CostQuery &query) const {
  const Strategy &s = query.strategy;
  int world = arguments.world();
  if (s.sequenceParallel != (s.tp > 1 && arguments.sequenceParallel))
    return Error{std::string("the memory profile was asked for ") + (arguments.sequenceParallel ? "with" : "without") +
                 " sequence_parallel"};
  if (s.tp > 1 && s.ulysses > 1)
    return Error{"the profile has no activations for tp and ulysses in one layer"};
  if (s.tp > 1)
    if (auto gather = profile.allGatherMs(s.tp, 1); !gather)
      return gather.error();
  if (s.ulysses > 1)
    if (auto exchange = profile.allToAllMs(s.ulysses, 1); !exchange)
      return exchange.error();
  int shards = s.shardRanks(query.dp);
  if (auto beta = profile.allReduceMsPerMB(shards, s.tp == 1, world); !beta)
    return beta.error();
  if (s.cp > 1)
    if (auto beta = profile.allReduceMsPerMB(s.cp, s.tp * s.ulysses == 1, world); !beta)
      return beta.error();
  int stages = world / (query.dp * s.modelRanks());
  if (auto beta = profile.p2pMsPerMB(stages); !beta)
    return beta.error();
  return true;
}

namespace {
/// What was measured of one layer.
struct Measured {
  double parameters = 0; ///< elements, whole
  double forwardSeconds = 0;
  double savedMB = 0; ///< of one sample and all positions
};

Result<Measured> measureBlock(const ReferenceProfile &profile, const Strategy &s, double samples) {
  int degree = std::max(s.tp, s.ulysses);
  Result<double> saved = profile.layerActivation.at(degree);
  if (s.recompute && !profile.hasCheckpoint)
    return Error{"'" + profile.memoryFile + "' lacks the key '" + profile.layerActivation.key +
                 "/checkpoint'; run the memory profiler with checkpointing"};
  if (!saved)
    return saved.error();
  return Measured{profile.layerParameterMB * kMB / 4, profile.layerForward.at(samples / degree) / s.cp * 1e-3, *saved};
}

/// Both ends were measured together: half of the time each. With p > 1 their memory was measured apart.
Result<Measured> measureEnd(const ReferenceProfile &profile, const Strategy &s, double samples, bool isFirst) {
  int degree = std::max(s.tp, s.ulysses);
  Result<double> states = (isFirst ? profile.firstStates : profile.lastStates).at(s.tp);
  if (!states)
    return states.error();
  Result<double> saved = (isFirst ? profile.firstActivation : profile.lastActivation).at(degree);
  if (!saved)
    return saved.error();
  return Measured{*states * kMB / 16 * s.tp, profile.endsForward.at(samples / degree) / s.cp / 2 * 1e-3, *saved};
}
} // namespace

Result<LayerCost> ProfiledCosts::cost(const CostQuery &query) const {
  if (query.strategy.ep > 1 || query.strategy.values || query.strategy.keepGathered)
    return Error{"the profiles have neither experts nor single values of a layer"};
  if (Result<bool> there = measured(query); !there)
    return there.error();
  const Strategy &s = query.strategy;
  LayerRole role = query.layer->role;
  double samples = double(query.microBatchSamples) / query.dp;
  double e = arguments.bytesPerElement();
  double boundary = samples * double(arguments.sequenceLength) * double(arguments.hiddenSize) * e;
  int degree = std::max(s.tp, s.ulysses);
  LayerCost cost;
  Body body{.boundary = boundary,
            .keysValues = 2 * boundary, // the profile does not tell heads apart
            .attention = role == LayerRole::Block,
            .bytesPerElement = arguments.bytesPerElement()};
  body.tensorForward = role == LayerRole::Block ? 2 : role == LayerRole::Embedding;
  body.tensorBackward = role == LayerRole::Block ? 2 : role == LayerRole::Head;
  Result<Measured> known = role == LayerRole::Block ? measureBlock(profile, s, samples)
                                                    : measureEnd(profile, s, samples, role == LayerRole::Embedding);
  if (!known)
    return known.error();
  body.parameters = known->parameters;
  cost.forwardSeconds = known->forwardSeconds;
  cost.backwardSeconds = 2 * cost.forwardSeconds; // GALVATRON.md 3.1
  // Half of the products with parameters are for their gradients; causal
  // attention, sequence x hidden a token beside the parameters, has none.
  double attention = role == LayerRole::Block ? double(arguments.sequenceLength) * double(arguments.hiddenSize) : 0;
  if (body.parameters > 0)
    cost.weightSeconds = cost.forwardSeconds * body.parameters / (body.parameters + attention);
  double scratch = 0, savedBytes = known->savedMB * samples / s.cp * kMB;
  double local = boundary / (double(s.ulysses) * s.cp);
  addTensor(cost, s, body, local);
  addSequence(cost, s, body, boundary);
  // Operands of products and gradients of their results are about what forward saves; no profile tells them apart.
  cost.weightSavedBytes = wholeBytes(savedBytes);
  if (s.recompute) {
    repeatForward(cost);
    scratch += savedBytes; // the layer's working set, once
    double kept = profile.checkpointActivation * samples / s.cp * kMB;
    savedBytes = kept / (s.ulysses > 1 || s.sequenceParallel ? degree : 1);
  }
  // Gathered input and its gradient.
  scratch += 2 * local;
  cost.savedBytes = wholeBytes(savedBytes);
  cost.scratchBytes = wholeBytes(scratch);
  // HBM rate of the profiled GPUs is not in the profile; the optimizer's time is
  // taken at the a100's (the shipped profiles were measured on those).
  addStates(cost, query, body, findDeviceKind("a100")->memoryBytesPerSecond);
  cost.boundaryBytes = wholeBytes(boundary * query.dp);
  return cost;
}

namespace {
/// Piecewise linear through the measured sizes; below the first and beyond the
/// last along the nearest segment, never below 0.
double interpolate(const MessageTable &table, double megabytes) {
  const auto &points = table.millisecondsOfMB;
  auto high = points.lower_bound(megabytes);
  if (high == points.begin())
    ++high;
  if (high == points.end())
    --high;
  auto low = std::prev(high);
  // Measured times are noisy; between two sizes a larger one never takes less.
  double slope = std::max(0.0, (high->second - low->second) / (high->first - low->first));
  return std::max(1e-6, low->second + slope * (megabytes - low->first));
}
} // namespace

double ProfiledCommunication::seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const {
  int groupSize = int(group.size());
  if (groupSize <= 1 || bytes <= 0)
    return 0;
  if (kind == CollectiveKind::SendReceive)
    return sendSeconds(bytes, int(group.stride()));
  double megabytes = bytes / kMB / speedUp, n = groupSize;
  bool exchange = kind == CollectiveKind::AllToAll;
  bool half = kind == CollectiveKind::AllGather || kind == CollectiveKind::ReduceScatter;
  const auto &tables = exchange ? profile.allToAll : profile.allReduce;
  auto measured = tables.find(groupSize);
  bool within = group.span() <= arguments.devicesPerNode;
  if (measured != tables.end() && within)
    return interpolate(measured->second, megabytes) * (half ? 0.5 : 1) * 1e-3;
  // Bus bandwidth of this arrangement; latency of the nearest measured group.
  auto beta = profile.allReduceMsPerMB(groupSize, group.isAdjacent(), arguments.world());
  if (!beta) // a group no candidate was allowed to form
    return 1e3;
  double latency = 0;
  if (!tables.empty()) {
    auto near = tables.lower_bound(groupSize);
    near = near == tables.end() ? std::prev(near) : near;
    latency = interpolate(near->second, 0);
  }
  double traffic = exchange ? (n - 1) / n * megabytes : (half ? 1 : 2) * (n - 1) / n * megabytes;
  return (traffic * *beta + latency * (half ? 0.5 : 1)) * 1e-3;
}

double ProfiledCommunication::sendSeconds(double bytesPerRank, int distance) const {
  int stages = arguments.world() / distance;
  auto beta = profile.p2pMsPerMB(stages);
  return beta ? bytesPerRank / kMB / speedUp * *beta * 1e-3 : 1e3;
}

Result<ProfiledProblem> makeProfiledProblem(const ReferenceArguments &arguments, const ReferenceProfile &profile,
                                            int batch) {
  ProfiledProblem made;
  made.costs = std::make_unique<ProfiledCosts>(arguments, profile);
  made.communication = std::make_unique<ProfiledCommunication>(arguments, profile);
  Problem &problem = made.problem;
  problem.cluster.nodes = arguments.nodes;
  problem.cluster.devicesPerNode = arguments.devicesPerNode;
  problem.cluster.device = *findDeviceKind("a100");
  problem.cluster.device.overhead = {};
  problem.cluster.device.overheadBytes = 1024ll << 20; // 3.4: context, and nothing for groups
  problem.cluster.device.overlapSlowdown = profile.overlap;
  problem.cluster.memoryBytesPerDevice = std::int64_t(arguments.memoryGB) << 30;
  problem.cluster.intra = problem.cluster.device.intra;
  problem.cluster.inter = problem.cluster.device.inter;
  problem.globalBatch = batch;
  problem.layers = transformerLayers(arguments.layers);
  problem.costs = made.costs.get();
  problem.communication = made.communication.get();
  SearchSpace &space = problem.space;
  space.data = !arguments.disableDp;
  space.tensor = !arguments.disableTp;
  space.ulysses = !arguments.disableSp;
  space.pipeline = !arguments.disablePp;
  space.context = !arguments.disableCp;
  space.recompute = !arguments.disableCheckpoint;
  space.keepGathered = false;
  space.expert = false;
  space.uniform = !arguments.fineGrained;
  space.sequenceParallel = arguments.sequenceParallel;
  space.plainTensor = !arguments.sequenceParallel;
  space.tensorInEnds = !arguments.disableEndsTp;
  space.ulyssesInEnds = !arguments.disableEndsSp;
  if (arguments.disableFsdp)
    space.zeroLevels &= ~(1u << 3);
  space.maxTensor = arguments.maxTp;
  space.maxUlysses = arguments.maxSp;
  space.maxPipeline = arguments.maxPp;
  space.maxContext = arguments.maxCp;
  if (arguments.settledChunks > 0)
    space.microBatches = arguments.settledChunks;
  return made;
}

} // namespace galvatron::search
