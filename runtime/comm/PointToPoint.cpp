//===- PointToPoint.cpp - activations and gradients between stages -----------------------------------===//
//
// Messages between two ranks in one channel arrive in the order they were sent, so a receive takes the next one and
// checks its tag and size: a disagreement of two stages is a message, not a hang.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/comm/UnderWay.h"
#include "runtime/kernels/Attributes.h"

#include <algorithm>

using namespace galvatron;

namespace {

/// MPI counts are int: longer values go in pieces.
constexpr int64_t kPiece = 1 << 30;

/// What came, as one piece, against what was expected.
void checkPiece(gvrt_context *context, const MPI_Status &status, int sender, int64_t tag, int64_t expected) {
  int received = 0;
  MPI_Get_count(&status, MPI_BYTE, &received);
  GVRT_CHECK(context, status.MPI_TAG == tag && received == expected,
             "expects value " << tag << " of " << expected << " bytes from rank " << sender << ", but got value "
                              << status.MPI_TAG << " of " << received << " bytes");
}

} // namespace

void gvrt_send(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer(), handle = read.integer();
  MPI_Comm channel = stage > context->stage ? context->towardsLaterStages : context->towardsEarlierStages;
  int peer = stage * context->devices + context->device;
  Operation operation(context, "send to", peer);
  auto *x = static_cast<const char *>(buffer[0]);
  std::vector<MPI_Request> &requests = startUnderWay(context, handle).requests;
  for (int64_t done = 0; done < bytes; done += kPiece) {
    requests.emplace_back();
    GVRT_MPI(context,
             MPI_Isend(x + done, std::min(kPiece, bytes - done), MPI_BYTE, peer, tag, channel, &requests.back()));
  }
}

void gvrt_wait(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  int64_t handle = attribute[0];
  Operation operation(context, "wait");
  GVRT_CHECK(context,
             handle >= 0 && handle < (int64_t)context->underWay.size() && !context->underWay[handle].requests.empty(),
             "expects handle " << handle << " to be under way");
  UnderWay &ended = context->underWay[handle];
  std::vector<MPI_Status> statuses(ended.requests.size());
  GVRT_MPI(context, MPI_Waitall(ended.requests.size(), ended.requests.data(), statuses.data()));
  ended.requests.clear();
  if (ended.sender >= 0)
    for (size_t piece = 0; piece < statuses.size(); ++piece)
      checkPiece(context, statuses[piece], ended.sender, ended.tag,
                 std::min<int64_t>(kPiece, ended.bytes - (int64_t)piece * kPiece));
}

void gvrt_receive(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer(), handle = read.integer();
  MPI_Comm channel = stage < context->stage ? context->towardsLaterStages : context->towardsEarlierStages;
  int peer = stage * context->devices + context->device;
  Operation operation(context, "receive from", peer);
  auto *y = static_cast<char *>(buffer[0]);
  UnderWay *started = handle < 0 ? nullptr : &startUnderWay(context, handle);
  if (started)
    *started = {{}, peer, tag, bytes};
  for (int64_t done = 0; done < bytes; done += kPiece) {
    int expected = std::min(kPiece, bytes - done);
    if (started) {
      started->requests.emplace_back();
      GVRT_MPI(context,
               MPI_Irecv(y + done, expected, MPI_BYTE, peer, MPI_ANY_TAG, channel, &started->requests.back()));
      continue;
    }
    MPI_Status status;
    GVRT_MPI(context, MPI_Recv(y + done, expected, MPI_BYTE, peer, MPI_ANY_TAG, channel, &status));
    checkPiece(context, status, peer, tag, expected);
  }
}
