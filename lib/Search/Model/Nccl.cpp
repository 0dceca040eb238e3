//===- Nccl.cpp - How GPUs run NCCL ---------------------------------------===//

#include "galvatron/Search/Model/Nccl.h"

#include "galvatron/Search/Model/Plan.h"

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <map>

namespace galvatron::search {

std::optional<Error> recordNccl(const Cluster &cluster, Plan &plan) {
  if (!plan.nccl)
    plan.nccl = cluster.nccl;
  else if (plan.nccl->nvls && !(cluster.nccl && cluster.nccl->nvls))
    return Error{"plan key 'nccl' has nvls true, but the cluster has not; give one with --cluster that has, with a "
                 "profile taken with --nvls on, or set it to false"};
  return std::nullopt;
}

/// What sizes, counts or does away with buffers, channels and mappings. NCCL_NVLS_ENABLE, NCCL_MAX_CTAS and
/// NCCL_MIN_CTAS are the plan's.
static constexpr const char *kMemoryVariables[] = {
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_COLLNET_ENABLE",
    "NCCL_CUMEM_ENABLE",
    "NCCL_CUMEM_HOST_ENABLE",
    "NCCL_GRAPH_REGISTER",
    "NCCL_IB_DISABLE",
    "NCCL_LL128_BUFFSIZE",
    "NCCL_LL_BUFFSIZE",
    "NCCL_LOCAL_REGISTER",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MAX_P2P_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_MIN_P2P_NCHANNELS",
    "NCCL_NCHANNELS_PER_NET_PEER",
    "NCCL_NVLS_CHUNKSIZE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_P2P_NVL_CHUNKSIZE",
    "NCCL_P2P_PCI_CHUNKSIZE",
    "NCCL_PROTO",
    "NCCL_PXN_DISABLE",
    "NCCL_RUNTIME_CONNECT",
    "NCCL_SHM_DISABLE",
    "NCCL_WIN_ENABLE",
    "NCCL_WORK_FIFO_BYTES",
};

/// Lines NAME=VALUE; what begins with # is none.
static std::map<std::string, std::string> readNcclFile(const std::string &path) {
  std::map<std::string, std::string> values;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::size_t equals = line.find('=');
    if (line.empty() || line[0] == '#' || equals == std::string::npos)
      continue;
    std::string name = line.substr(0, equals), value = line.substr(equals + 1);
    std::erase_if(name, [](unsigned char c) { return std::isspace(c); });
    value.erase(0, value.find_first_not_of(" \t"));
    values.emplace(name, value.substr(0, value.find_last_not_of(" \t\r") + 1));
  }
  return values;
}

std::string describeNcclMemory(const std::vector<std::string> &files) {
  std::vector<std::map<std::string, std::string>> read;
  for (const std::string &file : files)
    read.push_back(readNcclFile(file));
  std::string text;
  for (const char *name : kMemoryVariables) {
    const char *own = std::getenv(name);
    std::string value = own ? own : "";
    for (const auto &values : read)
      if (auto at = values.find(name); value.empty() && at != values.end())
        value = at->second;
    if (!value.empty())
      text += (text.empty() ? "" : " ") + std::string(name) + "=" + value;
  }
  return text.empty() ? "default" : text;
}

std::string describeNcclMemory() {
  const char *named = std::getenv("NCCL_CONF_FILE"), *home = std::getenv("HOME");
  return describeNcclMemory(
      {named && *named ? named : std::string(home ? home : "") + "/.nccl.conf", "/etc/nccl.conf"});
}

} // namespace galvatron::search
