// A profile in words.
#include "Show.h"

#include "galvatron/Search/Formats/PreparedModel.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <map>

namespace galvatron::profile {

using search::MachineProfile;

namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...) {
  char text[512];
  va_list list;
  va_start(list, pattern);
  std::vsnprintf(text, sizeof text, pattern, list);
  va_end(list);
  return text;
}

/// At most this spread is called repeated.
constexpr double kRepeated = 0.03;

struct Count {
  int entries = 0, repeated = 0;
  double worst = 0;
  std::int64_t smallest = 0, largest = 0;

  void add(double spread, std::int64_t size) {
    smallest = entries ? std::min(smallest, size) : size;
    largest = std::max(largest, size);
    ++entries;
    repeated += spread <= kRepeated;
    worst = std::max(worst, spread);
  }
};

std::string line(const std::string &what, const Count &count, const std::string &sizes) {
  return format("  %-36s %4d   %s; %d within %.0f %%, widest %.1f %%\n", what.c_str(), count.entries, sizes.c_str(),
                count.repeated, 100 * kRepeated, 100 * count.worst);
}

std::string describeMessages(const MachineProfile &profile) {
  std::map<std::string, Count> counts;
  for (const search::MeasuredMessage &m : profile.messages)
    counts[format("%s %lld ranks stride %lld groups %lld", m.kind.c_str(), (long long)m.ranks, (long long)m.stride,
                  (long long)m.groups)]
        .add(m.spread, m.bytes);
  std::string text;
  for (const auto &[what, count] : counts)
    text += line(what, count,
                 search::formatBytes(double(count.smallest)) + " to " + search::formatBytes(double(count.largest)));
  return text;
}

std::string describeKernels(const MachineProfile &profile) {
  std::map<std::string, Count> counts;
  std::map<std::string, double> best; // GFLOP/s or GB/s
  for (const search::MeasuredKernel &k : profile.kernels) {
    const search::KernelShape &s = k.shape;
    std::string kind = k.kind + (s.backward ? " backward" : "");
    double work = k.kind == "gemm" ? 2.0 * double(s.m) * double(s.n) * double(s.k) : double(s.bytes);
    counts[kind].add(k.spread, k.kind == "attention" ? s.seq : s.bytes);
    if (work > 0)
      best[kind] = std::max(best[kind], work / k.seconds * 1e-9);
  }
  std::string text;
  for (const auto &[kind, count] : counts) {
    std::string sizes = kind.starts_with("attention")
                            ? format("%lld to %lld tokens", (long long)count.smallest, (long long)count.largest)
                            : format("up to %.4g %s", best[kind], kind == "gemm" ? "GFLOP/s" : "GB/s");
    text += line(kind + " " + profile.precision, count, sizes);
  }
  return text;
}

/// Of a layer type under one strategy: its fastest and slowest step.
std::string describeBodies(const MachineProfile &profile) {
  std::map<std::string, Count> counts;
  std::map<std::string, std::pair<double, double>> seconds;
  for (const search::MeasuredBody &b : profile.bodies) {
    std::string what = "layer " + b.layerType + " " + search::shortenStrategy(b.strategy);
    double both = b.forwardSeconds + b.backwardSeconds;
    auto [at, isNew] = seconds.try_emplace(what, both, both);
    at->second = {std::min(at->second.first, both), std::max(at->second.second, both)};
    counts[what].add(b.isMeasured ? b.spread : 0, b.samples * b.seq);
  }
  std::string text;
  for (const auto &[what, count] : counts)
    text += line(what, count,
                 format("%lld to %lld tokens, %.3g to %.3g ms", (long long)count.smallest, (long long)count.largest,
                        1e3 * seconds[what].first, 1e3 * seconds[what].second));
  for (const search::ProfiledModel &model : profile.models)
    text += format("model %s, %zu units, imported with %lld tokens\n", model.name.c_str(), model.units.size(),
                   (long long)model.seq);
  return text;
}

std::string describeAge(const std::string &created, std::int64_t now) {
  std::tm time = {};
  if (!strptime(created.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time))
    return "";
  double days = double(now - std::int64_t(timegm(&time))) / 86400;
  return days < 1 ? format(" (%.1f hours ago)", 24 * days) : format(" (%.1f days ago)", days);
}

std::string describeLeftOut(const MachineProfile &profile) {
  std::string text;
  for (const std::string &what : profile.leftOut)
    text += "  " + what + "\n";
  return text.empty() ? text : format("%zu left out:\n", profile.leftOut.size()) + text;
}

} // namespace

std::vector<std::string> describeStragglers(const MachineProfile &profile) {
  std::vector<std::string> lines;
  for (const search::Straggler &s : profile.stragglers) {
    double clock = std::size_t(s.rank) < profile.devices.size() ? profile.devices[std::size_t(s.rank)].clockMhz : 0;
    lines.push_back(
        format("rank %lld (host '%s', device %lld, %.0f MHz) takes %.0f %% longer than the median; plans are "
               "priced by the slowest",
               (long long)s.rank, s.host.c_str(), (long long)s.device, clock, 100 * s.slowerBy));
  }
  return lines;
}

std::string describeProfile(const MachineProfile &profile, std::int64_t now) {
  std::string text = "taken " + profile.created + describeAge(profile.created, now) + ", " + profile.precision +
                     ", fingerprint " + profile.fingerprintHash() + "\n";
  for (const auto &[name, value] : profile.fingerprint)
    text += "  " + name + ": " + value + "\n";
  const search::Cluster &cluster = profile.cluster;
  text += format("%lld nodes of %lld devices, %s each; within a node %.3g GB/s, %.3g us\n", (long long)cluster.nodes,
                 (long long)cluster.devicesPerNode, search::formatBytes(double(cluster.memoryBytesPerDevice)).c_str(),
                 cluster.intra.bytesPerSecond * 1e-9, cluster.intra.latencySeconds * 1e6);
  if (profile.wasBusy)
    text += "others used the machine meanwhile (--allow-busy): its figures may not hold\n";
  text += format("%zu messages, %zu kernels, %zu overlaps, %zu layers; spread: interquartile range / median\n",
                 profile.messages.size(), profile.kernels.size(), profile.overlaps.size(), profile.bodies.size());
  text += describeMessages(profile) + describeKernels(profile) + describeBodies(profile);
  for (const search::MeasuredOverlap &o : profile.overlaps)
    text += format("  %-36s %s: slower by %.2f and %.2f\n", (o.first + " beside " + o.second).c_str(),
                   search::formatBytes(double(o.bytes)).c_str(), o.firstSlowdown, o.secondSlowdown);
  text += describeLeftOut(profile);
  for (const std::string &straggler : describeStragglers(profile))
    text += straggler + "\n";
  return text + "memory is not measured: the compiler plans it to the byte\n";
}

std::string describeEnd(const MachineProfile &profile, const std::string &file, const std::string &cluster) {
  std::size_t entries = profile.messages.size() + profile.kernels.size() + profile.bodies.size(), repeated = 0;
  for (const auto &body : profile.bodies)
    repeated += body.spread <= kRepeated;
  for (const auto &message : profile.messages)
    repeated += message.spread <= kRepeated;
  for (const auto &kernel : profile.kernels)
    repeated += kernel.spread <= kRepeated;
  return describeLeftOut(profile) +
         format("%zu of %zu figures have a spread of at most %.0f %%\n", repeated, entries, 100 * kRepeated) + file +
         " and " + cluster + " are written\n";
}

} // namespace galvatron::profile
