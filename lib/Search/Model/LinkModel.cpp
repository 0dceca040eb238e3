//===- LinkModel.cpp - Collectives on a cluster's links -------------------===//

#include "galvatron/Search/Model/LinkModel.h"

#include "galvatron/Search/Model/MachineTables.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace galvatron::search {

namespace {
/// All-gather or reduce-scatter of n bytes among g ranks of one level.
double halfReduce(const Link &link, double bytes, double g) {
  double transfer = (g - 1) / g * bytes / link.bytesPerSecond;
  return std::ceil(std::log2(g)) * link.latencySeconds + transfer;
}

double allReduce(const Link &link, double bytes, double g) {
  double tree = 2 * std::ceil(std::log2(g)) * link.latencySeconds + 2 * bytes / link.bytesPerSecond;
  return std::min(tree, 2 * halfReduce(link, bytes, g));
}

/// One message: along the measured sizes where the cluster file gives some.
double messageSeconds(const Link &link, double bytes) {
  return link.latencySeconds + bytes / link.sendBytesPerSecond(bytes);
}

double allToAll(const Link &link, double bytes, double g) {
  return (g - 1) * link.latencySeconds + (g - 1) / g * bytes / link.bytesPerSecond;
}
} // namespace

std::int64_t membersWithin(const plan::GroupShape &group, std::int64_t devicesPerNode) {
  std::int64_t within = 1;
  for (const plan::GroupShape::Loop &loop : group.loops) {
    std::int64_t fit = std::clamp<std::int64_t>(devicesPerNode / loop.stride, 1, loop.size);
    within *= fit;
    if (fit < loop.size)
      break;
  }
  return within;
}

/// Nodes whose links differ, as a file says, are not the profile's.
std::optional<double> LinkModel::measuredSeconds(CollectiveKind kind, double bytes,
                                                 const plan::GroupShape &group) const {
  bool isWithinNode = membersWithin(group, cluster.devicesPerNode) == group.size();
  if (!cluster.device.tables || (!isWithinNode && !cluster.interOfNode.empty()))
    return std::nullopt;
  auto message = cluster.device.tables->message(kind, bytes, group, cluster.devicesPerNode);
  return message ? std::optional(message->seconds) : std::nullopt;
}

std::optional<double> LinkModel::measuredSend(double bytes, int distance, bool isWithinNode) const {
  if (!cluster.device.tables || (!isWithinNode && !cluster.interOfNode.empty()))
    return std::nullopt;
  auto message = cluster.device.tables->send(bytes, distance, isWithinNode);
  return message ? std::optional(message->seconds) : std::nullopt;
}

double LinkModel::seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const {
  double groupSize = double(group.size());
  if (groupSize <= 1 || bytes <= 0)
    return 0;
  if (std::optional<double> measured = measuredSeconds(kind, bytes, group))
    return *measured;
  double within = double(membersWithin(group, cluster.devicesPerNode));
  double nodes = std::ceil(groupSize / within);
  const Link &intra = cluster.intra;
  if (kind == CollectiveKind::SendReceive)
    return messageSeconds(nodes <= 1 ? intra : inter, bytes); // the slowest of a ring's
  if (nodes <= 1) {
    if (kind == CollectiveKind::AllReduce)
      return allReduce(intra, bytes, groupSize);
    return kind == CollectiveKind::AllToAll ? allToAll(intra, bytes, groupSize) : halfReduce(intra, bytes, groupSize);
  }
  if (kind == CollectiveKind::AllToAll) {
    double remote = (groupSize - within) / groupSize * bytes;
    double local = (within - 1) / groupSize * bytes;
    return (within - 1) * intra.latencySeconds + local / intra.bytesPerSecond + (nodes - 1) * inter.latencySeconds +
           remote / inter.bytesPerSecond;
  }
  double across = allReduce(inter, bytes / within, nodes);
  double inside = within > 1 ? halfReduce(intra, bytes, within) : 0;
  double twice = 2 * inside + across;
  return kind == CollectiveKind::AllReduce ? twice : inside + halfReduce(inter, bytes / within, nodes);
}

double LinkModel::sendSeconds(double bytesPerRank, int distance) const {
  if (bytesPerRank <= 0)
    return 0;
  if (std::optional<double> measured = measuredSend(bytesPerRank, distance, distance < cluster.devicesPerNode))
    return *measured;
  return messageSeconds(distance < cluster.devicesPerNode ? cluster.intra : inter, bytesPerRank);
}

double LinkModel::sendSecondsFrom(std::int64_t first, std::int64_t count, double bytesPerRank, int distance) const {
  if (bytesPerRank <= 0)
    return 0;
  // Sender and receiver are ranges as wide and as far apart as `distance` at
  // least: if both lie in one node, no pair crosses.
  std::int64_t low = std::min(first, first + distance), high = std::max(first, first + distance) + count - 1;
  bool isWithinNode = low / cluster.devicesPerNode == high / cluster.devicesPerNode;
  if (std::optional<double> measured = measuredSend(bytesPerRank, std::abs(distance), isWithinNode))
    return *measured;
  if (isWithinNode)
    return messageSeconds(cluster.intra, bytesPerRank);
  return std::max(messageSeconds(cluster.interOfRanks(first, count), bytesPerRank),
                  messageSeconds(cluster.interOfRanks(first + distance, count), bytesPerRank));
}

} // namespace galvatron::search
