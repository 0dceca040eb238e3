//===- Plan.cpp - Validity of plans ---------------------------------------===//

#include "galvatron/Search/Model/Plan.h"

#include <algorithm>
#include <map>
#include <utility>

namespace galvatron::search {

std::vector<int> Plan::layersPerStage() const {
  std::vector<int> counts(pipeline, 0);
  for (const PlannedLayer &layer : layers)
    if (layer.stage >= 0 && layer.stage < pipeline)
      ++counts[layer.stage];
  return counts;
}

plan::Mesh Plan::rankMesh() const {
  if (!mesh.empty())
    return mesh;
  std::map<plan::StrategyValues, std::int64_t> counts;
  for (const PlannedLayer &layer : layers)
    ++counts[valuesOf(layer.strategy, layer.dp)];
  return plan::chooseMesh(ranksPerStage(), counts);
}

std::vector<int> Plan::partOfLayers() const {
  std::vector<int> parts;
  int part = 0;
  for (const PlannedLayer &layer : layers) {
    if (!parts.empty() && layer.stage != shape().stageOf(part))
      part += shape().staysOnStage(part) ? 2 : 1; // the turn's second part: see below
    parts.push_back(part);
  }
  if (schedule == Schedule::ZeroBubbleV && pipeline > 1)
    cutTurn(parts);
  return parts;
}

/// Of the last stage under zb-v, whose two parts follow one another: as `chunk` says, or half and half.
void Plan::cutTurn(std::vector<int> &parts) const {
  auto [begin, end] = std::equal_range(parts.begin(), parts.end(), pipeline - 1);
  std::ptrdiff_t half = (end - begin + 1) / 2;
  for (auto at = begin; at != end; ++at) {
    int chunk = layers[at - parts.begin()].chunk.value_or(at - begin >= half);
    bool goesOn = at != begin && at[-1] == pipeline;
    *at = pipeline - 1 + (goesOn || chunk > 0);
  }
}

namespace {
std::string number(std::int64_t value) { return std::to_string(value); }

/// With values by name as values by number, for the table of what is supported.
Strategy named(const PlannedLayer &layer) {
  Strategy strategy = layer.strategy;
  strategy.values |= !layer.recomputeValues.empty();
  return strategy;
}

/// `parts`: of the layers, as far as their stages are right.
std::optional<Error> validateStage(const Plan &plan, const std::vector<int> &parts, std::size_t index) {
  const PlannedLayer &layer = plan.layers[index];
  std::string at = "plan layer '" + layer.path + "' (stage " + number(layer.stage) + ") ";
  if (layer.stage < 0 || layer.stage >= plan.pipeline)
    return Error{at + "key 'stage' expects 0 to " + number(plan.pipeline - 1) + " (pipeline " + number(plan.pipeline) +
                 "), but got " + number(layer.stage)};
  bool isVee = plan.schedule == Schedule::ZeroBubbleV;
  int before = index ? plan.layers[index - 1].stage : 0, after = before + 1;
  if (isVee && index)
    after = parts[index - 1] < plan.pipeline - 1 ? before + 1 : before - 1;
  else if (plan.virtualStages > 1)
    after %= plan.pipeline;
  if (index == 0 ? layer.stage != 0 : (layer.stage != before && layer.stage != after)) {
    std::string turn = isVee ? " to the last and back to 0" : "";
    return Error{at + "expects stages to rise one by one from 0" + turn +
                 " in execution order, but the layer before is on stage " + number(before) +
                 "; give neighbouring layers the same or the next stage"};
  }
  if (index && !layer.block.empty() && plan.layers[index - 1].block == layer.block && layer.stage != before)
    return Error{at + "key 'stage' expects " + number(before) + ", where the other half of '" + layer.block +
                 "' is, but got " + number(layer.stage) + "; put both on one stage"};
  return std::nullopt;
}

std::optional<Error> validateLayer(const Plan &plan, const std::vector<int> &parts, std::size_t index,
                                   bool supportedOnly, bool unevenBatch) {
  if (std::optional<Error> error = validateStage(plan, parts, index))
    return error;
  const PlannedLayer &layer = plan.layers[index];
  const Strategy &s = layer.strategy;
  std::string at = "plan layer '" + layer.path + "' (stage " + number(layer.stage) + ") ";
  if (layer.splitBackward && !splitsBackward(plan.schedule))
    return Error{at + "key 'split_backward' expects schedule zb-h1 or zb-v, which give weights a backward of their " +
                 "own, but got schedule " + std::string(scheduleName(plan.schedule)) + " with split_backward " +
                 (*layer.splitBackward ? "true" : "false") + "; remove it, or use one of them"};
  plan::StrategyValues values = valuesOf(s, layer.dp);
  std::int64_t stageRanks = plan.ranksPerStage(), product = 1;
  std::string degrees;
  for (const plan::Dimension &row : plan::kDimensions) {
    std::int64_t value = values.*row.value;
    if (row.isDegree() && value < 1)
      return Error{at + "key '" + std::string(row.key) + "' expects a degree of at least 1, but got " + number(value)};
    if (row.kind == plan::DimensionKind::Level && (value < 0 || value > row.most))
      return Error{at + "key '" + std::string(row.key) + "' expects 0, 1, 2 or 3, but got " + number(value)};
    if (row.kind != plan::DimensionKind::Degree)
      continue;
    product = std::min(product * value, stageRanks + 1); // no product of large numbers
    degrees += (degrees.empty() ? "" : " x ") + number(value);
  }
  if (product > stageRanks || stageRanks % product)
    return Error{at + "expects " + plan::joinDegrees(" x ") + " to divide the stage's " + number(stageRanks) +
                 " ranks, but got " + degrees + "; lower a degree or the pipeline degree"};
  if (product * layer.dp != stageRanks)
    return Error{at + "key 'dp' expects " + number(stageRanks / product) + " (ranks " + number(plan.ranks) +
                 " / pipeline " + number(plan.pipeline) + " / " + plan::joinDegrees(" / ") + "), but got " +
                 number(layer.dp)};
  std::int64_t microBatch = plan.globalBatch / plan.microBatches;
  if (microBatch % layer.dp && !unevenBatch)
    return Error{at + "expects dp to divide the micro-batch of " + number(microBatch) + " samples (global batch " +
                 number(plan.globalBatch) + " / micro-batches " + number(plan.microBatches) + "), but got dp " +
                 number(layer.dp) + "; use fewer micro-batches or a smaller dp"};
  if (layer.dp % s.ep)
    return Error{at + "key 'ep' expects a divisor of dp " + number(layer.dp) + ", but got " + number(s.ep)};
  if (s.recompute && !layer.recomputeValues.empty())
    return Error{at + "has both 'recompute' and 'recompute_values'; give one"};
  if (s.reduceEveryMicroBatch && s.shardRanks(layer.dp) == 1)
    return Error{at +
                 "key 'reduce_every_micro_batch' expects gradients that ranks have parts of, but dp x ulysses x cp "
                 "is 1; remove it"};
  for (plan::DimensionId id : plan::kContextChoices) {
    const plan::Dimension &row = plan::kDimensions[int(id)];
    if (row.isUsed(values) && s.cp == 1)
      return Error{at + "key '" + std::string(row.key) + "' expects cp above 1, but got cp 1; remove it"};
  }
  if (s.sequenceParallel && s.tp == 1)
    return Error{at + "key 'sequence_parallel' expects tp above 1, but got tp 1"};
  if (s.strided && s.tp == 1)
    return Error{at + "key 'strided' expects tp above 1, whose ranks it moves apart, but got tp 1; remove it"};
  if (s.keepGathered && plan::isRing(values) && !s.sequenceParallel)
    return Error{at + "key 'keep_gathered' expects values that are gathered, with sequence_parallel, but 'cp_kind' is "
                      "ring, whose keys are not; remove one of them"};
  if (s.keepGathered && s.sequenceCut() == 1)
    return Error{at + "key 'keep_gathered' expects a strategy that gathers, with sequence_parallel, ulysses or cp; " +
                 "remove it"};
  if (supportedOnly && s.zero && s.shardRanks(layer.dp) == 1)
    return Error{at + "key 'zero' expects 0 where dp x ulysses x cp is 1, but got " + number(s.zero) +
                 ", which would share states among one rank; use zero 0"};
  if (supportedOnly)
    if (auto reason = whyUnsupported(named(layer)))
      return Error{at + "key " + *reason};
  return std::nullopt;
}
} // namespace

Result<std::uint32_t> getValueBits(const PlannedLayer &layer, const std::vector<std::string> &names) {
  std::uint32_t bits = 0;
  for (const std::string &name : layer.recomputeValues) {
    auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end()) {
      std::string known;
      for (const std::string &each : names)
        known += (known.empty() ? "" : ", ") + each;
      return Error{"layer '" + layer.path + "' expects key 'recompute_values' to name values out of " +
                   (known.empty() ? "none" : known) + ", but got '" + name + "'; remove it, or use recompute true"};
    }
    std::uint32_t bit = 1u << (at - names.begin());
    if (bits & bit)
      return Error{"layer '" + layer.path + "' key 'recompute_values' names '" + name + "' twice; keep one"};
    bits |= bit;
  }
  return bits;
}

