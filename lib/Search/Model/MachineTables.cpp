//===- MachineTables.cpp - A profile's figures as prices ------------------===//

#include "galvatron/Search/Model/MachineTables.h"

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/MeasuredBodies.h"
#include "galvatron/Search/Model/ProfileWarnings.h"

#include <algorithm>

namespace galvatron::search {

void MeasuredCurve::finish() {
  std::sort(points.begin(), points.end());
  std::vector<std::pair<double, double>> merged;
  for (std::size_t first = 0, end; first < points.size(); first = end) {
    double sum = 0;
    for (end = first; end < points.size() && points[end].first == points[first].first; ++end)
      sum += points[end].second;
    double mean = sum / double(end - first);
    // Noise: a larger one that took less.
    merged.emplace_back(points[first].first, merged.empty() ? mean : std::max(mean, merged.back().second));
  }
  points = std::move(merged);
}

double MeasuredCurve::seconds(double size) const {
  if (size <= points.front().first || points.size() == 1)
    return points.front().second * std::max(1.0, size / points.front().first); // one size alone: in proportion
  auto high = std::lower_bound(points.begin(), points.end(), std::pair(size, 0.0));
  high = high == points.end() ? std::prev(high) : high;
  auto low = std::prev(high);
  double slope = (high->second - low->second) / (high->first - low->first);
  return low->second + slope * (size - low->first);
}

namespace {

double productWork(const KernelShape &s) { return 2.0 * double(s.m) * double(s.n) * double(s.k); }

/// Of causal attention, over samples and heads.
double pairsOf(const KernelShape &s) {
  return double(s.samples) * double(s.heads) * double(s.seq) * (double(s.seq) + 1) / 2;
}

/// Two products forward, five backward, as the graph's ops count them.
double attentionWork(const KernelShape &s) {
  return pairsOf(s) * ((s.backward ? 10 : 4) * double(s.headSize) + kTranscendental);
}
} // namespace

const char *measuredName(CollectiveKind kind) {
  switch (kind) {
  case CollectiveKind::AllReduce:
    return "all_reduce";
  case CollectiveKind::AllGather:
    return "all_gather";
  case CollectiveKind::ReduceScatter:
    return "reduce_scatter";
  case CollectiveKind::AllToAll:
    return "all_to_all";
  case CollectiveKind::SendReceive: // of a ring: each rank sends and receives
    return "exchange";
  }
  return "";
}

MachineTables::MachineTables(const MachineProfile &profile, std::string file)
    : path(std::move(file)), hash(profile.fingerprintHash()), elements(profile.precision), isBusy(profile.wasBusy),
      doubts(findWarnings(profile, path, lookAtThisHost())), nodes(profile.cluster.nodes),
      nodeDevices(profile.cluster.devicesPerNode) {
  // The neighbouring groups do the same: of each arrangement the one with most groups at once.
  std::map<Arrangement, std::int64_t> most;
  for (const MeasuredMessage &m : profile.messages) {
    std::int64_t &groups = most[{m.kind, m.ranks, m.stride}];
    groups = std::max(groups, m.groups);
  }
  for (const MeasuredMessage &m : profile.messages)
    if (most[{m.kind, m.ranks, m.stride}] == m.groups)
      messages[{m.kind, m.ranks, m.stride}].add(double(m.bytes), m.seconds);
  for (const MeasuredKernel &k : profile.kernels) {
    if (k.kind == "gemm")
      productCurve.add(productWork(k.shape), k.seconds);
    else if (k.kind == "attention")
      attentionCurves[k.shape.backward].add(attentionWork(k.shape), k.seconds);
    else if (k.kind == "elementwise")
      elementwiseCurve.add(double(k.shape.bytes), k.seconds);
  }
  for (auto &[arrangement, curve] : messages)
    curve.finish();
  for (MeasuredCurve *curve : {&productCurve, &attentionCurves[0], &attentionCurves[1], &elementwiseCurve})
    curve->finish();
}

std::optional<MachineTables::Message> MachineTables::at(const Arrangement &arrangement, double bytes) const {
  auto found = messages.find(arrangement);
  if (found == messages.end())
    return std::nullopt;
  double size = bytes / speedUp;
  return Message{found->second.seconds(size), found->second.covers(size)};
}

std::optional<MachineTables::Message> MachineTables::message(CollectiveKind kind, double bytes,
                                                             const plan::GroupShape &group,
                                                             std::int64_t devicesPerNode) const {
  bool isAlike = membersWithin(group, devicesPerNode) == membersWithin(group, nodeDevices);
  if (group.loops.size() != 1 || !isAlike)
    return std::nullopt;
  std::int64_t ranks = kind == CollectiveKind::SendReceive ? 2 : group.size();
  return at({measuredName(kind), ranks, group.stride()}, bytes);
}

std::optional<MachineTables::Message> MachineTables::send(double bytes, int distance, bool isWithinNode) const {
  bool wasWithinNode = nodeDevices % (2 * distance) == 0, wasAcross = distance >= nodeDevices;
  if (isWithinNode ? !wasWithinNode : !wasAcross)
    return std::nullopt;
  return at({"send", 2, distance}, bytes);
}

std::shared_ptr<const MachineTables> MachineTables::withFasterLinks(double factor) const {
  auto faster = std::make_shared<MachineTables>(*this);
  faster->speedUp *= factor;
  return faster;
}

double updateSeconds(double bytes, const DeviceKind &device) {
  const MeasuredBodies *bodies = bodiesOf(device);
  double measured = bodies ? bodies->updateBytesPerSecond() : 0;
  if (measured > 0 && bodies->isFree())
    return 0;
  return bytes / (measured > 0 ? measured : device.memoryBytesPerSecond);
}

/// Of work and a message that take equally long alone, how much longer both take together: the mean over all kinds and
/// sizes. 0: none was measured.
static double overlapSlowdownOf(const MachineProfile &profile) {
  double sum = 0, count = 0;
  for (const MeasuredOverlap &overlap : profile.overlaps)
    if (overlap.first == "gemm" || overlap.first == "attention" || overlap.first == "elementwise") {
      sum += std::max({1.0, overlap.firstSlowdown, overlap.secondSlowdown});
      count += 1;
    }
  return count > 0 ? sum / count : 0;
}

std::optional<Error> applyProfile(const MachineProfile &profile, const std::string &file, Cluster &cluster) {
  if (profile.cluster.device.name != cluster.device.name)
    return Error{"expects a profile of devices of kind " + cluster.device.name + ", but '" + file + "' is of " +
                 profile.cluster.device.name + "; take one there with galvatron-profile"};
  auto hasNvls = [](const Cluster &of) { return of.nccl && of.nccl->nvls; };
  if (hasNvls(profile.cluster) != hasNvls(cluster)) {
    auto word = [](bool on) { return on ? "on" : "off"; };
    return Error{std::string("expects a profile taken with --nvls ") + word(hasNvls(cluster)) +
                 ", as the cluster's key 'nccl' has it, but '" + file + "' was taken with --nvls " +
                 word(hasNvls(profile.cluster)) + "; take another, or set nvls in 'nccl' to " +
                 (hasNvls(profile.cluster) ? "true" : "false")};
  }
  auto tables = std::make_shared<MachineTables>(profile, file);
  DeviceKind &device = cluster.device;
  // Rates of the largest measured work; a call's cost is that of the smallest.
  if (!tables->products().isEmpty()) {
    auto [work, seconds] = tables->products().all().back();
    device.matmulFlopsPerSecond = work / seconds;
  }
  if (!tables->elementwise().isEmpty()) {
    auto [bytes, seconds] = tables->elementwise().all().back();
    device.memoryBytesPerSecond = bytes / seconds;
  }
  if (double slowdown = overlapSlowdownOf(profile); slowdown > 0)
    device.overlapSlowdown = slowdown;
  double longest = 0;
  for (const MeasuredKernel &kernel : profile.kernels)
    if (kernel.kind == "attention" && !kernel.shape.backward && pairsOf(kernel.shape) > longest) {
      longest = pairsOf(kernel.shape);
      device.attentionPairsPerSecond = longest / kernel.seconds;
    }
  if (!profile.bodies.empty()) {
    Cluster measured = profile.cluster;
    measured.device = device;
    measured.device.tables = std::make_shared<MachineTables>(*tables);
    tables->setBodies(std::make_shared<MeasuredBodies>(profile, LinkModel(measured), measured.device));
  }
  device.tables = std::move(tables);
  return std::nullopt;
}

Result<Cluster> clusterOf(const MachineProfile &profile, std::int64_t ranks) {
  Cluster cluster = profile.cluster;
  std::int64_t most = cluster.devicesPerNode;
  if (!ranks || ranks == cluster.ranks())
    return cluster;
  if (ranks > most && ranks % most)
    return Error{"expects at most " + std::to_string(most) + " ranks, or whole nodes of " + std::to_string(most) +
                 " as the profile has them, but got " + std::to_string(ranks) + "; give other nodes with --cluster"};
  cluster.nodes = std::max<std::int64_t>(1, ranks / most);
  cluster.devicesPerNode = std::min(ranks, most);
  cluster.interOfNode.clear();
  cluster.device.overheadBytes = cluster.device.overhead.least(cluster.ranks());
  return cluster;
}

} // namespace galvatron::search
