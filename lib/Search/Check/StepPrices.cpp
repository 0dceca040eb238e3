//===- StepPrices.cpp - What the entries of a timetable take --------------===//

#include "galvatron/Search/Check/StepPrices.h"

#include "galvatron/Search/Model/KernelPrice.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Model/MeasuredBodies.h"

#include <algorithm>
#include <map>

namespace galvatron::search {

StepPrices::~StepPrices() = default;

/// The forward body of the same layer; null: there is none.
static const StepBody *forwardOf(const StepTimetable &step, const BodyOrigin &origin) {
  for (const StepBody &body : step.bodies)
    if (!body.origin.isBackward && body.origin.hash == origin.hash && body.origin.samples == origin.samples &&
        bodyStrategy(body.origin.strategy) == bodyStrategy(origin.strategy))
      return &body;
  return nullptr;
}

/// Its compute as it was measured ÷ by its kernels.
double ClusterPrices::findPace(const StepTimetable &step, int stage, const StepBody &body) const {
  const BodyOrigin &origin = body.origin;
  if (!bodiesOf(cluster.device) || origin.hash.empty())
    return 1;
  // Of what computes some of forward again there is no figure: as forward.
  auto asForward = [&] {
    const StepBody *forward = forwardOf(step, origin);
    return forward && forward != &body ? paceOf(step, stage, *forward) : 1.0;
  };
  if (origin.recomputesSome)
    return asForward();
  BodyQuery query{origin.layerType, origin.hash, origin.strategy};
  query.samples = double(origin.samples), query.seq = double(std::max<std::int64_t>(1, step.sequence));
  BodyWork work = workOf(body, step.stages[stage]);
  KernelSeconds seconds = priceKernels(work, cluster.device);
  query.attentionSeconds = seconds.attention, query.otherSeconds = seconds.other;
  for (const BodyWork::Message &message : work.messages)
    query.messages.insert(query.messages.end(), std::size_t(message.count),
                          {message.kind, message.bytes, message.ranks});
  double kernels = seconds.total();
  if (kernels <= 0)
    return 1;
  query.part = origin.isBackward ? BodyPart::Backward : BodyPart::Forward;
  double recomputing = 0;
  if (origin.isBackward && origin.strategy.recompute) {
    query.part = BodyPart::Recompute;
    BodyQuery again = query;
    again.messages.clear();
    BodyPrice price = bodiesOf(cluster.device)->price(again);
    if (!price.isMeasured())
      return asForward();
    recomputing = price.seconds;
    query.part = BodyPart::Backward;
  }
  BodyPrice price = bodiesOf(cluster.device)->price(query);
  return price.isOfLayer() ? (price.seconds + recomputing) / kernels : 1;
}

double ClusterPrices::paceOf(const StepTimetable &step, int stage, const StepBody &body) const {
  if (auto known = paces.find(&body); known != paces.end())
    return known->second;
  double pace = findPace(step, stage, body);
  return paces[&body] = pace;
}

/// Calls one after another. A collective with a handle goes on beside them on a device that overlaps: with what follows
/// it takes max + (slow-down - 1) · min of both.
double ClusterPrices::bodySeconds(const StepTimetable &step, int stage, const StepBody &body) const {
  struct Started {
    double begin, seconds;
  };
  std::map<int, Started> underWay;
  double now = 0, free = 0, pace = paceOf(step, stage, body);
  for (const BodyCall &call : body.calls) {
    if (call.waitsFor >= 0) {
      auto at = underWay.find(call.waitsFor);
      if (at == underWay.end())
        continue;
      double beside = std::min(now - at->second.begin, at->second.seconds);
      now = std::max(now, at->second.begin + at->second.seconds) + (slowdown() - 1) * std::max(0.0, beside);
      underWay.erase(at);
      continue;
    }
    if (!call.collective) {
      now += pace * kernelSeconds(amountsOf(call), cluster.device);
      continue;
    }
    const plan::GroupShape &group = step.stages[stage].groups[call.group].shape;
    double seconds = collectiveSeconds(*call.collective, call.bytes, group);
    if (call.handle < 0 || !overlaps()) {
      now += seconds;
      continue;
    }
    double begin = std::max(now, free);
    free = begin + seconds;
    underWay[call.handle] = {begin, seconds};
  }
  return now;
}

double ClusterPrices::collectiveSeconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const {
  return links.seconds(kind, bytes, group);
}

double ClusterPrices::sendSeconds(const StepTimetable &step, int from, int to, double bytes) const {
  return links.sendSecondsFrom(from * step.devices, step.devices, bytes, int(step.devices * (to - from)));
}

double ClusterPrices::touchSeconds(double bytes) const { return kernelSeconds({.bytes = bytes}, cluster.device); }

double ClusterPrices::updateSeconds(double bytes) const { return search::updateSeconds(bytes, cluster.device); }

} // namespace galvatron::search
