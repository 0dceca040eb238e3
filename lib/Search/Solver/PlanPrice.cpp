//===- PlanPrice.cpp - The objective of one complete plan -----------------===//

#include "PlanPrice.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

namespace galvatron::search {

std::int64_t PlanPrice::peak() const {
  std::int64_t most = 0;
  for (const StageMemory &stage : memory)
    most = std::max(most, stage.total());
  return most;
}

double secondsBetween(const Setting &setting, const PipelineShape &shape, int part, const Option &last) {
  if (shape.staysOnStage(part))
    return 0;
  int stage = shape.stageOf(part);
  return stage > 0 && shape.stageOf(part + 1) == stage - 1 && shape.schedule == Schedule::ZeroBubbleV
             ? setting.handBack(stage, last.layout, last.boundary)
             : setting.handOver(stage, last.layout, last.boundary);
}

bool isReunited(const Setting &setting, const PipelineShape &shape, const std::vector<int> &partOf, std::size_t layer) {
  if (shape.schedule != Schedule::ZeroBubbleV)
    return false;
  bool isTied = false;
  for (const TiedParameter &tie : setting.problem->ties) {
    if (std::size_t(tie.firstLayer) != layer && std::size_t(tie.secondLayer) != layer)
      continue;
    isTied = true;
    if (shape.stageOf(partOf[tie.firstLayer]) != shape.stageOf(partOf[tie.secondLayer]))
      return false;
  }
  return isTied;
}

PlanPrice pricePlan(const Setting &setting, const Timetable &timetable, const Choice &choice, double limit) {
  const PipelineShape &shape = timetable.shape();
  int stages = setting.stages, parts = shape.parts();
  PlanPrice price;
  price.stageSeconds.assign(stages, 0);
  price.tailSeconds.assign(stages, 0);
  price.memory.resize(stages);
  price.times.resize(parts);
  price.redistribution.reserve(choice.options.size());
  std::vector<std::int64_t> saved(parts, 0);
  for (std::size_t layer = 0; layer < choice.options.size(); ++layer) {
    const Option &option = *choice.options[layer];
    const Option *before = layer ? choice.options[layer - 1] : nullptr;
    int part = choice.partOf[layer], stage = shape.stageOf(part);
    double moved = 0;
    if (before)
      moved = setting.redistribution(setting.classOf[stage], before->layout, option.layout, before->boundary);
    if (before && choice.partOf[layer - 1] != part)
      price.times[part - 1].transfer = secondsBetween(setting, shape, part - 1, *before);
    price.redistribution.push_back(moved);
    price.stageSeconds[stage] += option.time() + moved;
    price.tailSeconds[stage] += option.tail;
    PartTimes &times = price.times[part];
    times.forward += option.forward + moved / 2;
    times.backward += option.backward + moved / 2;
    times.weight += option.weight;
    StageMemory &memory = price.memory[stage];
    memory.stateBytes += option.state;
    saved[part] += option.saved;
    memory.scratchBytes = std::max(memory.scratchBytes, option.scratch);
    if (isReunited(setting, shape, choice.partOf, layer)) {
      price.tailSeconds[stage] -= option.tiedTail;
      memory.stateBytes -= option.tiedState;
    }
    memory.overheadBytes = setting.problem->cluster.device.overheadBytes + setting.extraBytes(stage);
  }
  for (int stage = 0; stage < stages; ++stage)
    for (const std::vector<int> &counts : timetable.inFlight(stage)) {
      std::int64_t bytes = 0;
      for (std::size_t chunk = 0; chunk < counts.size(); ++chunk)
        bytes += counts[chunk] * saved[shape.partOf(stage, int(chunk))];
      price.memory[stage].activationBytes = std::max(price.memory[stage].activationBytes, bytes);
    }
  double tail = *std::max_element(price.tailSeconds.begin(), price.tailSeconds.end());
  price.pipeline = timetable.secondsWithin(limit - tail, price.times);
  price.seconds = price.pipeline + tail;
  return price;
}

/// Of the orders of ranks that cost what the setting's does: none, where the one that follows from the strategies is
/// among them, else the first.
static plan::Mesh meshToSay(const Setting &setting, const Plan &plan) {
  if (setting.mesh.empty())
    return {};
  const Problem &problem = *setting.problem;
  auto costsSame = [&](const plan::GroupShape &a, const plan::GroupShape &b) {
    std::int64_t perNode = problem.cluster.devicesPerNode;
    return problem.communication ? a == b : membersWithin(a, perNode) == membersWithin(b, perNode);
  };
  auto isSame = [&](const plan::Mesh &mesh) {
    return std::all_of(plan.layers.begin(), plan.layers.end(), [&](const PlannedLayer &layer) {
      GroupShapes here = groupsOf(layer.strategy, layer.dp, setting.mesh),
                  there = groupsOf(layer.strategy, layer.dp, mesh);
      return std::equal(here.begin(), here.end(), there.begin(), costsSame);
    });
  };
  if (isSame(plan.rankMesh()))
    return {};
  std::vector<plan::Mesh> meshes = offeredMeshes(problem, setting.stageRanks);
  return *std::find_if(meshes.begin(), meshes.end(), isSame);
}

Plan assemblePlan(const Setting &setting, const Timetable &timetable, const Choice &choice, const PlanPrice &price) {
  const Problem &problem = *setting.problem;
  Plan plan;
  plan.ranks = problem.ranks();
  plan.pipeline = setting.stages;
  plan.virtualStages = timetable.shape().virtualStages;
  plan.schedule = timetable.shape().schedule;
  plan.globalBatch = problem.globalBatch;
  plan.microBatches = setting.microBatches;
  for (std::size_t layer = 0; layer < choice.options.size(); ++layer) {
    const Option &option = *choice.options[layer];
    plan.layers.push_back({problem.layers[layer].path, problem.layers[layer].layerType, problem.layers[layer].role,
                           option.strategy, option.dp, timetable.shape().stageOf(choice.partOf[layer])});
    if (plan.schedule == Schedule::ZeroBubbleV) // which a stage does not say where the model turns
      plan.layers.back().chunk = timetable.shape().chunkOf(choice.partOf[layer]);
    if (splitsBackward(plan.schedule))
      plan.layers.back().splitBackward = option.splits;
    plan.layers.back().block = problem.layers[layer].block;
    if (const std::vector<std::string> &known = problem.layers[layer].recomputableValues; !known.empty())
      plan.recomputableValues[problem.layers[layer].layerType] = known;
    if (!option.strategy.values)
      continue;
    std::vector<std::string> names = problem.costs->recomputableValues(problem.layers[layer]);
    for (std::size_t k = 0; k < names.size(); ++k)
      if (option.strategy.values >> k & 1)
        plan.layers.back().recomputeValues.push_back(names[k]);
  }
  plan.mesh = meshToSay(setting, plan);
  plan.predictedStepSeconds = price.seconds;
  plan.stageMemory = price.memory;
  for (const StageMemory &memory : price.memory) {
    plan.peakBytesPerRank.insert(plan.peakBytesPerRank.end(), setting.stageRanks,
                                 memory.total() - memory.overheadBytes);
    plan.overheadBytesPerRank.insert(plan.overheadBytesPerRank.end(), setting.stageRanks, memory.overheadBytes);
  }
  return plan;
}

Result<GivenPlan> readGivenPlan(const Problem &problem, const Plan &plan, bool alternatives) {
  if (Result<bool> valid = validatePlan(plan); !valid)
    return valid.error();
  if (plan.layers.size() != problem.layers.size() || plan.ranks != problem.ranks() ||
      plan.globalBatch != problem.globalBatch)
    return Error{"expects a plan of " + std::to_string(problem.layers.size()) + " layers for " +
                 std::to_string(problem.ranks()) + " ranks and batch " + std::to_string(problem.globalBatch) +
                 ", but got one of " + std::to_string(plan.layers.size()) + " layers for " +
                 std::to_string(plan.ranks) + " ranks and batch " + std::to_string(plan.globalBatch)};
  // Alternatives come from the whole space; the plan itself may lie outside.
  Setting setting = Setting::bare(problem, plan.pipeline, plan.microBatches, plan.rankMesh());
  if (alternatives)
    if (Result<Setting> made = Setting::make(problem, plan.pipeline, plan.microBatches, plan.rankMesh()))
      setting = std::move(*made);
  setting.forgetTables(); // the plan may bring layouts of its own
  GivenPlan given{std::move(setting), Timetable(plan.shape()), {}, {}};
  std::map<std::tuple<int, int, Strategy, int, std::optional<bool>>, const Option *> priced;
  std::vector<int> parts = plan.partOfLayers();
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
    const PlannedLayer &planned = plan.layers[layer];
    Result<std::uint32_t> values = getValueBits(planned, problem.costs->recomputableValues(problem.layers[layer]));
    if (!values)
      return values.error();
    Strategy strategy = planned.strategy;
    strategy.values = *values;
    int stageClass = given.setting.classOf[planned.stage];
    std::optional<bool> split;
    if (splitsBackward(plan.schedule))
      split = planned.isBackwardSplit();
    const Option *&option = priced[{given.setting.typeOf[layer], stageClass, strategy, planned.dp, split}];
    if (!option) {
      Result<Option> cost = given.setting.price(int(layer), strategy, planned.dp, stageClass, split);
      if (!cost)
        return Error{"layer '" + planned.path + "' cannot take " + describe(strategy, planned.dp) + ": " +
                     cost.error().message};
      given.owned.push_back(std::make_unique<Option>(std::move(*cost)));
      option = given.owned.back().get();
    }
    given.choice.options.push_back(option);
    given.choice.partOf.push_back(parts[layer]);
  }
  return given;
}

