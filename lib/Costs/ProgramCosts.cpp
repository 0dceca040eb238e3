// Counts of placed layers, priced by the rates of a device.
#include "galvatron/Costs/ProgramCosts.h"

#include "PlacedLayer.h"

#include "dialects/Graph/GraphDialect.h"
#include "galvatron/Costs/LayerHash.h"
#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Search/Model/KernelPrice.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Model/MeasuredBodies.h"
#include "galvatron/Search/Model/ShardedStates.h"

#include <map>
#include <mutex>

using namespace mlir;
using namespace galvatron;

/// The choice `reduce_every_micro_batch`: false.
static constexpr int kReducedOnce = 1;

/// Devices for which what strategies leave to choose is settled by price. Each way is placed and priced, which takes
/// 1,024 devices half as long again (docs/search.md), beyond what their search may take.
static constexpr int64_t kMostSettled = 512;

/// Layers placed so far, by strategy (its `recompute` and `values` too), dp and type.
struct ProgramCosts::Placed {
  std::mutex mutex; ///< of everything below, the copy of the module included
  LayerPlacer placer;
  int64_t globalBatch;
  std::map<std::tuple<search::Strategy, int, std::string>, search::Result<LayerWork>> layers;

  Placed(ModuleOp module, int64_t globalBatch, bool pricesBothEnds)
      : placer(module, globalBatch, pricesBothEnds), globalBatch(globalBatch) {}

  /// Stays valid: elements of a map do not move.
  const search::Result<LayerWork> &get(const std::string &layerType, search::Strategy strategy, int dp) {
    strategy.strided = false; // only where the ranks of a group are
    strategy.zero = 0;        // only what they keep of the states
    strategy.reduceEveryMicroBatch = 0;
    std::lock_guard lock(mutex);
    return find(layerType, strategy, dp);
  }

private:
  const search::Result<LayerWork> &find(const std::string &layerType, const search::Strategy &strategy, int dp) {
    std::tuple key(strategy, dp, layerType);
    if (auto at = layers.find(key); at != layers.end())
      return at->second;
    // Experts take ranks of data parallelism, and a layer is padded for the degrees of its plan.
    bool isAlike = strategy.ep == 1 && !strategy.pad;
    int least = isAlike ? getSmallestDataDegree(globalBatch, dp) : dp;
    if (least != dp)
      if (const search::Result<LayerWork> &placed = find(layerType, strategy, least))
        if (std::optional<LayerWork> work = withDataDegree(*placed, strategy, least, dp))
          return layers.emplace(key, std::move(*work)).first->second;
    return layers.emplace(key, placer.place(layerType, strategy, dp)).first->second;
  }
};

/// Whether attention takes queries from both ends of a sequence in the time that a whole one takes for as many pairs.
/// GPUs' libraries take whole sequences alone, so pieces go through slower kernels.
static bool takesBothEnds(const search::DeviceKind &device) { return device.name == "cpu"; }

ProgramCosts::ProgramCosts(ModuleOp module, const search::Cluster &cluster, int64_t globalBatch, Priced priced)
    : device(cluster.device), priced(priced), settles(cluster.ranks() <= kMostSettled),
      placed(std::make_unique<Placed>(module, globalBatch, takesBothEnds(cluster.device))) {
  if (search::bodiesOf(device))
    hashes = hashLayers(module);
  if (auto length = module->getAttrOfType<IntegerAttr>(graph::kSeqAttr))
    seq = double(length.getInt());
}

ProgramCosts::~ProgramCosts() = default;

using search::KernelSeconds;

