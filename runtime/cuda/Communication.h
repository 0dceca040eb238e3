//===- Communication.h - NCCL communicators and their streams --------------------===//
//
// Each communicator, of a group or of a channel between two stages, has a stream of its own: what a layer needs now
// does not wait for the gradients of the layer before, among other ranks, and no value for one of somebody else. (NCCL
// itself lets the kernels of one communicator run one after the other.) Side streams join the compute stream by
// events, which also makes them part of a captured graph:
//
//   compute      ──A──┬──B──┬─────┬──D──┬──E──      A makes x, B and D do not need y, D needs z, E needs y
//   group 0           │     └ → z ┘     │           done at once
//   group 1           └─── x → y ───────┘           with a handle
//
// Kernels of several communicators may so run at once. That cannot deadlock as long as all of them find room: compute
// kernels end by themselves, and `connect` lets no more thread blocks wait at once than there are multiprocessors.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_COMMUNICATION_H
#define GALVATRON_RUNTIME_CUDA_COMMUNICATION_H

#include "runtime/cuda/State.h"

#include <map>

namespace galvatron::cuda {

/// A stream beside `compute`, forked from it and joined to it.
struct SideStream {
  cudaStream_t stream = nullptr;
  cudaEvent_t forked = nullptr, joined = nullptr;
  bool used = false; // since everything was joined last
};

/// A communicator and its stream. Of a channel between this rank and the rank of the same device index in another
/// stage, rank 0 sends and rank 1 receives.
struct Line {
  ncclComm_t communicator = nullptr;
  SideStream side;
};

struct Communication {
  /// What a communicator is for: the ranks of a group, or one channel (sender first).
  using Members = std::pair<bool /*is a channel*/, std::vector<int>>;
  std::map<Members, Line> lines;
  std::map<int, Line *> to, from;   // of channels, by the other stage
  ncclComm_t world = nullptr;       // null where there is one rank
  std::vector<cudaEvent_t> handles; // by handle: recorded after what is under way
  std::vector<bool> underWay;
};

/// Makes all communicators and streams; collective over the world.
void connect(gvrt_context *context);
void disconnect(gvrt_context *context);

/// The side stream sees everything issued to `compute` so far.
void fork(gvrt_context *context, SideStream &side);
/// `compute` sees everything issued to the side stream so far.
void join(gvrt_context *context, SideStream &side);
/// As join, once `wait` of this handle runs.
void joinLater(gvrt_context *context, cudaStream_t stream, int64_t handle);
/// `compute` sees everything issued to any stream.
void joinAll(gvrt_context *context);

/// Blocks until `event` happened. Looks for errors of NCCL meanwhile, so that a lost peer ends the run.
void waitFor(gvrt_context *context, cudaEvent_t event);

/// Group `index`'s communicator and stream; null for a group of one.
Line *lineOf(gvrt_context *context, int64_t index);

} // namespace galvatron::cuda

#endif
