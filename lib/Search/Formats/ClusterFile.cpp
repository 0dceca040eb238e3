//===- ClusterFile.cpp - The file that describes a cluster ----------------===//

#include "galvatron/Search/Formats/ClusterFile.h"

#include "JsonReader.h"
#include "NcclKey.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Model/MachineTables.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace galvatron::search {

namespace {
/// Bytes per second and seconds beyond which a figure is damaged.
constexpr double kMostRate = 1e18, kMostLatency = 1e6;

Link readLink(const Json &value, const std::string &where, const Link &fallback, std::optional<Error> &error) {
  JsonReader reader(value, where);
  Link link;
  link.bytesPerSecond = reader.positive("GB_per_s", fallback.bytesPerSecond / 1e9) * 1e9;
  link.latencySeconds = reader.number("us", fallback.latencySeconds * 1e6) * 1e-6;
  if (const Json *sends = reader.member("sends")) {
    if (!sends->is_array() || sends->empty())
      reader.fail("key 'sends' expects a list of {\"MB\", \"GB_per_s\"}, but got " + describeJson(*sends));
    else
      for (const Json &entry : *sends) {
        JsonReader point(entry, where + " 'sends'");
        double bytes = point.positive("MB", {}) * 1e6, rate = point.positive("GB_per_s", {}) * 1e9;
        if (auto complaint = point.finish(); complaint && !error)
          error = complaint;
        if (!(bytes < kMostRate && bytes >= 1) || !(rate < kMostRate && rate >= 1))
          reader.fail("key 'sends' expects sizes and rates from 1 byte to below 1e9 GB");
        if (!link.sends.empty() && bytes <= link.sends.back().first)
          reader.fail("key 'sends' expects rising sizes, but " + std::to_string(bytes / 1e6) + " MB follows " +
                      std::to_string(link.sends.back().first / 1e6));
        link.sends.emplace_back(bytes, rate);
      }
  }
  if (!(link.bytesPerSecond < kMostRate && link.bytesPerSecond >= 1))
    reader.fail("key 'GB_per_s' expects a rate from 1e-9 to below 1e9, but got " +
                describeJson(link.bytesPerSecond / 1e9));
  if (!(link.latencySeconds < kMostLatency))
    reader.fail("key 'us' expects a latency below 1e12, but got " + std::to_string(link.latencySeconds * 1e6));
  if (link.latencySeconds < 0)
    reader.fail("key 'us' expects a latency of at least 0, but got " + std::to_string(link.latencySeconds * 1e6));
  if (auto complaint = reader.finish(); complaint && !error)
    error = complaint;
  return link;
}

OverheadBytes readOverhead(const Json &value, const OverheadBytes &fallback, std::optional<Error> &error) {
  if (value.is_number_integer() && value.get<std::int64_t>() >= 0)
    return {.context = value.get<std::int64_t>()};
  JsonReader reader(value, "cluster key 'reserved_bytes_per_device'");
  OverheadBytes overhead;
  overhead.context = reader.integer("context", fallback.context, 0);
  overhead.library = reader.integer("library", fallback.library, 0);
  overhead.group = reader.integer("group", fallback.group, 0);
  overhead.channel = reader.integer("direction", fallback.channel, 0);
  overhead.peer = reader.integer("peer", fallback.peer, 0);
  overhead.sums = reader.integer("sums", fallback.sums, 0);
  overhead.mapping = reader.integer("mapping", fallback.mapping, 0);
  overhead.call = reader.integer("call", fallback.call, 0);
  overhead.entry = reader.integer("entry", fallback.entry, 0);
  error = reader.finish();
  return overhead;
}

void readLinks(const Json &value, Cluster &cluster, std::optional<Error> &error) {
  JsonReader reader(value, "cluster links");
  if (const Json *intra = reader.member("intra"))
    cluster.intra = readLink(*intra, "cluster link 'intra'", cluster.intra, error);
  if (const Json *inter = reader.member("inter")) {
    if (inter->is_array()) {
      for (const Json &entry : *inter)
        cluster.interOfNode.push_back(readLink(
            entry, "cluster link 'inter' of node " + std::to_string(cluster.interOfNode.size()), cluster.inter, error));
      if (std::int64_t(cluster.interOfNode.size()) != cluster.nodes)
        reader.fail("key 'inter' expects one entry for each of " + std::to_string(cluster.nodes) + " nodes, but got " +
                    std::to_string(cluster.interOfNode.size()));
      else if (!error)
        cluster.inter = cluster.interOfRanks(0, cluster.ranks());
    } else {
      cluster.inter = readLink(*inter, "cluster link 'inter'", cluster.inter, error);
    }
  }
  if (auto complaint = reader.finish(); complaint && !error)
    error = complaint;
}
std::optional<Error> readProfile(const std::string &file, Cluster &cluster) {
  Result<MachineProfile> profile = readMachineProfile(file);
  return profile ? applyProfile(*profile, file, cluster) : profile.error();
}
} // namespace

