//===- Machine.h - whether a machine can run a rank, from numbers alone ---------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_MACHINE_H
#define GALVATRON_RUNTIME_CUDA_MACHINE_H

#include "runtime/core/Status.h"

#include <cstdint>

namespace galvatron::cuda {

/// Versions as CUDA codes them (13000: 13.0; driver 0: there is none), GPUs that CUDA shows, ranks on the machine.
struct Machine {
  int driver = 0, runtime = 0, gpus = 0, ranks = 0;
};

/// 13000 -> "13.0"
std::string cudaVersion(int version);

/// A driver, new enough, and a GPU for every rank; else a sentence about `place`, e.g. "rank 3 (stage 1, host)".
Status checkMachine(const std::string &place, const Machine &machine);

/// As much free memory on GPU `gpu` as is planned; all in bytes.
Status checkMemory(const std::string &place, int gpu, const std::string &name, int64_t planned, int64_t free,
                   int64_t total);

} // namespace galvatron::cuda

#endif
