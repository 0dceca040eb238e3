// The links of a cluster from measured messages.
//
//   latency     of the smallest send between two ranks of the level
//   rate        of the largest collective within the level, by the bytes that a ring passes through each rank:
//               all-reduce 2 (g - 1) / g · n, others (g - 1) / g · n; without one, of the largest send
//   sends       of each size, n / (t - latency)
#include "Links.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace galvatron::profile {

using search::Link;
using search::MachineProfile;
using search::MeasuredMessage;

namespace {

bool isWithinNode(const MeasuredMessage &message, std::int64_t devicesPerNode) {
  return devicesPerNode % (message.ranks * message.stride) == 0;
}

/// Each of the group's ranks on a node of its own.
bool isAcrossNodes(const MeasuredMessage &message, std::int64_t devicesPerNode) {
  return message.stride >= devicesPerNode;
}

bool isSmaller(const MeasuredMessage &a, const MeasuredMessage &b) {
  return std::tuple(a.bytes, a.groups) < std::tuple(b.bytes, b.groups);
}

/// Bytes that pass through each rank, of n: nothing of an exchange, whose two directions share a time.
double trafficOf(const MeasuredMessage &message) {
  double share = double(message.ranks - 1) / double(message.ranks);
  return (message.kind == "all_reduce" ? 2 : 1) * share * double(message.bytes);
}

std::optional<Link> fit(std::vector<MeasuredMessage> messages) {
  std::sort(messages.begin(), messages.end(), isSmaller);
  Link link;
  std::vector<MeasuredMessage> sends; // of each size the one with most pairs at once
  for (const MeasuredMessage &message : messages)
    if (message.kind == "send") {
      if (!sends.empty() && sends.back().bytes == message.bytes)
        sends.pop_back();
      sends.push_back(message);
    }
  for (const MeasuredMessage &message : messages)
    if (message.kind != "send" && message.kind != "exchange")
      link.bytesPerSecond = trafficOf(message) / message.seconds;
  if (!sends.empty()) {
    link.latencySeconds = sends.front().seconds * 0.999;
    for (const MeasuredMessage &send : sends) {
      double rate = double(send.bytes) / (send.seconds - link.latencySeconds);
      if (send.seconds > link.latencySeconds && &send != &sends.front())
        link.sends.emplace_back(double(send.bytes), rate);
    }
    if (link.bytesPerSecond <= 0)
      link.bytesPerSecond = double(sends.back().bytes) / sends.back().seconds;
  }
  return link.bytesPerSecond > 0 ? std::optional(link) : std::nullopt;
}

} // namespace

void deriveLinks(MachineProfile &profile) {
  search::Cluster &cluster = profile.cluster;
  auto derive = [&](Link &link, auto isOfLevel, const char *name) {
    std::vector<MeasuredMessage> messages;
    for (const MeasuredMessage &message : profile.messages)
      if (isOfLevel(message, cluster.devicesPerNode))
        messages.push_back(message);
    if (std::optional<Link> found = fit(std::move(messages)))
      link = *found;
    else
      profile.leftOut.push_back(std::string("link '") + name +
                                "': no message was measured there; its figures are those of '" + cluster.device.name +
                                "' in general");
  };
  if (cluster.devicesPerNode > 1)
    derive(cluster.intra, isWithinNode, "intra");
  if (cluster.nodes > 1)
    derive(cluster.inter, isAcrossNodes, "inter");
}

} // namespace galvatron::profile
