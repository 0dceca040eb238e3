//===- HostCopy.h - the state of one step in host memory, to be written beside the next ones -----------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_HOSTCOPY_H
#define GALVATRON_RUNTIME_CHECKPOINT_HOSTCOPY_H

#include "runtime/checkpoint/Tensors.h"

#include <memory>

namespace galvatron {

/// Of all that this rank writes. The device copies beside compute where it can (`DeviceHooks::startCopies`), and its
/// next update then waits for the copy: it is of one step.
class HostCopy {
public:
  HostCopy(const ModelState &state, const std::vector<TensorKind> &kinds);
  ~HostCopy();
  HostCopy(const HostCopy &) = delete;

  int64_t numBytes() const { return bytes; }
  /// False where there is no memory.
  bool allocate();
  void start();
  /// Whether what was started is there.
  bool isDone() const;
  ReadPiece reader() const;

private:
  ModelState state;
  std::vector<DeviceCopy> pieces;                      // on the device, and where they go
  std::map<std::pair<std::string, std::string>, int64_t> offsets; // by parameter and suffix
  char *memory = nullptr;
  int64_t bytes = 0;
};

/// What a rank can still take of its host's memory, as the system and the limits of its control groups say, in bytes;
/// negative where neither does. Memory that files are cached in counts as free.
int64_t availableHostBytes();
/// The same by the text of /proc/meminfo, and for the folder of a control group (version 2, or the memory controller of
/// version 1) without limit: negative.
int64_t availableBytes(const std::string &meminfo);
int64_t availableInGroup(const std::string &folder);

} // namespace galvatron

#endif
