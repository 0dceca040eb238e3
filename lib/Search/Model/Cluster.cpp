//===- Cluster.cpp - Device kinds, links, one host --------------------------===//
//
// The device table is the only place with hardware figures. They are starting
// points for machines nobody has profiled; a profile replaces them.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Model/Cluster.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace galvatron::search {

namespace {
constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// Sources, figure by figure.
/// cpu   one core, fp32, a oneDNN sgemm on a current x86-64 server core
///       sustains 100-170 GFLOP/s (measured: TOOLCHAIN notes of the project);
///       one core streams about 8 GB/s of a socket's DRAM when all cores do.
///       Links: MPI over shared memory within a host, 10 GbE across.
/// Attention on h200 and h100: cuDNN's causal forward takes 0.92 to 1.06 ps a
///       pair with heads of 64 and 128 (bench/results/gpu.md); on a100 about 190
///       TFLOP/s with heads of 128 (FlashAttention-2, Dao 2023).
/// h200  bf16 dense sustained 685 TFLOP/s (measured under load with cuBLASLt),
///       HBM3e 4.28 TB/s copy (measured), graph-launched kernel 1.65 us
///       (measured), NVLink 4: NCCL's all-reduce of 268 and 809 MB between two
///       GPUs 257 and 261 GB/s (measured, NVLS off; bench/results/gpu.md), 400
///       Gb/s InfiniBand per GPU.
/// h100  the same: a step bound by products takes as long (322.5 ms, same
///       results); HBM3 3.35 TB/s (data sheet) at 0.9.
/// a100  312 TFLOP/s bf16 (data sheet) at 0.7, HBM2e 2.0 TB/s at 0.85, NVLink 3
///       300 GB/s a direction at 0.8, 200 Gb/s per GPU.
/// Overhead on h200 and h100, CUDA 13.0, NCCL 2.28.9: least squares over 286
///       ranks of 139 programs on 1, 2 and 4 GPUs, raised until none was under
///       (bench/gpu/reserve.py bench/results/gpu_memory.json), and 1 MB. A group
///       of four takes what a group of two takes. Taken for the other kinds, too.
///       What a captured call takes: 272 MB for the 3,545 collectives of a step,
///       31 MB for 448 transfers (bench/results/gpu.md); with it, the library is
///       3 MB less than that fit. An entry: one GPU, 8 layers of Llama-2-7B, 5.8 MB
///       for 140 entries of seven micro-batches more, some 17 kernels each.
/// Memory of the GPUs is what CUDA says there is: 150.1 GB on h200 and 85.0 on
///       h100 (measured), on a100 with 80 GB as on h100.
/// Peaks: data sheets of the SXM modules, bf16 and fp16 without sparsity, fp32 without TF32. A core's is not known.
/// GPUs: kernels and collectives side by side, slow-down 1.13 (measured by
/// Hetu-Galvatron's authors on A100s, its shipped overlap_coefficient.json).
constexpr OverheadBytes kCuda = {.context = 646'000'000,
                                 .library = 331'000'000,
                                 .group = 511'000'000,
                                 .channel = 141'000'000,
                                 .peer = 472'000'000,
                                 .sums = 26'000'000,
                                 .mapping = 250'000,
                                 .call = 77'000,
                                 .entry = 45'000};

const DeviceKind kKinds[] = {
    {"cpu", 1.2e11, 0, 8e9, 1e-6, {}, 2ll << 30, {4e9, 5e-6}, {1.1e9, 3e-5}, false, 1},
    {"a100", 2.2e14, 3.7e11, 1.7e12, 3e-6, kCuda, 85000000000ll, {2.4e11, 1e-5}, {2.2e10, 2e-5}, true, 1.13, 3.12e14, 1.95e13},
    {"h100", 6.85e14, 1e12, 3.0e12, 2e-6, kCuda, 85000000000ll, {2.6e11, 1e-5}, {4.5e10, 2e-5}, true, 1.13, 9.89e14, 6.7e13},
    {"h200", 6.85e14, 1e12, 4.28e12, 2e-6, kCuda, 150000000000ll, {2.6e11, 1e-5}, {4.5e10, 2e-5}, true, 1.13, 9.89e14, 6.7e13},
};

/// Memory of this machine divided by `ranks`, for the device "cpu": three
/// quarters of MemTotal, the rest stays with the system and everything else.
std::int64_t hostMemoryShare(std::int64_t ranks) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  double kibibytes = 0;
  while (file >> word)
    if (word == "MemTotal:" && file >> kibibytes)
      return std::int64_t(kibibytes * 1024 * 0.75 / double(ranks));
  return kKinds[0].memoryBytes; // not Linux
}
} // namespace

double Link::sendBytesPerSecond(double bytes) const {
  if (sends.empty())
    return bytesPerSecond;
  auto high = std::lower_bound(sends.begin(), sends.end(), std::pair{bytes, 0.0});
  if (high == sends.begin())
    return high->second;
  if (high == sends.end())
    return sends.back().second;
  auto low = std::prev(high);
  double share = std::log(bytes / low->first) / std::log(high->first / low->first);
  return low->second + share * (high->second - low->second);
}

