// What Linux says of the host a rank runs on.
#ifndef GALVATRON_LIB_PROFILE_MACHINE_H
#define GALVATRON_LIB_PROFILE_MACHINE_H

#include <cstdint>
#include <string>

namespace galvatron::profile {

/// Of one host; texts are cut to what fits, so that ranks can exchange it as bytes.
struct HostFacts {
  char host[64] = "", device[80] = "";
  std::int64_t memoryBytes = 0, availableBytes = 0;
  double cores = 1, clockMhz = 0;
  double busyCores = 0; ///< at work for others, while our ranks slept
};

/// Takes half a second, in which this process sleeps: before anything is measured, and before MPI starts to wait.
HostFacts lookAtHost();

/// Cores of this machine that this process may use.
std::int64_t usableCores();

} // namespace galvatron::profile

#endif
