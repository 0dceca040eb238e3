// What a stage does with others, and its devices with each other: sums, sends, receives, waits. See StageRun.h.
#include "StageRun.h"

#include "llvm/ADT/STLExtras.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

FailureOr<StageRun::Attempt> StageRun::deliver(std::optional<int64_t> handle, ByteRange range, Attempt end,
                                               std::optional<ByteRange> read) {
  if (!handle)
    return end;
  SmallVector<Occupied, 2> ranges = {{range, /*isWritten=*/true}};
  if (read)
    ranges.push_back({*read, /*isWritten=*/false});
  if (!underWay.insert({*handle, {current().name, std::move(ranges), std::move(end)}}).second)
    return bodies.emitError("expects a handle for \"") << current().name << "\" that nothing under way has";
  poison(range);
  return Attempt();
}

void StageRun::addUnlessPoisoned(Tensor &a, const Tensor &b) {
  for (auto [sum, term] : llvm::zip_equal(a.data, b.data))
    sum = Arena::isPoisoned(sum) || Arena::isPoisoned(term) ? Arena::poisonedValue() : sum + term;
}

FailureOr<StageRun::Attempt> StageRun::reduce(const AllReduce &reduce) {
  const RankGroup &group = table.groups[reduce.group];
  ByteRange range = rangeOf(reduce.buffer, reduce.count * 4);
  DeviceTensors own, sums;
  for (Arena &arena : arenas)
    arena.read(range.begin, 4, own.emplace_back(ArrayRef<int64_t>{reduce.count}).data);
  for (int64_t device = 0; device < machine.numDevices(); ++device) {
    SmallVector<int64_t> members = machine.group(device, group.axes);
    Tensor &sum = sums.emplace_back(own[members.front()]);
    for (int64_t member : ArrayRef(members).drop_front())
      addUnlessPoisoned(sum, own[member]);
  }
  auto put = [this, range](DeviceTensors values) {
    for (auto [arena, value] : llvm::zip_equal(arenas, values)) {
      if (!exact)
        roundTo(elementOf(GVRT_F32), value);
      arena.write(range.begin, 4, value.data);
    }
    return FailureOr<bool>(true);
  };
  if (group.stages.empty())
    return deliver(reduce.handle, range, [put, sums = std::move(sums)] { return put(sums); });
  // The sum that this stage has not joined yet.
  std::vector<Exchange::Terms> &joined = exchange.sums[group.stages];
  size_t number = 0;
  while (number < joined.size() && joined[number].count(table.stage))
    ++number;
  if (number == joined.size())
    joined.emplace_back();
  joined[number][table.stage] = std::move(sums);
  return deliver(reduce.handle, range, [this, put, number, stages = group.stages]() -> FailureOr<bool> {
    const Exchange::Terms &terms = exchange.sums[stages][number];
    if (terms.size() < stages.size())
      return false;
    DeviceTensors total = terms.begin()->second;
    for (auto term = std::next(terms.begin()); term != terms.end(); ++term)
      for (auto [sum, value] : llvm::zip_equal(total, term->second))
        addUnlessPoisoned(sum, value);
    return put(total);
  });
}

FailureOr<StageRun::Attempt> StageRun::scatter(const ReduceScatter &scatter) {
  ByteRange to = rangeOf(scatter.to, scatter.count * 4), from = rangeOf(scatter.from);
  const RankGroup &group = table.groups[scatter.group];
  DeviceTensors pieces;
  for (int64_t device = 0; device < machine.numDevices(); ++device) {
    SmallVector<int64_t> members = machine.group(device, group.axes);
    int64_t own = llvm::find(members, device) - members.begin();
    from.end = from.begin + scatter.count * 4 * int64_t(members.size());
    Tensor &sum = pieces.emplace_back(ArrayRef<int64_t>{scatter.count});
    for (auto [number, member] : llvm::enumerate(members)) {
      Tensor term(ArrayRef<int64_t>{scatter.count});
      arenas[member].read(from.begin + own * scatter.count * 4, 4, term.data);
      if (number)
        addUnlessPoisoned(sum, term);
      else
        sum = std::move(term);
    }
    if (!exact)
      roundTo(elementOf(GVRT_F32), sum);
  }
  return deliver(
      scatter.handle, to,
      [this, to, pieces = std::move(pieces)] {
        for (auto [arena, piece] : llvm::zip_equal(arenas, pieces))
          arena.write(to.begin, 4, piece.data);
        return FailureOr<bool>(true);
      },
      from);
}

