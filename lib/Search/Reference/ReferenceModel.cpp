//===- ReferenceModel.cpp - Hetu-Galvatron's cost model, exactly ----------===//
//
// Section numbers refer to the inventory GALVATRON.md.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Reference/ReferenceModel.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace galvatron::search {

namespace {
constexpr double kMB = 1024.0 * 1024.0;
/// 3.4: device context counted on every stage.
constexpr double kContextMB = 1024;
} // namespace

std::string notation(const ReferenceStrategy &s) {
  std::string text = std::to_string(s.pp) + "-" + std::to_string(s.degree()) + (s.degree() > 1 ? "*" : "") + "-" +
                     std::to_string(s.dp) + (s.type == DpType::Zero3 ? "f" : "");
  if (s.checkpoint)
    text += "-c";
  if (s.sp > 1)
    text += "-sp";
  if (s.cp > 1)
    text += "-cp" + std::to_string(s.cp);
  return text;
}

int ReferenceModel::localSamples(int batch, int chunks, int dp) { return batch / chunks / dp; }

double ReferenceModel::boundaryMB(int samples) const {
  return double(samples) * double(arguments.sequenceLength) * double(arguments.hiddenSize) *
         arguments.bytesPerElement() / kMB;
}

DpType ReferenceModel::defaultType() const { return arguments.defaultDpType == "ddp" ? DpType::Ddp : DpType::Zero2; }

Result<double> ReferenceModel::gradientMsPerMB(const ReferenceStrategy &s) const {
  // Shards are adjacent ranks unless tensor parallelism takes those.
  return profile.allReduceMsPerMB(s.shardRanks(), s.tp == 1, arguments.world());
}

namespace {
/// Backward overlapped with the gradient sync of `megabytes`: GALVATRON.md 3.1's
/// max + (kappa - 1) min, in the reference's order of operations.
double overlapped(double backward, double megabytes, double msPerMB, double kappa) {
  double slowMsPerMB = msPerMB * kappa, sync = megabytes * slowMsPerMB, compute = backward * kappa;
  if (sync > compute)
    return compute + (megabytes - compute / slowMsPerMB) * msPerMB;
  return sync < compute ? sync + (backward - sync / kappa) : compute;
}
} // namespace

/// Everything is multiplied by the number of layers and at last divided by it,
/// as the reference does: the last digits depend on it.
Result<SecondsPair> ReferenceModel::layerSeconds(const ReferenceStrategy &s, int batch, int chunks) const {
  int b = localSamples(batch, chunks, s.dp), q = s.degree();
  double shards = s.shardRanks(), layers = arguments.layers;
  double forward = profile.layerForward.at(double(b) / q) * layers;
  double backward = forward * 2 + (s.checkpoint ? forward : 0);

  double message = 2 * (shards - 1) * (profile.layerParameterMB / s.tp / shards) * layers, beta = 0;
  if (arguments.halfPrecision())
    message /= 2;
  if (s.shardRanks() > 1) {
    Result<double> measured = gradientMsPerMB(s);
    if (!measured)
      return measured.error();
    beta = *measured;
  }
  double exchange = 0;
  if (q > 1) {
    Result<double> once = s.tp > 1 ? profile.allGatherMs(s.tp, boundaryMB(b)) : profile.allToAllMs(s.sp, boundaryMB(b));
    if (!once)
      return once.error();
    exchange = *once * ((s.tp > 1 ? 6 : 4) * layers * (s.checkpoint ? 1.5 : 1.0));
  }
  double pipeline = 0;
  if (s.pp > 1) {
    Result<double> measured = profile.p2pMsPerMB(s.pp);
    if (!measured)
      return measured.error();
    pipeline = 2.0 * s.pp * boundaryMB(b) * *measured;
  }
  auto total = [&](bool sync) {
    // 3.1: with d = 1 nothing is summed, even if Ulysses ranks share parameters.
    double both = s.dp > 1 ? forward + (sync ? overlapped(backward, message, beta, profile.overlap) : backward)
                           : forward + backward;
    double sum = both + exchange;
    if (s.type == DpType::Zero3)
      sum += message * 0.5 * beta;
    return (sum + pipeline) * (0.001 * arguments.costCoefficient) / layers;
  };
  return SecondsPair{total(true), total(false)};
}

namespace {
/// 3.2: communication is overlapped with compute, which it slows by kappa.
double hidden(double compute, double communication, double kappa) {
  if (compute >= communication / kappa)
    return communication + (kappa * compute - communication) / kappa;
  return communication;
}
} // namespace

