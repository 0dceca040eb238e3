// Times functions of a device library as stage binaries call them.
#include "Bench.h"

#include "runtime/api/Abi.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <dlfcn.h>
#include <filesystem>
#include <new>
#include <stdexcept>

namespace galvatron::profile {

using search::KernelShape;
using search::MeasuredKernel;
using search::MeasuredMessage;
using search::MeasuredOverlap;

namespace {

using Clock = std::chrono::steady_clock;

/// A sample takes this long at least, so that clocks and the start of a sample do not count.
constexpr double kShortestSample = 200e-6, kShortestIssued = 5e-3;
/// So long a GPU runs a kernel before it is timed, as its power limit makes it slower under load.
constexpr double kLoad = 0.3;
/// For products of a device whose libraries want some (docs/runtime.md, the manifest's workspace).
constexpr std::int64_t kWorkspaceBytes = 32ll << 20;
constexpr std::int64_t kMostCalls = 1000;
/// Samples between two looks at how well they repeat, and at most.
constexpr int kBatch = 5;
constexpr std::size_t kMostSamples = 100;
/// Interquartile range ÷ median at which a figure has repeated.
constexpr double kRepeats = 0.03;

/// Deviation of the operands' values. Small, so that sums of thousands of calls stay finite; denormals, which are slow,
/// are none among them.
constexpr double kDeviation = 0.02;

/// All that is called, by its name in Functions.def.
const char *const kFunctions[] = {
    "matmul",  "attention", "attention_backward", "copy",       "accumulate",     "send",
    "receive", "wait",      "all_reduce",         "all_gather", "reduce_scatter", "all_to_all"};

gvrt_function findFunction(const std::string &name) {
  return reinterpret_cast<gvrt_function>(dlsym(RTLD_DEFAULT, ("gvrt_" + name).c_str()));
}

constexpr std::int64_t kSend = 0, kReceive = 1; // handles

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double at(const std::vector<double> &sorted, double share) {
  double place = share * double(sorted.size() - 1);
  std::size_t low = std::size_t(place), high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - double(low)) * (sorted[high] - sorted[low]);
}

std::int64_t bits(double value) { return std::bit_cast<std::int64_t>(value); }

} // namespace

Timing summarize(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  double median = at(samples, 0.5);
  return {median, (at(samples, 0.75) - at(samples, 0.25)) / median, std::int64_t(samples.size())};
}

/// What a device asks of a program that sends along every stride of `listWork` both ways, which it makes channels for:
/// nothing of it is run.
static const gvrt_program &pairsOf(int rank, int ranks) {
  static std::vector<std::int64_t> words;
  static std::vector<gvrt_function> functions;
  static gvrt_program program;
  words.clear();
  functions = {findFunction("send"), findFunction("receive")};
  for (int stride = 1; 2 * stride <= ranks; ++stride)
    if (ranks % (2 * stride) == 0)
      for (std::int64_t function : {0, 1}) {
        std::int64_t peer = rank + (rank / stride % 2 == 0 ? stride : -stride);
        words.insert(words.end(), {GVRT_ENTRY_FIRST_BUFFER + 5, function, -1, -1, -1, 1, 0, peer, 0, 0, 0});
      }
  program = {};
  program.abi_version = kAbi, program.manifest = "{}";
  program.functions = functions.data(), program.num_functions = 2;
  program.timetable = words.data(), program.timetable_words = std::int64_t(words.size());
  return program;
}

Status Bench::prepare(gvrt_context &context, const Device &device) {
  if (!device.hooks->prepare || context.deviceState)
    return Status::success();
  context.program = &pairsOf(context.rank, context.ranks);
  context.step = context.update = 1;
  return device.hooks->prepare(&context, Manifest(), galvatron::Options());
}

