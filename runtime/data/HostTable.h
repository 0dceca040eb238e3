//===- HostTable.h - a table that the ranks of a host have once --------------------------------===//
//
// The first rank of a host fills it, the others map it: a memory file without a name, which the system frees with its
// last process, however that ends. A rank that cannot reach it makes a table of its own.
//
//===--------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_HOSTTABLE_H
#define GALVATRON_RUNTIME_DATA_HOSTTABLE_H

#include "runtime/core/Progress.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <mpi.h>

namespace galvatron {

/// The ranks of this process' host.
class Host {
public:
  /// Collective over the world. `progress` outlives it.
  explicit Host(Progress &progress);
  ~Host();
  Host(const Host &) = delete;

  using Fill = std::function<void(char *table)>;
  /// Collective over the host: `bytes` zeroes, then what `fill` makes of them, which is the same on every rank.
  std::shared_ptr<const char> makeTable(int64_t bytes, const Fill &fill) const;

private:
  Progress &progress;
  MPI_Comm ranks = MPI_COMM_NULL;
};

/// Of this process alone.
std::shared_ptr<const char> makeOwnTable(int64_t bytes, const Host::Fill &fill);

} // namespace galvatron

#endif