Result<std::vector<SecondsPair>> ReferenceModel::endsSeconds(const ReferenceStrategy &s, int batch, int chunks) const {
  std::vector<SecondsPair> seconds(s.pp);
  int b = localSamples(batch, chunks, s.dp), q = s.degree();
  double half = arguments.halfPrecision() ? 0.5 : 1.0;
  double forward = profile.endsForward.at(double(b) / q) / s.cp;
  double shards = s.shardRanks();
  double gather = 0;
  if (s.tp > 1) {
    Result<double> once = profile.allGatherMs(s.tp, boundaryMB(b));
    if (!once)
      return once.error();
    gather = *once;
  }
  double beta = 0;
  if (s.shardRanks() > 1) {
    Result<double> measured = gradientMsPerMB(s);
    if (!measured)
      return measured.error();
    beta = *measured;
  }
  auto price = [&](double compute, double statesMB, int ends) {
    double w = statesMB / 4 * half * beta * (shards - 1) / shards;
    bool zero3 = s.type == DpType::Zero3;
    double scale = 0.001 * arguments.costCoefficient;
    auto total = [&](double forwardComm, double backwardComm) {
      return (hidden(compute, forwardComm, profile.overlap) + hidden(2 * compute, backwardComm, profile.overlap) +
              ends * gather) *
             scale;
    };
    double forwardComm = zero3 ? w / 2 : 0, backwardComm = zero3 ? w : w / 2;
    return SecondsPair{total(forwardComm, backwardComm), total(forwardComm, backwardComm - w / 2)};
  };
  if (s.pp == 1) {
    Result<double> states = profile.endsStates.at(s.tp);
    if (!states)
      return states.error();
    seconds[0] = price(forward, *states, 2);
    return seconds;
  }
  Result<double> first = profile.firstStates.at(s.tp), last = profile.lastStates.at(s.tp);
  if (!first || !last)
    return first ? last.error() : first.error();
  seconds.front() = price(forward / 2, *first, 1);
  seconds.back() = price(forward / 2, *last, 1);
  return seconds;
}

double ReferenceModel::stateFactor(const ReferenceStrategy &s, int chunks) const {
  if (s.type == DpType::Ddp)
    return 1;
  bool half = arguments.halfPrecision(), zero3 = s.type == DpType::Zero3;
  double x = 1.0 / s.shardRanks() + 0.003;
  double zero2Half = 7.0 / 8 * x + 1.0 / 8, zero2Full = 3.0 / 4 * x + 1.0 / 4;
  if (chunks == 1)
    return zero3 ? x : half ? zero2Half : zero2Full;
  if (arguments.asyncGradReduce) {
    if (zero3)
      return half ? zero2Half : zero2Full;
    return half ? 6.0 / 8 * x + 2.0 / 8 : 2.0 / 4 * x + 2.0 / 4;
  }
  if (zero3)
    return 5.0 / 4 * x;
  return half ? 5.0 / 4 * zero2Half : zero2Full;
}

namespace {
/// Micro-batches whose activations a stage keeps (3.4).
int inFlight(const ReferenceArguments &arguments, int stages, int stage, int chunks) {
  if (stages == 1)
    return 1;
  return arguments.pipelineType == "gpipe" ? chunks : stages - stage;
}
} // namespace

Result<MegabytePair> ReferenceModel::layerMemory(const ReferenceStrategy &s, int batch, int chunks, int stage) const {
  int b = localSamples(batch, chunks, s.dp), q = s.degree();
  double perSample;
  if (s.checkpoint) {
    if (!profile.hasCheckpoint)
      return Error{"memory profile '" + profile.memoryFile + "' lacks the key '" + profile.layerActivation.key +
                   "/checkpoint'; run the memory profiler with checkpointing, or disable "
                   "checkpointing"};
    perSample = profile.checkpointActivation;
    if (s.sp > 1 || arguments.sequenceParallel)
      perSample /= q;
  } else {
    Result<double> table = profile.layerActivation.at(q);
    if (!table)
      return table.error();
    perSample = *table;
  }
  return MegabytePair{4 * profile.layerParameterMB / s.tp * stateFactor(s, chunks),
                      perSample * b * inFlight(arguments, s.pp, stage, chunks)};
}

Result<std::vector<MegabytePair>> ReferenceModel::endsMemory(const ReferenceStrategy &s, int batch, int chunks) const {
  std::vector<MegabytePair> memory(s.pp);
  int b = localSamples(batch, chunks, s.dp);
  auto fill = [&](MegabytePair &pair, const DegreeTable &states, const DegreeTable &activation,
                  int stage) -> std::optional<Error> {
    Result<double> statesMB = states.at(s.tp), activationMB = activation.at(s.degree());
    if (!statesMB || !activationMB)
      return statesMB ? activationMB.error() : statesMB.error();
    pair.states = *statesMB * stateFactor(s, chunks);
    pair.activation = *activationMB * b * inFlight(arguments, s.pp, stage, chunks);
    return std::nullopt;
  };
  std::optional<Error> error;
  if (s.pp == 1) {
    error = fill(memory[0], profile.endsStates, profile.endsActivation, 0);
  } else {
    error = fill(memory.front(), profile.firstStates, profile.firstActivation, 0);
    if (!error)
      error = fill(memory.back(), profile.lastStates, profile.lastActivation, s.pp - 1);
  }
  if (error)
    return *error;
  return memory;
}