static KernelSeconds getSeconds(llvm::ArrayRef<KernelWork> kernels, double samples, const search::DeviceKind &device) {
  KernelSeconds seconds;
  for (const KernelWork &kernel : kernels) {
    search::KernelAmounts amounts{kernel.flops.of(samples), kernel.bytes.of(samples), kernel.pairs.of(samples),
                                  kernel.isProduct, kernel.isBackward};
    (amounts.pairs > 0 ? seconds.attention : seconds.other) += kernel.times * search::kernelSeconds(amounts, device);
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

namespace {
/// What a device has of parameters under a level of ZeRO, in bytes. As lib/Schedule/TimetableShards.cpp lays it out.
struct StateBytes {
  StateBytes(const TrainedParameters &some, const search::Strategy &strategy, int dp, int microBatches);

  double kept = 0;    ///< parameters, moments and gradients
  double lasting = 0; ///< of these, all but the gradients
  double whole = 0;   ///< gradients that are added up before they are scattered once a step
  /// Transient: parameters gathered in forward and in backward; gradients of a micro-batch until they are scattered.
  double parameters = 0, gradients = 0;
  double updated = 0; ///< what an update reads and writes
  double added = 0;   ///< what each backward reads and writes to add pieces of gradients up
  search::SharedGradients shared;
};
} // namespace

StateBytes::StateBytes(const TrainedParameters &some, const search::Strategy &strategy, int dp, int microBatches) {
  int zero = some.ranks > 1 ? strategy.zero : 0;
  bool isReducedEach = some.ranks > 1 && plan::reducesEveryMicroBatch(search::valuesOf(strategy, dp));
  double all = some.bytes, read = some.readBytes, pieces = 1;
  if (zero) { // padded, so that pieces are equal and begin on cache lines
    pieces = double(some.ranks);
    all = 4.0 * double(llvm::alignTo(some.padded, some.ranks * kStateAlignment));
    read = all * some.readBytes / some.bytes;
  }
  double readKept = zero == 3 ? read / pieces : read;
  // What is read in another type has f32 beside it.
  kept = 3 * all / pieces + readKept + (some.isReadAsF32 ? 0 : all / pieces);
  lasting = kept - all / pieces;
  updated = (all * search::kUpdatePasses + (some.isReadAsF32 ? 0 : read)) / pieces;
  shared = {some.sum, int64_t(all), int64_t(read)};
  bool isSplit = isReducedEach && microBatches > 1; // apart from the sum of those before
  if (zero && !isReducedEach)
    whole = all;
  if (zero && isReducedEach)
    gradients = all + (isSplit ? all / pieces : 0);
  if (!zero && isSplit)
    gradients = all;
  if (zero == 3)
    parameters = read;
  if (isSplit)
    added = 3 * all / pieces;
}

/// Gradients, states and their collectives, once for each group of ranks that shares them.
void ProgramCosts::addStates(search::LayerCost &cost, const LayerWork &work, const search::CostQuery &query) const {
  double state = work.frozen, lasting = work.frozen, tied = 0, whole = 0, updated = 0, added = 0, parameters = 0,
         gradients = 0;
  for (const TrainedParameters &some : work.trained) {
    StateBytes bytes(some, query.strategy, query.dp, query.microBatches);
    state += bytes.kept;
    lasting += bytes.lasting;
    whole += bytes.whole;
    tied += some.isTied ? bytes.kept + (query.microBatches > 1 ? bytes.whole : 0) : 0;
    updated += bytes.updated;
    added += bytes.added;
    parameters += bytes.parameters;
    gradients += bytes.gradients;
    if (some.ranks > 1 && work.hasBackward)
      search::addStateCollectives(cost, query.strategy, bytes.shared);
  }
  // A single backward lets go of what it read as it writes gradients.
  if (query.microBatches == 1)
    cost.savedBytes = std::max(cost.savedBytes, int64_t(whole));
  else
    state += whole;
  cost.stateBytes = int64_t(state);
  // From the second backward on, gradients of the ones before are there, too.
  double certain = query.microBatches > 1 ? state : lasting;
  cost.certainBytes = int64_t(certain + work.certain.of(double(query.microBatchSamples)));
  cost.tiedStateBytes = int64_t(tied);
  cost.updateSeconds = search::updateSeconds(updated, device);
  cost.backwardSeconds += added / device.memoryBytesPerSecond;
  // Parameters are gathered while the layer before runs, gradients scattered while the next one does. Blocks are one
  // another's neighbours; those of the ends are smaller or larger, and count their own.
  int layers = query.layer->role == search::LayerRole::Block ? 2 : 1;
  double samples = double(query.microBatchSamples);
  cost.scratchBytes = int64_t(std::max(work.forward.getPeak(samples) + layers * parameters,
                                       work.backward.getPeak(samples) + layers * (parameters + gradients)));
}

/// What the ranks of a body exchange that some query asks the price of.
static std::vector<search::BodyQuery::Message> getMessages(llvm::ArrayRef<MovedValue> values, double samples,
                                                           const search::CostQuery &query) {
  std::vector<search::BodyQuery::Message> messages;
  for (const MovedValue &value : values)
    for (int time = 0; time < value.group.count; ++time)
      messages.push_back(
          {value.group.kind, value.bytes.of(samples), search::bodyGroupRanks(value.group, query.strategy)});
  return messages;
}

/// The body of a part, of which its kernels take `seconds` of themselves.
static search::BodyPrice priceBody(const search::DeviceKind &device, search::BodyQuery query, search::BodyPart part,
                                   const KernelSeconds &seconds, std::vector<search::BodyQuery::Message> messages) {
  const search::MeasuredBodies *bodies = search::bodiesOf(device);
  if (!bodies)
    return {seconds.total(), search::PriceSource::Kernels};
  query.part = part;
  query.attentionSeconds = seconds.attention, query.otherSeconds = seconds.other;
  query.messages = std::move(messages);
  return bodies->price(query);
}

/// Compute by measured bodies where the profile has them, else by kernels.
void ProgramCosts::setCompute(search::LayerCost &cost, const LayerWork &work, const search::CostQuery &query) const {
  double samples = double(query.microBatchSamples);
  search::BodyQuery body{query.layer->layerType, "", query.strategy};
  if (auto hash = hashes.find(query.layer->layerType); hash != hashes.end() && !query.strategy.pad)
    body.hash = hash->second;
  body.samples = samples / query.dp, body.seq = seq;
  KernelSeconds forward = getSeconds(work.forward.kernels, samples, device),
                backward = getSeconds(work.backward.kernels, samples, device), again;
  search::Strategy strategy = query.strategy;
  const LayerWork *plain = &work;
  if ((strategy.recompute || strategy.values) && work.hasBackward) {
    strategy.recompute = false, strategy.values = 0;
    plain = &*placed->get(query.layer->layerType, strategy, query.dp);
    KernelSeconds keeping = getSeconds(plain->backward.kernels, samples, device), all = backward;
    backward = keeping.total() < all.total() ? keeping : all;
    again = {std::max(0.0, all.attention - backward.attention), 0};
    again.other = all.total() - backward.total() - again.attention;
  }
  std::vector<search::BodyQuery::Message> ofPlain = getMessages(plain->backward.collectives, samples, query);
  search::BodyPrice ofForward = priceBody(device, body, search::BodyPart::Forward, forward,
                                          getMessages(work.forward.collectives, samples, query));
  search::BodyPrice ofBackward = priceBody(device, body, search::BodyPart::Backward, backward, ofPlain);
  cost.forwardSeconds = ofForward.seconds;
  cost.backwardSeconds = ofBackward.seconds;
  // Measured or not, its share of the kernels: products of gradients, which nothing recomputes.
  if (backward.total() > 0)
    cost.weightSeconds =
        getSeconds(work.weightKernels, samples, device).total() * (ofBackward.seconds / backward.total());
  if (plain == &work)
    return;
  // What is computed again is forward's, and takes what that takes; all of it was measured.
  cost.recomputeSeconds = forward.total() > 0 ? again.total() * (ofForward.seconds / forward.total()) : again.total();
  if (!query.strategy.recompute)
    return;
  std::vector<search::BodyQuery::Message> more = getMessages(work.backward.collectives, samples, query);
  for (const search::BodyQuery::Message &message : ofPlain)
    if (auto at = llvm::find(more, message); at != more.end())
      more.erase(at);
  search::BodyPrice whole = priceBody(device, body, search::BodyPart::Recompute, again, std::move(more));
  if (whole.isMeasured())
    cost.recomputeSeconds = whole.seconds;
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
  setCompute(cost, work, query);
  cost.forwardCollectives = getCollectives(work.forward.collectives, samples);
  cost.backwardCollectives = getCollectives(work.backward.collectives, samples);
  cost.savedBytes = int64_t(work.inputs.of(samples) + work.saved.of(samples));
  cost.weightSavedBytes = int64_t(work.weightSaved.of(samples));
  cost.boundaryBytes = int64_t(work.boundary.of(samples));
  addStates(cost, work, query);
  return cost;
}

std::vector<search::Strategy> ProgramCosts::settle(const search::Layer &layer, const search::Strategy &strategy,
                                                   int microBatches) const {
  if (!settles)
    return {strategy};
  std::vector<search::Strategy> ways = placed->placer.settleContext(layer.layerType, strategy);
  if (strategy.zero < 3 || microBatches == 1)
    return ways;
  for (size_t index = 0, count = ways.size(); index < count; ++index) {
    ways.push_back(ways[index]);
    ways.back().reduceEveryMicroBatch = kReducedOnce;
  }
  return ways;
}
