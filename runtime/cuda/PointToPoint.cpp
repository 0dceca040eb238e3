//===- PointToPoint.cpp - activations and gradients between stages over NCCL ------------------===//
//
// Values between two ranks in one channel arrive in the order they were sent; the timetables of both stages agree on
// it, which is checked over MPI while tuning, because NCCL would only hang.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/Communication.h"
#include "runtime/kernels/Attributes.h"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

Line &channelOf(gvrt_context *context, std::map<int, Line *> &channels, int64_t stage) {
  auto found = channels.find(stage);
  GVRT_CHECK(context, found != channels.end(), "expects a connection with stage " << stage << ", but there is none");
  return *found->second;
}

constexpr int kTag = 0x6770;

/// Tells the receiver what is sent. Small enough that MPI does not wait for it.
void announce(gvrt_context *context, int64_t stage, int64_t tag, int64_t bytes) {
  int64_t words[] = {tag, bytes};
  GVRT_MPI(context, MPI_Send(words, 2, MPI_INT64_T, stage * context->devices + context->device, kTag, MPI_COMM_WORLD));
}

void expect(gvrt_context *context, int64_t stage, int64_t tag, int64_t bytes) {
  int64_t words[2], peer = stage * context->devices + context->device;
  GVRT_MPI(context, MPI_Recv(words, 2, MPI_INT64_T, peer, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
  GVRT_CHECK(context, words[0] == tag && words[1] == bytes,
             "expects value " << tag << " of " << bytes << " bytes from rank " << peer << ", but got value " << words[0]
                              << " of " << words[1] << " bytes");
}

} // namespace

void gvrt_send(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer(), handle = read.integer();
  State &state = stateOf(context);
  Line &channel = channelOf(context, state.communication->to, stage);
  if (state.tuning)
    announce(context, stage, tag, bytes);
  fork(context, channel.side);
  GVRT_NCCL(context, ncclSend(buffer[0], bytes, ncclInt8, /*peer=*/1, channel.communicator, channel.side.stream));
  joinLater(context, channel.side.stream, handle);
}

void gvrt_receive(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer(), handle = read.integer();
  State &state = stateOf(context);
  Line &channel = channelOf(context, state.communication->from, stage);
  if (state.tuning)
    expect(context, stage, tag, bytes);
  fork(context, channel.side);
  GVRT_NCCL(context, ncclRecv(buffer[0], bytes, ncclInt8, /*peer=*/0, channel.communicator, channel.side.stream));
  if (handle < 0 || state.tuning)
    join(context, channel.side);
  if (handle >= 0)
    joinLater(context, channel.side.stream, handle);
}

void gvrt_wait(gvrt_context *context, void *const *, const int64_t *attribute) {
  Communication &communication = *stateOf(context).communication;
  int64_t handle = attribute[0];
  GVRT_CHECK(context, handle >= 0 && handle < (int64_t)communication.underWay.size() && communication.underWay[handle],
             "expects handle " << handle << " to be under way");
  GVRT_CUDA(context, cudaStreamWaitEvent(stateOf(context).compute, communication.handles[handle]));
  communication.underWay[handle] = false;
}