double ReferenceModel::bufferMB(int batch, int chunks, int stages, int bufferTp) const {
  if (!arguments.sequenceParallel || !arguments.globalMemoryBuffer || !bufferTp)
    return 0;
  double groups = double(arguments.world()) / stages / bufferTp;
  double samples = double(batch) / chunks / groups;
  return samples * double(arguments.sequenceLength) * double(arguments.hiddenSize) * 4 / 2 / kMB;
}

int ReferenceModel::overheadMB() const {
  if (arguments.memoryGB <= 20)
    return 0;
  return int(arguments.memoryGB * 1024 * 0.2);
}

int ReferenceModel::budgetMB() const { return arguments.memoryGB * 1024 - overheadMB(); }

namespace {
/// numpy's sum of a contiguous array (its pairwise summation up to 128 terms).
double pairwiseSum(std::span<const double> terms) {
  std::size_t n = terms.size();
  if (n > 128) {
    std::size_t half = n / 2 - n / 2 % 8;
    return pairwiseSum(terms.first(half)) + pairwiseSum(terms.subspan(half));
  }
  double sum = 0;
  std::size_t at = 0;
  if (n >= 8) {
    double r[8];
    std::copy_n(terms.begin(), 8, r);
    for (at = 8; at + 8 <= n; at += 8)
      for (int i = 0; i < 8; ++i)
        r[i] += terms[at + i];
    sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  }
  for (; at < n; ++at)
    sum += terms[at];
  return sum;
}
} // namespace

double ReferenceModel::iterationSeconds(const std::vector<double> &noSync, const std::vector<double> &sync,
                                        int chunks) {
  // The reference's order of operations, so that equal plans score equal to the
  // last digit.
  double p = double(noSync.size()), m = chunks, first = noSync.front();
  double rest = pairwiseSum({noSync.begin() + 1, noSync.end()}), fill = std::min(p - 1, m - 1) * first;
  double byLast = pairwiseSum(noSync) + noSync.back() * (m - 1);
  double byFirst =
      std::max(fill * 1 / 3, rest * 1 / 3) + std::max(fill * 2 / 3, rest * 2 / 3) + first * std::max(0.0, m + 1 - p);
  double tail = 0;
  for (std::size_t stage = 0; stage < noSync.size(); ++stage)
    tail = std::max(tail, sync[stage] - pairwiseSum({noSync.begin(), noSync.begin() + stage + 1}));
  return std::max(byLast, byFirst) + tail;
}

Result<ReferencePrice> ReferenceModel::price(const ReferencePlan &plan) const {
  Result<std::vector<SecondsPair>> endsTime = endsSeconds(plan.ends, plan.batch, plan.chunks);
  Result<std::vector<MegabytePair>> endsMB = endsMemory(plan.ends, plan.batch, plan.chunks);
  if (!endsTime || !endsMB)
    return endsTime ? endsMB.error() : endsTime.error();
  ReferencePrice result;
  std::vector<double> noSync, sync;
  std::size_t layer = 0;
  double buffer = bufferMB(plan.batch, plan.chunks, plan.stages, plan.bufferTp);
  result.fits = true;
  for (int stage = 0; stage < plan.stages; ++stage) {
    std::vector<double> without, with;
    double used = 0;
    for (int i = 0; i < plan.layersOfStage[stage]; ++i, ++layer) {
      const ReferenceStrategy &s = plan.layers[layer];
      Result<SecondsPair> time = layerSeconds(s, plan.batch, plan.chunks);
      Result<MegabytePair> memory = layerMemory(s, plan.batch, plan.chunks, stage);
      if (!time || !memory)
        return time ? memory.error() : time.error();
      without.push_back(time->noSync);
      with.push_back(time->withSync);
      used += std::ceil(memory->states + memory->activation);
    }
    noSync.push_back(pairwiseSum(without) + (*endsTime)[stage].noSync);
    sync.push_back(pairwiseSum(with));
    used += std::ceil((*endsMB)[stage].states + (*endsMB)[stage].activation + kContextMB) + std::floor(buffer);
    result.fits &= used <= budgetMB();
    result.memoryUsedMB.push_back(used + overheadMB());
  }
  result.iterationSeconds = iterationSeconds(noSync, sync, plan.chunks);
  result.throughput = plan.batch / result.iterationSeconds;
  return result;
}