Result<Cluster> parseCluster(std::string_view text, const std::string &folder, bool isMeasured) {
  Result<Json> json = parseJson(text, "cluster file");
  if (!json)
    return json.error();
  JsonReader reader(*json, "cluster");
  Cluster cluster;
  cluster.nodes = reader.integer("nodes", {}, 1, kMostOfAnything);
  cluster.devicesPerNode = reader.integer("devices_per_node", {}, 1, kMostOfAnything);
  if (!reader.failed() && cluster.nodes > (1 << 24) / cluster.devicesPerNode)
    reader.fail("expects at most 16777216 devices, but got " + std::to_string(cluster.nodes) + " x " +
                std::to_string(cluster.devicesPerNode));
  // Of one node, from which the cluster takes all that the file does not say.
  Result<Cluster> host =
      hostCluster(std::max<std::int64_t>(1, cluster.devicesPerNode), 0, reader.text("device", "cpu"));
  if (!host && !reader.failed())
    reader.fail("key 'device' " + host.error().message);
  if (host) {
    std::int64_t nodes = cluster.nodes, devices = cluster.devicesPerNode;
    cluster = *host;
    cluster.nodes = nodes;
    cluster.devicesPerNode = devices;
  }
  cluster.memoryBytesPerDevice = reader.integer("memory_bytes_per_device", cluster.memoryBytesPerDevice, 1);
  if (reader.has("peak_flops_per_second")) {
    double peak = reader.number("peak_flops_per_second", 0.0);
    if (!(peak > 0))
      reader.fail("key 'peak_flops_per_second' expects a number above 0, of the products that one device can compute");
    cluster.device.peakNarrowFlopsPerSecond = cluster.device.peakFloatFlopsPerSecond = peak;
  }
  std::optional<Error> partError;
  if (const Json *overhead = reader.member("reserved_bytes_per_device"); overhead && !reader.failed())
    cluster.device.overhead = readOverhead(*overhead, cluster.device.overhead, partError);
  cluster.device.overheadBytes = cluster.device.overhead.least(cluster.ranks());
  if (const Json *links = reader.member("links"); links && !reader.failed())
    readLinks(*links, cluster, partError);
  cluster.nccl = readNccl(reader, "cluster", cluster.nccl, partError);
  std::string profile = reader.text("profile", "");
  if (cluster.nccl && cluster.nccl->nvls && profile.empty() && !isMeasured)
    reader.fail("key 'nccl' has nvls true, whose memory is only known where it was measured; name a profile taken with "
                "--nvls on as 'profile', or set it to false");
  if (!profile.empty() && !reader.failed() && !partError)
    partError = readProfile((std::filesystem::path(folder) / profile).string(), cluster);
  if (auto error = reader.finish())
    return *error;
  if (partError)
    return *partError;
  return cluster;
}

/// As people wrote it: without what a change of units adds in the last digits.
static double inUnits(double value, double unit) { return std::round(value / unit * 1e9) / 1e9; }

static nlohmann::ordered_json writeLink(const Link &link) {
  nlohmann::ordered_json json = {{"GB_per_s", inUnits(link.bytesPerSecond, 1e9)},
                                 {"us", inUnits(link.latencySeconds, 1e-6)}};
  for (auto [bytes, rate] : link.sends)
    json["sends"].push_back({{"MB", inUnits(bytes, 1e6)}, {"GB_per_s", inUnits(rate, 1e9)}});
  return json;
}

std::string writeCluster(const Cluster &cluster) {
  nlohmann::ordered_json links = {{"intra", writeLink(cluster.intra)}, {"inter", writeLink(cluster.inter)}};
  if (!cluster.interOfNode.empty())
    links["inter"] = nlohmann::ordered_json::array();
  for (const Link &link : cluster.interOfNode)
    links["inter"].push_back(writeLink(link));
  nlohmann::ordered_json json = {{"nodes", cluster.nodes},
                                 {"devices_per_node", cluster.devicesPerNode},
                                 {"device", cluster.device.name},
                                 {"memory_bytes_per_device", cluster.memoryBytesPerDevice},
                                 {"links", links}};
  if (cluster.nccl && cluster.nccl->nvls)
    json["nccl"] = writeNccl(*cluster.nccl);
  return json.dump();
}

} // namespace galvatron::search
