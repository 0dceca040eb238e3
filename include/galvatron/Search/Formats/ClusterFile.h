//===- ClusterFile.h - The file that describes a cluster --------*- C++ -*-===//
//
// JSON. Rates are in GB (1e9 bytes) per second, latencies in microseconds.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_CLUSTERFILE_H
#define GALVATRON_SEARCH_FORMATS_CLUSTERFILE_H

#include "galvatron/Search/Model/Cluster.h"

#include <string>
#include <string_view>

namespace galvatron::search {

/// Reads `{"nodes", "devices_per_node", "device", "memory_bytes_per_device",
/// "reserved_bytes_per_device", "links": {"intra": {"GB_per_s", "us"}, "inter": {...}}}`.
/// `reserved_bytes_per_device` is a number for every rank, or `{"context", "library",
/// "group", "direction", "peer", "sums", "mapping", "call", "entry"}`, the fields of OverheadBytes. Only `nodes` and
/// `devices_per_node` are required; `inter` may be a list with one entry a
/// node. `profile` names a profile.json, relative to `folder`, whose tables then price
/// kernels and groups. `nccl` is `{"nvls", "max_blocks"}`, where nvls true takes such a profile taken with it.
/// Unknown keys, wrong types, rates that are not positive are errors. `isMeasured`: of a profile itself.
Result<Cluster> parseCluster(std::string_view json, const std::string &folder = "", bool isMeasured = false);

/// The same on one line: what `parseCluster` reads into a cluster whose steps take as long.
std::string writeCluster(const Cluster &cluster);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_CLUSTERFILE_H