std::optional<std::string> Bench::loadDevice(const std::string &target) {
  std::error_code ignored;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  std::string name = "libgalvatron_" + target + ".so";
  for (const std::filesystem::path &place : {folder / name, folder.parent_path() / "lib" / name})
    if (std::filesystem::exists(place, ignored)) {
      // Its functions are then found as those of a library that a program is linked with.
      if (!dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL))
        return "cannot load the device library: " + std::string(dlerror());
      for (const char *function : kFunctions)
        if (!findFunction(function))
          return "'" + place.string() + "' is a device library of another version; build it again";
      return std::nullopt;
    }
  return "cannot find " + name + " beside " + folder.string() + " or in ../lib; build the runtime";
}

Bench::Bench(const World &world, gvrt_context &context, const Device &device, const std::vector<Work> &works,
             std::int64_t poolBytes)
    : world(world), context(context), device(device), poolBytes(poolBytes) {
  elementType = GVRT_F32, elementBytes = 4;
  if (Status status = world.agree(prepare(context, device)); !status.ok())
    throw std::runtime_error(status.message);
  for (const Work &work : works) {
    if (auto *kernel = std::get_if<MeasuredKernel>(&work.what); kernel && kernel->precision == "bf16")
      elementType = GVRT_BF16, elementBytes = 2;
    auto *message = std::get_if<MeasuredMessage>(&work.what);
    if (!message || message->kind == "send" || message->kind == "exchange")
      continue;
    auto [at, isNew] = groupIndex.emplace(std::pair(message->ranks, message->stride), context.groups.size());
    if (!isNew)
      continue;
    // Blocks of ranks · stride; in each as many groups as the stride says, a rank of every stride.
    Group group;
    std::int64_t block = context.rank / (message->ranks * message->stride) * message->ranks * message->stride;
    std::int64_t first = block + context.rank % message->stride;
    for (std::int64_t member = 0; member < message->ranks; ++member)
      group.ranks.push_back(int(first + member * message->stride));
    group.position = int((context.rank - first) / message->stride);
    context.groups.push_back(std::move(group));
  }
  device.hooks->connect(&context);
  bool isIssued = device.hooks->run != nullptr;
  // The processor's products and attention compute in f32 whatever the precision: bodies convert what they read and
  // write (lib/Kernels/DeviceTraits.cpp, takesHalf). So that is what is timed, whatever the precision of messages.
  productType = isIssued ? elementType : GVRT_F32, productBytes = isIssued ? elementBytes : 4;
  Manifest manifest;
  manifest.workspace.bytes = isIssued ? kWorkspaceBytes : 0;
  arenaBytes = 2 * poolBytes + manifest.workspace.bytes;
  arena = static_cast<char *>(device.hooks->allocate(&context, arenaBytes));
  if (!arena)
    throw std::bad_alloc();
  operands = arena + manifest.workspace.bytes, results = operands + poolBytes;
  if (device.hooks->start)
    device.hooks->start(&context, manifest, galvatron::Options(), arena);
  fillPools();
}

/// With values as weights have them: of equal ones a GPU's products draw so little power that its limit does not slow
/// them down. Pairs of bf16 are good f32 as well.
void Bench::fillPools() {
  std::vector<float> words(16 << 20 >> 2), second;
  auto draw = [](std::vector<float> &values, std::uint64_t name) {
    random::initialValues(random::initialStream(0, name), 0, values.size(), random::Distribution::Normal, 0, kDeviation,
                          values.data());
  };
  draw(words, 0);
  if (elementType == GVRT_BF16) {
    draw(second = words, 1);
    for (std::size_t index = 0; index < words.size(); ++index)
      words[index] = std::bit_cast<float>((std::bit_cast<std::uint32_t>(words[index]) & 0xffff0000u) |
                                          std::bit_cast<std::uint32_t>(second[index]) >> 16);
  }
  std::int64_t piece = std::int64_t(words.size() * sizeof words[0]);
  for (char *pool : {operands, results})
    for (std::int64_t at = 0; at < poolBytes; at += piece) {
      device.hooks->copyToDevice(&context, pool + at, words.data(), std::min(piece, poolBytes - at));
      context.progress.beat();
    }
  device.hooks->synchronize(&context);
}

