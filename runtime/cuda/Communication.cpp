//===- Communication.cpp - NCCL communicators and their streams ------------------===//
//
// Only members take part in making a communicator, and every rank makes its own in ascending order of (kind, member
// list): one order for the whole world, so no two ranks can wait for one another. MPI carries the ids.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Communication.h"
#include "runtime/api/Functions.h"
#include "runtime/cuda/Machine.h"
#include "runtime/cuda/Memory.h"
#include "runtime/cuda/StepTimes.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <sched.h>
#include <set>
#include <unistd.h>

namespace galvatron::cuda {
namespace {

/// [stage] -> 1 where this rank's timetable sends to it, 2 where it receives from it, 3 both.
std::vector<int> partners(gvrt_context *context) {
  const gvrt_program &program = *context->program;
  std::vector<int> result(context->stages, 0);
  const int64_t *entry = program.timetable, *end = entry + program.timetable_words;
  for (; entry < end; entry += entry[GVRT_ENTRY_WORDS]) {
    gvrt_function function = program.functions[entry[GVRT_ENTRY_FUNCTION]];
    int way = function == gvrt_send ? 1 : function == gvrt_receive ? 2 : 0;
    if (way == 0)
      continue;
    int64_t stage = entry[GVRT_ENTRY_FIRST_BUFFER + entry[GVRT_ENTRY_NUM_BUFFERS]];
    GVRT_CHECK(context, stage >= 0 && stage < context->stages && stage != context->stage,
               "expects another stage below " << context->stages << " to exchange with, but got " << stage);
    result[stage] |= way;
  }
  return result;
}

/// Collective: whether stage a sends to stage b, at [a·stages + b]; every rank knows all.
std::vector<bool> allEdges(gvrt_context *context) {
  std::vector<int> own = partners(context), all(context->stages * context->ranks);
  GVRT_MPI(context,
           MPI_Allgather(own.data(), context->stages, MPI_INT, all.data(), context->stages, MPI_INT, MPI_COMM_WORLD));
  std::vector<bool> sends(context->stages * context->stages), receives(sends);
  for (int rank = 0; rank < context->ranks; ++rank)
    for (int other = 0, stage = rank / context->devices; other < context->stages; ++other) {
      int way = all[rank * context->stages + other];
      if (way & 1)
        sends[stage * context->stages + other] = true;
      if (way & 2)
        receives[other * context->stages + stage] = true;
    }
  for (int a = 0; a < context->stages; ++a)
    for (int b = 0; b < context->stages; ++b)
      GVRT_CHECK(context, sends[a * context->stages + b] == receives[a * context->stages + b],
                 "expects stages " << a << " and " << b << " to agree on whether the first sends to the second");
  return sends;
}

/// `blocks`: how many thread blocks its kernels may have.
ncclComm_t create(gvrt_context *context, const std::vector<int> &ranks, int blocks) {
  int size = ranks.size();
  int position = std::find(ranks.begin(), ranks.end(), context->rank) - ranks.begin();
  constexpr int kTag = 0x6e63;
  ncclUniqueId id;
  if (position == 0) {
    GVRT_NCCL(context, ncclGetUniqueId(&id));
    for (int member = 1; member < size; ++member)
      GVRT_MPI(context, MPI_Send(&id, sizeof id, MPI_BYTE, ranks[member], kTag, MPI_COMM_WORLD));
  } else {
    GVRT_MPI(context, MPI_Recv(&id, sizeof id, MPI_BYTE, ranks[0], kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
  }
  ncclComm_t communicator = nullptr;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.minCTAs = 1;
  config.maxCTAs = blocks;
  Waiting waiting(context->progress, "an NCCL communicator");
  GVRT_NCCL(context, ncclCommInitRankConfig(&communicator, size, id, position, &config));
  return communicator;
}

/// NCCL sets up a connection at the first value that goes through it, and its call then waits for the other side's: two
/// stages that each begin with a send would wait for one another. So one value goes through every channel at once, in
/// the order in which communicators are made.
void warmUp(gvrt_context *context, ncclComm_t communicator, bool sends) {
  constexpr int64_t kBytes = 256;
  cudaStream_t compute = stateOf(context).compute;
  void *value = allocate(context, kBytes);
  GVRT_CHECK(context, value, "cannot allocate " << kBytes << " bytes");
  if (sends)
    GVRT_NCCL(context, ncclSend(value, kBytes, ncclInt8, /*peer=*/1, communicator, compute));
  else
    GVRT_NCCL(context, ncclRecv(value, kBytes, ncclInt8, /*peer=*/0, communicator, compute));
  GVRT_CUDA(context, cudaEventRecord(stateOf(context).idle, compute));
  waitFor(context, stateOf(context).idle);
  release(context, value, kBytes);
}

void open(gvrt_context *context, SideStream &side) {
  // Above compute: what others wait for starts as soon as an SM is free.
  int lowest, highest;
  GVRT_CUDA(context, cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  GVRT_CUDA(context, cudaStreamCreateWithPriority(&side.stream, cudaStreamNonBlocking, highest));
  GVRT_CUDA(context, cudaEventCreateWithFlags(&side.forked, cudaEventDisableTiming));
  GVRT_CUDA(context, cudaEventCreateWithFlags(&side.joined, cudaEventDisableTiming));
}

void close(SideStream &side) {
  if (side.stream)
    cudaStreamDestroy(side.stream);
  for (cudaEvent_t event : {side.forked, side.joined})
    if (event)
      cudaEventDestroy(event);
  side = {};
}

/// Groups of which a collective of the timetable has a handle, so that it may be under way next to others; of all
/// ranks the most.
int groupsUnderWay(gvrt_context *context) {
  const gvrt_program &program = *context->program;
  std::set<std::vector<int>> groups;
  const int64_t *entry = program.timetable, *end = entry + program.timetable_words;
  for (; entry < end; entry += entry[GVRT_ENTRY_WORDS]) {
    gvrt_function function = program.functions[entry[GVRT_ENTRY_FUNCTION]];
    bool isCollective = function == gvrt_all_reduce || function == gvrt_all_gather || function == gvrt_reduce_scatter ||
                        function == gvrt_all_to_all || function == gvrt_permute;
    int64_t handle = entry[entry[GVRT_ENTRY_WORDS] - 1]; // their last attribute
    if (isCollective && handle >= 0)
      groups.insert(context->groups.at(entry[GVRT_ENTRY_FIRST_BUFFER + entry[GVRT_ENTRY_NUM_BUFFERS]]).ranks);
  }
  int count = groups.size();
  GVRT_MPI(context, MPI_Allreduce(MPI_IN_PLACE, &count, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD));
  return count;
}

/// An error that NCCL noticed on its own, e.g. a connection to a rank that is gone.
void checkCommunicators(gvrt_context *context) {
  for (auto &[members, line] : stateOf(context).communication->lines) {
    ncclResult_t result = ncclSuccess;
    if (line.communicator)
      GVRT_NCCL(context, ncclCommGetAsyncError(line.communicator, &result));
    GVRT_CHECK(context, result == ncclSuccess || result == ncclInProgress,
               "NCCL lost a communicator of " << members.second.size() << " ranks: " << ncclGetErrorString(result));
  }
}

} // namespace

void connect(gvrt_context *context) {
  State &state = stateOf(context);
  state.communication = std::make_unique<Communication>();
  Communication &communication = *state.communication;
  GVRT_MPI(context, MPI_Comm_split(MPI_COMM_WORLD, context->stage, context->device, &state.stage));
  std::vector<bool> edges = allEdges(context);
  auto own = [&](int stage) { return stage * context->devices + context->device; };

  std::vector<int> world(context->ranks);
  std::iota(world.begin(), world.end(), 0);
  auto &lines = communication.lines;
  if (context->ranks > 1)
    lines.try_emplace({false, world});
  int worldIsGroup = 0;
  for (const Group &group : context->groups)
    if (group.ranks.size() > 1) {
      lines.try_emplace({false, group.ranks});
      worldIsGroup |= group.ranks == world;
    }
  GVRT_MPI(context, MPI_Allreduce(MPI_IN_PLACE, &worldIsGroup, 1, MPI_INT, MPI_LOR, MPI_COMM_WORLD));
  for (int other = 0; other < context->stages; ++other) {
    if (edges[context->stage * context->stages + other])
      lines.try_emplace({true, {context->rank, own(other)}});
    if (edges[other * context->stages + context->stage])
      lines.try_emplace({true, {own(other), context->rank}});
  }
  int channels = 0;
  for (auto &[members, line] : lines)
    channels += members.first;
  // Both sides must ask for the same number.
  GVRT_MPI(context, MPI_Allreduce(MPI_IN_PLACE, &channels, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD));
  // Beside those under way, one that is done at once.
  int groups = std::max(1, groupsUnderWay(context)) + 1;
  CommunicatorBlocks blocks = communicatorBlocks(state.multiprocessors, groups, channels, state.maxBlocks);
  for (auto &[members, line] : lines) {
    bool onlySums = !members.first && members.second == world && !worldIsGroup;
    line.communicator = create(context, members.second, members.first ? blocks.channel : onlySums ? 1 : blocks.group);
  }
  for (auto &[members, line] : lines)
    if (members.first)
      warmUp(context, line.communicator, members.second[0] == context->rank);

  if (context->ranks > 1)
    communication.world = lines[{false, world}].communicator;
  for (auto &[members, line] : lines) {
    open(context, line.side);
    if (!members.first)
      continue;
    bool sends = members.second[0] == context->rank;
    (sends ? communication.to : communication.from)[members.second[sends] / context->devices] = &line;
  }
}

void disconnect(gvrt_context *context) {
  State &state = stateOf(context);
  if (!state.communication)
    return;
  for (auto &[members, line] : state.communication->lines)
    close(line.side);
  for (cudaEvent_t event : state.communication->handles)
    if (event)
      cudaEventDestroy(event);
  for (auto &[members, line] : state.communication->lines)
    if (line.communicator)
      ncclCommDestroy(line.communicator);
  state.communication.reset();
  MPI_Comm_free(&state.stage);
}

void fork(gvrt_context *context, SideStream &side) {
  GVRT_CUDA(context, cudaEventRecord(side.forked, stateOf(context).compute));
  GVRT_CUDA(context, cudaStreamWaitEvent(side.stream, side.forked));
  side.used = true;
  if (context->entryTimes)
    stateOf(context).times->beginBeside(side.stream);
}

void join(gvrt_context *context, SideStream &side) {
  GVRT_CUDA(context, cudaEventRecord(side.joined, side.stream));
  GVRT_CUDA(context, cudaStreamWaitEvent(stateOf(context).compute, side.joined));
}

void joinLater(gvrt_context *context, cudaStream_t stream, int64_t handle) {
  Communication &communication = *stateOf(context).communication;
  if (handle >= (int64_t)communication.handles.size()) {
    communication.handles.resize(handle + 1);
    communication.underWay.resize(handle + 1);
  }
  GVRT_CHECK(context, !communication.underWay[handle],
             "expects handle " << handle << " to be waited for before it is used again");
  if (!communication.handles[handle])
    GVRT_CUDA(context, cudaEventCreateWithFlags(&communication.handles[handle], cudaEventDisableTiming));
  GVRT_CUDA(context, cudaEventRecord(communication.handles[handle], stream));
  if (context->entryTimes)
    stateOf(context).times->endBeside(stream);
  communication.underWay[handle] = true;
}

void joinAll(gvrt_context *context) {
  for (auto &[members, line] : stateOf(context).communication->lines) {
    if (line.side.used)
      join(context, line.side);
    line.side.used = false;
  }
}

void waitFor(gvrt_context *context, cudaEvent_t event) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin = Clock::now(), checked = begin;
  State &state = stateOf(context);
  Waiting waiting(context->progress, "the GPU");
  for (;;) {
    if (int64_t ticks = state.ticks ? *static_cast<volatile int64_t *>(state.ticks) : 0; ticks != state.ticksSeen) {
      state.ticksSeen = ticks;
      context->progress.beat();
    }
    cudaError_t code = cudaEventQuery(event);
    if (code == cudaSuccess)
      return;
    if (code != cudaErrorNotReady)
      GVRT_CUDA(context, code);
    Clock::time_point now = Clock::now();
    if (now - checked > std::chrono::milliseconds(100)) {
      checkCommunicators(context);
      checked = now;
    }
    // A short step is not made longer; during a long one the core is left to others.
    if (now - begin < std::chrono::milliseconds(1))
      sched_yield();
    else
      usleep(20);
  }
}

Line *lineOf(gvrt_context *context, int64_t index) {
  GVRT_CHECK(context, index >= 0 && index < (int64_t)context->groups.size(),
             "expects a group below " << context->groups.size() << ", but got " << index);
  const std::vector<int> &ranks = context->groups[index].ranks;
  if (ranks.size() == 1)
    return nullptr;
  return &stateOf(context).communication->lines.at({false, ranks});
}

} // namespace galvatron::cuda
