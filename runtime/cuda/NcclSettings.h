//===- NcclSettings.h - what the plan says of NCCL, against the environment ------------------------------===//
//
// NCCL reads variables of the environment, else /etc/nccl.conf and ~/.nccl.conf, which set those that are not there. What
// decides a rank's memory, and how many multiprocessors its kernels hold, is the plan's: a variable that says otherwise
// is refused, and each is set here, before NCCL reads any.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_NCCLSETTINGS_H
#define GALVATRON_RUNTIME_CUDA_NCCLSETTINGS_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>

namespace galvatron::cuda {

struct NcclSettings {
  bool nvls = false;      // NVLink's multicast
  int64_t maxBlocks = 32; // thread blocks of a group's kernels at most
};

/// Of the file plan.json that the compiler wrote beside the program; where it says nothing, as above.
NcclSettings readNcclSettings(const std::string &planFile);

/// Sets NCCL's variables as `settings` has it; else a sentence about `place`, e.g. "rank 3 (stage 1, host)".
Status settleNccl(const std::string &place, const NcclSettings &settings);

} // namespace galvatron::cuda

#endif