Bench::~Bench() {
  if (hostMemory)
    device.hooks->releaseHost(&context, hostMemory);
  device.hooks->release(&context, arena, arenaBytes);
  device.hooks->disconnect(&context);
}

bool Bench::hasRoom(const Work &work) const {
  return std::max(work.operandBytes, work.resultBytes) + 4096 <= poolBytes;
}

//===----------------------------------------------------------------------===//
// Timing
//===----------------------------------------------------------------------===//

double Bench::slowest(double seconds) const {
  std::vector<double> all = world.gather(seconds);
  return *std::max_element(all.begin(), all.end());
}

Timing Bench::time(const Call &call, bool takesPart, double budget, bool isOwn) {
  Clock::time_point begin = Clock::now();
  std::int64_t slot = 0;
  auto sample = [&](std::int64_t calls) {
    {
      Waiting waiting(context.progress, "the start of a measurement");
      MPI_Barrier(MPI_COMM_WORLD);
    }
    Clock::time_point start = Clock::now();
    for (std::int64_t index = 0; takesPart && index < calls; ++index)
      call(slot++);
    device.hooks->synchronize(&context);
    double seconds = takesPart ? secondsSince(start) / double(calls) : 0;
    context.progress.beat();
    return seconds;
  };
  bool isIssued = device.hooks->run != nullptr;
  if (isIssued)
    tune(call, takesPart);
  // The first call finds libraries cold, the second says how many make a sample; every rank takes as many.
  slowest(sample(1));
  double once = std::max(1e-9, slowest(sample(1)));
  std::int64_t calls = std::clamp<std::int64_t>(
      std::int64_t(std::ceil((isIssued ? kShortestIssued : kShortestSample) / once)), 1, kMostCalls);
  if (isIssued)
    while (slowest(secondsSince(begin)) < std::min(kLoad, budget / 2))
      sample(calls);
  std::vector<double> samples;
  for (;;) {
    // Where a call takes long, each is looked at, as the budget is soon over.
    int count = double(kBatch) * once * double(calls) > budget ? 1 : kBatch;
    std::vector<double> own;
    for (int index = 0; index < count; ++index)
      own.push_back(sample(calls));
    for (double seconds : own)
      samples.push_back(isOwn ? seconds : slowest(seconds));
    bool isOver = slowest(secondsSince(begin)) >= budget;
    if (isOver || samples.size() >= kMostSamples)
      break;
    // Of a rank's own samples, every rank's must have repeated.
    Timing timing = summarize(samples);
    if (samples.size() >= kBatch && slowest(timing.spread) <= kRepeats)
      break;
  }
  return summarize(samples);
}

/// The one call in which a device may load kernels and choose among them.
void Bench::tune(const Call &call, bool takesPart) const {
  struct Walk {
    const Call &call;
    bool takesPart;
  } walk{call, takesPart};
  device.hooks->runOneByOne(
      &context, /*rate=*/0,
      [](void *argument) {
        auto &[call, takesPart] = *static_cast<Walk *>(argument);
        if (takesPart)
          call(0);
      },
      &walk);
}

void Bench::measure(Work &work, double budget) {
  if (auto *message = std::get_if<MeasuredMessage>(&work.what))
    measureMessage(*message, budget);
  else if (auto *kernel = std::get_if<MeasuredKernel>(&work.what))
    measureKernel(*kernel, budget);
  else if (auto *overlap = std::get_if<MeasuredOverlap>(&work.what))
    measureOverlap(*overlap, budget);
}

static void take(const Timing &timing, auto &entry) {
  entry.seconds = timing.seconds, entry.spread = timing.spread, entry.repeats = timing.repeats;
}

bool Bench::isInFirstGroup(std::int64_t group, std::int64_t stride) const {
  return context.rank < group * stride && context.rank % stride == 0;
}

