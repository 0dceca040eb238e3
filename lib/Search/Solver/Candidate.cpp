//===- Candidate.cpp - The candidates of a problem, and their bounds ------===//

#include "Candidate.h"

#include "KnapsackBound.h"

#include <algorithm>
#include <set>

namespace galvatron::search {

namespace {
/// Options of a schedule, those of tied layers limited to those alike.
std::shared_ptr<const std::vector<OptionLists>> optionsFor(const std::shared_ptr<const Setting> &setting,
                                                           Schedule schedule, const std::optional<TiedStrategy> &tied) {
  auto isOut = [&](const Option &option, std::size_t type) {
    return !fitsSchedule(option, schedule) ||
           (tied && setting->tied[type] && TiedStrategy::of(option.strategy) != *tied);
  };
  auto isWhole = [&](const OptionLists &byType) {
    for (std::size_t type = 0; type < byType.size(); ++type)
      if (std::any_of(byType[type].begin(), byType[type].end(),
                      [&](const Option &option) { return isOut(option, type); }))
        return false;
    return true;
  };
  if (std::all_of(setting->options->begin(), setting->options->end(), isWhole))
    return setting->options;
  auto lists = std::make_shared<std::vector<OptionLists>>(*setting->options);
  for (OptionLists &byType : *lists)
    for (std::size_t type = 0; type < byType.size(); ++type)
      std::erase_if(byType[type], [&](const Option &option) { return isOut(option, type); });
  return lists;
}
} // namespace

Candidate::Candidate(std::shared_ptr<const Setting> setting, const PipelineShape &shape,
                     std::optional<TiedStrategy> tiedStrategy)
    : base(std::move(setting)), form(shape), lists(optionsFor(base, shape.schedule, tiedStrategy)), tied(tiedStrategy),
      timetableBound(makePipelineBound()), least(lowerBound()) {}

int Candidate::leastInFlight() const {
  switch (form.schedule) {
  case Schedule::GPipe:
    return form.microBatches;
  case Schedule::ZeroBubble:
    return std::min(form.stages, form.microBatches);
  default:
    return 1;
  }
}

const std::vector<std::pair<double, double>> &Candidate::hullOf(int type) const {
  return base->hulls->find({type, leastInFlight(), mayReunite(), splitsBackward(form.schedule), tied}, [&] {
    std::vector<std::pair<double, double>> points;
    for (const OptionLists &byType : *lists)
      for (const Option &option : byType[type])
        points.emplace_back(double(option.state - mayReunite() * option.tiedState + option.saved * leastInFlight()),
                            option.time());
    return points;
  });
}

PipelineBound Candidate::makePipelineBound() const {
  double forwardShare = 0, weightShare = 0;
  for (const OptionLists &byType : *lists)
    for (const std::vector<Option> &list : byType)
      for (const Option &option : list)
        if (option.time() > 0) {
          forwardShare = std::max(forwardShare, option.forward / option.time());
          weightShare = std::max(weightShare, option.weight / option.time());
        }
  return PipelineBound(form, forwardShare, weightShare);
}

double Candidate::lowerBound() const {
  double largest = 0, tails = 0;
  // All stages together hold every layer with the micro-batches of the least.
  KnapsackBound relaxed;
  for (std::size_t type = 0; type < base->tied.size(); ++type) {
    int count = int(std::count(base->typeOf.begin(), base->typeOf.end(), int(type)));
    double fastest = kInfinity, tail = kInfinity;
    for (const OptionLists &byType : *lists)
      for (const Option &option : byType[type]) {
        fastest = std::min(fastest, option.time());
        tail = std::min(tail, option.tail - mayReunite() * option.tiedTail);
      }
    if (fastest == kInfinity)
      return kInfinity;
    largest = std::max(largest, fastest);
    tails += count * tail;
    relaxed = KnapsackBound::add(relaxed, hullOf(int(type)), count);
  }
  double sum = relaxed.at(base->memoryOfAllStages());
  return sum == kInfinity ? kInfinity : timetableBound.seconds(sum, largest) + tails / base->stages;
}

std::vector<std::tuple<int, int, plan::Mesh>> offeredSettings(const Problem &problem) {
  const SearchSpace &space = problem.space;
  std::vector<std::tuple<int, int, plan::Mesh>> offered;
  std::int64_t most = std::min({problem.ranks(), std::int64_t(problem.layers.size()), std::int64_t(space.maxPipeline)});
  for (std::int64_t stages = space.minPipeline; stages <= most; ++stages) {
    if (problem.ranks() % stages || (stages > 1 && !space.pipeline) || (space.stages > 0 && stages != space.stages))
      continue;
    for (std::int64_t count = 1; count <= std::min(problem.globalBatch, kMostMicroBatches); ++count)
      if (problem.globalBatch % count == 0 && (space.microBatches <= 0 || count == space.microBatches))
        for (plan::Mesh &mesh : offeredMeshes(problem, problem.ranks() / stages))
          offered.emplace_back(int(stages), int(count), std::move(mesh));
  }
  return offered;
}

namespace {
std::vector<PipelineShape> shapesOf(const Setting &setting) {
  const Problem &problem = *setting.problem;
  std::vector<PipelineShape> shapes;
  // One stage is no pipeline: the one order worth anything is that which keeps least.
  std::vector<Schedule> schedules = {Schedule::OneFOneB};
  if (setting.stages > 1)
    schedules = problem.space.schedules;
  auto blocks = std::count_if(problem.layers.begin(), problem.layers.end(),
                              [](const Layer &layer) { return layer.role == LayerRole::Block; });
  // As many parts as there are layers: up to a few all numbers, then those that divide the blocks.
  auto isWorth = [&](const PipelineShape &shape) {
    bool isFew = shape.virtualStages <= problem.space.maxVirtualStages;
    return !whyImpossible(shape) && (isFew || (blocks % shape.parts() == 0 && shape.parts() <= blocks));
  };
  for (Schedule schedule : schedules) {
    PipelineShape shape{schedule, setting.stages, 1, setting.microBatches};
    if (schedule != Schedule::Interleaved && schedule != Schedule::ZeroBubbleV) {
      shapes.push_back(shape);
      continue;
    }
    for (shape.virtualStages = 2; shape.parts() <= setting.layers(); ++shape.virtualStages)
      if (isWorth(shape) && (!problem.space.virtualStages || problem.space.virtualStages == shape.virtualStages))
        shapes.push_back(shape);
  }
  return shapes;
}
} // namespace

std::vector<Candidate> candidatesOf(const std::shared_ptr<const Setting> &setting) {
  std::set<std::optional<TiedStrategy>> shared = {std::nullopt};
  if (!setting->problem->ties.empty()) {
    shared.clear();
    for (std::size_t type = 0; type < setting->tied.size(); ++type)
      if (setting->tied[type])
        for (const Option &option : (*setting->options)[0][type])
          shared.insert(TiedStrategy::of(option.strategy));
  }
  std::vector<Candidate> candidates;
  for (const PipelineShape &shape : shapesOf(*setting))
    for (const std::optional<TiedStrategy> &tied : shared) {
      Candidate candidate(setting, shape, tied);
      const OptionLists &lists = candidate.options()[0];
      if (std::none_of(lists.begin(), lists.end(), [](const std::vector<Option> &list) { return list.empty(); }))
        candidates.push_back(std::move(candidate));
    }
  return candidates;
}

} // namespace galvatron::search