namespace {
std::string milliseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g ms", seconds * 1e3);
  return text;
}

/// What would become of the plan if one layer took another option.
LayerReason::Alternative tryInstead(const Setting &setting, const Timetable &timetable, Choice &choice,
                                    const PlanPrice &price, std::size_t layer, const Option &option) {
  const Option *chosen = std::exchange(choice.options[layer], &option);
  PlanPrice other = pricePlan(setting, timetable, choice);
  choice.options[layer] = chosen;
  int stage = timetable.shape().stageOf(choice.partOf[layer]);
  LayerReason::Alternative result{option.strategy, option.dp, other.seconds - price.seconds,
                                  other.memory[stage].total() - price.memory[stage].total(), ""};
  std::int64_t over = other.memory[stage].total() - setting.problem->cluster.memoryBytesPerDevice;
  if (over > 0)
    result.lostBy = "does not fit by " + formatBytes(double(over));
  else
    result.lostBy = milliseconds(result.extraSeconds) + " a step";
  return result;
}

/// Seconds of a step that a layer takes under an option, with the change of layout
/// towards its neighbours.
double aroundLayer(const Setting &setting, const PipelineShape &shape, const Choice &choice, std::size_t layer,
                   const Option &option) {
  int stage = shape.stageOf(choice.partOf[layer]);
  double moved = 0;
  if (layer > 0)
    moved += setting.redistribution(setting.classOf[stage], choice.options[layer - 1]->layout, option.layout,
                                    choice.options[layer - 1]->boundary);
  if (layer + 1 < choice.options.size())
    moved += setting.redistribution(setting.classOf[shape.stageOf(choice.partOf[layer + 1])], option.layout,
                                    choice.options[layer + 1]->layout, option.boundary);
  return setting.microBatches * (option.time() + moved) + option.tail;
}

