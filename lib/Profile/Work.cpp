// The list of what is measured.
#include "Work.h"

#include "runtime/cuda/kernels/AttentionWorkspace.h"

#include <algorithm>
#include <iterator>

namespace galvatron::profile {

using search::KernelShape;
using search::MeasuredKernel;
using search::MeasuredMessage;
using search::MeasuredOverlap;

namespace {

std::string nameOf(const MeasuredMessage &m) {
  std::string text = m.kind + " of " + std::to_string(m.ranks) + " ranks, stride " + std::to_string(m.stride) + ", " +
                     std::to_string(m.groups) + (m.groups == 1 ? " group, " : " groups, ");
  return text + std::to_string(m.bytes) + " bytes";
}

std::string nameOf(const MeasuredKernel &k) {
  const KernelShape &s = k.shape;
  auto number = [](std::int64_t value) { return std::to_string(value); };
  std::string text = k.kind + " " + k.precision + " ";
  if (k.kind == "gemm")
    return text + number(s.m) + " x " + number(s.n) + " x " + number(s.k) + " " + s.layout;
  if (k.kind == "attention")
    return text + (s.backward ? "backward " : "forward ") + number(s.samples) + " x " + number(s.heads) + "/" +
           number(s.kvHeads) + " heads of " + number(s.headSize) + ", " + number(s.seq) + " tokens";
  return text + number(s.bytes) + " bytes";
}

std::string nameOf(const MeasuredOverlap &o) {
  return "overlap of " + o.first + " and " + o.second + ", " + std::to_string(o.bytes) + " bytes";
}

std::string nameOf(const search::MeasuredBody &b) {
  return "layer " + b.hash + " " + b.precision + " with " + b.strategy + ", " + std::to_string(b.samples) +
         " samples of " + std::to_string(b.seq) + " tokens";
}

std::string nameOf(const BodyGroup &group) {
  return "layers with " + search::shortenStrategy(group.plain.strategy) + ", " + std::to_string(group.plain.samples) +
         " samples of " + std::to_string(group.seq) + " tokens";
}

constexpr int kFinest = 2;

/// Of the index-th of so many sizes: every fourth and the last are of the coarsest grid, every second of the next.
int levelOf(std::size_t index, std::size_t count) {
  if (index % 4 == 0 || index + 1 == count)
    return 0;
  return index % 2 == 0 ? 1 : kFinest;
}

class Lister {
public:
  Lister(const Options &options, std::int64_t ranks) : options(options), ranks(ranks) {
    elementBytes = options.precision == "fp32" ? 4 : 2;
    for (std::int64_t bytes = options.smallest; bytes <= options.largest; bytes *= 2)
      sizes.push_back(bytes);
  }

  std::vector<Work> list() {
    listCollectives();
    listPairs();
    listProducts();
    listAttention();
    listCopies();
    listHostCopies();
    listOverlaps();
    std::vector<Work> ordered;
    for (int level = 0; level <= kFinest; ++level)
      std::copy_if(works.begin(), works.end(), std::back_inserter(ordered),
                   [&](const Work &work) { return work.level == level; });
    return ordered;
  }

private:
  void listCollectives();
  void listPairs();
  void listProducts();
  void listAttention();
  void listCopies();
  void listHostCopies();
  void listOverlaps();
  void addMessage(const char *kind, std::int64_t group, std::int64_t stride, std::int64_t groups);
  void addProduct(std::int64_t m, std::int64_t n, std::int64_t k, int level);

