// How ranks lie on hosts, and whether these can be taken for nodes of one cluster.
#ifndef GALVATRON_LIB_PROFILE_HOSTS_H
#define GALVATRON_LIB_PROFILE_HOSTS_H

#include "Machine.h"

#include "galvatron/Search/Model/Result.h"

#include <optional>
#include <string>
#include <vector>

namespace galvatron::profile {

struct HostGrid {
  std::int64_t ranksOfHost = 1, nodes = 1, devicesPerNode = 1;
  std::vector<std::string> warnings;
};

/// `hosts` and `libraries` by rank. `perNode`: ranks of a host that count as a node; 0: all. Errors: hosts that differ
/// in ranks, kind, memory or libraries, with both figures.
search::Result<HostGrid> placeRanks(const std::vector<HostFacts> &hosts, const std::vector<std::string> &libraries,
                                    std::int64_t perNode);

/// Of NCCL's variables that change memory, by rank: an error where they differ, with both.
std::optional<search::Error> compareNccl(const std::vector<std::string> &variables);

/// "host 'a' is busy: 1.8 of its 2 cores work for others; …", with the remedy, or where it is allowed with what
/// follows; empty: none is.
std::string describeBusy(const std::vector<HostFacts> &hosts, bool isAllowed);

} // namespace galvatron::profile

#endif
