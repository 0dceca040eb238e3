// Cluster file, ranks and budget into the search library's terms.
#include "galvatron/Costs/ClusterInput.h"

#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Support/Files.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Threading.h"

using namespace galvatron;

static search::Result<search::Cluster> readClusterFile(const std::string &path) {
  std::string error;
  std::optional<std::string> text = readTextFile(path, error, kMaxTextBytes, "the cluster ");
  if (!text)
    return search::Error{error};
  search::Result<search::Cluster> cluster = search::parseCluster(*text, llvm::sys::path::parent_path(path).str());
  if (!cluster)
    return search::Error{path + ": " + cluster.error().message};
  return cluster;
}

/// `cluster` priced by a profile; without one it is the profile's, of as many ranks as asked for.
static search::Result<search::Cluster> priceByProfile(const ClusterInput &input,
                                                      std::optional<search::Cluster> cluster) {
  search::Result<search::MachineProfile> profile = search::readMachineProfile(input.profile);
  if (!profile)
    return profile.error();
  if (!cluster) {
    search::Result<search::Cluster> measured = search::clusterOf(*profile, input.ranks);
    if (!measured)
      return search::Error{"'" + input.profile + "' " + measured.error().message};
    cluster = std::move(*measured);
  }
  if (std::optional<search::Error> error = search::applyProfile(*profile, input.profile, *cluster))
    return *error;
  return std::move(*cluster);
}

search::Result<search::Cluster> galvatron::readCluster(const ClusterInput &input) {
  // A kind of device stands for one host of as many as asked for.
  bool isNamed = !input.file.empty() && !llvm::sys::fs::exists(input.file) && search::findDeviceKind(input.file);
  bool isFile = !input.file.empty() && !isNamed;
  if (isFile && input.ranks)
    return search::Error{"expects a cluster file or a number of ranks, but got both; the file says how many"};
  int64_t memory = 0;
  if (!input.memory.empty()) {
    search::Result<std::int64_t> bytes = search::parseBytes(input.memory);
    if (!bytes)
      return search::Error{"memory budget " + bytes.error().message};
    memory = *bytes;
  }
  std::string device = isNamed ? input.file : input.device;
  int64_t ranks = input.ranks;
  if (!ranks) // nobody knows how many GPUs there will be
    ranks = device == "cpu" ? int64_t(llvm::hardware_concurrency().compute_thread_count()) : 1;
  search::Result<search::Cluster> cluster =
      isFile ? readClusterFile(input.file) : search::hostCluster(ranks, memory, device);
  if (cluster && !input.profile.empty())
    cluster = priceByProfile(input, isFile || isNamed ? std::optional(*cluster) : std::nullopt);
  if (cluster && memory)
    cluster->memoryBytesPerDevice = memory;
  return cluster;
}
