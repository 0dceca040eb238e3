// What entries have in common, whatever their kind, and how the runtime sees them. See Timetable.h.
#include "galvatron/Schedule/Timetable.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

#include <set>

using namespace mlir;
using namespace galvatron;

namespace {
/// A function for each kind of entry.
template <typename... Functions> struct Overloads : Functions... {
  using Functions::operator()...;
};
} // namespace

std::vector<BufferReference> galvatron::buffersOf(const Action &action) {
  using Buffers = std::vector<BufferReference>;
  return std::visit(Overloads{[](const Compute &compute) {
                                Buffers buffers = compute.reads;
                                llvm::append_range(buffers, compute.writes);
                                buffers.push_back(compute.scratch);
                                return buffers;
                              },
                              [](const FillZero &fill) { return Buffers{fill.buffer}; },
                              // The body has a scratch like all others, of nothing.
                              [](const StartBackward &start) {
                                return start.isScaled ? Buffers{start.gradient} : Buffers{start.gradient, {}};
                              },
                              [](const Accumulate &sum) { return Buffers{sum.addend, sum.sum}; },
                              [](const AllReduce &reduce) { return Buffers{reduce.buffer, reduce.buffer}; },
                              [](const ReduceScatter &scatter) { return Buffers{scatter.from, scatter.to}; },
                              [](const AllGather &gather) { return Buffers{gather.piece, gather.whole}; },
                              [](const Send &send) { return Buffers{send.buffer}; },
                              [](const Receive &receive) { return Buffers{receive.buffer}; },
                              [](const Wait &wait) { return Buffers{wait.buffer}; }},
                    action);
}

std::optional<int64_t> galvatron::startedHandle(const Action &action) {
  if (auto *send = std::get_if<Send>(&action))
    return send->handle;
  if (auto *receive = std::get_if<Receive>(&action))
    return receive->handle;
  if (auto *reduce = std::get_if<AllReduce>(&action))
    return reduce->handle;
  if (auto *scatter = std::get_if<ReduceScatter>(&action))
    return scatter->handle;
  if (auto *gather = std::get_if<AllGather>(&action))
    return gather->handle;
  return std::nullopt;
}

std::optional<int64_t> galvatron::groupOf(const Action &action) {
  if (auto *reduce = std::get_if<AllReduce>(&action))
    return reduce->group;
  if (auto *scatter = std::get_if<ReduceScatter>(&action))
    return scatter->group;
  if (auto *gather = std::get_if<AllGather>(&action))
    return gather->group;
  return std::nullopt;
}

/// The handle of what is done where it starts.
static constexpr int64_t kAtOnce = -1;
/// Pieces lie one after another, in the group's order.
static constexpr int64_t kOuter = 1, kMirrored = 0;

static std::string functionOf(const Action &action) {
  return std::visit(Overloads{[](const Compute &compute) { return compute.function; },
                              [](const FillZero &) { return std::string("gvrt_fill_zero"); },
                              [](const StartBackward &start) {
                                return start.isScaled ? std::string("gvrt_loss_scale") : kStartBackwardFunction.str();
                              },
                              [](const Accumulate &) { return std::string("gvrt_accumulate"); },
                              [](const AllReduce &) { return std::string("gvrt_all_reduce"); },
                              [](const ReduceScatter &) { return std::string("gvrt_reduce_scatter"); },
                              [](const AllGather &) { return std::string("gvrt_all_gather"); },
                              [](const Send &) { return std::string("gvrt_send"); },
                              [](const Receive &) { return std::string("gvrt_receive"); },
                              [](const Wait &) { return std::string("gvrt_wait"); }},
                    action);
}

