// How ranks lie on hosts.
#include "Hosts.h"

#include <cmath>
#include <cstdio>

namespace galvatron::profile {

using search::Error;

namespace {

/// Of cores, what others may use without disturbing: a share, and as much as any system does.
constexpr double kBusyShare = 0.1, kBusyCores = 0.1;
/// What hosts of equal memory may differ by: firmware keeps some.
constexpr double kMemoryShare = 0.05;

std::string named(const char *name) { return "'" + std::string(name) + "'"; }

} // namespace

search::Result<HostGrid> placeRanks(const std::vector<HostFacts> &hosts, const std::vector<std::string> &libraries,
                                    std::int64_t perNode) {
  auto number = [](std::int64_t value) { return std::to_string(value); };
  std::int64_t ranks = std::int64_t(hosts.size()), perHost = 0;
  auto name = [&](std::int64_t rank) { return std::string(hosts[std::size_t(rank)].host); };
  while (perHost < ranks && name(perHost) == name(0))
    ++perHost;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const HostFacts &own = hosts[std::size_t(rank)];
    std::int64_t first = rank / perHost * perHost;
    bool isShort = first + perHost > ranks, isRepeated = rank == first && rank && name(rank) == name(rank - 1);
    if (name(rank) != name(first) || isShort || isRepeated)
      return Error{"expects ranks to fill hosts evenly and in order, " + number(perHost) + " each as on '" + name(0) +
                   "', but rank " + number(rank) + " of " + number(ranks) + " is on '" + name(rank) +
                   "'; start as many on each, as mpirun --map-by ppr:" + number(perHost) + ":node does"};
    if (std::string(own.device) != hosts[0].device)
      return Error{"expects hosts with one kind of device, but '" + name(0) + "' has " + named(hosts[0].device) +
                   " and '" + name(rank) + "' has " + named(own.device) + "; profile them one by one"};
    if (std::fabs(double(own.memoryBytes) / double(hosts[0].memoryBytes) - 1) > kMemoryShare)
      return Error{"expects hosts of equal memory, but '" + name(0) + "' has " + number(hosts[0].memoryBytes) +
                   " bytes and '" + name(rank) + "' has " + number(own.memoryBytes) + "; profile them one by one"};
    if (libraries[std::size_t(rank)] != libraries[0])
      return Error{"expects one device library on all hosts, but rank 0 has '" + libraries[0] + "' and rank " +
                   number(rank) + " has '" + libraries[std::size_t(rank)] + "'"};
  }
  if (perNode && perHost % perNode)
    return Error{"option --devices-per-node expects a divisor of the " + number(perHost) +
                 " ranks of a host, but got " + number(perNode)};
  HostGrid grid;
  grid.ranksOfHost = perHost;
  grid.devicesPerNode = perNode ? perNode : perHost;
  grid.nodes = ranks / grid.devicesPerNode;
  if (double(perHost) > hosts[0].cores)
    grid.warnings.push_back("host '" + name(0) + "' has " + number(perHost) + " ranks on " +
                            number(std::int64_t(hosts[0].cores)) +
                            " cores; what is predicted from such a profile is not promised to come true");
  return grid;
}

std::optional<Error> compareNccl(const std::vector<std::string> &variables) {
  for (std::size_t rank = 1; rank < variables.size(); ++rank)
    if (variables[rank] != variables[0])
      return Error{"expects NCCL's variables that change memory alike on all ranks, but rank 0 has '" + variables[0] +
                   "' and rank " + std::to_string(rank) + " has '" + variables[rank] + "'; set them alike"};
  return std::nullopt;
}

std::string describeBusy(const std::vector<HostFacts> &hosts, bool isAllowed) {
  for (const HostFacts &host : hosts) {
    if (host.busyCores <= kBusyShare * host.cores + kBusyCores)
      continue;
    char text[256];
    std::snprintf(text, sizeof text, "host '%s' is busy: %.1f of its %.0f cores work for others; %s", host.host,
                  host.busyCores, host.cores,
                  isAllowed ? "the profile is marked"
                            : "wait until they are through, or give --allow-busy (the profile then says so)");
    return text;
  }
  return "";
}

} // namespace galvatron::profile