namespace {
Result<ReferenceStrategy> toReference(const PlannedLayer &layer, const Plan &plan, DpType defaultType) {
  const Strategy &s = layer.strategy;
  if (s.ep > 1)
    return Error{"the reference's cost model has no expert parallelism, but layer '" + layer.path + "' has ep " +
                 std::to_string(s.ep) + "; use --cost-model=native"};
  if (s.tp > 1 && s.ulysses > 1)
    return Error{"the reference's cost model has tp or ulysses in a layer, but layer '" + layer.path +
                 "' has both; use --cost-model=native"};
  ReferenceStrategy out{plan.pipeline, s.tp, s.ulysses, s.cp, layer.dp, defaultType, s.recompute};
  if (s.zero >= 2)
    out.type = s.zero == 3 ? DpType::Zero3 : DpType::Zero2;
  if (layer.dp == 1) // its enumeration has no other type there
    out.type = DpType::Ddp;
  return out;
}
} // namespace

Result<ReferencePlan> ReferenceModel::fromPlan(const Plan &plan) const {
  ReferencePlan out;
  out.world = int(plan.ranks);
  out.stages = plan.pipeline;
  out.batch = int(plan.globalBatch);
  out.chunks = plan.microBatches;
  out.layersOfStage.assign(plan.pipeline, 0);
  out.ends = ReferenceStrategy{plan.pipeline, 1, 1, 1, int(plan.ranksPerStage()), DpType::Ddp};
  if (out.world != arguments.world())
    return Error{"expects a plan for " + std::to_string(arguments.world()) +
                 " devices (nodes x devices per node), but got one for " + std::to_string(out.world)};
  bool anyTp = false, anySp = false;
  int degree = 1;
  for (const PlannedLayer &layer : plan.layers) {
    Result<ReferenceStrategy> s = toReference(layer, plan, defaultType());
    if (!s)
      return s.error();
    anyTp |= s->tp > 1;
    anySp |= s->sp > 1;
    degree = std::max(degree, s->degree());
    if (layer.role == LayerRole::Block) {
      out.layers.push_back(*s);
      ++out.layersOfStage[layer.stage];
    } else {
      out.ends = *s;
      out.ends.checkpoint = false;
    }
  }
  if (int(out.layers.size()) != arguments.layers)
    return Error{"expects a plan of " + std::to_string(arguments.layers) + " layers, but got one of " +
                 std::to_string(out.layers.size())};
  // The buffer of the task that offers these degrees; none with Ulysses alone.
  int perStage = out.world / out.stages;
  int widest = std::max(1, std::min(out.batch / out.chunks, perStage));
  out.bufferTp = anyTp || !anySp ? std::max(degree, perStage / widest) : 0;
  return out;
}

Plan ReferenceModel::toPlan(const ReferencePlan &plan) const {
  Plan out;
  out.ranks = plan.world;
  out.pipeline = plan.stages;
  out.schedule = arguments.pipelineType == "gpipe" ? Schedule::GPipe : Schedule::OneFOneB;
  out.globalBatch = plan.batch;
  out.microBatches = plan.chunks;
  auto addLayer = [&](std::string path, std::string type, LayerRole role, const ReferenceStrategy &s, int stage) {
    PlannedLayer planned{std::move(path), std::move(type), role, {}, s.dp, stage};
    // With dp 1 the reference has no type but ddp, whatever else shares the
    // parameters; a plan says the model-wide type there.
    DpType dpType = s.dp == 1 && s.shardRanks() > 1 ? defaultType() : s.type;
    planned.strategy = {.tp = s.tp,
                        .sequenceParallel = s.tp > 1 && arguments.sequenceParallel,
                        .ulysses = s.sp,
                        .cp = s.cp,
                        .zero = dpType == DpType::Zero3   ? 3
                                : dpType == DpType::Zero2 ? 2
                                                          : 0,
                        .recompute = s.checkpoint};
    out.layers.push_back(std::move(planned));
  };
  addLayer("embedding", "embedding", LayerRole::Embedding, plan.ends, 0);
  std::size_t layer = 0;
  for (int stage = 0; stage < plan.stages; ++stage)
    for (int i = 0; i < plan.layersOfStage[stage]; ++i, ++layer)
      addLayer("layers." + std::to_string(layer), "layer", LayerRole::Block, plan.layers[layer], stage);
  addLayer("head", "head", LayerRole::Head, plan.ends, plan.stages - 1);
  return out;
}

} // namespace galvatron::search
