// Counts of placed layers, priced by the rates of a device.
#include "galvatron/Costs/ProgramCosts.h"

#include "PlacedLayer.h"

#include <map>
#include <mutex>

using namespace mlir;
using namespace galvatron;

/// Elementwise and reducing code against matrix products: a vector unit without fused blocking.
static constexpr double kVectorShareOfProducts = 0.125;
/// fp32 parameter, gradient and AdamW's two moments.
static constexpr int64_t kStateCopies = 4;

/// Layers placed so far, by type, strategy (its `recompute` and `values` too) and dp.
struct ProgramCosts::Placed {
  std::mutex mutex; ///< of everything below, the copy of the module included
  LayerPlacer placer;
  std::map<std::tuple<std::string, search::Strategy, int>, search::Result<LayerWork>> layers;

  Placed(ModuleOp module, int64_t globalBatch) : placer(module, globalBatch) {}

  /// Stays valid: elements of a map do not move.
  const search::Result<LayerWork> &get(const std::string &layerType, search::Strategy strategy, int dp) {
    strategy.strided = false; // only where the ranks of a group are
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
  if (strategy.zero)
    return search::Error{"ZeRO has no price yet: plan it by hand, or use zero 0"};
  return std::nullopt;
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
  cost.stepCollectives = getCollectives(work.gradientSums, samples);
  // Reads all four copies, writes three, and the bf16 copy; the gradient norm reads the gradient once more.
  cost.updateSeconds = (work.parameters * 8 + work.copies) / device.memoryBytesPerSecond;
  cost.stateBytes = int64_t(work.parameters) * kStateCopies + int64_t(work.frozen + work.copies);
  cost.savedBytes = int64_t(work.inputs.of(samples) + work.saved.of(samples));
  cost.scratchBytes = int64_t(std::max(work.forward.getPeak(samples), work.backward.getPeak(samples)));
  cost.boundaryBytes = int64_t(work.boundary.of(samples));
  return cost;
}