void Bench::measureMessage(MeasuredMessage &message, double budget) {
  bool takesPart =
      message.groups > 1 || message.ranks == context.ranks || isInFirstGroup(message.ranks, message.stride);
  bool isPair = message.kind == "send" || message.kind == "exchange";
  Timing timing = time(isPair ? pair(message) : collective(message), takesPart, budget);
  if (message.kind == "send")
    timing.seconds /= 2; // there and back
  take(timing, message);
}

void Bench::measureKernel(MeasuredKernel &measured, double budget) {
  if (measured.kind == "attention" && measured.shape.backward) { // what it reads of forward
    KernelShape forward = measured.shape;
    forward.backward = false;
    device.hooks->run ? tune(attention(forward), true) : attention(forward)(0);
  }
  take(time(kernel(measured), true, budget), measured);
}

/// Of kernels as long as the message alone: each alone, then both.
void Bench::measureOverlap(MeasuredOverlap &overlap, double budget) {
  MeasuredMessage message{overlap.second, 2, 1, std::max(1, context.ranks / 2), overlap.bytes};
  bool takesPart = context.ranks % 2 == 0 || context.rank + 1 < context.ranks;
  std::int64_t peer = context.rank ^ 1;
  bool isFirst = context.rank % 2 == 0, isBoth = overlap.second == "exchange";
  bool sends = isFirst || isBoth, receives = !isFirst || isBoth;
  Call both = [&](std::int64_t slot) {
    startPair(slot, overlap.bytes, peer, sends, receives);
    waitPair(sends, receives);
  };
  double messageAlone = time(both, takesPart, budget / 4).seconds;
  MeasuredKernel unit{overlap.first, elementType == GVRT_F32 ? "fp32" : "bf16", {}};
  unit.shape.m = unit.shape.n = unit.shape.k = 64, unit.shape.layout = "nt", unit.shape.bytes = 64 << 10;
  Call one = kernel(unit);
  double unitAlone = time(one, takesPart, budget / 8).seconds;
  std::int64_t units = std::clamp<std::int64_t>(std::llround(messageAlone / unitAlone), 1, 100000);
  // Kernels go on where the message's operands end.
  Call many = [&](std::int64_t slot) {
    for (std::int64_t index = 0; index < units; ++index)
      one(slot * units + index);
  };
  double kernelsAlone = time(many, takesPart, budget / 4).seconds;
  std::vector<double> ofKernels;
  double together = time(
                        [&](std::int64_t slot) {
                          startPair(slot, overlap.bytes, peer, sends, receives);
                          Clock::time_point start = Clock::now();
                          many(slot);
                          ofKernels.push_back(secondsSince(start));
                          waitPair(sends, receives);
                        },
                        takesPart, budget / 4)
                        .seconds;
  double beside = slowest(takesPart ? summarize(ofKernels).seconds : 0);
  overlap.firstSlowdown = beside / kernelsAlone;
  overlap.secondSlowdown = together / messageAlone;
}

double Bench::ownProduct() {
  KernelShape shape;
  shape.m = shape.n = shape.k = device.hooks->run ? 4096 : 256, shape.layout = "nt";
  return time(product(shape), true, 0.5, true).seconds;
}