  const Options &options;
  std::int64_t ranks, elementBytes;
  std::vector<std::int64_t> sizes;
  std::vector<Work> works;
};

/// Of an operand of a product: f32 on the processor, whatever the precision (Bench.cpp).
constexpr std::int64_t kProductBytes = 4;

/// Bytes a second and seconds that a guess starts from: a core's, of any current server.
constexpr double kGuessedRate = 2e9, kGuessedStart = 2e-5, kGuessedFlops = 5e10;
/// Of a GPU: a body must not be left out for want of time before the first one has scaled the guesses.
constexpr double kGuessedGpuFlops = 3e14;

void Lister::addMessage(const char *kind, std::int64_t group, std::int64_t stride, std::int64_t groups) {
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    // Whole elements on each rank of the group: of three ranks a little less than a power of two.
    std::int64_t bytes = sizes[index] / (group * elementBytes) * group * elementBytes;
    if (bytes <= 0)
      continue;
    Work work;
    work.what = MeasuredMessage{kind, group, stride, groups, bytes};
    work.level = levelOf(index, sizes.size());
    work.operandBytes = work.resultBytes = bytes;
    work.guessedSeconds = kGuessedStart + double(bytes) / kGuessedRate;
    works.push_back(std::move(work));
  }
}

/// Every size of a group that divides the ranks, neighbours and with every stride that leaves whole groups.
void Lister::listCollectives() {
  for (const char *kind : {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"})
    for (std::int64_t group = 2; group <= ranks && options.wants(kind); ++group)
      for (std::int64_t stride = 1; ranks % group == 0 && group * stride <= ranks; ++stride) {
        if (ranks % (group * stride))
          continue;
        std::int64_t atOnce = ranks / group;
        addMessage(kind, group, stride, atOnce);
        if (atOnce > 1)
          addMessage(kind, group, stride, 1);
      }
}

void Lister::listPairs() {
  for (const char *kind : {"send", "exchange"})
    for (std::int64_t stride = 1; 2 * stride <= ranks && options.wants(kind); ++stride) {
      if (ranks % (2 * stride))
        continue;
      addMessage(kind, 2, stride, ranks / 2);
      if (ranks > 2)
        addMessage(kind, 2, stride, 1);
    }
}

void Lister::addProduct(std::int64_t m, std::int64_t n, std::int64_t k, int level) {
  for (const char *layout : {"nt", "nn", "tn"}) {
    Work work;
    work.what = MeasuredKernel{"gemm", options.precision, {.m = m, .n = n, .k = k, .layout = layout}};
    work.level = level;
    work.operandBytes = (m * k + n * k) * kProductBytes;
    work.resultBytes = m * n * kProductBytes;
    work.guessedSeconds = kGuessedStart + 2.0 * double(m) * double(n) * double(k) / kGuessedFlops;
    works.push_back(std::move(work));
  }
}

/// Cubes, and products of many tokens with a block's weights.
void Lister::listProducts() {
  if (!options.wants("gemm"))
    return;
  bool isCpu = options.target == "cpu";
  for (auto [size, level] : {std::pair{64, 0}, {128, 2}, {256, 0}, {512, 1}, {1024, 0}, {2048, 1}})
    addProduct(size * (isCpu ? 1 : 4), size * (isCpu ? 1 : 4), size * (isCpu ? 1 : 4), level);
  for (std::int64_t tokens : {isCpu ? 256 : 4096, isCpu ? 2048 : 16384}) {
    addProduct(tokens, 4096, isCpu ? 1024 : 14336, 1);
    addProduct(tokens, isCpu ? 1024 : 14336, 4096, 2);
  }
}

void Lister::listAttention() {
  bool isCpu = options.target == "cpu";
  // Of a GPU all multiprocessors are to have work, with as many heads for keys as queries and with a quarter of them.
  std::vector<std::pair<std::int64_t, std::int64_t>> heads = {{4, 4}};
  if (!isCpu)
    heads = {{32, 32}, {32, 8}};
  std::int64_t bytes = isCpu ? kProductBytes : elementBytes;
  for (std::int64_t seq = isCpu ? 256 : 1024; seq <= 131072 && options.wants("attention"); seq *= 2)
    for (auto [queryHeads, keyHeads] : heads)
      for (std::int64_t headSize : {64, 128})
        for (bool backward : {false, true}) {
          Work work;
          KernelShape shape;
          shape.samples = 1, shape.heads = queryHeads, shape.kvHeads = keyHeads, shape.seq = seq;
          shape.headSize = headSize, shape.backward = backward;
          work.what = MeasuredKernel{"attention", options.precision, shape};
          work.level = seq == 256 || seq == 1024 || seq == 4096 ? 0 : seq < 16384 ? 1 : 2;
          std::int64_t whole = seq * queryHeads * headSize * bytes;
          work.operandBytes = 4 * whole;
          work.resultBytes = 4 * whole + seq * queryHeads * 4 + attentionScratchBytes(!isCpu, shape);
          // Two products over half of all pairs forward, five backward.
          double flops = (backward ? 5.0 : 2.0) * double(seq) * double(seq) * double(queryHeads * headSize);
          work.guessedSeconds = kGuessedStart + flops / kGuessedFlops;
          works.push_back(std::move(work));
        }
}

void Lister::listCopies() {
  for (const char *kind : {"copy", "elementwise"})
    for (std::size_t index = 0; index < sizes.size() && options.wants(kind); ++index) {
      // A copy reads and writes; a sum reads two tensors and writes one, which is f32.
      bool isCopy = kind == std::string("copy");
      std::int64_t each = isCopy ? 2 * elementBytes : elementBytes + 8, count = sizes[index] / each;
      Work work;
      work.what = MeasuredKernel{kind, options.precision, {.bytes = count * each}};
      work.level = levelOf(index, sizes.size());
      work.operandBytes = count * elementBytes;
      work.resultBytes = count * (isCopy ? elementBytes : 4);
      work.guessedSeconds = kGuessedStart + double(sizes[index]) / kGuessedRate;
      works.push_back(std::move(work));
    }
}

/// Of GPUs, from and to pinned memory, all devices at once.
void Lister::listHostCopies() {
  for (const char *kind : {"to_host", "from_host"})
    for (std::size_t index = 0; index < sizes.size(); ++index) {
      if (options.target == "cpu" || !options.wants(kind))
        continue;
      Work work;
      work.what = MeasuredKernel{kind, options.precision, {.bytes = sizes[index]}};
      work.level = levelOf(index, sizes.size());
      work.operandBytes = work.resultBytes = sizes[index];
      work.guessedSeconds = kGuessedStart + double(sizes[index]) / kGuessedRate;
      works.push_back(std::move(work));
    }
}

/// What the processor can have at work at once: kernels while messages are under way.
void Lister::listOverlaps() {
  if (!options.wants("overlap") || ranks < 2 || options.target != "cpu")
    return;
  for (const char *kernel : {"gemm", "copy"})
    for (const char *message : {"send", "exchange"})
      for (std::size_t index = 0; index < sizes.size(); ++index) {
        if (sizes[index] < 65536 || sizes[index] > 64 << 20 || levelOf(index, sizes.size()))
          continue;
        Work work;
        work.what = MeasuredOverlap{kernel, message, sizes[index]};
        work.operandBytes = work.resultBytes = sizes[index] + (1 << 20);
        work.guessedSeconds = 4 * (kGuessedStart + double(sizes[index]) / kGuessedRate);
        works.push_back(std::move(work));
      }
}

} // namespace

const std::string &Work::kind() const {
  static const std::string overlap = "overlap", layers = "layers";
  if (auto *message = std::get_if<MeasuredMessage>(&what))
    return message->kind;
  if (auto *kernel = std::get_if<MeasuredKernel>(&what))
    return kernel->kind;
  return std::holds_alternative<BodyGroup>(what) ? layers : overlap;
}

std::string Work::name() const {
  return std::visit([](const auto &each) { return nameOf(each); }, what);
}

std::vector<std::string> Work::entryNames() const {
  auto *group = std::get_if<BodyGroup>(&what);
  if (!group)
    return {name()};
  std::vector<std::string> names;
  for (const search::MeasuredBody &body : group->figures)
    names.push_back(nameOf(body));
  return names;
}

static double flopsOf(const search::BodyWork &work) {
  double flops = 0;
  for (const search::BodyWork::Kernel &kernel : work.kernels)
    flops += double(kernel.count) * kernel.amounts.flops;
  return flops;
}

void guessBodies(const search::MachineProfile &profile, bool isGpu, std::vector<Work> &works) {
  double flopsPerSecond = 0;
  for (const MeasuredKernel &kernel : profile.kernels)
    if (const KernelShape &s = kernel.shape; kernel.kind == "gemm" && kernel.seconds > 0)
      flopsPerSecond = std::max(flopsPerSecond, 2.0 * double(s.m) * double(s.n) * double(s.k) / kernel.seconds);
  if (flopsPerSecond <= 0)
    flopsPerSecond = isGpu ? kGuessedGpuFlops : kGuessedFlops;
  for (Work &work : works) {
    auto *group = std::get_if<BodyGroup>(&work.what);
    double forward = 0, backward = 0;
    for (std::size_t index = 0; group && index < group->figures.size(); ++index) {
      forward += flopsOf(group->figures[index].forwardWork);
      backward += flopsOf(group->figures[index].backwardWork);
    }
    if (group) // once, and once more with recomputation
      work.guessedSeconds = kGuessedStart + (3 * forward + 2 * backward) / flopsPerSecond;
  }
}

std::vector<Work> listBodies(std::vector<BodyGroup> groups, bool isGpu) {
  std::vector<Work> works(groups.size());
  for (std::size_t index = 0; index < groups.size(); ++index)
    works[index].what = std::move(groups[index]);
  guessBodies({}, isGpu, works);
  std::sort(works.begin(), works.end(), [](const Work &a, const Work &b) {
    return std::pair(a.guessedSeconds, a.name()) < std::pair(b.guessedSeconds, b.name());
  });
  return works;
}

std::int64_t attentionScratchBytes(bool isIssued, const KernelShape &s) {
  if (!isIssued)
    return 0;
  // Forward keeps a statistic of each row besides.
  return cuda::attentionWorkspaceBytes(s.samples, s.heads, s.kvHeads, s.seq, s.seq, s.headSize, s.backward) +
         s.samples * s.heads * s.seq * 4;
}

std::vector<Work> listWork(const Options &options, std::int64_t ranks) { return Lister(options, ranks).list(); }

std::vector<std::string> namesIn(const search::MachineProfile &profile) {
  std::vector<std::string> names;
  for (const auto &each : profile.messages)
    names.push_back(nameOf(each));
  for (const auto &each : profile.kernels)
    names.push_back(nameOf(each));
  for (const auto &each : profile.overlaps)
    names.push_back(nameOf(each));
  for (const auto &each : profile.bodies)
    names.push_back(nameOf(each));
  return names;
}

} // namespace galvatron::profile
