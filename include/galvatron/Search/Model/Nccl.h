//===- Nccl.h - How GPUs run NCCL -------------------------------*- C++ -*-===//
//
// What of NCCL decides a rank's memory: a cluster has it, a plan records it, and the runtime sets it before NCCL starts
// (runtime/cuda/NcclSettings.h).
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_NCCL_H
#define GALVATRON_SEARCH_MODEL_NCCL_H

#include "galvatron/Search/Model/Result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

struct Cluster;
struct Plan;

struct NcclSettings {
  /// NVLink's multicast, whose memory only a profile taken with it knows.
  bool nvls = false;
  /// Thread blocks of a group's kernels at most; its buffers grow with them.
  std::int64_t maxBlocks = kMostBlocks;

  /// As many as were measured (OverheadBytes).
  static constexpr std::int64_t kMostBlocks = 32;
};

/// A plan that says nothing gets the cluster's. An error where it has multicast and the cluster has not.
std::optional<Error> recordNccl(const Cluster &cluster, Plan &plan);

/// NCCL's variables that change how much memory it takes (docs/profiling.md lists them), as a process has them with
/// these files: of the environment, else of the first file that says them. "NCCL_BUFFSIZE=8388608 NCCL_PROTO=Simple";
/// "default" where none is set.
std::string describeNcclMemory(const std::vector<std::string> &files);
/// As NCCL reads them on this host: the file NCCL_CONF_FILE names or ~/.nccl.conf, then /etc/nccl.conf.
std::string describeNcclMemory();

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_NCCL_H
