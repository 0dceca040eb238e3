//===- PointToPoint.cpp - activations and gradients between stages -----------------------------------===//
//
// Messages between two ranks in one direction arrive in the order they were sent, so a receive takes the next one and
// checks its tag and size: a disagreement of two stages is a message, not a hang.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/core/Check.h"
#include "runtime/kernels/Attributes.h"

#include <algorithm>

using namespace galvatron;

namespace {

/// MPI counts are int: longer values go in pieces.
constexpr int64_t kPiece = 1 << 30;

} // namespace

void gvrt_send(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer(), handle = read.integer();
  MPI_Comm direction = stage > context->stage ? context->towardsLaterStages : context->towardsEarlierStages;
  int peer = stage * context->devices + context->device;
  Operation operation(context, "send to", peer);
  auto *x = static_cast<const char *>(buffer[0]);
  if (handle >= (int64_t)context->sends.size())
    context->sends.resize(handle + 1);
  std::vector<MPI_Request> &requests = context->sends[handle];
  GVRT_CHECK(context, requests.empty(), "expects send " << handle << " to be waited for before it is used again");
  for (int64_t done = 0; done < bytes; done += kPiece) {
    requests.emplace_back();
    GVRT_MPI(context,
             MPI_Isend(x + done, std::min(kPiece, bytes - done), MPI_BYTE, peer, tag, direction, &requests.back()));
  }
}

void gvrt_wait(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  int64_t handle = attribute[0];
  Operation operation(context, "wait");
  GVRT_CHECK(context, handle >= 0 && handle < (int64_t)context->sends.size() && !context->sends[handle].empty(),
             "expects send " << handle << " to be under way");
  std::vector<MPI_Request> &requests = context->sends[handle];
  GVRT_MPI(context, MPI_Waitall(requests.size(), requests.data(), MPI_STATUSES_IGNORE));
  requests.clear();
}

void gvrt_receive(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t stage = read.integer(), tag = read.integer(), bytes = read.integer();
  MPI_Comm direction = stage < context->stage ? context->towardsLaterStages : context->towardsEarlierStages;
  int peer = stage * context->devices + context->device;
  Operation operation(context, "receive from", peer);
  auto *y = static_cast<char *>(buffer[0]);
  for (int64_t done = 0; done < bytes; done += kPiece) {
    int expected = std::min(kPiece, bytes - done), received = 0;
    MPI_Status status;
    GVRT_MPI(context, MPI_Recv(y + done, expected, MPI_BYTE, peer, MPI_ANY_TAG, direction, &status));
    MPI_Get_count(&status, MPI_BYTE, &received);
    GVRT_CHECK(context, status.MPI_TAG == tag && received == expected,
               "expects value " << tag << " of " << expected << " bytes from rank " << peer << ", but got value "
                                << status.MPI_TAG << " of " << received << " bytes");
  }
}
