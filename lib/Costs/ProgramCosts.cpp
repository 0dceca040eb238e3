// Counts of placed layers, priced by the rates of a device.
#include "galvatron/Costs/ProgramCosts.h"

#include "PlacedLayer.h"

#include "galvatron/Search/Model/ShardedStates.h"

#include <map>
#include <mutex>

using namespace mlir;
using namespace galvatron;

/// Elementwise and reducing code against matrix products: a vector unit without fused blocking.
static constexpr double kVectorShareOfProducts = 0.125;
/// Passes over a parameter's f32 states in an update: AdamW reads parameter, gradient and two moments and writes all but
/// the gradient, which the norm reads once more.
static constexpr double kUpdatePasses = 8;

/// Layers placed so far, by type, strategy (its `recompute` and `values` too) and dp.
struct ProgramCosts::Placed {
  std::mutex mutex; ///< of everything below, the copy of the module included
  LayerPlacer placer;
  std::map<std::tuple<std::string, search::Strategy, int>, search::Result<LayerWork>> layers;

  Placed(ModuleOp module, int64_t globalBatch) : placer(module, globalBatch) {}

  /// Stays valid: elements of a map do not move.
  const search::Result<LayerWork> &get(const std::string &layerType, search::Strategy strategy, int dp) {
    strategy.strided = false; // only where the ranks of a group are
    strategy.zero = 0;        // only what they keep of the states
    std::lock_guard lock(mutex);
    std::tuple key(layerType, strategy, dp);
    auto at = layers.find(key);
    if (at == layers.end())
      at = layers.emplace(key, placer.place(layerType, strategy, dp)).first;
    return at->second;
  }
};

ProgramCosts::ProgramCosts(ModuleOp module, const search::Cluster &cluster, int64_t globalBatch, Priced priced)
    : device(cluster.device), priced(priced), placed(std::make_unique<Placed>(module, globalBatch)) {}

ProgramCosts::~ProgramCosts() = default;

/// The roofline of each kernel: arithmetic, the exponentials of attention or memory, whichever takes longest, and its
/// start.
static double getSeconds(llvm::ArrayRef<KernelWork> kernels, double samples, const search::DeviceKind &device) {
  double seconds = 0;
  for (const KernelWork &kernel : kernels) {
    double rate = device.matmulFlopsPerSecond * (kernel.isProduct ? 1 : kVectorShareOfProducts);
    double most = std::max(kernel.flops.of(samples) / rate, kernel.bytes.of(samples) / device.memoryBytesPerSecond);
    double pairs = kernel.pairs.of(samples);
    if (pairs > 0 && device.attentionPairsPerSecond > 0)
      most = std::max(most, pairs / device.attentionPairsPerSecond);
    seconds += most + device.launchSeconds;
  }
  return seconds;
}

static std::vector<search::Collective> getCollectives(llvm::ArrayRef<MovedValue> values, double samples) {
  std::vector<search::Collective> collectives;
  for (const MovedValue &value : values) {
    collectives.push_back(value.group);
    collectives.back().bytes = int64_t(value.bytes.of(samples));
  }
  return collectives;
}

/// Why a strategy has no price, whatever the layer.
static std::optional<search::Error> refuse(const search::Strategy &strategy, Priced priced) {
  if (priced != Priced::WhatIsPlaced)
    if (auto reason = search::whyUnsupported(strategy))
      return search::Error{*reason};
  return std::nullopt;
}

/// What a device keeps of parameters under a level of ZeRO, in bytes. See lib/Schedule/TimetableShards.cpp. Without the
/// gradients that level 1 adds up whole, then scatters into pieces.
static double getStateBytes(const TrainedParameters &some, int zero) {
  double pieces = zero ? double(some.ranks) : 1;
  double moments = 2 * some.bytes / pieces, gradients = some.bytes / pieces;
  double read = zero == 3 ? some.readBytes / pieces : some.readBytes;
  // What is read in another type has f32 beside it.
  return moments + gradients + read + (some.isReadAsF32 ? 0 : some.bytes / pieces);
}

namespace {
/// ZeRO's buffers that live while a layer runs, in bytes.
struct TransientStates {
  double parameters = 0; ///< gathered, in forward and in backward
  double gradients = 0;  ///< of one micro-batch, until they are scattered
};
} // namespace

