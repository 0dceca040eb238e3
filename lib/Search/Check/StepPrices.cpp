//===- StepPrices.cpp - What the entries of a timetable take --------------===//

#include "galvatron/Search/Check/StepPrices.h"

#include <algorithm>
#include <map>

namespace galvatron::search {

StepPrices::~StepPrices() = default;

/// The roofline of a kernel: arithmetic, the exponentials of attention or memory, whichever takes longest, and its
/// start.
double ClusterPrices::kernelSeconds(const BodyCall &call) const {
  const DeviceKind &device = cluster.device;
  double rate = device.matmulFlopsPerSecond * (call.isProduct ? 1 : kVectorShareOfProducts);
  double most = std::max(call.flops / rate, call.bytes / device.memoryBytesPerSecond);
  if (call.pairs > 0 && device.attentionPairsPerSecond > 0)
    most = std::max(most, call.pairs / device.attentionPairsPerSecond);
  return most + device.launchSeconds;
}

/// Calls one after another. A collective with a handle goes on beside them on a device that overlaps: with what follows
/// it takes max + (slow-down - 1) · min of both.
double ClusterPrices::bodySeconds(const StepTimetable &step, int stage, const StepBody &body) const {
  struct Started {
    double begin, seconds;
  };
  std::map<int, Started> underWay;
  double now = 0, free = 0;
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
      now += kernelSeconds(call);
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

double ClusterPrices::touchSeconds(double bytes) const {
  return bytes / cluster.device.memoryBytesPerSecond + cluster.device.launchSeconds;
}

double ClusterPrices::updateSeconds(double bytes) const { return bytes / cluster.device.memoryBytesPerSecond; }

} // namespace galvatron::search
