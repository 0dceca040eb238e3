//===- HostCopy.cpp - the state of one step in host memory ----------------------------------------------===//
#include "runtime/checkpoint/HostCopy.h"
#include "runtime/optim/Update.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <unistd.h>

namespace galvatron {

HostCopy::HostCopy(const ModelState &state, const std::vector<TensorKind> &kinds) : state(state) {
  for (const ParameterInfo &parameter : state.manifest.parameters)
    for (const TensorKind &kind : kinds) {
      TensorPlace place = placeOf(state.manifest, parameter, kind);
      if (place.offset < 0 || !answersFor(state.context, parameter) || parameter.count == 0)
        continue;
      offsets[{parameter.name(), kind.suffix}] = bytes;
      pieces.push_back({nullptr, state.arena + place.offset, parameter.count * bytesOfElement(place.type)});
      bytes += pieces.back().bytes;
    }
}

HostCopy::~HostCopy() {
  if (!memory)
    return;
  if (state.device.hooks->releaseHost)
    state.device.hooks->releaseHost(&state.context, memory);
  else
    std::free(memory);
}

bool HostCopy::allocate() {
  int64_t wanted = std::max<int64_t>(bytes, 1);
  memory = static_cast<char *>(state.device.hooks->allocateHost
                                   ? state.device.hooks->allocateHost(&state.context, wanted)
                                   : std::malloc(wanted));
  int64_t offset = 0;
  for (DeviceCopy &piece : pieces) {
    piece.to = memory + offset;
    offset += piece.bytes;
  }
  return memory != nullptr;
}

void HostCopy::start() {
  if (state.device.hooks->startCopies)
    return state.device.hooks->startCopies(&state.context, pieces.data(), pieces.size());
  for (const DeviceCopy &piece : pieces)
    state.device.hooks->copyToHost(&state.context, piece.to, piece.from, piece.bytes);
}

bool HostCopy::isDone() const {
  return !state.device.hooks->areCopied || state.device.hooks->areCopied(&state.context);
}

ReadPiece HostCopy::reader() const {
  return [this](const ParameterInfo &parameter, const TensorKind &kind, int64_t local, int64_t count, float *out) {
    const char *piece = memory + offsets.at({parameter.name(), kind.suffix});
    gvrt_type type = placeOf(state.manifest, parameter, kind).type;
    widen(type, piece + local * bytesOfElement(type), count, out);
  };
}

//===----------------------------------------------------------------------===//
// Memory of the host
//===----------------------------------------------------------------------===//

/// A small file of the system; empty where it cannot be read.
static std::string readSystemFile(const std::string &path) {
  std::string text;
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char chunk[4096];
  for (ssize_t got; file >= 0 && (got = read(file, chunk, sizeof chunk)) > 0;)
    text.append(chunk, got);
  if (file >= 0)
    close(file);
  return text;
}

/// The number after a word at the begin of a line; negative where there is none.
static int64_t numberAfter(const std::string &text, const std::string &word) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream rest(line);
    std::string first;
    int64_t number;
    if (rest >> first && first == word && rest >> number)
      return number;
  }
  return -1;
}

int64_t availableBytes(const std::string &meminfo) {
  int64_t kibibytes = numberAfter(meminfo, "MemAvailable:");
  return kibibytes < 0 ? -1 : kibibytes * 1024;
}

int64_t availableInGroup(const std::string &folder) {
  for (auto [limit, usage] : {std::pair{"memory.max", "memory.current"},
                              {"memory.limit_in_bytes", "memory.usage_in_bytes"}}) {
    std::istringstream most(readSystemFile(folder + "/" + limit)), used(readSystemFile(folder + "/" + usage));
    int64_t mostBytes, usedBytes;
    if (!(most >> mostBytes) || !(used >> usedBytes))
      continue; // "max", or no such group
    int64_t cached = numberAfter(readSystemFile(folder + "/memory.stat"), "inactive_file");
    return std::max<int64_t>(0, mostBytes - usedBytes + std::max<int64_t>(cached, 0));
  }
  return -1;
}

int64_t availableHostBytes() {
  int64_t least = availableBytes(readSystemFile("/proc/meminfo"));
  auto take = [&](int64_t bytes) { least = bytes < 0 ? least : least < 0 ? bytes : std::min(least, bytes); };
  // Lines "0::/path" of version 2, "4:memory:/path" of version 1; every group above limits, too.
  std::istringstream lines(readSystemFile("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (!controllers.empty() && controllers != "memory")
      continue;
    std::string root = std::string("/sys/fs/cgroup") + (controllers.empty() ? "" : "/memory");
    for (;; path.resize(path.rfind('/'))) {
      take(availableInGroup(root + path));
      if (path.find('/') == std::string::npos || path == "/")
        break;
    }
    take(availableInGroup(root));
  }
  return least;
}

} // namespace galvatron