static TransientStates getTransient(const TrainedParameters &some, int zero, int microBatches) {
  TransientStates states;
  if (zero == 3)
    states.parameters = some.readBytes;
  if (zero >= 2) // scattered apart from the sum of those before
    states.gradients = some.bytes + (microBatches > 1 ? some.bytes / double(some.ranks) : 0);
  return states;
}

/// Gradients, states and their collectives, once for each group of ranks that shares them.
void ProgramCosts::addStates(search::LayerCost &cost, const LayerWork &work, const search::CostQuery &query) const {
  double state = work.frozen, updated = 0, added = 0, whole = 0;
  TransientStates alive;
  for (const TrainedParameters &some : work.trained) {
    int zero = some.ranks > 1 ? query.strategy.zero : 0;
    state += getStateBytes(some, zero);
    whole += zero == 1 ? some.bytes : 0;
    updated += (some.bytes * kUpdatePasses + (some.isReadAsF32 ? 0 : some.readBytes)) / (zero ? double(some.ranks) : 1);
    if (some.ranks > 1 && work.hasBackward)
      search::addStateCollectives(cost, zero, {some.sum, int64_t(some.bytes), int64_t(some.readBytes)});
    TransientStates own = getTransient(some, zero, query.microBatches);
    alive.parameters += own.parameters;
    alive.gradients += own.gradients;
    if (zero >= 2 && query.microBatches > 1) // two pieces read, one written
      added += 3 * some.bytes / double(some.ranks);
  }
  // A single backward lets go of what it read as it writes gradients.
  if (query.microBatches == 1)
    cost.savedBytes = std::max(cost.savedBytes, int64_t(whole));
  else
    state += whole;
  cost.stateBytes = int64_t(state);
  cost.updateSeconds = updated / device.memoryBytesPerSecond;
  cost.backwardSeconds += added / device.memoryBytesPerSecond;
  // Parameters are gathered while the layer before runs, gradients scattered while the next one does. Blocks are one
  // another's neighbours; those of the ends are smaller or larger, and count their own.
  int layers = query.layer->role == search::LayerRole::Block ? 2 : 1;
  double samples = double(query.microBatchSamples);
  cost.scratchBytes = int64_t(std::max(work.forward.getPeak(samples) + layers * alive.parameters,
                                       work.backward.getPeak(samples) + layers * (alive.parameters + alive.gradients)));
}

search::Result<search::LayerCost> ProgramCosts::cost(const search::CostQuery &query) const {
  const std::string &layerType = query.layer->layerType;
  if (!placed->placer.hasLayer(layerType))
    return search::Error{"unknown layer type '" + layerType + "'"};
  search::Strategy strategy = query.strategy;
  if (std::optional<search::Error> refusal = refuse(strategy, priced))
    return *refusal;
  const search::Result<LayerWork> &found = placed->get(layerType, strategy, query.dp);
  if (!found)
    return found.error();
  const LayerWork &work = *found;
  if (priced == Priced::WhatCutsSomething && strategy.tp > 1 && !work.isCutByTensor && !work.forward.kernels.empty())
    return search::Error{"tp " + std::to_string(strategy.tp) + " divides neither heads nor widths of layer type '" +
                         layerType + "'"};

  double samples = double(query.microBatchSamples);
  search::LayerCost cost;
  cost.forwardSeconds = getSeconds(work.forward.kernels, samples, device);
  cost.backwardSeconds = getSeconds(work.backward.kernels, samples, device);
  if ((strategy.recompute || strategy.values) && work.hasBackward) {
    strategy.recompute = false, strategy.values = 0;
    const search::Result<LayerWork> &keeping = placed->get(layerType, strategy, query.dp);
    double once = std::min(cost.backwardSeconds, getSeconds(keeping->backward.kernels, samples, device));
    cost.recomputeSeconds = cost.backwardSeconds - once;
    cost.backwardSeconds = once;
  }
  cost.forwardCollectives = getCollectives(work.forward.collectives, samples);
  cost.backwardCollectives = getCollectives(work.backward.collectives, samples);
  cost.savedBytes = int64_t(work.inputs.of(samples) + work.saved.of(samples));
  cost.boundaryBytes = int64_t(work.boundary.of(samples));
  addStates(cost, work, query);
  return cost;
}
