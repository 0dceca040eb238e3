//===- Machine.h - whether and how a machine can run a rank, from numbers alone ---------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_MACHINE_H
#define GALVATRON_RUNTIME_CUDA_MACHINE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::cuda {

/// Versions as CUDA codes them (13000: 13.0; driver 0: there is none), GPUs that CUDA shows to any rank of the machine,
/// ranks on it.
struct Machine {
  int driver = 0, runtime = 0, gpus = 0, ranks = 0;
  bool sharesGpus = false; // --share-gpus
};

/// 13000 -> "13.0"
std::string cudaVersion(int version);

/// A driver, new enough, and a GPU for every rank (one at all where they are shared); else a sentence about `place`,
/// e.g. "rank 3 (stage 1, host)".
Status checkMachine(const std::string &place, const Machine &machine);

/// Which GPU a rank has: its index among those that CUDA shows to it, and how many ranks of the machine before it have
/// the same.
struct GpuChoice {
  int gpu = 0, sharing = 0;
};

/// For the rank at `index` among those of its machine. `shown`: the GPUs that CUDA shows to each of them, by names that
/// are the same for all, such as UUIDs. Ranks that are shown the same take them in turn; where a scheduler shows each
/// its own (--gpus-per-task=1) each takes that. Every rank is shown one at least.
GpuChoice chooseGpu(const std::vector<std::vector<std::string>> &shown, int index);

/// An error where two ranks have one GPU and that was not asked for.
Status checkShared(const std::string &place, const std::vector<std::vector<std::string>> &shown, int index,
                   bool sharesGpus);

/// What the plan says that rank `rank` takes beside its arena (context, libraries, NCCL), in bytes: the file plan.json
/// that the compiler wrote beside the program. 0 where it does not say.
int64_t overheadBytes(const std::string &planFile, int rank);

/// What must still be free for the arena and the rest of the overhead, once `taken` of it is in use; -1: unknown how
/// much is, and only the arena counts. All in bytes.
int64_t bytesToCome(int64_t arena, int64_t overhead, int64_t taken);

/// As much free memory on GPU `gpu` as is planned; all in bytes.
Status checkMemory(const std::string &place, int gpu, const std::string &name, int64_t planned, int64_t free,
                   int64_t total);

/// How many thread blocks the kernels of a communicator may have: of a group, of a channel between two stages. What
/// is under way holds a multiprocessor with each, also while it waits for the other side, and the communicator's
/// buffers grow with their number.
struct CommunicatorBlocks {
  int group, channel;
};

/// So that all that may be under way at once, a collective of each of `groups` communicators and every channel, finds
/// room on the multiprocessors; of a group at most `most`.
CommunicatorBlocks communicatorBlocks(int multiprocessors, int groups, int channels, int most = 32);

} // namespace galvatron::cuda

#endif
