//===- Cluster.h - The devices and links a plan runs on ---------*- C++ -*-===//
//
// What the search knows of the hardware. A cluster is `nodes` equal hosts of
// `devicesPerNode` devices each. Ranks are numbered node by node, so
// consecutive ranks share a host as long as they can.
//
// Units: bytes, seconds, bytes per second, floating-point operations per
// second.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_CLUSTER_H
#define GALVATRON_SEARCH_MODEL_CLUSTER_H

#include "galvatron/Search/Model/Nccl.h"
#include "galvatron/Search/Model/Result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace galvatron::search {

/// One direction of the connection of one device: a message of n bytes takes
/// `latencySeconds + n / bytesPerSecond`.
struct Link {
  double bytesPerSecond = 0;
  double latencySeconds = 0;
  /// Measured rates of single messages by size (bytes, bytes per second), rising
  /// in size: protocols change at middle sizes, and rates dip there. Empty:
  /// `bytesPerSecond` at every size. Collectives pipeline their messages and keep
  /// to `bytesPerSecond`.
  std::vector<std::pair<double, double>> sends = {};

  /// Rate of one message: between measured sizes by the logarithm of the size.
  double sendBytesPerSecond(double bytes) const;
};

/// Communicators of one rank.
struct RankCommunicators {
  /// Ranks of each group that does collectives; this rank alone is none.
  std::vector<std::int64_t> groups;
  /// Values to another stage, or from one.
  std::int64_t channels = 0;
  /// Other ranks with which it exchanges pieces one to one, summed over groups.
  std::int64_t peers = 0;
  /// Collectives that it joins, and transfers, each as often as a step has it.
  std::int64_t calls = 0;
  /// Of a step, that run kernels.
  std::int64_t entries = 0;
  /// Of all ranks, for a few sums a step only.
  bool isForSums = false;
};

/// Bytes of a device's memory that a rank takes beside what is planned: all of it measured.
struct OverheadBytes {
  /// Of every rank: the runtime's context, kernels, libraries' handles.
  std::int64_t context = 0;
  /// Where there is more than one rank, once: the communication library's kernels.
  std::int64_t library = 0;
  /// For each group that does collectives, whatever its size.
  std::int64_t group = 0;
  std::int64_t channel = 0;
  /// For each other rank of a group with which it exchanges pieces one to one.
  std::int64_t peer = 0;
  std::int64_t sums = 0;
  /// For each GiB of the arena, where there is more than one rank: others map it.
  std::int64_t mapping = 0;
  /// For each collective or transfer of a step, which is captured with all of them.
  std::int64_t call = 0;
  /// For each entry of a step that runs kernels, which are captured one by one.
  std::int64_t entry = 0;

  /// What any rank takes, whatever the plan.
  std::int64_t least(std::int64_t ranks) const { return context + (ranks > 1 ? library : 0); }
  /// Of the groups alone that `communicators` name, and of the peers in them.
  std::int64_t ofGroups(const RankCommunicators &communicators) const {
    return std::int64_t(communicators.groups.size()) * group + communicators.peers * peer;
  }
  /// Of a rank with these communicators and an arena of so many bytes.
  std::int64_t of(const RankCommunicators &communicators, std::int64_t arenaBytes) const;
};

/// Attention's backward against its forward, of five products to two (measured on h200: 3.2 to 3.3).
inline constexpr double kBackwardAttention = 3.2;
/// Elementwise and reducing code against matrix products: a vector unit without fused blocking.
inline constexpr double kVectorShareOfProducts = 0.125;
/// Operations that the polynomial of a transcendental function counts for, as dialects/Graph/GraphCosts.cpp has them.
inline constexpr double kTranscendental = 8;
/// Passes over a parameter's f32 states in an update: AdamW reads parameter, gradient and two moments and writes all
/// but the gradient, which the norm reads once more.
inline constexpr int kUpdatePasses = 8;

class MachineTables;

/// What one device of a kind can do. Rates are sustained ones, not peaks; each
/// figure's origin stands beside the table in Cluster.cpp.
struct DeviceKind {
  std::string name;
  /// Matrix products in the compute type (fp32 on cpu, bf16 on GPUs).
  double matmulFlopsPerSecond = 0;
  /// Pairs of query and key a second in attention's forward, for heads of 64 to 128: its exponentials bound it there.
  /// 0: only its products count. Backward takes kBackwardAttention as long for each.
  double attentionPairsPerSecond = 0;
  /// Streaming memory traffic of elementwise work, reads plus writes.
  double memoryBytesPerSecond = 0;
  /// Fixed cost of starting one kernel or library call.
  double launchSeconds = 0;
  /// What a rank takes beside its plan.
  OverheadBytes overhead;
  /// Default memory of one device.
  std::int64_t memoryBytes = 0;
  /// Default links, used where the cluster file names none.
  Link intra, inter;
  /// Whether collectives proceed while kernels run.
  bool overlapsCommunication = false;
  /// Compute and communication that overlap slow each other
  /// down: together they take max + (overlapSlowdown - 1) · min of both.
  double overlapSlowdown = 1;
  /// Of the data sheet, which MFU is measured by: products of 16-bit types and of fp32. 0: unknown.
  double peakNarrowFlopsPerSecond = 0, peakFloatFlopsPerSecond = 0;
  /// Bytes that a search leaves free in every rank; `parseCluster` and `hostCluster` give it the overhead of any plan.
  std::int64_t overheadBytes = 0;
  /// What galvatron-profile measured of it and its links: where these have a price, it counts. Null: nothing was.
  std::shared_ptr<const MachineTables> tables = nullptr;
};

struct Cluster {
  std::int64_t nodes = 1;
  std::int64_t devicesPerNode = 1;
  DeviceKind device;
  std::int64_t memoryBytesPerDevice = 0;
  /// Between two devices of one node.
  Link intra;
  /// Between two devices of different nodes.
  Link inter;
  /// Nodes of different link speed: node k's own `inter` link, or empty when
  /// all are alike. A group is as fast as the slowest node it touches.
  std::vector<Link> interOfNode;
  /// None of devices that know no NCCL, unless the file says it.
  std::optional<NcclSettings> nccl;

  std::int64_t ranks() const { return nodes * devicesPerNode; }

  /// The `inter` link that limits traffic among ranks [first, first + count).
  Link interOfRanks(std::int64_t first, std::int64_t count) const;
};

/// The kinds known by name ("cpu", "h100", "h200", "a100"), or an error that
/// lists them.
Result<DeviceKind> findDeviceKind(std::string_view name);

/// One host with `ranks` devices of kind `device`; `memoryBytesPerDevice` 0
/// asks for the kind's default.
Result<Cluster> hostCluster(std::int64_t ranks, std::int64_t memoryBytesPerDevice = 0, std::string_view device = "cpu");

/// Reads sizes such as "2GiB", "512MiB", "24GB", "1048576".
Result<std::int64_t> parseBytes(std::string_view text);

/// "40.0 GiB", "512.0 MiB", "17 B".
std::string formatBytes(double bytes);

/// The same as `parseBytes` reads it, rounded up: "40.01GiB".
std::string formatBudget(std::int64_t bytes);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_CLUSTER_H