/// Constants in the order of runtime/api/Functions.def.
static std::vector<int64_t> constantsOf(const Action &action) {
  using Words = std::vector<int64_t>;
  return std::visit(Overloads{[](const Compute &compute) { return Words(compute.adds.begin(), compute.adds.end()); },
                              [](const FillZero &fill) { return Words{fill.bytes}; },
                              [](const StartBackward &) { return Words{}; },
                              [](const Accumulate &sum) { return Words{sum.type, sum.type, sum.count}; },
                              [](const AllReduce &reduce) {
                                return Words{reduce.group, GVRT_F32, int64_t(graph::ReduceKind::Sum), reduce.count,
                                             reduce.handle.value_or(kAtOnce)};
                              },
                              [](const ReduceScatter &scatter) {
                                return Words{scatter.group, GVRT_F32,  int64_t(graph::ReduceKind::Sum), kOuter,
                                             scatter.count, kMirrored, scatter.handle.value_or(kAtOnce)};
                              },
                              [](const AllGather &gather) {
                                return Words{gather.group, gather.type, kOuter,
                                             gather.count, kMirrored,   gather.handle.value_or(kAtOnce)};
                              },
                              [](const Send &send) {
                                return Words{send.channel.stage, send.channel.tag(), send.channel.bytes, send.handle};
                              },
                              [](const Receive &receive) {
                                return Words{receive.channel.stage, receive.channel.tag(), receive.channel.bytes,
                                             receive.handle.value_or(kAtOnce)};
                              },
                              [](const Wait &wait) { return Words{wait.handle}; }},
                    action);
}

RuntimeCall galvatron::getRuntimeCall(const Action &action) {
  return {functionOf(action), buffersOf(action), constantsOf(action)};
}

std::vector<std::string> galvatron::functionsOf(const Timetable &timetable) {
  std::vector<std::string> names;
  llvm::StringSet<> seen;
  for (const TimetableEntry &entry : timetable.entries) {
    std::string function = functionOf(entry.action);
    if (seen.insert(function).second)
      names.push_back(function);
  }
  return names;
}

std::vector<Timetable> galvatron::evaluationsOf(ArrayRef<Timetable> timetables) {
  std::vector<Timetable> evaluations;
  for (const Timetable &timetable : timetables)
    llvm::append_range(evaluations, timetable.evaluation);
  return evaluations;
}

/// With how many others of a group of `size` a rank exchanges pieces one to one.
static int64_t peersIn(const RankGroup &group, int64_t size) {
  // In a permutation it sends to one and receives from one.
  return group.exchangesWithAll ? size - 1 : std::min<int64_t>(size - 1, 2 * group.permutations.size());
}

static int64_t countCalls(const Timetable &timetable, const llvm::StringMap<int64_t> &collectivesOf) {
  int64_t calls = 0;
  for (const TimetableEntry &entry : timetable.entries) {
    if (auto *compute = entry.getIf<Compute>())
      calls += collectivesOf.lookup(compute->function);
    else
      calls += entry.getIf<AllReduce>() || entry.getIf<ReduceScatter>() || entry.getIf<AllGather>() ||
               entry.getIf<Send>() || entry.getIf<Receive>();
  }
  for (const Timetable &evaluation : timetable.evaluation)
    calls += countCalls(evaluation, collectivesOf);
  return calls;
}

static int64_t countFunctions(const Timetable &timetable) {
  int64_t count =
      llvm::count_if(timetable.entries, [](const TimetableEntry &e) { return e.getIf<Compute>() != nullptr; });
  for (const Timetable &evaluation : timetable.evaluation)
    count += countFunctions(evaluation);
  return count;
}

Communicators galvatron::communicatorsOf(const Timetable &timetable, ArrayRef<int64_t> mesh) {
  Communicators communicators;
  std::map<std::pair<std::vector<int64_t>, std::vector<int64_t>>, int64_t> peersOf; // by axes, stages
  for (const RankGroup &group : timetable.groups) {
    std::vector<int64_t> axes = group.axes;
    llvm::sort(axes);
    int64_t size = std::max<int64_t>(group.stages.size(), 1);
    for (int64_t axis : axes)
      size *= mesh[axis];
    if (size == 1)
      continue;
    auto [peers, isNew] = peersOf.try_emplace({axes, group.stages}, 0);
    if (isNew)
      communicators.groupSizes.push_back(size);
    peers->second = std::max(peers->second, peersIn(group, size));
  }
  for (auto &[group, peers] : peersOf)
    communicators.peers += peers;
  std::set<int64_t> to, from;
  for (const TimetableEntry &entry : timetable.entries) {
    if (auto *send = entry.getIf<Send>())
      to.insert(send->channel.stage);
    if (auto *receive = entry.getIf<Receive>())
      from.insert(receive->channel.stage);
  }
  communicators.channels = to.size() + from.size();
  communicators.entries = countFunctions(timetable);
  communicators.calls = countCalls(timetable, timetable.collectivesOf);
  return communicators;
}