std::vector<LayerReason::Alternative> alternativesOf(const Setting &setting, const Timetable &timetable, Choice &choice,
                                                     const PlanPrice &price, std::size_t layer) {
  std::vector<LayerReason::Alternative> fits, tooBig;
  std::int64_t budget = setting.problem->cluster.memoryBytesPerDevice;
  int stage = timetable.shape().stageOf(choice.partOf[layer]);
  const Option &chosen = *choice.options[layer];
  // Timing each in the whole plan is dear: of those that fit, the likeliest few.
  constexpr std::size_t kTimed = 12;
  std::vector<std::pair<double, const Option *>> likely;
  for (const Option &option : setting.optionsOf(stage)[setting.typeOf[layer]])
    if ((option.strategy != chosen.strategy || option.dp != chosen.dp) &&
        fitsSchedule(option, timetable.shape().schedule))
      likely.emplace_back(aroundLayer(setting, timetable.shape(), choice, layer, option), &option);
  std::sort(likely.begin(), likely.end(), [](const auto &a, const auto &b) {
    return std::tuple{a.first, a.second->strategy, a.second->dp} <
           std::tuple{b.first, b.second->strategy, b.second->dp};
  });
  for (auto [seconds, option] : likely) {
    if (fits.size() == kTimed)
      break;
    auto other = tryInstead(setting, timetable, choice, price, layer, *option);
    bool fitting = price.memory[stage].total() + other.extraBytes <= budget;
    (fitting ? fits : tooBig).push_back(std::move(other));
  }
  auto faster = [](const auto &a, const auto &b) {
    return std::tuple{a.extraSeconds, a.extraBytes, a.strategy} < std::tuple{b.extraSeconds, b.extraBytes, b.strategy};
  };
  std::sort(fits.begin(), fits.end(), faster);
  std::sort(tooBig.begin(), tooBig.end(), faster);
  // The best that lost on time, and the best that memory forbids.
  if (fits.size() > 3)
    fits.resize(3);
  if (!tooBig.empty() && tooBig.front().extraSeconds < 0)
    fits.insert(fits.begin(), tooBig.front());
  return fits;
}