FailureOr<StageRun::Attempt> StageRun::gather(const AllGather &gather) {
  int64_t bytes = gather.count * bytesOfElement(gather.type);
  const RankGroup &group = table.groups[gather.group];
  int64_t size = machine.group(0, group.axes).size();
  ByteRange whole = rangeOf(gather.whole, bytes * size);
  std::vector<Arena::Lanes> lanes(arenas.size());
  for (int64_t device = 0; device < machine.numDevices(); ++device)
    for (auto [number, member] : llvm::enumerate(machine.group(device, group.axes))) {
      int64_t begin = gather.piece ? rangeOf(gather.piece, bytes).begin : whole.begin + int64_t(number) * bytes;
      llvm::append_range(lanes[device], arenas[member].copy({begin, begin + bytes}));
    }
  return deliver(
      gather.handle, whole,
      [this, whole, lanes = std::move(lanes)] {
        for (auto [arena, values] : llvm::zip_equal(arenas, lanes))
          arena.paste(whole.begin, values);
        return FailureOr<bool>(true);
      },
      gather.piece ? std::optional(rangeOf(gather.piece, bytes)) : std::nullopt);
}

FailureOr<StageRun::Attempt> StageRun::send(const Send &send) {
  ByteRange range = rangeOf(send.buffer, send.channel.bytes);
  for (auto [device, arena] : llvm::enumerate(arenas))
    if (std::optional<int64_t> byte = arena.findPoison(range))
      return emitPoisoned(send.buffer.buffer, *byte, device, current().name);
  std::pair<int64_t, int64_t> route = {table.stage, send.channel.stage};
  std::vector<Exchange::Sent> &sent = exchange.sent[route];
  size_t number = sent.size();
  sent.push_back({send.channel, this, range});
  Attempt end = [this, route, number] { return FailureOr<bool>(exchange.sent[route][number].isReceived); };
  if (!underWay.insert({send.handle, {current().name, {{range, /*isWritten=*/false}}, end}}).second)
    return bodies.emitError("expects a handle for \"") << current().name << "\" that nothing under way has";
  return Attempt();
}

FailureOr<StageRun::Attempt> StageRun::receive(const Receive &receive) {
  ByteRange range = rangeOf(receive.buffer, receive.channel.bytes);
  poison(range);
  return Attempt([this, &receive, range]() -> FailureOr<bool> {
    std::pair<int64_t, int64_t> route = {receive.channel.stage, table.stage};
    size_t &count = exchange.received[route];
    std::vector<Exchange::Sent> &sent = exchange.sent[route];
    if (count == sent.size())
      return false;
    Exchange::Sent &value = sent[count++];
    if (value.channel.tag() != receive.channel.tag() || value.channel.bytes != receive.channel.bytes)
      return bodies.emitError("expects \"")
             << current().name << "\" of stage " << table.stage << " to find value " << receive.channel.tag() << " of "
             << receive.channel.bytes << " bytes, but stage " << receive.channel.stage << " sent value "
             << value.channel.tag() << " of " << value.channel.bytes;
    value.isReceived = true;
    std::vector<Arena::Lanes> lanes;
    for (size_t device = 0; device < arenas.size(); ++device)
      lanes.push_back(value.sender->copy(device, value.range));
    FailureOr<Attempt> left = deliver(receive.handle, range, [this, range, lanes = std::move(lanes)] {
      for (auto [arena, values] : llvm::zip_equal(arenas, lanes))
        arena.paste(range.begin, values);
      return FailureOr<bool>(true);
    });
    if (failed(left))
      return failure();
    return *left ? (*left)() : true;
  });
}

FailureOr<StageRun::Attempt> StageRun::wait(const Wait &wait) {
  if (!underWay.count(wait.handle))
    return bodies.emitError("expects \"") << current().name << "\" to wait for what is under way, but nothing has its "
                                          << "handle " << wait.handle;
  return Attempt([this, handle = wait.handle]() -> FailureOr<bool> {
    FailureOr<bool> ended = underWay.at(handle).end();
    if (succeeded(ended) && *ended)
      underWay.erase(handle);
    return ended;
  });
}
