//===- Communicators.cpp - one communicator for each set of ranks ------------------------------------===//
//
// Only members take part in making a communicator, and every rank makes its own in ascending order of their member
// lists: one order for the whole world, so no two ranks can wait for one another. Groups of the same ranks share one.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/comm/Communicators.h"
#include "runtime/core/Check.h"

#include <map>

namespace galvatron {

static MPI_Comm create(gvrt_context *context, const std::vector<int> &ranks, int tag) {
  MPI_Group world, members;
  MPI_Comm communicator;
  GVRT_MPI(context, MPI_Comm_group(MPI_COMM_WORLD, &world));
  GVRT_MPI(context, MPI_Group_incl(world, ranks.size(), ranks.data(), &members));
  GVRT_MPI(context, MPI_Comm_create_group(MPI_COMM_WORLD, members, tag, &communicator));
  MPI_Group_free(&members);
  MPI_Group_free(&world);
  MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  return communicator;
}

void connect(gvrt_context *context) {
  Operation operation(context, "make communicators");
  std::map<std::vector<int>, MPI_Comm> made;
  for (const Group &group : context->groups)
    made[group.ranks] = MPI_COMM_NULL;
  for (auto &[ranks, communicator] : made)
    if (ranks.size() > 1)
      communicator = create(context, ranks, /*tag=*/ranks[0]);
  for (Group &group : context->groups)
    group.communicator = made[group.ranks];
  for (MPI_Comm *channel : {&context->towardsLaterStages, &context->towardsEarlierStages}) {
    GVRT_MPI(context, MPI_Comm_dup(MPI_COMM_WORLD, channel));
    MPI_Comm_set_errhandler(*channel, MPI_ERRORS_RETURN);
  }
}

void disconnect(gvrt_context *context) {
  std::map<MPI_Comm, int> freed;
  for (Group &group : context->groups) {
    MPI_Comm communicator = group.communicator;
    if (communicator != MPI_COMM_NULL && freed[communicator]++ == 0)
      MPI_Comm_free(&communicator);
    group.communicator = MPI_COMM_NULL;
  }
  for (MPI_Comm *channel : {&context->towardsLaterStages, &context->towardsEarlierStages})
    if (*channel != MPI_COMM_NULL)
      MPI_Comm_free(channel);
}

} // namespace galvatron