void explainLayers(Plan &plan, const Setting &setting, const Timetable &timetable, Choice choice,
                   const PlanPrice &price) {
  // Equal layers in equal surroundings have equal alternatives.
  std::map<std::array<const void *, 4>, std::vector<LayerReason::Alternative>> known;
  plan.reasons.layers.clear();
  for (std::size_t layer = 0; layer < choice.options.size(); ++layer) {
    const Option &option = *choice.options[layer];
    int part = choice.partOf[layer], stage = timetable.shape().stageOf(part);
    LayerReason reason;
    reason.forwardSeconds = option.computeForward;
    reason.backwardSeconds = option.computeBackward;
    reason.recomputeSeconds = option.recompute;
    reason.communicationSeconds = option.communication;
    reason.redistributionSeconds = price.redistribution[layer];
    reason.stepSeconds = option.tail;
    reason.stateBytes = option.state;
    int kept = 0;
    for (const std::vector<int> &counts : timetable.inFlight(stage))
      kept = std::max(kept, counts[timetable.shape().chunkOf(part)]);
    reason.activationBytes = option.saved * kept;
    reason.scratchBytes = option.scratch;
    auto neighbour = [&](std::size_t other) -> const void * {
      bool there = other < choice.options.size();
      return there ? reinterpret_cast<const char *>(choice.options[other]) + (choice.partOf[other] != part) : nullptr;
    };
    auto [at, isNew] = known.try_emplace({&option, neighbour(layer - 1), neighbour(layer + 1), &price.times[part]});
    if (isNew)
      at->second = alternativesOf(setting, timetable, choice, price, layer);
    reason.alternatives = at->second;
    plan.reasons.layers.push_back(std::move(reason));
  }
}
} // namespace

void explainPlan(Plan &plan, const Setting &setting, const Timetable &timetable, const Choice &choice,
                 const PlanPrice &price) {
  explainLayers(plan, setting, timetable, choice, price);
  plan.reasons.notes.clear();
  std::int64_t budget = setting.problem->cluster.memoryBytesPerDevice;
  auto slowest = std::max_element(price.stageSeconds.begin(), price.stageSeconds.end());
  plan.reasons.slowestStage = int(slowest - price.stageSeconds.begin());
  plan.reasons.bubble = timetable.result(price.times).bubble();
  auto fullest = std::max_element(price.memory.begin(), price.memory.end(),
                                  [](const auto &a, const auto &b) { return a.total() < b.total(); });
  plan.reasons.fullestStage = int(fullest - price.memory.begin());
  plan.reasons.freeBytes = budget - fullest->total();
  // Memory binds where something faster would need more of it.
  for (std::size_t layer = 0; layer < plan.layers.size() && plan.reasons.memoryBindsAt.empty(); ++layer)
    for (const auto &other : plan.reasons.layers[layer].alternatives)
      if (other.extraSeconds < 0 &&
          price.memory[timetable.shape().stageOf(choice.partOf[layer])].total() + other.extraBytes > budget)
        plan.reasons.memoryBindsAt = plan.layers[layer].path;
  char text[256];
  std::snprintf(text, sizeof text,
                "slowest stage %d takes %.3f ms of %.3f ms a step for each of %d micro-batches; "
                "the timetable idles %.1f %%",
                plan.reasons.slowestStage, *slowest * 1e3, price.seconds * 1e3, plan.microBatches,
                plan.reasons.bubble * 100);
  plan.reasons.notes.push_back(text);
  plan.reasons.notes.push_back(plan.reasons.memoryBindsAt.empty()
                                   ? "memory does not bind: no single layer would be faster with more of it"
                                   : "memory binds: '" + plan.reasons.memoryBindsAt + "' would be faster with more");
  for (std::size_t each = 0; each < price.memory.size(); ++each) {
    const StageMemory &memory = price.memory[each];
    std::string line = "stage " + std::to_string(each) + " uses " + formatBytes(double(memory.total())) + " of " +
                       formatBytes(double(budget)) + " (" + formatBytes(double(memory.stateBytes)) + " states, " +
                       formatBytes(double(memory.activationBytes)) + " activations, " +
                       formatBytes(double(memory.scratchBytes)) + " scratch)";
    plan.reasons.notes.push_back(line);
  }
}

} // namespace galvatron::search
