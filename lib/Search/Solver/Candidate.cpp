//===- Candidate.cpp - Bounds of a candidate ------------------------------===//

#include "Candidate.h"

#include "RestBound.h"

#include <algorithm>

namespace galvatron::search {

double leastPipelineSeconds(const PipelineShape &shape, double sum, double largest, double forwardShare,
                            double weightShare) {
  double m = shape.microBatches, p = shape.stages;
  if (shape.schedule == Schedule::GPipe || p == 1)
    return sum + (m - 1) * std::max(sum / p, largest);
  if (shape.schedule != Schedule::OneFOneB)
    return std::max(m * std::max(sum / p, largest), sum * (1 - weightShare));
  auto warmUp = [&](int stage) { return double(std::min(shape.stages - 1 - stage, shape.microBatches - 1)); };
  // Whether the stages can hold the whole sum within `seconds`.
  auto holds = [&](double seconds) {
    double held = 0;
    for (int stage = 0; stage < shape.stages && held < sum; ++stage) {
      double room = (seconds - held) / m, rate = m - 1 - warmUp(stage) * forwardShare;
      if (rate > 0)
        room = std::min(room, (seconds - sum) / rate);
      held += room;
    }
    return held >= sum;
  };
  double low = std::max({sum, m * largest, sum + largest * (m - 1 - warmUp(0) * forwardShare)});
  double high = std::max(low, sum + (m - 1) * std::max(sum / p, largest));
  if (holds(low))
    return low;
  for (int step = 0; step < 40; ++step) {
    double middle = (low + high) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return low;
}

namespace {
/// Options of tied units limited to one tp.
std::shared_ptr<const std::vector<OptionLists>> withTiedTensor(const std::shared_ptr<const Setting> &setting, int tp) {
  if (!tp)
    return {setting, &setting->options};
  auto lists = std::make_shared<std::vector<OptionLists>>(setting->options);
  for (OptionLists &byType : *lists)
    for (std::size_t type = 0; type < byType.size(); ++type)
      if (setting->tied[type])
        std::erase_if(byType[type], [&](const Option &option) { return option.strategy.tp != tp; });
  return lists;
}
} // namespace

Candidate::Candidate(std::shared_ptr<const Setting> setting, const PipelineShape &shape, int tiedTensor)
    : base(std::move(setting)), form(shape), lists(withTiedTensor(base, tiedTensor)), tied(tiedTensor) {
  least = lowerBound();
}

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

double Candidate::lowerBound() const {
  double largest = 0, tails = 0, forwardShare = 0, weightShare = 0;
  // All stages together hold every unit with the micro-batches of the least.
  RestBound relaxed;
  for (std::size_t type = 0; type < base->tied.size(); ++type) {
    int count = int(std::count(base->typeOf.begin(), base->typeOf.end(), int(type)));
    double fastest = kInfinity, tail = kInfinity;
    std::vector<std::pair<double, double>> points;
    for (const OptionLists &byType : *lists)
      for (const Option &option : byType[type]) {
        points.emplace_back(double(option.state + option.saved * leastInFlight()), option.time());
        fastest = std::min(fastest, option.time());
        tail = std::min(tail, option.tail);
        if (option.time() > 0) {
          forwardShare = std::max(forwardShare, option.forward / option.time());
          weightShare = std::max(weightShare, option.weight / option.time());
        }
      }
    if (points.empty())
      return kInfinity;
    largest = std::max(largest, fastest);
    tails += count * tail;
    relaxed = RestBound::add(relaxed, std::move(points), count);
  }
  double sum = relaxed.at(base->memoryOfAllStages());
  if (sum == kInfinity)
    return kInfinity;
  return leastPipelineSeconds(form, sum, largest, forwardShare, weightShare) + tails / base->stages;
}

} // namespace galvatron::search