namespace {
/// As slow as the slower one at every measured size.
Link slower(const Link &a, const Link &b) {
  Link link{std::min(a.bytesPerSecond, b.bytesPerSecond), std::max(a.latencySeconds, b.latencySeconds)};
  std::vector<double> sizes;
  for (const Link *each : {&a, &b})
    for (const auto &point : each->sends)
      sizes.push_back(point.first);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (double bytes : sizes)
    link.sends.emplace_back(bytes, std::min(a.sendBytesPerSecond(bytes), b.sendBytesPerSecond(bytes)));
  return link;
}
} // namespace

Link Cluster::interOfRanks(std::int64_t first, std::int64_t count) const {
  if (interOfNode.empty())
    return inter;
  std::int64_t firstNode = first / devicesPerNode;
  std::int64_t lastNode = std::min(nodes - 1, (first + count - 1) / devicesPerNode);
  Link slowest = interOfNode[firstNode];
  for (std::int64_t node = firstNode + 1; node <= lastNode; ++node)
    slowest = slower(slowest, interOfNode[node]);
  return slowest;
}

std::int64_t OverheadBytes::of(const RankCommunicators &communicators, std::int64_t arenaBytes) const {
  bool isAlone = communicators.groups.empty() && !communicators.channels && !communicators.isForSums;
  std::int64_t own = context + communicators.entries * entry;
  if (isAlone)
    return own;
  return own + library + ofGroups(communicators) + communicators.channels * channel + communicators.calls * call +
         (communicators.isForSums ? sums : 0) + std::int64_t(std::ceil(double(arenaBytes) / kGiB * double(mapping)));
}

Result<DeviceKind> findDeviceKind(std::string_view name) {
  std::string known;
  for (const DeviceKind &kind : kKinds) {
    if (kind.name == name)
      return kind;
    known += (known.empty() ? "" : ", ") + kind.name;
  }
  return Error{"expects a device out of " + known + ", but got '" + std::string(name) + "'"};
}

Result<Cluster> hostCluster(std::int64_t ranks, std::int64_t memoryBytesPerDevice, std::string_view device) {
  if (ranks < 1)
    return Error{"expects at least 1 rank, but got " + std::to_string(ranks)};
  if (memoryBytesPerDevice < 0)
    return Error{"expects a memory budget above 0, but got " + std::to_string(memoryBytesPerDevice)};
  Result<DeviceKind> kind = findDeviceKind(device);
  if (!kind)
    return kind.error();
  Cluster cluster;
  cluster.devicesPerNode = ranks;
  cluster.device = *kind;
  cluster.intra = kind->intra;
  cluster.inter = kind->inter;
  cluster.device.overheadBytes = kind->overhead.least(ranks);
  if (kind->name != "cpu")
    cluster.nccl.emplace();
  cluster.memoryBytesPerDevice = memoryBytesPerDevice;
  if (!memoryBytesPerDevice)
    cluster.memoryBytesPerDevice = kind->name == "cpu" ? hostMemoryShare(ranks) : kind->memoryBytes;
  return cluster;
}

Result<std::int64_t> parseBytes(std::string_view text) {
  struct Suffix {
    const char *name;
    double factor;
  };
  static const Suffix kSuffixes[] = {{"KiB", 1024}, {"MiB", 1048576}, {"GiB", kGiB}, {"TiB", kGiB * 1024},
                                     {"KB", 1e3},   {"MB", 1e6},      {"GB", 1e9},   {"TB", 1e12},
                                     {"B", 1},      {"", 1}};
  std::string copy(text);
  char *end = nullptr;
  double value = std::strtod(copy.c_str(), &end);
  std::string suffix(end);
  if (end != copy.c_str())
    for (const Suffix &known : kSuffixes)
      if (suffix == known.name && std::isfinite(value) && value * known.factor >= 1 && value * known.factor < 9e18)
        return std::int64_t(std::llround(value * known.factor));
  return Error{"expects a size such as 2GiB, 512MiB, 24GB or 1048576, but got '" + copy + "'"};
}

/// In the largest unit of which there is one at least, with `digits` after the point.
static std::string formatBytes(double value, int digits, const char *space, double (*round)(double)) {
  static const char *kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; std::fabs(value) >= 1024 && unit < 4; ++unit)
    value /= 1024;
  double scale = std::pow(10, digits);
  char text[48];
  std::snprintf(text, sizeof text, "%.*f%s%s", unit ? digits : 0, round(value * scale) / scale, space, kUnits[unit]);
  return text;
}

std::string formatBytes(double bytes) {
  return formatBytes(bytes, 1, " ", [](double value) { return value; });
}

std::string formatBudget(std::int64_t bytes) {
  return formatBytes(double(bytes), 2, "", [](double value) { return std::ceil(value); });
}

} // namespace galvatron::search
