//===- Hosts.cpp - whether all hosts of a run have the same files ---------------------------------===//
#include "runtime/core/Hosts.h"
#include "runtime/core/Processes.h"
#include "runtime/data/Fingerprint.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

/// Those of this project that the process has loaded.
std::set<std::string> loadedLibraries() {
  std::set<std::string> libraries;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (size_t at = line.find('/'); at != std::string::npos && line.find("/libgalvatron_") != std::string::npos)
      libraries.insert(line.substr(at));
  return libraries;
}

/// What a name may stand for: a file, a prefix, a folder of weights or a checkpoint.
void addFilesOf(const std::string &name, std::vector<std::string> &files) {
  if (name.empty())
    return;
  files.push_back(name);
  for (const char *ending : {".bin", ".idx"})
    files.push_back(name + ending);
  for (const char *inside : {"training.json", "model.safetensors", "model.safetensors.index.json"})
    files.push_back(fs::path(name) / inside);
}

std::vector<std::string> filesOf(const Manifest &manifest, const Options &options) {
  std::set<std::string> libraries = loadedLibraries();
  std::vector<std::string> files(libraries.begin(), libraries.end());
  std::error_code ignored;
  fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  files.push_back(folder / (manifest.weights.empty() ? "model.safetensors" : manifest.weights));
  for (const std::vector<std::string> *names : {&options.data, &options.labels, &options.evalData, &options.evalLabels})
    for (const std::string &name : *names)
      addFilesOf(name, files);
  addFilesOf(options.weights, files);
  addFilesOf(options.load, files);
  return files;
}

/// The folder itself, or the nearest above it that is there.
fs::path nearestFolder(const std::string &name) {
  std::error_code ignored;
  fs::path path = fs::absolute(name, ignored);
  while (path.has_relative_path() && !fs::is_directory(path, ignored))
    path = path.parent_path();
  return path;
}

/// Collective: what the first rank writes there, all see.
Status checkOneFolder(const World &world, const std::vector<std::string> &hosts, const std::string &save) {
  std::string probe;
  if (world.rank() == 0) {
    probe = nearestFolder(save) / (".galvatron-" + std::to_string(getpid()) + "-" +
                                   std::to_string(std::chrono::system_clock::now().time_since_epoch().count()));
    int file = open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
      probe.clear(); // who opens the folder says why
    else
      close(file);
  }
  probe = world.gatherText(probe)[0];
  if (probe.empty())
    return Status::success();
  std::vector<char> seen = world.gather(char(access(probe.c_str(), F_OK) == 0));
  if (world.rank() == 0)
    unlink(probe.c_str());
  size_t blind = std::find(seen.begin(), seen.end(), 0) - seen.begin();
  if (blind == seen.size())
    return Status::success();
  return Status::error("--save: host ", hosts[blind], " (rank ", blind, ") does not see what host ", hosts[0],
                       " writes into ", fs::path(probe).parent_path().string(), ", so ", save,
                       " is not one and the same folder; name one that all hosts share");
}

} // namespace

Status compareHosts(const std::vector<std::string> &hosts, const std::vector<std::string> &seen) {
  for (size_t rank = 1; rank < seen.size(); ++rank) {
    if (seen[rank] == seen[0])
      continue;
    std::istringstream first(seen[0]), other(seen[rank]);
    for (std::string expected, got; std::getline(first, expected) && std::getline(other, got);) {
      size_t at = expected.rfind('\t'), there = got.rfind('\t');
      std::string path = expected.substr(0, at), here = expected.substr(at + 1), elsewhere = got.substr(there + 1);
      if (path != got.substr(0, there)) // libraries come from other folders
        return Status::error("host ", hosts[rank], " (rank ", rank, ") uses ", got.substr(0, there), " where host ",
                             hosts[0], " uses ", path, "; put the same folder of the program at one path on all hosts");
      if (here == elsewhere)
        continue;
      bool isMissing = here.empty() || elsewhere.empty();
      const std::string &lacks = elsewhere.empty() ? hosts[rank] : hosts[0];
      if (isMissing)
        return Status::error("host ", lacks, " has no ", path, ", which host ",
                             elsewhere.empty() ? hosts[0] : hosts[rank],
                             " has; copy it there, or put it where all hosts see it");
      return Status::error("host ", hosts[rank], " (rank ", rank, ") has another ", path, " than host ", hosts[0],
                           "; copy it there, or put it where all hosts see it");
    }
  }
  return Status::success();
}

Status checkHosts(const World &world, const Manifest &manifest, const Options &options) {
  std::vector<std::string> hosts = world.gatherText(hostName());
  if (std::count(hosts.begin(), hosts.end(), hosts[0]) == (int64_t)hosts.size())
    return Status::success();
  std::string seen;
  for (const std::string &file : filesOf(manifest, options))
    seen += file + "\t" + fingerprint({file}) + "\n";
  if (Status status = compareHosts(hosts, world.gatherText(seen)); !status.ok())
    return status;
  return options.save.empty() ? Status::success() : checkOneFolder(world, hosts, options.save);
}

} // namespace galvatron
