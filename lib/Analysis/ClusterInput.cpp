// Cluster file, ranks and budget into the search library's terms.
#include "galvatron/Analysis/ClusterInput.h"

#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Threading.h"

using namespace galvatron;

static search::Result<search::Cluster> readClusterFile(const std::string &path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  if (!file)
    return search::Error{"cannot read the cluster '" + path + "': " + file.getError().message()};
  llvm::StringRef text = (*file)->getBuffer();
  search::Result<search::Cluster> cluster = search::parseCluster({text.data(), text.size()});
  if (!cluster)
    return search::Error{path + ": " + cluster.error().message};
  return cluster;
}

search::Result<search::Cluster> galvatron::readCluster(const ClusterInput &input) {
  if (!input.file.empty() && input.ranks)
    return search::Error{"expects a cluster file or a number of ranks, but got both; the file says how many"};
  int64_t memory = 0;
  if (!input.memory.empty()) {
    search::Result<std::int64_t> bytes = search::parseBytes(input.memory);
    if (!bytes)
      return search::Error{"memory budget " + bytes.error().message};
    memory = *bytes;
  }
  int64_t cores = llvm::hardware_concurrency().compute_thread_count();
  search::Result<search::Cluster> cluster =
      input.file.empty() ? search::hostCluster(input.ranks ? input.ranks : cores, memory) : readClusterFile(input.file);
  if (cluster && memory)
    cluster->memoryBytesPerDevice = memory;
  return cluster;
}