/// Numbers of stages that divide the ranks, next to one that does not: "1 or 3 stages".
static std::string suggestStages(std::int64_t ranks, std::int64_t stages) {
  std::int64_t below = std::clamp<std::int64_t>(stages, 1, std::max<std::int64_t>(1, ranks)), above = below;
  while (ranks % below)
    --below;
  while (above < ranks && ranks % above)
    ++above;
  return number(below) + (above > below ? " or " + number(above) : "") + (above == 1 ? " stage" : " stages");
}

Result<bool> validatePlan(const Plan &plan, bool supportedOnly, bool unevenBatch) {
  if (plan.ranks < 1 || plan.pipeline < 1 || plan.ranks % plan.pipeline)
    return Error{"plan expects a pipeline degree that divides its " + number(plan.ranks) + " ranks, but got " +
                 number(plan.pipeline) + "; give its units " + suggestStages(plan.ranks, plan.pipeline) +
                 ", or take other ranks"};
  if (plan.virtualStages < 1)
    return Error{"plan key 'virtual_stages' expects at least 1, but got " + number(plan.virtualStages)};
  if (plan.globalBatch < 1 || plan.microBatches < 1 || plan.globalBatch % plan.microBatches)
    return Error{"plan expects a number of micro-batches that divides the global batch of " + number(plan.globalBatch) +
                 ", but got " + number(plan.microBatches)};
  if (plan.layers.empty())
    return Error{"plan expects at least one layer, but has none"};
  if (supportedOnly)
    if (auto reason = whyUnsupported(plan.schedule))
      return Error{"plan key " + *reason};
  plan::Mesh primes = plan.mesh;
  std::sort(primes.begin(), primes.end());
  if (!plan.mesh.empty() && primes != plan::getPrimeFactors(plan.ranksPerStage()))
    return Error{"plan key 'mesh' expects the prime factors of a stage's " + number(plan.ranksPerStage()) +
                 " ranks, slowest first; drop it to have them in the order that the strategies ask for"};
  if (auto reason = whyImpossible(plan.shape()))
    return Error{"plan " + *reason};
  if (std::int64_t parts = plan.shape().parts(); plan.virtualStages > 1 && std::int64_t(plan.layers.size()) < parts)
    return Error{"plan key 'virtual_stages' expects a unit for each of the " + number(parts) +
                 " parts (pipeline x virtual_stages), but got " + number(plan.layers.size()) +
                 " units with virtual_stages " + number(plan.virtualStages) + "; lower it, or 'pipeline'"};
  std::vector<int> parts = plan.partOfLayers();
  std::map<std::string, int> paths;
  for (std::size_t index = 0; index < plan.layers.size(); ++index) {
    if (auto error = validateLayer(plan, parts, index, supportedOnly, unevenBatch))
      return *error;
    if (!paths.emplace(plan.layers[index].path, 0).second)
      return Error{"plan lists the layer '" + plan.layers[index].path + "' twice; keep one"};
  }
  for (std::size_t index = 0; index < plan.layers.size(); ++index)
    if (const PlannedLayer &layer = plan.layers[index];
        layer.chunk && *layer.chunk != plan.shape().chunkOf(parts[index]))
      return Error{"plan layer '" + layer.path + "' (stage " + number(layer.stage) + ") key 'chunk' expects " +
                   number(plan.shape().chunkOf(parts[index])) + ", as many times as schedule " +
                   std::string(scheduleName(plan.schedule)) + " has come by its stage before, but got " +
                   number(*layer.chunk) + "; correct it, or leave it out"};
  if (plan.virtualStages > 1 && parts.back() != plan.shape().parts() - 1)
    return Error{"plan expects layers on each of its " + number(plan.shape().parts()) +
                 " parts (pipeline x virtual_stages), but the last layer '" + plan.layers.back().path +
                 "' is on part " + number(parts.back()) + "; " +
                 (plan.schedule == Schedule::ZeroBubbleV ? "go on up to stage 0, or use schedule 1f1b"
                                                         : "lower 'virtual_stages' or spread the layers")};
  if (plan.schedule == Schedule::ZeroBubbleV && !std::count(parts.begin(), parts.end(), plan.pipeline))
    return Error{"plan expects layers on both parts of its last stage " + number(plan.pipeline - 1) +
                 " under schedule zb-v, but chunk 1 has none; move layers there, or use schedule 1f1b"};
  if (plan.virtualStages == 1 && plan.layers.back().stage != plan.pipeline - 1)
    return Error{"plan expects layers on each of its " + number(plan.pipeline) +
                 " stages, but the last layer is on stage " + number(plan.layers.back().stage) +
                 "; lower 'pipeline' or move layers to later stages"};
  return true;
}

} // namespace galvatron::search