double Bench::ownCopy() {
  std::int64_t bytes = device.hooks->run ? 64 << 20 : 4 << 20;
  return time(copy(bytes / elementBytes), true, 0.5, true).seconds;
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

/// Slots lie one after another, and begin again where the pool ends.
std::int64_t Bench::slotOffset(std::int64_t slot, std::int64_t bytes) const {
  std::int64_t padded = (bytes + GVRT_BUFFER_ALIGNMENT - 1) / GVRT_BUFFER_ALIGNMENT * GVRT_BUFFER_ALIGNMENT;
  return slot % std::max<std::int64_t>(1, poolBytes / padded) * padded;
}

void *Bench::operand(std::int64_t slot, std::int64_t bytes, std::int64_t offset) const {
  return operands + slotOffset(slot, bytes) + offset;
}
void *Bench::result(std::int64_t slot, std::int64_t bytes, std::int64_t offset) const {
  return results + slotOffset(slot, bytes) + offset;
}

void Bench::run(const char *name, std::vector<void *> buffers, std::vector<std::int64_t> attributes) const {
  static std::map<std::string, gvrt_function> known;
  gvrt_function &function = known[name];
  if (!function)
    function = findFunction(name);
  function(&context, buffers.data(), attributes.data());
}

Bench::Call Bench::collective(const MeasuredMessage &message) const {
  std::int64_t group = groupIndex.at({message.ranks, message.stride}), bytes = message.bytes, ranks = message.ranks;
  std::int64_t count = bytes / elementBytes, piece = count / ranks;
  std::vector<std::int64_t> attributes = {group, elementType, /*kind=*/0, count, /*handle=*/-1};
  if (message.kind == "all_gather")
    attributes = {group, elementType, /*outer=*/1, piece, /*mirrored=*/0, -1};
  else if (message.kind == "reduce_scatter")
    attributes = {group, elementType, /*kind=*/0, /*outer=*/1, piece, /*mirrored=*/0, -1};
  else if (message.kind == "all_to_all") // [ranks, piece]: rows go to ranks, and come side by side
    attributes = {group, elementType, /*rank=*/2, ranks, piece, /*split_dim=*/0, 1, /*concat_dim=*/1, 1, -1};
  return [this, name = message.kind, attributes, bytes](std::int64_t slot) {
    run(name.c_str(), {operand(slot, bytes), result(slot, bytes)}, attributes);
  };
}

void Bench::startPair(std::int64_t slot, std::int64_t bytes, std::int64_t peer, bool sends, bool receives) const {
  constexpr std::int64_t kTag = 1;
  if (receives)
    run("receive", {result(slot, bytes)}, {peer, kTag, bytes, kReceive});
  if (sends)
    run("send", {operand(slot, bytes)}, {peer, kTag, bytes, kSend});
}

void Bench::waitPair(bool sends, bool receives) const {
  if (sends)
    run("wait", {operands}, {kSend});
  if (receives)
    run("wait", {results}, {kReceive});
}

/// A send goes there and back, as clocks of two hosts do not say when a message left.
Bench::Call Bench::pair(const MeasuredMessage &message) const {
  bool isFirst = context.rank / message.stride % 2 == 0;
  std::int64_t peer = context.rank + (isFirst ? message.stride : -message.stride), bytes = message.bytes;
  if (message.kind == "exchange")
    return [this, peer, bytes](std::int64_t slot) {
      startPair(slot, bytes, peer, true, true);
      waitPair(true, true);
    };
  return [this, peer, bytes, isFirst](std::int64_t slot) {
    for (bool sends : {isFirst, !isFirst}) {
      startPair(slot, bytes, peer, sends, !sends);
      waitPair(sends, !sends);
    }
  };
}

/// c = a·b. nt: b is transposed, as a linear layer's weight in forward; nn: dx; tn: a is transposed, as for dw.
Bench::Call Bench::product(const KernelShape &shape) const {
  std::int64_t m = shape.m, n = shape.n, k = shape.k, ofA = m * k * productBytes, ofB = k * n * productBytes;
  bool isATransposed = shape.layout == "tn", isBTransposed = shape.layout == "nt";
  std::vector<std::int64_t> attributes = {
      productType,           productType,           m, n, k, isATransposed ? 1 : k, isATransposed ? m : 1,
      isBTransposed ? 1 : n, isBTransposed ? k : 1, n, 1,
      /*accumulate=*/0,
      /*num_batch=*/0};
  return [this, attributes, ofA, ofB, ofC = m * n * productBytes](std::int64_t slot) {
    run("matmul", {operand(slot, ofA + ofB), operand(slot, ofA + ofB, ofA), result(slot, ofC)}, attributes);
  };
}

/// Causal, tensors [samples, seq, heads, size]; scratch lies last.
Bench::Call Bench::attention(const KernelShape &shape) const {
  std::int64_t b = shape.samples, n = shape.heads, kv = shape.kvHeads, s = shape.seq, d = shape.headSize;
  std::int64_t scratch = attentionScratchBytes(device.hooks->run != nullptr, shape);
  std::vector<std::int64_t> attributes = {
      productType,  scratch,      b,       n,       kv, s, s, d, d, bits(1 / std::sqrt(double(d))),
      /*causal=*/1, /*window=*/0, bits(0), bits(0),
      /*id=*/0};
  auto addStrides = [&](std::int64_t heads) { attributes.insert(attributes.end(), {s * heads * d, d, heads * d}); };
  for (std::int64_t heads : {n, kv, kv, n}) // q, k, v, y
    addStrides(heads);
  attributes.insert(attributes.end(), {0, 0, 0, 0}); // no bias
  if (shape.backward)
    for (std::int64_t heads : {n, n, kv, kv}) // dy, dq, dk, dv
      addStrides(heads);
  for (std::int64_t extent : {b, n, s, s}) // of positions: whole
    attributes.insert(attributes.end(), {1, extent, -1});
  std::int64_t whole = b * s * n * d * productBytes, all = 4 * whole + b * n * s * 4 + scratch;
  return [this, attributes, whole, all, scratch, isBackward = shape.backward](std::int64_t) {
    void *q = operand(0, all), *k = operand(0, all, whole), *v = operand(0, all, 2 * whole);
    void *y = result(0, all), *lse = result(0, all, 4 * whole),
         *workspace = scratch ? result(0, all, all - scratch) : nullptr;
    if (!isBackward)
      return run("attention", {q, k, v, nullptr, y, lse, workspace}, attributes);
    run("attention_backward",
        {operand(0, all, 3 * whole), q, k, v, y, lse, nullptr, result(0, all, whole), result(0, all, 2 * whole),
         result(0, all, 3 * whole), workspace},
        attributes);
  };
}

Bench::Call Bench::copy(std::int64_t count) const {
  return [this, count, bytes = count * elementBytes](std::int64_t slot) {
    run("copy", {operand(slot, bytes), result(slot, bytes)}, {elementBytes, /*rank=*/1, count, 1, 1});
  };
}

/// y += x, with y in f32.
Bench::Call Bench::sum(std::int64_t count) const {
  return [this, count](std::int64_t slot) {
    run("accumulate", {operand(slot, count * elementBytes), result(slot, count * 4)}, {elementType, GVRT_F32, count});
  };
}

/// Between pinned memory and the device.
Bench::Call Bench::hostCopy(std::int64_t bytes, bool isToHost) const {
  if (bytes > hostBytes) {
    if (hostMemory)
      device.hooks->releaseHost(&context, hostMemory);
    hostMemory = device.hooks->allocateHost(&context, hostBytes = bytes);
    if (!hostMemory)
      throw std::bad_alloc();
  }
  return [this, bytes, isToHost](std::int64_t slot) {
    if (isToHost)
      device.hooks->copyToHost(&context, hostMemory, operand(slot, bytes), bytes);
    else
      device.hooks->copyToDevice(&context, result(slot, bytes), hostMemory, bytes);
  };
}

Bench::Call Bench::kernel(const MeasuredKernel &kernel) const {
  if (kernel.kind == "gemm")
    return product(kernel.shape);
  if (kernel.kind == "attention")
    return attention(kernel.shape);
  if (kernel.kind == "to_host" || kernel.kind == "from_host")
    return hostCopy(kernel.shape.bytes, kernel.kind == "to_host");
  if (kernel.kind == "copy")
    return copy(kernel.shape.bytes / (2 * elementBytes));
  return sum(kernel.shape.bytes / (elementBytes + 8));
}

} // namespace galvatron::profile
