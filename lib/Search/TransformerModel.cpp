//===- TransformerModel.cpp - Costs of a Transformer by its shape ---------===//

#include "galvatron/Search/TransformerModel.h"

#include "JsonReader.h"

#include <algorithm>
#include <cmath>

namespace galvatron::search {

namespace {
constexpr double kMB = 1024.0 * 1024.0;

/// What the parallel rules need to know of a unit; everything else follows.
struct Body {
  double parameters = 0; ///< elements, whole
  /// Boundary value [b, s, h] of one data-parallel rank, whole sequence, bytes.
  double boundary = 0;
  /// Keys and values of the same samples, both, whole sequence, bytes.
  double keysValues = 0;
  bool attention = false;
  /// Exchanges of [b, s, h] in forward and backward under tp.
  int tensorForward = 0, tensorBackward = 0;
  int bytesPerElement = 2;
  double expertParameters = 0; ///< of `parameters`, in experts, whole
  double routed = 0;           ///< bytes of the tokens that a rank sends to experts
};

using Kind = CollectiveKind;

/// Whole bytes, of absurd sizes still a number.
std::int64_t wholeBytes(double bytes) { return std::int64_t(std::min(std::ceil(bytes), 1e15)); }

void add(std::vector<Collective> &list, Kind kind, Group group, double bytes, int count, bool overlappable = false) {
  if (bytes >= 1 && count > 0)
    list.push_back({kind, group, std::int64_t(std::min(bytes, 1e15)), count, overlappable});
}

void addTensor(UnitCost &cost, const Strategy &s, const Body &body, double local) {
  if (s.tp == 1)
    return;
  if (!s.sequenceParallel) {
    add(cost.forwardCollectives, Kind::AllReduce, Group::Tensor, local, body.tensorForward);
    add(cost.backwardCollectives, Kind::AllReduce, Group::Tensor, local, body.tensorBackward);
    return;
  }
  add(cost.forwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorForward);
  add(cost.forwardCollectives, Kind::ReduceScatter, Group::Tensor, local, body.tensorForward);
  add(cost.backwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorBackward);
  add(cost.backwardCollectives, Kind::ReduceScatter, Group::Tensor, local, body.tensorBackward);
  // The input is gathered again for the weight's gradient, beside compute.
  add(cost.backwardCollectives, Kind::AllGather, Group::Tensor, local, body.tensorBackward, true);
}

void addSequence(UnitCost &cost, const Strategy &s, const Body &body, double local) {
  if (!body.attention)
    return;
  double keysValues = body.keysValues / (double(s.ulysses) * s.cp * s.tp);
  if (s.ulysses > 1) {
    // q and out as wide as the boundary; k and v as wide as they are.
    for (auto *list : {&cost.forwardCollectives, &cost.backwardCollectives}) {
      add(*list, Kind::AllToAll, Group::Ulysses, local / s.tp / s.ulysses, 2);
      add(*list, Kind::AllToAll, Group::Ulysses, keysValues / 2, 2);
    }
  }
  if (s.cp > 1) {
    double gathered = keysValues * s.cp / 2;
    add(cost.forwardCollectives, Kind::AllGather, Group::Context, gathered, 2, true);
    add(cost.backwardCollectives, Kind::AllGather, Group::Context, gathered, 2, true);
    add(cost.backwardCollectives, Kind::ReduceScatter, Group::Context, gathered, 2);
  }
}

/// Tokens go to the ranks of their experts and come back: dispatch and combine,
/// forward and backward. Routing is taken to be even.
void addExperts(UnitCost &cost, const Strategy &s, const Body &body) {
  if (s.ep > 1)
    for (auto *list : {&cost.forwardCollectives, &cost.backwardCollectives})
      add(*list, Kind::AllToAll, Group::Expert, body.routed, 2);
}

/// Gradients and sharded states of `own` parameters of a rank, summed over the
/// ranks of `group`: collectives, bytes, and the optimizer's time.
void addStatesOf(UnitCost &cost, const Strategy &s, const Body &body, double own, Group group, double shards,
                 double memoryBytesPerSecond) {
  double e = body.bytesPerElement;
  // AdamW: two fp32 moments, and an fp32 master copy beside 16-bit parameters.
  double weights = own * e, gradients = own * e, optimizer = own * (e < 4 ? 12 : 8);
  if (shards > 1) {
    bool once = s.zero <= 1;
    if (s.zero == 0) {
      add(cost.stepCollectives, Kind::AllReduce, group, gradients, 1, true);
    } else {
      add(once ? cost.stepCollectives : cost.backwardCollectives, Kind::ReduceScatter, group, gradients, 1, true);
      if (s.zero <= 2)
        add(cost.stepCollectives, Kind::AllGather, group, weights, 1);
    }
    if (s.zero == 3) {
      add(cost.forwardCollectives, Kind::AllGather, group, weights, 1, true);
      add(cost.backwardCollectives, Kind::AllGather, group, weights, 1, true);
      cost.scratchBytes += wholeBytes(weights + gradients);
    }
  }
  double gatheredGradients = s.zero >= 2 ? gradients / shards : gradients;
  if (s.zero == 2)
    cost.scratchBytes += wholeBytes(gradients);
  double shardedOptimizer = s.zero >= 1 ? optimizer / shards : optimizer;
  double keptWeights = s.zero == 3 ? weights / shards : weights;
  cost.stateBytes += wholeBytes(keptWeights + gatheredGradients + shardedOptimizer);
  // Norm: reads the gradients once. Update: reads gradient, reads and writes
  // the optimizer's state, writes the parameters.
  double updated = s.zero >= 1 ? 1 / shards : 1;
  cost.updateSeconds += updated * (2 * gradients + 2 * optimizer + weights) / memoryBytesPerSecond;
}

void addStates(UnitCost &cost, const CostQuery &query, const Body &body, double memoryBytesPerSecond) {
  const Strategy &s = query.strategy;
  double shards = s.shardRanks(query.dp), dense = body.parameters - body.expertParameters;
  addStatesOf(cost, s, body, dense / s.tp, Group::Shard, shards, memoryBytesPerSecond);
  if (body.expertParameters > 0)
    addStatesOf(cost, s, body, body.expertParameters / s.tp / s.ep, Group::ExpertShard, shards / s.ep,
                memoryBytesPerSecond);
}

void repeatForward(UnitCost &cost) {
  cost.recomputeSeconds = cost.forwardSeconds;
  for (const Collective &collective : cost.forwardCollectives)
    if (collective.group != Group::Shard && collective.group != Group::ExpertShard) // gathered once for both
      cost.backwardCollectives.push_back(collective);
}

/// Names of ShapeCosts::recomputableValues, by bit.
enum Value { kNormValues, kProjections, kAttention, kInner, kActivation, kValues };
const char *const kValueNames[kValues] = {"norms", "qkv", "attention", "mlp_inner", "mlp_activation"};
} // namespace

std::vector<Unit> transformerUnits(std::int64_t layers) {
  std::vector<Unit> units = {{"embedding", "embedding", UnitRole::Embedding}};
  for (std::int64_t layer = 0; layer < layers; ++layer)
    units.push_back({"layers." + std::to_string(layer), "layer", UnitRole::Layer});
  units.push_back({"head", "head", UnitRole::Head});
  return units;
}

Result<UnitCost> ShapeCosts::cost(const CostQuery &query) const {
  const Strategy &s = query.strategy;
  if (s.ep > 1 && !shape.experts)
    return Error{"ep " + std::to_string(s.ep) + " needs a model with experts"};
  UnitRole role = query.unit->role;
  double h = double(shape.hidden), e = shape.bytesPerElement, v = double(shape.vocab);
  double width = shape.heads ? h / double(shape.heads) * double(shape.kvHeads) : h;
  double f = double(shape.ffn), mlp = shape.gatedMlp ? 3 : 2;
  auto divides = [&](std::int64_t whole, int parts, const char *what) -> std::optional<Error> {
    if (whole % parts)
      return Error{"degree " + std::to_string(parts) + " does not divide the " + std::to_string(whole) + " " + what};
    return std::nullopt;
  };
  std::optional<Error> refusal;
  if (role == UnitRole::Layer) {
    refusal = divides(shape.heads, s.tp * s.ulysses, "heads");
    if (!refusal)
      refusal = divides(shape.ffn, s.tp, "columns of the feed-forward layer");
    if (!refusal && shape.experts)
      refusal = divides(shape.experts, s.ep, "experts");
  } else {
    refusal = divides(shape.vocab, s.tp, "words of the vocabulary");
  }
  if (!refusal)
    refusal = divides(shape.sequence, s.sequenceCut(), "positions");
  if (refusal)
    return *refusal;

  double samples = double(query.microBatchSamples) / query.dp;
  double tokens = samples * double(shape.sequence);  // of one replica
  double here = tokens / (double(s.ulysses) * s.cp); // outside of tensor regions
  double inside = here / s.tp;                       // times width, in them
  double cut = s.sequenceParallel ? inside : here;   // under Megatron-SP
  UnitCost cost;
  Body body{.boundary = tokens * h * e,
            .keysValues = 2 * tokens * width * e,
            .attention = role == UnitRole::Layer,
            .bytesPerElement = shape.bytesPerElement};
  double flops = 0, traffic = 0, saved = 0, scratch = 0, weightFlops = 0, attention = 0;
  int kernels = 0;
  double again = 0, dropped = 0; // seconds and bytes of values made again
  if (role == UnitRole::Layer) {
    // A token passes `top` of the experts; without experts, the one MLP.
    double top = shape.experts ? double(shape.expertsPerToken) : 1, experts = std::max(1.0, double(shape.experts));
    double router = shape.experts ? h * experts : 0;
    body.expertParameters = shape.experts ? experts * mlp * h * f : 0;
    body.parameters = 2 * h * h + 2 * h * width + experts * mlp * h * f + 2 * h + router;
    body.tensorForward = body.tensorBackward = 2;
    body.routed = here * top * h * e / (s.sequenceParallel ? s.tp : 1);
    // Products with parameters, and seconds of causal attention (half of s x s, twice).
    double projections = 2 * h * h + 2 * h * width, inner = top * mlp * h * f;
    weightFlops = 2 * inside * (projections + inner) + 2 * here * router;
    flops = weightFlops;
    attention = 2 * inside * double(shape.sequence) * h / device.matmulFlopsPerSecond;
    if (device.attentionPairsPerSecond > 0) // of each head, half of s x s
      attention =
          std::max(attention, inside * double(shape.sequence) / 2 * double(std::max<std::int64_t>(shape.heads, 1)) /
                                  device.attentionPairsPerSecond);
    // Norms, residual sums and rope read and write once; so does the
    // activation between the products, and tokens on their way to experts.
    double moved = shape.experts ? 4 * cut * top * h : 0;
    traffic = e * (cut * h * 8 + inside * ((h + width) * 2 + top * (mlp + 1) * f) + moved);
    kernels = shape.experts ? 20 : 14;
    // Input, both norms' results, middle residual; q, k, v, attention's result;
    // the feed-forward's inner values; what experts were given.
    saved = e * (cut * h * 4 + inside * (2 * h + 2 * width + top * mlp * f) + moved / 4);
    scratch = e * (inside * (2 * h + 2 * top * f) + here * h * 2);
    // What each value is, and what making it again takes: its products, or
    // reading and writing it. Norms feed what follows, so all count on the input.
    auto drop = [&](Value value, double bytes, double products, double bytesMoved) {
      if (!(s.values >> value & 1))
        return;
      dropped += bytes;
      again += products / device.matmulFlopsPerSecond + bytesMoved / device.memoryBytesPerSecond + device.launchSeconds;
    };
    drop(kNormValues, e * cut * h * 2, 0, e * cut * h * 4);
    drop(kProjections, e * inside * (h + 2 * width), 2 * inside * (h * h + 2 * h * width), 0);
    drop(kAttention, e * inside * h, attention * device.matmulFlopsPerSecond, 0);
    double columns = shape.gatedMlp ? 2 : 1; // gate and up, or up alone
    drop(kInner, e * inside * top * columns * f, 2 * inside * top * columns * h * f, 0);
    drop(kActivation, e * inside * top * f, 0, e * inside * top * f * (columns + 1));
  } else if (role == UnitRole::Embedding) {
    body.parameters = v * h;
    body.tensorForward = 1;
    traffic = e * here * h * 3;
    kernels = 2;
    saved = 8 * here; // the words
    scratch = e * here * h;
  } else {
    body.parameters = v * h + h;
    body.tensorBackward = 1;
    flops = weightFlops = 2 * inside * v * h;
    traffic = e * cut * h * 3 + 4 * inside * v * 3;
    kernels = 5;
    saved = e * cut * h * 2 + 4 * inside * v; // logits in fp32
    scratch = 4 * inside * v + e * here * h;
  }
  double compute =
      flops / device.matmulFlopsPerSecond + traffic / device.memoryBytesPerSecond + kernels * device.launchSeconds;
  cost.forwardSeconds = compute + attention;
  // Two products for each one of forward; elementwise work reads twice.
  cost.backwardSeconds = 2 * compute + kBackwardAttention * attention;
  // One of the two is the weight's.
  cost.weightSeconds = weightFlops / device.matmulFlopsPerSecond;
  cost.savedBytes = wholeBytes(saved);
  cost.scratchBytes = wholeBytes(scratch);
  addTensor(cost, s, body, here * h * e);
  addSequence(cost, s, body, body.boundary);
  addExperts(cost, s, body);
  if (s.recompute) {
    repeatForward(cost);
    cost.scratchBytes += cost.savedBytes;
    cost.savedBytes = wholeBytes(e * cut * h);
  } else if (s.values) {
    cost.recomputeSeconds = again;
    cost.scratchBytes += wholeBytes(dropped);
    cost.savedBytes -= std::min(cost.savedBytes, std::int64_t(std::min(dropped, 1e15)));
  }
  addStates(cost, query, body, device.memoryBytesPerSecond);
  cost.boundaryBytes = wholeBytes(double(query.microBatchSamples) * double(shape.sequence) * h * e);
  if (role == UnitRole::Head && shape.tiedEmbedding) {
    // The matrix is the embedding's; it is held twice only on two stages.
    cost.tiedStateBytes = std::int64_t(double(cost.stateBytes) * (v * h) / (v * h + h));
  }
  return cost;
}

std::vector<std::string> ShapeCosts::recomputableValues(const Unit &unit) const {
  if (unit.role != UnitRole::Layer)
    return {};
  return {std::begin(kValueNames), std::end(kValueNames)};
}

//===----------------------------------------------------------------------===//
// From the reference's profiles
//===----------------------------------------------------------------------===//

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

Result<UnitCost> ProfiledCosts::cost(const CostQuery &query) const {
  if (query.strategy.ep > 1 || query.strategy.values)
    return Error{"the profiles have neither experts nor single values of a layer"};
  if (Result<bool> there = measured(query); !there)
    return there.error();
  const Strategy &s = query.strategy;
  UnitRole role = query.unit->role;
  double samples = double(query.microBatchSamples) / query.dp;
  double e = arguments.bytesPerElement();
  double boundary = samples * double(arguments.sequenceLength) * double(arguments.hiddenSize) * e;
  int degree = std::max(s.tp, s.ulysses);
  UnitCost cost;
  Body body{.boundary = boundary,
            .keysValues = 2 * boundary, // the profile does not tell heads apart
            .attention = role == UnitRole::Layer,
            .bytesPerElement = arguments.bytesPerElement()};
  Result<double> saved = 0.0;
  double scratch = 0;
  if (role == UnitRole::Layer) {
    body.parameters = profile.layerParameterMB * kMB / 4;
    body.tensorForward = body.tensorBackward = 2;
    cost.forwardSeconds = profile.layerForward.at(samples / degree) / s.cp * 1e-3;
    saved = profile.layerActivation.at(degree);
    if (s.recompute && !profile.hasCheckpoint)
      return Error{"'" + profile.memoryFile + "' lacks the key '" + profile.layerActivation.key +
                   "/checkpoint'; run the memory profiler with checkpointing"};
  } else {
    bool first = role == UnitRole::Embedding;
    body.tensorForward = first;
    body.tensorBackward = !first;
    // Both ends were measured together: half of the time each. With p > 1
    // their memory was measured apart.
    cost.forwardSeconds = profile.endsForward.at(samples / degree) / s.cp / 2 * 1e-3;
    Result<double> states = (first ? profile.firstStates : profile.lastStates).at(s.tp);
    if (!states)
      return states.error();
    body.parameters = *states * kMB / 16 * s.tp;
    saved = (first ? profile.firstActivation : profile.lastActivation).at(degree);
  }
  if (!saved)
    return saved.error();
  cost.backwardSeconds = 2 * cost.forwardSeconds; // GALVATRON.md 3.1
  // Half of the products with parameters are for their gradients; causal
  // attention, sequence x hidden a token beside the parameters, has none.
  double attention = role == UnitRole::Layer ? double(arguments.sequenceLength) * double(arguments.hiddenSize) : 0;
  if (body.parameters > 0)
    cost.weightSeconds = cost.forwardSeconds * body.parameters / (body.parameters + attention);
  double savedBytes = *saved * samples / s.cp * kMB;
  double local = boundary / (double(s.ulysses) * s.cp);
  addTensor(cost, s, body, local);
  addSequence(cost, s, body, boundary);
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

double ProfiledCommunication::seconds(CollectiveKind kind, double bytes, int groupSize, int stride) const {
  if (groupSize <= 1 || bytes <= 0)
    return 0;
  if (kind == CollectiveKind::SendReceive)
    return sendSeconds(bytes, stride);
  double megabytes = bytes / kMB / speedUp, n = groupSize;
  bool exchange = kind == CollectiveKind::AllToAll;
  bool half = kind == CollectiveKind::AllGather || kind == CollectiveKind::ReduceScatter;
  const auto &tables = exchange ? profile.allToAll : profile.allReduce;
  auto measured = tables.find(groupSize);
  bool within = groupSize * stride <= arguments.devicesPerNode;
  if (measured != tables.end() && within)
    return interpolate(measured->second, megabytes) * (half ? 0.5 : 1) * 1e-3;
  // Bus bandwidth of this arrangement; latency of the nearest measured group.
  auto beta = profile.allReduceMsPerMB(groupSize, stride == 1, arguments.world());
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
  problem.cluster.device.reservedBytes = 1024ll << 20; // 3.4: context
  problem.cluster.device.overlapSlowdown = profile.overlap;
  problem.cluster.memoryBytesPerDevice = std::int64_t(arguments.memoryGB) << 30;
  problem.cluster.intra = problem.cluster.device.intra;
  problem.cluster.inter = problem.cluster.device.inter;
  problem.globalBatch = batch;
  problem.units = transformerUnits(arguments.layers);
  problem.costs = made.costs.get();
  problem.communication = made.communication.get();
  SearchSpace &space = problem.space;
  space.data = !arguments.disableDp;
  space.tensor = !arguments.disableTp;
  space.ulysses = !arguments.disableSp;
  space.pipeline = !arguments.disablePp;
  space.context = !arguments.disableCp;
  space.recompute = !arguments.disableCheckpoint;
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

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

Result<TransformerShape> parseTransformerShape(std::string_view text, std::int64_t sequence, int bytesPerElement) {
  Result<Json> json = parseJson(text, "model config");
  if (!json)
    return json.error();
  // A model config has many keys that say nothing about cost: not strict.
  JsonReader reader(*json, "model config");
  TransformerShape shape;
  auto either = [&](const char *name, const char *gpt2, std::optional<std::int64_t> fallback) {
    const char *key = reader.has(gpt2) && !reader.has(name) ? gpt2 : name;
    const Json *member = reader.member(key);
    if (member && member->is_null() && fallback)
      return *fallback;
    return reader.integer(key, fallback, 1);
  };
  shape.name = reader.text("model_type", "transformer");
  shape.hidden = either("hidden_size", "n_embd", {});
  shape.layers = either("num_hidden_layers", "n_layer", {});
  shape.heads = either("num_attention_heads", "n_head", {});
  shape.kvHeads = either("num_key_value_heads", "num_kv_heads", shape.heads);
  shape.ffn = either("intermediate_size", "n_inner", 4 * shape.hidden);
  shape.vocab = either("vocab_size", "vocab_size", {});
  shape.tiedEmbedding = reader.flag("tie_word_embeddings", reader.has("n_embd"));
  for (const char *key : {"num_local_experts", "num_experts", "n_routed_experts"})
    if (!shape.experts && reader.has(key))
      shape.experts = reader.integer(key, {}, 1);
  if (shape.experts) {
    shape.expertsPerToken = reader.integer("num_experts_per_tok", {}, 1);
    shape.ffn = reader.integer("moe_intermediate_size", shape.ffn, 1);
    if (!reader.failed() && shape.expertsPerToken > shape.experts)
      reader.fail("key 'num_experts_per_tok' expects at most the " + std::to_string(shape.experts) +
                  " experts, but got " + std::to_string(shape.expertsPerToken));
  }
  std::string activation = reader.text("hidden_act", "");
  shape.gatedMlp = activation == "silu" || activation == "swiglu";
  std::int64_t positions = either("max_position_embeddings", "n_positions", 0);
  shape.sequence = sequence ? sequence : positions;
  shape.bytesPerElement = bytesPerElement;
  if (!reader.failed() && shape.sequence < 1)
    reader.fail("has no max_position_embeddings; give --seq");
  if (reader.failed())
    return *reader.finish();
  return shape;
}

} // namespace galvatron::search
