//===- Plan.cpp - Validity of plans ---------------------------------------===//

#include "galvatron/Search/Model/Plan.h"

#include <algorithm>
#include <map>
#include <utility>

namespace galvatron::search {

std::vector<int> Plan::unitsPerStage() const {
  std::vector<int> counts(pipeline, 0);
  for (const PlannedUnit &unit : units)
    if (unit.stage >= 0 && unit.stage < pipeline)
      ++counts[unit.stage];
  return counts;
}

plan::Mesh Plan::rankMesh() const {
  if (!mesh.empty())
    return mesh;
  std::map<plan::StrategyValues, std::int64_t> layers;
  for (const PlannedUnit &unit : units)
    ++layers[valuesOf(unit.strategy, unit.dp)];
  return plan::chooseMesh(ranksPerStage(), layers);
}

std::vector<int> Plan::partOfUnits() const {
  std::vector<int> parts;
  int part = 0;
  for (const PlannedUnit &unit : units) {
    if (!parts.empty() && unit.stage != part % pipeline)
      ++part;
    parts.push_back(part);
  }
  return parts;
}

namespace {
std::string number(std::int64_t value) { return std::to_string(value); }

/// With values by name as values by number, for the table of what is supported.
Strategy named(const PlannedUnit &unit) {
  Strategy strategy = unit.strategy;
  strategy.values |= !unit.recomputeValues.empty();
  return strategy;
}

std::optional<Error> validateUnit(const Plan &plan, std::size_t index, bool supportedOnly, bool unevenBatch) {
  const PlannedUnit &unit = plan.units[index];
  const Strategy &s = unit.strategy;
  std::string at = "plan unit '" + unit.path + "' (stage " + number(unit.stage) + ") ";
  if (unit.stage < 0 || unit.stage >= plan.pipeline)
    return Error{at + "key 'stage' expects 0 to " + number(plan.pipeline - 1) + " (pipeline " + number(plan.pipeline) +
                 "), but got " + number(unit.stage)};
  int before = index ? plan.units[index - 1].stage : 0;
  int after = plan.virtualStages > 1 ? (before + 1) % plan.pipeline : before + 1;
  if (index == 0 ? unit.stage != 0 : (unit.stage != before && unit.stage != after))
    return Error{at +
                 "expects stages to rise one by one from 0 in execution order, but the "
                 "unit before is on stage " +
                 number(before) + "; give neighbouring units the same or the next stage"};
  plan::StrategyValues values = valuesOf(s, unit.dp);
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
  if (product * unit.dp != stageRanks)
    return Error{at + "key 'dp' expects " + number(stageRanks / product) + " (ranks " + number(plan.ranks) +
                 " / pipeline " + number(plan.pipeline) + " / " + plan::joinDegrees(" / ") + "), but got " +
                 number(unit.dp)};
  std::int64_t microBatch = plan.globalBatch / plan.microBatches;
  if (microBatch % unit.dp && !unevenBatch)
    return Error{at + "expects dp to divide the micro-batch of " + number(microBatch) + " samples (global batch " +
                 number(plan.globalBatch) + " / micro-batches " + number(plan.microBatches) + "), but got dp " +
                 number(unit.dp) + "; use fewer micro-batches or a smaller dp"};
  if (unit.dp % s.ep)
    return Error{at + "key 'ep' expects a divisor of dp " + number(unit.dp) + ", but got " + number(s.ep)};
  if (s.recompute && !unit.recomputeValues.empty())
    return Error{at + "has both 'recompute' and 'recompute_values'; give one"};
  if (s.sequenceParallel && s.tp == 1)
    return Error{at + "key 'sequence_parallel' expects tp above 1, but got tp 1"};
  if (supportedOnly)
    if (auto reason = whyUnsupported(named(unit)))
      return Error{at + "key " + *reason};
  return std::nullopt;
}
} // namespace

Result<bool> validatePlan(const Plan &plan, bool supportedOnly, bool unevenBatch) {
  if (plan.ranks < 1 || plan.pipeline < 1 || plan.ranks % plan.pipeline)
    return Error{"plan expects a pipeline degree that divides its " + number(plan.ranks) + " ranks, but got " +
                 number(plan.pipeline)};
  if (plan.virtualStages < 1)
    return Error{"plan key 'virtual_stages' expects at least 1, but got " + number(plan.virtualStages)};
  if (plan.globalBatch < 1 || plan.microBatches < 1 || plan.globalBatch % plan.microBatches)
    return Error{"plan expects a number of micro-batches that divides the global batch of " + number(plan.globalBatch) +
                 ", but got " + number(plan.microBatches)};
  if (plan.units.empty())
    return Error{"plan expects at least one unit, but has none"};
  if (supportedOnly)
    if (auto reason = whyUnsupported(plan.schedule))
      return Error{"plan key " + *reason};
  plan::Mesh primes = plan.mesh;
  std::sort(primes.begin(), primes.end());
  if (!plan.mesh.empty() && primes != plan::getPrimeFactors(plan.ranksPerStage()))
    return Error{"plan key 'mesh' expects the prime factors of a stage's " + number(plan.ranksPerStage()) +
                 " ranks, slowest first; drop it to have them in the order that the strategies ask for"};
  if (auto reason = whyImpossible(plan.shape()))
    return Error{"plan cannot run: " + *reason};
  std::map<std::string, int> paths;
  for (std::size_t index = 0; index < plan.units.size(); ++index) {
    if (auto error = validateUnit(plan, index, supportedOnly, unevenBatch))
      return *error;
    if (!paths.emplace(plan.units[index].path, 0).second)
      return Error{"plan lists the unit '" + plan.units[index].path + "' twice; keep one"};
  }
  if (plan.virtualStages > 1 && plan.partOfUnits().back() != plan.shape().parts() - 1)
    return Error{"plan expects units on each of its " + number(plan.shape().parts()) +
                 " parts (pipeline x virtual_stages), but the last unit is on part " +
                 number(plan.partOfUnits().back()) + "; lower 'virtual_stages' or spread the units"};
  if (plan.units.back().stage != plan.pipeline - 1)
    return Error{"plan expects units on each of its " + number(plan.pipeline) +
                 " stages, but the last unit is on stage " + number(plan.units.back().stage) +
                 "; lower 'pipeline' or move units to later stages"};
  return true;
}

} // namespace galvatron::search
